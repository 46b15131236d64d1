//! The system calls of a process, all its threads together, as strace sees them.

use crate::failure::Failure;
use crate::{interrupt, scratch};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// Completed calls by name. Waits for events that returned none are counted apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls by name, without empty polls.
    pub by_name: BTreeMap<String, u64>,
    /// `epoll_wait` and its relatives that returned 0.
    pub empty_polls: u64,
}

/// strace, attached to a process. Detached when dropped.
pub struct Strace {
    child: Child,
    messages: BufReader<ChildStderr>,
    directory: TempDir,
}

impl Strace {
    /// Attaches to a process and all its threads.
    ///
    /// # Errors
    /// strace is not installed, or may not trace the process.
    pub fn attach(pid: u32) -> Result<Strace> {
        let directory = scratch::directory()?;
        let mut command = Command::new("strace");
        interrupt::die_together(&mut command);
        // Timestamps tell which calls belong to the measurement; arguments are not needed and
        // truncated.
        command.args(["-f", "-ttt", "-s", "0", "-e", "signal=none", "-p", &pid.to_string(), "-o"]);
        command.arg(directory.path().join("calls")).env("LC_ALL", "C");
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = spawned.spawn().with_context(|| {
            Failure::Usage("--syscalls needs strace; on Debian: apt-get install strace".to_owned())
        })?;
        let messages = BufReader::new(child.stderr.take().context("strace without a pipe")?);
        let mut strace = Strace { child, messages, directory };
        let mut line = String::new();
        strace.messages.read_line(&mut line)?;
        if !line.contains("attached") {
            bail!("strace cannot trace the daemon: {}", line.trim());
        }
        Ok(strace)
    }

    /// Detaches, and counts the calls that completed between two timestamps of [`now`].
    ///
    /// # Errors
    /// strace has written nothing that can be read.
    pub fn calls(mut self, from: f64, to: f64) -> Result<Calls> {
        self.detach();
        let text = std::fs::read_to_string(self.directory.path().join("calls"));
        Ok(count(&text.context("strace has left no record")?, from, to))
    }

    /// Kills strace, because all processes of the lab block the signals that it could handle. The
    /// kernel releases the traced process, and each line was written before its call returned.
    fn detach(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Seconds since 1970, as strace writes them.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Counts the calls in a trace. A call that strace splits into two lines because another thread's
/// call came between is counted by the second line, which has its result.
fn count(record: &str, from: f64, to: f64) -> Calls {
    let mut calls = Calls::default();
    for line in record.lines() {
        let mut words = line.splitn(3, [' ', '\t']).map(str::trim);
        let (_thread, rest) = (words.next(), words.clone().collect::<Vec<_>>().join(" "));
        let Some((time, call)) = rest.trim().split_once(' ') else { continue };
        let is_inside = time.parse().is_ok_and(|time: f64| (from..=to).contains(&time));
        let Some((call, result)) = call.rsplit_once(" = ").filter(|_| is_inside) else { continue };
        let call = call.trim_start_matches("<... ");
        let name = call.split(['(', ' ']).next().unwrap_or_default();
        if name.starts_with("epoll_") && name != "epoll_ctl" && result.trim().starts_with("0") {
            calls.empty_polls += 1;
        } else {
            *calls.by_name.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_once_and_empty_polls_apart() {
        let record = "\
10  99.000000 read(1, \"\"..., 8) = 8
10  100.100000 read(1, \"\"..., 8)      = 8
11  100.200000 epoll_wait(3,  <unfinished ...>
10  100.300000 write(1, \"\"..., 8) = -1 EAGAIN (Resource temporarily unavailable)
11  100.400000 <... epoll_wait resumed>[{events=EPOLLIN, data={u32=1, u64=1}}], 64, -1) = 1
11  100.500000 epoll_wait(3, [], 64, 0) = 0
11  100.600000 epoll_ctl(3, EPOLL_CTL_ADD, 4, {}) = 0
10  101.500000 read(1, \"\"..., 8) = 8
";
        let calls = count(record, 100.0, 101.0);
        let names: Vec<_> = calls.by_name.iter().map(|(name, &n)| (name.as_str(), n)).collect();
        assert_eq!(names, [("epoll_ctl", 1), ("epoll_wait", 1), ("read", 1), ("write", 1)]);
        assert_eq!(calls.empty_polls, 1);
    }
}
