//! Atomic operations: `add`, `replace`, `cas`, `append`, `prepend`, `incr`, `decr`, `touch`.

use super::key::{add_life, bytes, content, lifetime, line, warn};
use super::{Failure, NOT_FOUND};
use crate::cli::{print, print_error};
use clap::{Args, Subcommand};
use l1d_client::{
    Client, Count, CounterOptions, Lifetime, OperationOptions, Outcome, Stored, Token,
};
use serde_json::json;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Operation {
    /// Store a value, unless the key has one; exit code 1 if it has.
    Add {
        /// The key.
        key: String,
        /// The value; "-" reads it from standard input.
        value: String,
        #[command(flatten)]
        storing: Storing,
    },
    /// Store a value, if the key has one; exit code 1 if it has none.
    Replace {
        /// The key.
        key: String,
        /// The value; "-" reads it from standard input.
        value: String,
        #[command(flatten)]
        storing: Storing,
    },
    /// Store a value, if the key still has that of a version; exit code 1 if it has another.
    Cas {
        /// The key.
        key: String,
        /// The version, as `l1ctl --json get` shows it.
        version: u64,
        /// The value; "-" reads it from standard input.
        value: String,
        #[command(flatten)]
        storing: Storing,
    },
    /// Put bytes after the value of a key; exit code 1 if it has none.
    Append {
        /// The key.
        key: String,
        /// The bytes; "-" reads them from standard input.
        value: String,
    },
    /// Put bytes before the value of a key; exit code 1 if it has none.
    Prepend {
        /// The key.
        key: String,
        /// The bytes; "-" reads them from standard input.
        value: String,
    },
    /// Add to a counter and print it; exit code 1 if there is none.
    Incr {
        /// The key.
        key: String,
        #[command(flatten)]
        counting: Counting,
    },
    /// Subtract from a counter and print it; exit code 1 if there is none.
    Decr {
        /// The key.
        key: String,
        #[command(flatten)]
        counting: Counting,
    },
    /// Give the value of a key another life, counted from now; exit code 1 if it has none.
    Touch {
        /// The key.
        key: String,
        /// The life: "5s", "1h 30m", a number of seconds, or "forever"; default: the policy's.
        #[arg(value_parser = lifetime)]
        ttl: Option<Lifetime>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Storing {
    /// How long it lives: "5s", "1h 30m", a number of seconds, or "forever"; default: as long as
    /// the policy says.
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    ttl: Option<Lifetime>,
    /// Client flags: a number that is kept with the value.
    #[arg(long, value_name = "N", default_value_t = 0)]
    flags: u32,
}

#[derive(Debug, Args)]
pub(super) struct Counting {
    /// By how much.
    #[arg(default_value_t = 1, allow_negative_numbers = true)]
    by: i64,
    /// The value to begin with, where there is none.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    initial: Option<i64>,
    /// The life of a counter that begins; one that exists keeps its own.
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    ttl: Option<Lifetime>,
}

impl Storing {
    fn options(&self) -> OperationOptions {
        OperationOptions { lifetime: self.ttl.unwrap_or_default(), flags: self.flags }
    }
}

impl Counting {
    fn options(&self) -> CounterOptions {
        CounterOptions { initial: self.initial, lifetime: self.ttl.unwrap_or_default() }
    }
}

pub(super) fn run(
    client: &Client,
    operation: &Operation,
    (hex, json): (bool, bool),
) -> Result<ExitCode, Failure> {
    let key = |key: &str| bytes(key, hex);
    match operation {
        Operation::Add { key: k, value, storing } => {
            show(client.add(key(k)?, content(value)?, &storing.options())?, json)
        }
        Operation::Replace { key: k, value, storing } => {
            show(client.replace(key(k)?, content(value)?, &storing.options())?, json)
        }
        Operation::Cas { key: k, version, value, storing } => {
            let token = Token::of_version(*version).ok_or_else(|| {
                Failure::Usage(
                    "no value has version 0; `l1ctl --json get` shows the version of a key's value"
                        .into(),
                )
            })?;
            let options = storing.options();
            show(client.compare_and_set(key(k)?, token, content(value)?, &options)?, json)
        }
        Operation::Append { key: k, value } => show(client.append(key(k)?, content(value)?)?, json),
        Operation::Prepend { key: k, value } => {
            show(client.prepend(key(k)?, content(value)?)?, json)
        }
        Operation::Incr { key: k, counting } => {
            show_count(client.increment(key(k)?, counting.by, &counting.options())?, json)
        }
        Operation::Decr { key: k, counting } => {
            show_count(client.decrement(key(k)?, counting.by, &counting.options())?, json)
        }
        Operation::Touch { key: k, ttl } => {
            show(client.touch(key(k)?, ttl.unwrap_or_default())?, json)
        }
    }
}

fn show(outcome: Outcome, json: bool) -> Result<ExitCode, Failure> {
    match outcome {
        Outcome::Done(Stored { version, degraded, shortened_to, .. }) => {
            if json {
                let mut answer = json!({ "done": true, "version": version, "degraded": degraded });
                add_life(&mut answer, shortened_to);
                print(line(&answer))?;
            } else {
                warn(degraded, shortened_to);
            }
            Ok(ExitCode::SUCCESS)
        }
        other => not_done(&other, json),
    }
}

fn show_count(outcome: Outcome<Count>, json: bool) -> Result<ExitCode, Failure> {
    match outcome {
        Outcome::Done(Count { value, version, degraded, shortened_to, .. }) => {
            if json {
                let mut answer = json!({ "done": true, "value": value, "version": version,
                    "degraded": degraded });
                add_life(&mut answer, shortened_to);
                print(line(&answer))?;
            } else {
                print(format!("{value}\n"))?;
                warn(degraded, shortened_to);
            }
            Ok(ExitCode::SUCCESS)
        }
        other => not_done(&other, json),
    }
}

fn not_done<T>(outcome: &Outcome<T>, json: bool) -> Result<ExitCode, Failure> {
    let (word, text) = match outcome {
        Outcome::Exists => {
            ("exists", "not done: the key has a value already; `set` or `replace` would replace it")
        }
        Outcome::Absent => ("absent", "not done: the key has no value; `set` would store one"),
        Outcome::Done(_) | Outcome::Conflict => (
            "conflict",
            "not done: the key no longer has the value of this version; `l1ctl --json get` shows \
             the version that it has",
        ),
    };
    if json {
        print(line(&json!({ "done": false, "reason": word })))?;
    } else {
        print_error(text);
    }
    Ok(ExitCode::from(NOT_FOUND))
}
