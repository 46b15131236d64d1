//! A real `l1d serve` in a private directory.

use crate::servers::PATIENCE;
use l1d_client::Client;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A client of this daemon, which waits as long as a busy machine may need.
pub fn connect(daemon: &Daemon) -> Client {
    connect_to(&daemon.socket())
}

/// A client of the daemon at this socket, which waits as long as a busy machine may need.
pub fn connect_to(socket: &Path) -> Client {
    let builder = Client::builder().socket(socket);
    builder.deadline(PATIENCE).attach_deadline(PATIENCE).connect().unwrap()
}

/// A daemon; killed, and its files removed, when dropped.
pub struct Daemon {
    program: PathBuf,
    /// In /dev/shm, where a restart finds it again.
    tables: TempDir,
    directory: TempDir,
    table_size: String,
    child: Option<Child>,
}

impl Daemon {
    /// Starts `program` with this configuration text and table size, and returns when it is ready.
    pub fn start(program: &str, config: &str, table_size: &str) -> Daemon {
        let memory =
            if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
        Daemon::start_in(&memory, program, config, table_size)
    }

    /// The same, with the table on the file system of the directory `memory`.
    pub fn start_in(memory: &Path, program: &str, config: &str, table_size: &str) -> Daemon {
        let mut daemon = Daemon {
            program: program.into(),
            tables: tempfile::Builder::new().prefix("l1d-test-").tempdir_in(memory).unwrap(),
            directory: tempfile::tempdir().unwrap(),
            table_size: table_size.into(),
            child: None,
        };
        daemon.configure(config);
        daemon.restart();
        daemon
    }

    /// Writes another configuration for the next start.
    pub fn configure(&self, config: &str) {
        let path = self.directory.path().join("l1d.toml");
        std::fs::write(&path, config).unwrap();
        // It may hold a password.
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }

    /// Sets another table size for the next start.
    pub fn resize(&mut self, table_size: &str) {
        self.table_size = table_size.into();
    }

    /// Another build of it, for the next start.
    pub fn set_program(&mut self, program: &str) {
        self.program = program.into();
    }

    /// Starts it again in the same place, and returns when it is ready.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let notify = self.directory.path().join("notify");
        let _ = std::fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify).unwrap();
        ready.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let mut child = self.command().env("NOTIFY_SOCKET", &notify).stderr(log).spawn().unwrap();
        let begun = Instant::now();
        let mut message = [0; 256];
        loop {
            if let Ok(bytes) = ready.recv(&mut message)
                && message[..bytes].starts_with(b"READY=1")
            {
                break;
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the daemon ended ({status}): {}", self.log());
            }
            assert!(begun.elapsed() < PATIENCE, "the daemon is not ready: {}", self.log());
        }
        self.child = Some(child);
        self.wait_for_log();
    }

    /// Waits for the log of the start, which is written by a thread, and until each tier has been
    /// tried, which the daemon itself does not wait for: tests hold servers' replies back, and count
    /// them.
    fn wait_for_log(&self) {
        let config = std::fs::read_to_string(self.directory.path().join("l1d.toml")).unwrap();
        let is_section = |line: &&str| ["[l2]", "[l3]"].contains(&line.trim());
        let tiers = config.lines().filter(is_section).count();
        let begun = Instant::now();
        let is_there = |log: &str| {
            let tried = log.lines().filter(|line| line.contains("the tier ")).count();
            log.contains("ready") && tried >= tiers
        };
        // In vain if a server says nothing, or the configuration turns the log off.
        while begun.elapsed() < Duration::from_secs(1) && !is_there(&self.log()) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The command that starts it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("serve")
            .arg("--config")
            .arg(self.directory.path().join("l1d.toml"))
            .arg("--socket")
            .arg(self.socket())
            .arg("--table-directory")
            .arg(self.tables.path().join("tables"))
            .args(["--table-size", &self.table_size])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("l1d.sock")
    }

    /// The table's file.
    pub fn table(&self) -> PathBuf {
        self.tables.path().join("tables/table")
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let mut child = self.child.take().expect("it runs");
        child.wait().unwrap()
    }

    /// Sends SIGSTOP; returns when all its threads are stopped.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let stopped = waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED));
        assert_eq!(stopped, Ok(WaitStatus::Stopped(self.pid(), Signal::SIGSTOP)));
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        let id = self.child.as_ref().expect("it runs").id();
        Pid::from_raw(i32::try_from(id).unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
