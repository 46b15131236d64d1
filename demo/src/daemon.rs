//! The demo's own daemon, with a private table and socket.

use super::directory::Directory;
use super::process::{Process, command};
use super::{NAMESPACE, Options, WAYS, Way};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const START_DEADLINE: Duration = Duration::from_secs(20);
/// A killed process closes its connections before its parent can reap it.
const DEATH_DEADLINE: Duration = Duration::from_millis(200);
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// Many times what the scenario needs, and small enough for a container's /dev/shm.
const TABLE_BYTES: u64 = 16 << 20;

/// Many times the scenario's largest value. The smallest possible table depends on it.
const VALUE_BYTES_MAX: u64 = 64 << 10;

/// Room for the table and the files beside it.
pub const DIRECTORY_BYTES: u64 = TABLE_BYTES + (8 << 20);

/// A running daemon; dropping it stops it.
pub struct Daemon {
    process: Process,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts `program serve` with all its files in `directory`, and returns when clients can
    /// attach. Gives up when `cancelled` returns true.
    pub fn start(
        program: &Path,
        directory: &Directory,
        options: &Options,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Daemon> {
        let (socket, log) = (directory.join("l1d.sock"), directory.join("daemon.log"));
        let (config, tables) = (directory.join("l1d.toml"), directory.join("table"));
        std::fs::write(&config, configuration(options))
            .with_context(|| format!("cannot write {}", config.display()))?;
        std::fs::create_dir(&tables)
            .with_context(|| format!("cannot make {}", tables.display()))?;
        let notify_path = directory.join("notify");
        let notify = UnixDatagram::bind(&notify_path)
            .with_context(|| format!("cannot make {}", notify_path.display()))?;
        notify.set_read_timeout(Some(Duration::from_millis(50)))?;

        let out = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let mut command = command(program);
        command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--socket")
            .arg(&socket)
            .arg("--table-directory")
            .arg(&tables)
            .args(["--table-size", &format!("{}MiB", TABLE_BYTES >> 20)])
            .env("NOTIFY_SOCKET", &notify_path)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let mut daemon = Daemon { process: Process::start(&mut command)?, socket, log };
        daemon.wait_until_ready(&notify, cancelled)?;
        Ok(daemon)
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// # Errors
    /// The daemon has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.process.ended() {
            None => Ok(()),
            Some(status) => bail!("the demo's daemon ended ({status}): {}", last_lines(&self.log)),
        }
    }

    /// [`Daemon::check`] after another failure, which may be the first sign of the daemon's end.
    ///
    /// # Errors
    /// The daemon ended within a short time.
    pub fn check_again(&mut self) -> Result<()> {
        let end = Instant::now() + DEATH_DEADLINE;
        while Instant::now() < end {
            self.check()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn wait_until_ready(
        &mut self,
        notify: &UnixDatagram,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<()> {
        let end = Instant::now() + START_DEADLINE;
        let mut message = [0; 4096];
        while Instant::now() < end {
            if cancelled() {
                bail!("stopped before the daemon was ready");
            }
            match notify.recv(&mut message) {
                Ok(bytes) => {
                    let text = message.get(..bytes).unwrap_or_default();
                    if text.split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
                        return Ok(());
                    }
                }
                Err(error) if is_timeout(error.kind()) => self.check()?,
                Err(error) => {
                    return Err(error).context("cannot learn whether the demo's daemon is ready");
                }
            }
        }
        bail!("the demo's daemon is not ready after {START_DEADLINE:?}: {}", last_lines(&self.log))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.stop(STOP_DEADLINE);
    }
}

/// The last lines of a log, for an error message.
pub fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default();
    if last.is_empty() { "it wrote nothing".to_owned() } else { last.join("\n") }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Without tiers, processes with an L1 of their own use the table as the level below it. With
/// tiers, their keys bypass the table and go to the tiers. TTLs are longer than any play, so that
/// it shows the age of copies and not the end of values; in the tiers they remove the demo's keys
/// later.
fn configuration(options: &Options) -> String {
    let mut text = format!("[table]\nvalue_bytes_max = \"{}KiB\"\n\n", VALUE_BYTES_MAX >> 10);
    // Debug form quotes and escapes as TOML requires.
    if let Some(address) = &options.memcached {
        let _ = writeln!(text, "[l2]\naddress = {address:?}\n");
    }
    if let Some(url) = &options.redis {
        let _ = writeln!(text, "[l3]\nurl = {url:?}\n");
    }
    let has_tiers = options.memcached.is_some() || options.redis.is_some();
    // A day is the longest TTL that a rule can have.
    let life_s = (options.seconds + 600).min(86_400);
    for way in WAYS {
        let scope = if has_tiers && way != Way::L1d { "process" } else { "host" };
        let _ = writeln!(
            text,
            "[[policy]]\nprefix = {:?}\nscope = {scope:?}\nttl = \"{life_s}s\"\n\
             l2_ttl = \"{life_s}s\"\nl3_ttl = \"{life_s}s\"\n",
            way.namespace()
        );
    }
    debug_assert!(text.contains(NAMESPACE));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_tiers_only_l1d_keeps_copies_in_the_table() {
        let mut options = Options {
            seconds: 86_400,
            json: false,
            page: false,
            page_port: 0,
            memcached: None,
            redis: None,
            web: 2,
        };
        assert!(!configuration(&options).contains("process"));
        assert!(configuration(&options).contains("ttl = \"86400s\""));
        options.redis = Some("redis://127.0.0.1:1/\"x".to_owned());
        let text = configuration(&options);
        let parsed: toml::Table = text.parse().unwrap();
        assert_eq!(parsed["l3"]["url"].as_str(), options.redis.as_deref());
        let scopes: Vec<(&str, &str)> = parsed["policy"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| (rule["prefix"].as_str().unwrap(), rule["scope"].as_str().unwrap()))
            .collect();
        assert_eq!(
            scopes,
            [
                ("l1d-demo:l1d:", "host"),
                ("l1d-demo:l1-2s:", "process"),
                ("l1d-demo:l1-30s:", "process")
            ]
        );
    }
}
