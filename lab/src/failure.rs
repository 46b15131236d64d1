//! Failures of an experiment, by exit code.

use anyhow::Error;
use std::fmt;
use std::process::ExitCode;

/// Kinds of failure that have their own exit code; attach one with `context`.
#[derive(Debug)]
pub enum Failure {
    /// A file or program named on the command line cannot be used.
    Usage(String),
    /// The daemon cannot be reached.
    Daemon(String),
    /// memcached or Redis failed.
    Tier(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Usage(text) | Failure::Daemon(text) | Failure::Tier(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Failure {}

/// The exit code of an error: 2 usage, 3 the daemon, 5 a tier; 4, refused, for all others, such as
/// too little memory.
pub fn exit_code(error: &Error) -> ExitCode {
    ExitCode::from(match error.downcast_ref::<Failure>() {
        Some(Failure::Usage(_)) => 2,
        Some(Failure::Daemon(_)) => 3,
        Some(Failure::Tier(_)) => 5,
        None => 4,
    })
}
