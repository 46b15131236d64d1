//! The command line of `l1d`.

mod output;
mod serve;

pub(crate) use output::put;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code: the command line or a file it names is wrong.
pub const USAGE: u8 = 2;
/// Exit code: the daemon cannot be reached.
pub const UNREACHABLE: u8 = 3;
/// Exit code: refused.
pub const REFUSED: u8 = 4;
/// Exit code: a tier failed.
pub const TIER_FAILED: u8 = 5;

/// One L1 cache for every process on this host, in front of memcached and Redis.
#[derive(Debug, Parser)]
#[command(name = "l1d", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Own the table and serve clients until SIGTERM or SIGINT.
    Serve(serve::Serve),
    /// Show what l1d does: one process publishes, two serve, beside caches in each process.
    Demo(crate::demo::Options),
    /// A process of the demo.
    #[command(hide = true)]
    DemoWorker(crate::demo::WorkerOptions),
    /// Check a configuration and show the policy that it makes.
    CheckConfig {
        /// The file.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs `l1d` with the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Demo(options) => demo_ends(crate::demo::run(&options)),
        Command::DemoWorker(options) => demo_ends(crate::demo::run_worker(&options)),
        Command::CheckConfig { file, json } => check_config(&file, json),
    }
}

fn demo_ends(end: anyhow::Result<ExitCode>) -> ExitCode {
    end.unwrap_or_else(|error| {
        eprintln!("l1d: {error:#}");
        let is_tier = error.is::<crate::demo::TierFailed>();
        ExitCode::from(if is_tier { TIER_FAILED } else { REFUSED })
    })
}

fn check_config(file: &std::path::Path, json: bool) -> ExitCode {
    let said = match crate::config::check_config(file) {
        Ok(checked) if json => put(format!("{}\n", checked.json)),
        Ok(checked) => put(&checked.text),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(USAGE);
        }
    };
    if let Err(error) = said {
        eprintln!("l1d: cannot write to standard output: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
