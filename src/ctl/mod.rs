//! The command line of `l1ctl`: what people ask a running daemon.

mod admin;
mod advise;
mod clients;
mod key;
mod resize;
mod table;

use crate::cli::{REFUSED, TIER_FAILED, UNREACHABLE, USAGE, print_error};
use clap::{Parser, Subcommand};
use l1d_client::{Client, Error};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Exit code: there is no such key, or the check found something.
const NOT_FOUND: u8 = 1;

/// Ask a running l1d.
///
/// Exit codes: 0 done, 1 not found (or a check that found something), 2 usage, 3 the daemon cannot be
/// reached, 4 refused, 5 a tier failed.
#[derive(Debug, Parser)]
#[command(
    name = "l1ctl",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
    l1ctl get analysis:signals\n  l1ctl set market:BTC 64000 --ttl 5s\n  l1ctl explain market:BTC\n  \
    l1ctl --json stats"
)]
struct Arguments {
    /// The daemon's control socket.
    #[arg(long, global = true, env = "L1D_SOCKET", default_value = "/run/l1d/l1d.sock")]
    socket: PathBuf,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    /// The longest that an answer may take, as "2s".
    #[arg(long, global = true, value_parser = humantime::parse_duration, default_value = "10s")]
    deadline: Duration,
    /// Keys are given as hex digits.
    #[arg(long, global = true)]
    hex: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the value of a key: from L1, or from the tiers below.
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
        /// Life in L1, at most what the policy allows.
        #[arg(long, value_parser = humantime::parse_duration)]
        ttl: Option<Duration>,
        /// Client flags.
        #[arg(long, default_value_t = 0)]
        flags: u32,
        /// Store in L1 only, whatever the policy says.
        #[arg(long)]
        l1_only: bool,
    },
    /// Delete a key from L1 and, by policy, from the tiers.
    Delete {
        /// The key.
        key: String,
    },
    /// Figures of the daemon, the table and the tiers.
    Stats {
        /// One line for each client instead.
        #[arg(long)]
        clients: bool,
    },
    /// What the daemon knows of one key, or of the table's memory.
    Explain {
        /// The key.
        #[arg(required_unless_present = "table")]
        key: Option<String>,
        /// The table: its file, its parts, and in what pages the daemon and this process have it.
        #[arg(long, conflicts_with = "key")]
        table: bool,
    },
    /// Check every invariant of the table; exit code 1 if one does not hold.
    Check,
    /// The policy in force.
    Policy,
    /// What hit ratio the table would have with half, twice and four times its memory.
    ///
    /// An estimate from sampled keys, of all reads that the daemon has heard of since it started; within
    /// two points on the traces that it was checked with.
    Advise,
    /// Move all entries to a table of another size, or with a better index, while everybody goes on.
    ///
    /// While entries move there must be room for both tables. Set the size in the configuration, too:
    /// a daemon that starts moves the table to the size that stands there.
    #[command(after_help = "Examples:\n  l1ctl resize 2GiB\n  l1ctl resize --fit-index")]
    Resize {
        /// The new size, as "2GiB"; left out: as now.
        #[arg(value_parser = size, required_unless_present_any = ["fit_index", "average_entry_bytes"])]
        size: Option<u64>,
        /// Make the index for entries as they are now, not as the configuration expects them.
        #[arg(long)]
        fit_index: bool,
        /// Make the index for entries of so many bytes, header and key included.
        #[arg(long, conflicts_with = "fit_index", value_parser = clap::value_parser!(u32).range(32..))]
        average_entry_bytes: Option<u32>,
    },
    /// Make L1 forget all keys, or those with a prefix. The tiers keep theirs.
    Flush {
        /// The prefix.
        #[arg(default_value = "")]
        prefix: String,
    },
}

/// How a command can fail.
#[derive(Debug)]
enum Failure {
    Usage(String),
    Client(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Client(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Usage(format!("cannot write to standard output: {error}"))
    }
}

/// Runs `l1ctl` with the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
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
                Error::TierFailed { .. } | Error::UnknownOutcome { .. } => TIER_FAILED,
                _ => REFUSED,
            })
        }
    }
}

fn size(text: &str) -> Result<u64, String> {
    crate::config::parse_size(text)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "not a size; write for example \"2GiB\"".to_owned())
}

fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let client =
        Client::builder().socket(&arguments.socket).deadline(arguments.deadline).connect()?;
    let bytes = |key: &str| key::bytes(key, arguments.hex);
    let json = arguments.json;
    match &arguments.command {
        Command::Get { key } => key::get(&client, &bytes(key)?, json),
        Command::Set { key, value, ttl, flags, l1_only } => {
            key::set(&client, &bytes(key)?, value, (*ttl, *flags, *l1_only), json)
        }
        Command::Delete { key } => key::delete(&client, &bytes(key)?, json),
        Command::Stats { clients: true } => clients::show(&client, json),
        Command::Stats { clients: false } => admin::show(&client.stats_json()?, json),
        Command::Explain { key: Some(key), .. } => {
            admin::show(&client.explain_json(&bytes(key)?)?, json)
        }
        Command::Explain { key: None, .. } => table::explain(&client, json),
        Command::Check => admin::check(&client.check_json()?, json),
        Command::Policy => admin::show(&client.policy_json()?, json),
        Command::Advise => advise::run(&client, json),
        Command::Resize { size, fit_index, average_entry_bytes } => {
            let entry_bytes = if *fit_index { Some(0) } else { *average_entry_bytes };
            resize::run(&client, (*size, entry_bytes), json)
        }
        Command::Flush { prefix } => {
            client.flush(&bytes(prefix)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
