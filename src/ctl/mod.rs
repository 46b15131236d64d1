//! The command line of `l1ctl`, which sends requests to a running daemon.

mod access;
mod admin;
mod advise;
mod clients;
mod explain;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod key;
mod keys;
mod operations;
mod page;
mod resize;
mod screen;
mod stats;
mod table;
mod tables;
mod top;

pub(crate) use advise::sentence_of as advice_sentence;
pub(crate) use clients::{program, user};
pub(crate) use explain::{author, sentence_of as explanation_sentence};

use crate::cli::{
    Completions, DENIED, REFUSED, TIER_FAILED, UNREACHABLE, USAGE, arguments, print_error,
    unprinted,
};
use clap::{CommandFactory, Parser, Subcommand};
use key::lifetime;
use l1d_client::{Client, Error, Lifetime};
use l1d_wire::place::SOCKET_VARIABLE;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Exit code: there is no such key, an operation was not done, or the check found a violation.
const NOT_FOUND: u8 = 1;
/// How long to wait for an answer if nothing else is asked for.
const DEADLINE: Duration = Duration::from_secs(10);

/// Query and administer a running l1d.
///
/// Exit codes: 0 success, 1 not found (or an operation was not done because of what the key holds,
/// or `check` found a violation), 2 usage, 3 the daemon cannot be reached, 4 refused, 5 a tier
/// failed, 6 the access rules do not permit it.
#[derive(Debug, Parser)]
#[command(
    name = "l1ctl",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
    l1ctl get analysis:signals\n  l1ctl set market:BTC 64000 --ttl 5s\n  \
    l1ctl incr rate:user:7 --initial 1 --ttl 1m\n  l1ctl explain market:BTC\n  \
    l1ctl --json stats"
)]
struct Arguments {
    /// The daemon's control socket [default: the system's, /run/l1d/l1d.sock, if /run/l1d exists;
    /// otherwise the user's own, l1d/l1d.sock in $XDG_RUNTIME_DIR].
    #[arg(long, global = true, value_name = "PATH", env = SOCKET_VARIABLE)]
    socket: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Longest time to wait for an answer, for example "2s" [default: 10s; a minute for "policy
    /// reload"; "check" takes up to a minute, "resize" up to ten, in any case].
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    deadline: Option<Duration>,
    /// Keys are given as hex digits.
    #[arg(long, global = true)]
    hex: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the value of a key, from L1 or from the tiers below; exit code 1 if it has none.
    Get {
        /// The key.
        key: String,
    },
    /// Store a value.
    Set {
        /// The key.
        key: String,
        /// The value; "-" reads it from standard input.
        value: String,
        /// How long it lives, in every tier: "5s", "1h 30m", a number of seconds, or "forever"; 0
        /// deletes the key. Copies above the store of record live no longer than the policy says.
        /// Without tiers, or with --l1-only, the daemon's ttl_max is the limit.
        #[arg(long, value_name = "TIME", value_parser = lifetime)]
        ttl: Option<Lifetime>,
        /// Client flags: a number that is kept with the value.
        #[arg(long, value_name = "N", default_value_t = 0)]
        flags: u32,
        /// Store in L1 only, regardless of the policy.
        #[arg(long)]
        l1_only: bool,
    },
    /// Delete a key from L1 and, if its rule says so, from the tiers; exit code 1 if it had none.
    Delete {
        /// The key.
        key: String,
    },
    #[command(flatten)]
    Operation(operations::Operation),
    /// Show how the cache is doing: hit ratio, reads and writes, memory, evictions, tiers, clients.
    Stats {
        /// Show it again every so many seconds, 2 by default, with rates since the last look.
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        #[arg(num_args = 0..=1, default_missing_value = "2")]
        watch: Option<Duration>,
        /// Show one line for each client instead, as `l1ctl clients`.
        #[arg(long, conflicts_with = "watch")]
        clients: bool,
    },
    /// Show a live view by policy, client and key, in the terminal.
    Top {
        /// Seconds between two looks.
        #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
        every: Duration,
    },
    /// Show one line for each client: its process, its hits, its requests.
    Clients,
    /// Show one line for each rule of the policy: hits, misses, and its share of the table.
    Policies,
    /// Show the keys that were hit most lately, or the largest ones, from samples.
    Keys {
        /// Only keys that begin with this.
        #[arg(long, default_value = "")]
        prefix: String,
        /// How many of them.
        #[arg(long, value_name = "N", default_value_t = 20)]
        #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
        top: u16,
        /// Which come first.
        #[arg(long, value_enum, default_value_t)]
        by: keys::By,
    },
    /// Show the tiers: state, latency, batches, errors.
    Tiers,
    /// Show the status page in a browser: prints an address that only whoever reads it here can
    /// open, and serves it until Ctrl-C.
    Page {
        /// The port on 127.0.0.1; default: any that is free.
        #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
        port: u16,
        /// The daemon's `[status] socket`, if it is not beside the control socket.
        #[arg(long, value_name = "PATH")]
        status_socket: Option<PathBuf>,
    },
    /// Show where a key stands and why: its rule, L1, who changed it last, L2, L3, and what readers
    /// will see; or the table's memory.
    ///
    /// The tiers are asked for the key; nothing is kept of what they answer.
    Explain {
        /// The key.
        #[arg(required_unless_present = "table")]
        key: Option<String>,
        /// The table: its file, its parts, and the page sizes in the daemon and in this process.
        #[arg(long, conflicts_with = "key")]
        table: bool,
    },
    /// Check every invariant of the table; exit code 1 if one is violated.
    Check,
    /// Show the policy in force, or one key's rule, or have the configuration file read again.
    Policy {
        /// Without one: show all rules.
        #[command(subcommand)]
        command: Option<PolicyCommand>,
    },
    /// Show what a user may do with the cache, and by which [[access]] rule of the configuration:
    /// by default, this process's user.
    Access {
        /// The user, by name or number, with the groups that the system knows of.
        user: Option<String>,
    },
    /// Estimate the hit ratio with half, twice and four times the memory.
    ///
    /// The estimate is based on sampled keys and covers all reads that the daemon has learned of
    /// since it started. It was within two percentage points on the traces that it was tested with.
    Advise,
    /// Move all entries to a table of another size, or with a better index, without interruption.
    ///
    /// During the move there must be memory for both tables. Set the size in the configuration,
    /// too: when the daemon starts, it moves the table to the configured size.
    #[command(after_help = "Examples:\n  l1ctl resize 2GiB\n  l1ctl resize --fit-index")]
    Resize {
        /// The new size, for example "2GiB"; default: unchanged.
        #[arg(value_parser = size)]
        #[arg(required_unless_present_any = ["fit_index", "average_entry_bytes"])]
        size: Option<u64>,
        /// Size the index for the present entries instead of the configured average.
        #[arg(long)]
        fit_index: bool,
        /// Size the index for entries of this many bytes, including header and key.
        #[arg(long, value_name = "BYTES", conflicts_with = "fit_index")]
        #[arg(value_parser = clap::value_parser!(u32).range(32..))]
        average_entry_bytes: Option<u32>,
    },
    /// Remove all keys, or those with a prefix, from L1. The tiers keep them.
    Flush {
        /// The prefix.
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Print the completions of this command line for a shell.
    #[command(after_help = "Examples:\n  \
        l1ctl completions bash > ~/.local/share/bash-completion/completions/l1ctl\n  \
        l1ctl completions fish > ~/.config/fish/completions/l1ctl.fish")]
    Completions(Completions),
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Show which rule holds for a key, and why: the rules that match, and where each setting comes
    /// from.
    Show {
        /// The key.
        key: String,
    },
    /// Have the daemon read its configuration file again. Returns when the policy is in force, and
    /// shows what has changed; exit code 4 and the errors with their lines if the file is refused.
    Reload,
}

/// The definition of `l1ctl`'s command line, from which its man pages are made.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Reasons for a command to fail.
#[derive(Debug)]
enum Failure {
    Usage(String),
    Client(Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Usage(message) => f.write_str(message),
            Failure::Client(error) => error.fmt(f),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Client(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Usage(unprinted(&error))
    }
}

/// The daemon's `what` is no document that this program reads.
fn other_release(what: &str) -> Failure {
    Failure::Usage(format!(
        "cannot read the daemon's {what}: it is of another release than this l1ctl; use the one of \
         its release, or --json"
    ))
}

/// Runs `l1ctl` with the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = arguments::<Arguments>();
    match execute(&arguments) {
        Ok(code) => code,
        Err(Failure::Usage(message)) => {
            print_error(format_args!("l1ctl: {message}"));
            ExitCode::from(USAGE)
        }
        Err(Failure::Client(error)) => {
            print_error(format_args!("l1ctl: {error}"));
            ExitCode::from(match error {
                Error::Unavailable { .. } | Error::Deadline { .. } => UNREACHABLE,
                Error::TooLarge { .. } => USAGE,
                Error::Denied { .. } => DENIED,
                Error::TierFailed { .. } | Error::UnknownOutcome { .. } => TIER_FAILED,
                _ => REFUSED,
            })
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "not a duration; write for example \"2s\" or \"500ms\"".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|every| *every >= Duration::from_millis(100))
        .ok_or_else(|| "not a number of seconds from 0.1 on; write for example 2".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    crate::config::parse_size(text)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "not a size; write for example \"2GiB\"".to_owned())
}

fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let socket = arguments.socket.as_deref().filter(|path| !path.as_os_str().is_empty());
    if let Command::Page { port, status_socket } = &arguments.command {
        return page::serve(socket, status_socket.as_deref(), *port);
    }
    if let Command::Completions(completions) = &arguments.command {
        completions.print("l1ctl", &command())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut builder = Client::builder().deadline(arguments.deadline.unwrap_or(DEADLINE));
    if let Some(socket) = socket {
        builder = builder.socket(socket);
    }
    let client = builder.connect()?;
    let bytes = |key: &str| key::bytes(key, arguments.hex);
    let json = arguments.json;
    match &arguments.command {
        Command::Get { key } => key::get(&client, &bytes(key)?, json),
        Command::Set { key, value, ttl, flags, l1_only } => {
            key::set(&client, &bytes(key)?, value, (*ttl, *flags, *l1_only), json)
        }
        Command::Delete { key } => key::delete(&client, &bytes(key)?, json),
        Command::Operation(operation) => operations::run(&client, operation, (arguments.hex, json)),
        Command::Stats { clients: true, .. } | Command::Clients => clients::show(&client, json),
        Command::Stats { watch: Some(every), .. } => stats::watch(&client, *every, json),
        Command::Stats { .. } => stats::show(&client, json),
        // Above, without a client.
        Command::Page { .. } | Command::Completions(_) => Ok(ExitCode::SUCCESS),
        Command::Top { every } => top::run(&client, *every, json),
        Command::Policies => tables::policies(&client, json),
        Command::Keys { prefix, top, by } => {
            keys::show(&client, (&bytes(prefix)?, *top, *by), json)
        }
        Command::Tiers => tables::tiers(&client, json),
        Command::Explain { key: Some(key), .. } => explain::show(&client, &bytes(key)?, json),
        Command::Explain { key: None, .. } => table::explain(&client, json),
        Command::Check => admin::check(&client.admin().check_json()?, json),
        Command::Policy { command: None } => admin::show(&client.admin().policy_json()?, json),
        Command::Policy { command: Some(PolicyCommand::Show { key }) } => {
            admin::show_rule(&client.admin().explain_json(&bytes(key)?)?, json)
        }
        Command::Policy { command: Some(PolicyCommand::Reload) } => {
            // A large table is walked, which may take longer than other answers.
            let report = match arguments.deadline {
                Some(deadline) => client.admin().reload_policy_within(deadline),
                None => client.admin().reload_policy(),
            };
            admin::show(&report?, json)
        }
        Command::Access { user } => access::show(&client, user.as_deref(), json),
        Command::Advise => advise::run(&client, json),
        Command::Resize { size, fit_index, average_entry_bytes } => {
            let entry_bytes = if *fit_index { Some(0) } else { *average_entry_bytes };
            resize::run(&client, (*size, entry_bytes), json)
        }
        Command::Flush { prefix } => {
            client.admin().flush(&bytes(prefix)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
