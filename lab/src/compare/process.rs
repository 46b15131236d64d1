//! The processes of a run, as the one that started them sees them.

use super::contestant::Contestant;
use super::options::CompareOptions;
use super::oracle::Oracle;
use super::servers::Servers;
use super::tally::Tally;
use super::worker::{READY, Window};
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::interrupt;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A worker of this run. Killed when dropped.
pub struct Process {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a reader by its number, or the writer.
    ///
    /// # Errors
    /// The system gives no process.
    pub fn start(
        options: &CompareOptions,
        contestant: Contestant,
        reader: Option<u32>,
        (servers, oracle, daemon): (&Servers, &Oracle, Option<&Daemon>),
    ) -> Result<Process> {
        let load = &options.load;
        let mut command = Command::new(
            std::env::current_exe().context("this program's own file cannot be found")?,
        );
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
        interrupt::die_together(&mut command);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.context("cannot start a process of this run")?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a process without pipes");
        };
        Ok(Process { child, orders, answers: BufReader::new(answers) })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has reached its tiers or the daemon.
    ///
    /// # Errors
    /// It ended.
    pub fn ready(&mut self) -> Result<()> {
        let line = self.answer()?;
        ensure!(line.trim() == READY, "a process says {line:?} before it is ready");
        Ok(())
    }

    /// Tells it when to begin and to end.
    ///
    /// # Errors
    /// It ended.
    pub fn begin(&mut self, window: Window) -> Result<()> {
        writeln!(self.orders, "{}", serde_json::to_string(&window)?)
            .context("a process does not listen")
    }

    /// Waits for its end and takes what it counted. It lives on, so that its memory can be measured.
    ///
    /// # Errors
    /// It gave up.
    pub fn tally(&mut self) -> Result<Tally> {
        let line = self.answer()?;
        serde_json::from_str(&line)
            .with_context(|| format!("a process says {line:?} for its tally"))
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? > 0 {
            return Ok(line);
        }
        let status = self.child.wait()?;
        let text = format!("a process of the run ended ({status}); what it said stands above");
        match status.code() {
            Some(3) => bail!(Failure::Daemon(text)),
            Some(5) => bail!(Failure::Tier(text)),
            _ => bail!(text),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
