//! A daemon that is started again whenever it dies, as a service manager does it.

use crate::PROGRAM;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use tempfile::TempDir;
use test_support::daemon::serve;
use test_support::servers::until;

/// What the next start gets.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// `L1D_FAULT`.
    pub fault: Option<String>,
    /// `L1D_FAULT_COUNTS`.
    pub counts: Option<PathBuf>,
    /// The identity of the table is damaged before.
    pub is_damaged: bool,
}

#[derive(Debug)]
struct Shared {
    directory: TempDir,
    tables: TempDir,
    next: Mutex<Vec<Start>>,
    pid: AtomicI32,
    deaths: AtomicU64,
    is_over: AtomicBool,
    /// The end of a daemon that no signal has killed.
    failure: Mutex<Option<String>>,
}

/// The daemon; ended when dropped.
#[derive(Debug)]
pub struct Watched {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watched {
    /// Starts it with this configuration.
    pub fn start(config: &str) -> Watched {
        let memory = if PathBuf::from("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let shared = Arc::new(Shared {
            directory: TempDir::new().unwrap(),
            tables: TempDir::with_prefix_in("l1d-faults-", memory).unwrap(),
            next: Mutex::default(),
            pid: AtomicI32::new(0),
            deaths: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            failure: Mutex::default(),
        });
        let mut watched = Watched { shared: Arc::clone(&shared), thread: None };
        watched.configure(config);
        watched.thread = Some(thread::spawn(move || shared.watch()));
        watched
    }

    /// Waits until the socket can be connected to: there is a moment in which it exists and nobody
    /// listens.
    pub fn wait_for_socket(&self) {
        until("the socket", || {
            self.deaths();
            UnixStream::connect(self.socket()).ok().map(drop)
        });
    }

    /// The file of its table.
    pub fn table(&self) -> PathBuf {
        self.shared.tables.path().join("tables/table")
    }

    /// Writes another configuration.
    pub fn configure(&self, config: &str) {
        let file = self.shared.directory.path().join("l1d.toml");
        // At once: a daemon may be starting.
        fs::write(file.with_extension("new"), config).unwrap();
        fs::rename(file.with_extension("new"), file).unwrap();
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.shared.socket()
    }

    /// How often it has died.
    pub fn deaths(&self) -> u64 {
        let failure = self.shared.failure.lock().unwrap();
        assert!(failure.is_none(), "{}", failure.as_deref().unwrap_or_default());
        self.shared.deaths.load(Ordering::SeqCst)
    }

    /// Kills it; the next starts are these, in this order.
    pub fn kill(&self, mut next: Vec<Start>) {
        next.reverse();
        *self.shared.next.lock().unwrap() = next;
        let deaths = self.deaths();
        // It may die of its own accord first.
        let pid = self.shared.pid.load(Ordering::SeqCst);
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        until("the end of the daemon", || (self.deaths() > deaths).then_some(()));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let pid = self.shared.pid.load(Ordering::SeqCst);
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn socket(&self) -> PathBuf {
        self.directory.path().join("l1d.sock")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn command(&self, start: &Start) -> Command {
        let log = fs::File::create(self.directory.path().join("log")).unwrap();
        let mut command = Command::new(PROGRAM);
        serve(&mut command, self.directory.path(), &self.tables.path().join("tables"), "8MiB");
        command
            .envs(start.fault.as_ref().map(|fault| ("L1D_FAULT", fault)))
            .envs(start.counts.as_ref().map(|file| ("L1D_FAULT_COUNTS", file)))
            .stderr(log);
        command
    }

    /// The thread: starts daemons until the end.
    fn watch(&self) {
        while !self.is_over.load(Ordering::SeqCst) {
            let start = self.next.lock().unwrap().pop().unwrap_or_default();
            if start.is_damaged {
                let table = self.tables.path().join("tables/table");
                if let Ok(file) = fs::File::options().write(true).open(table) {
                    use std::os::unix::fs::FileExt;
                    file.write_all_at(b"damaged!", 0).unwrap();
                }
            }
            let mut child = self.command(&start).spawn().unwrap();
            self.pid.store(i32::try_from(child.id()).unwrap(), Ordering::SeqCst);
            if self.is_over.load(Ordering::SeqCst) {
                let _ = child.kill();
            }
            let status = child.wait().unwrap();
            if status.signal() != Some(Signal::SIGKILL as i32) {
                let log = self.log();
                *self.failure.lock().unwrap() = Some(format!("{start:?}: {status}: {log}"));
                return;
            }
            self.deaths.fetch_add(1, Ordering::SeqCst);
        }
    }
}
