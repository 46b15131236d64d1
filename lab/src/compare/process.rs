//! Starts the processes of a run.

use super::contestant::Contestant;
use super::options::CompareOptions;
use super::oracle::Oracle;
use super::servers::Servers;
use crate::daemon::Daemon;
use crate::process::Process;
use anyhow::Result;

/// Starts a reader by its number, or the writer.
///
/// # Errors
/// The system cannot start another process.
pub fn start(
    options: &CompareOptions,
    contestant: Contestant,
    reader: Option<u32>,
    (servers, oracle, daemon): (&Servers, &Oracle, Option<&Daemon>),
) -> Result<Process> {
    let load = &options.load;
    Process::start(|command| {
        command.arg("worker").args(["--workload", &load.workload]).args(&load.trace);
        command.args(["--readers", &load.readers.to_string(), "--keys", &load.keys.to_string()]);
        command.args([
            "--value-bytes",
            &load.value_bytes.to_string(),
            "--seed",
            &load.seed.to_string(),
        ]);
        command.args(load.rate.map(|rate| format!("--rate={rate}")));
        command.args(reader.map(|reader| format!("--reader={reader}")));
        command.args(["--contestant", contestant.name(), "--oracle", oracle.name()]);
        command.args(["--memcached", &servers.memcached(), "--redis", &servers.redis()]);
        command.args(["--l1-bytes", &options.l1.as_u64().to_string()]);
        if let Some(daemon) = daemon {
            command.arg("--socket").arg(daemon.socket());
        }
    })
}
