//! The command line of `l1d`.

mod arguments;
mod completions;
#[cfg(feature = "demo")]
mod demo;
mod output;
mod serve;

pub use arguments::arguments;
pub(crate) use completions::Completions;
pub(crate) use output::failed as unprinted;
pub use output::{print, print_error, print_on};

use clap::{CommandFactory, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit code: the command line or a file that it names is wrong.
pub const USAGE: u8 = 2;
/// Exit code: the daemon cannot be reached.
pub const UNREACHABLE: u8 = 3;
/// Exit code: refused.
pub const REFUSED: u8 = 4;
/// Exit code: a tier failed.
pub const TIER_FAILED: u8 = 5;
/// Exit code: the access rules do not permit it.
pub const DENIED: u8 = 6;

/// One L1 cache for every process on this host, in front of memcached and Redis.
#[derive(Debug, Parser)]
#[command(
    name = "l1d",
    version,
    about,
    long_about = concat!(
        env!("CARGO_PKG_DESCRIPTION"),
        ".\n\nExit codes: 0 success, 2 wrong command line or configuration, 4 it cannot serve, \
         5 a tier failed (`demo`)."
    ),
    max_term_width = 100,
    after_help = "Examples:\n  l1d serve --config /etc/l1d/l1d.toml\n  \
    l1d check-config /etc/l1d/l1d.toml"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Own the table and serve clients until SIGTERM or SIGINT.
    Serve(serve::Serve),
    /// Show what l1d does: one process publishes, two serve, beside caches in each process.
    #[cfg(feature = "demo")]
    Demo(l1d_demo::Options),
    /// A process of the demo.
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    DemoWorker(l1d_demo::WorkerOptions),
    /// Not in this build.
    #[cfg(not(feature = "demo"))]
    #[command(hide = true, disable_help_flag = true)]
    Demo {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        ignored: Vec<std::ffi::OsString>,
    },
    /// Check a configuration and show the policy that results from it; exit code 2 and the errors
    /// with their lines if it is refused.
    CheckConfig {
        /// The configuration file.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the completions of this command line for a shell.
    #[command(after_help = "Examples:\n  \
        l1d completions bash > ~/.local/share/bash-completion/completions/l1d\n  \
        l1d completions fish > ~/.config/fish/completions/l1d.fish")]
    Completions(Completions),
}

/// The definition of `l1d`'s command line, from which its man pages are made.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs `l1d` with the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    match arguments::<Arguments>().command {
        Command::Serve(serve) => serve.run(),
        #[cfg(feature = "demo")]
        Command::Demo(options) => demo::run(&options),
        #[cfg(feature = "demo")]
        Command::DemoWorker(options) => demo::run_worker(&options),
        #[cfg(not(feature = "demo"))]
        Command::Demo { .. } => {
            print_error(
                "l1d: this program has no demo: build it with the cargo feature \"demo\", which is \
                 on by default",
            );
            ExitCode::from(USAGE)
        }
        Command::CheckConfig { file, json } => check_config(&file, json),
        Command::Completions(completions) => {
            completions.print("l1d", &command()).map_or_else(unwritable, |()| ExitCode::SUCCESS)
        }
    }
}

fn check_config(file: &Path, json: bool) -> ExitCode {
    let printed = match crate::config::check_config(file) {
        Ok(checked) if json => print(format!("{}\n", checked.json)),
        Ok(checked) => print(&checked.text),
        Err(error) => {
            print_error(error);
            return ExitCode::from(USAGE);
        }
    };
    printed.map_or_else(unwritable, |()| ExitCode::SUCCESS)
}

fn unwritable(error: std::io::Error) -> ExitCode {
    print_error(format_args!("l1d: {}", unprinted(&error)));
    ExitCode::FAILURE
}
