//! A process of an experiment, as the lab that started it sees it: orders go to its stdin, answers
//! come from its stdout, one JSON document or word per line.

use crate::failure::Failure;
use crate::interrupt;
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Printed by a process once it can take orders.
pub const READY: &str = "ready";

/// A running process. Killed when dropped.
pub struct Process {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// Starts this program with a subcommand and its options. Must be called by the main thread.
    ///
    /// # Errors
    /// The system cannot start another process.
    pub fn start(arguments: impl FnOnce(&mut Command)) -> Result<Process> {
        let mut command = Command::new(
            std::env::current_exe().context("this program's own file cannot be found")?,
        );
        arguments(&mut command);
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

    /// Waits until the process says [`READY`].
    ///
    /// # Errors
    /// It ended, or said something else.
    pub fn ready(&mut self) -> Result<()> {
        let line = self.line()?;
        ensure!(line.trim() == READY, "a process says {line:?} before it is ready");
        Ok(())
    }

    /// Sends an order.
    ///
    /// # Errors
    /// The process ended.
    pub fn tell(&mut self, order: &impl Serialize) -> Result<()> {
        writeln!(self.orders, "{}", serde_json::to_string(order)?)
            .context("a process does not listen")
    }

    /// Waits for an answer. The process stays alive, so that its memory and processor time can be
    /// read.
    ///
    /// # Errors
    /// The process ended, or its answer cannot be read.
    pub fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = self.line()?;
        serde_json::from_str(&line)
            .with_context(|| format!("a process gives an answer that cannot be read: {line:?}"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? > 0 {
            return Ok(line);
        }
        let status = self.child.wait()?;
        let text = format!("a process of the run ended ({status}); its message stands above");
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

/// The process's side: prints a line to the lab.
///
/// # Errors
/// The lab has closed the pipe.
pub fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
