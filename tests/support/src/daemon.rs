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

/// Has a command serve with the configuration and the socket in `directory`.
pub fn serve(command: &mut Command, directory: &Path, tables: &Path, table_size: &str) {
    command.args(["serve", "--config"]).arg(directory.join("l1d.toml"));
    command.arg("--socket").arg(directory.join("l1d.sock")).arg("--table-directory").arg(tables);
    command.args(["--table-size", table_size]).stdin(Stdio::null()).stdout(Stdio::null());
}

/// Starts a daemon that logs to `directory`, and returns when clients can attach.
///
/// # Errors
/// It does not start, ends, or is not ready in time; with its log.
pub fn start_ready(command: &mut Command, directory: &Path) -> anyhow::Result<Child> {
    let notify = directory.join("notify");
    let _ = std::fs::remove_file(&notify);
    let ready = UnixDatagram::bind(&notify)?;
    // The daemon may be another user's.
    std::fs::set_permissions(&notify, Permissions::from_mode(0o666))?;
    ready.set_read_timeout(Some(Duration::from_millis(20)))?;
    let log = std::fs::File::create(directory.join("log"))?;
    let mut child = command.env("NOTIFY_SOCKET", &notify).stderr(log).spawn()?;
    let log = || std::fs::read_to_string(directory.join("log")).unwrap_or_default();
    let begun = Instant::now();
    let mut message = [0; 256];
    loop {
        if let Ok(bytes) = ready.recv(&mut message)
            && message[..bytes].starts_with(b"READY=1")
        {
            return Ok(child);
        }
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("the daemon ended ({status}): {}", log());
        }
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            anyhow::bail!("the daemon is not ready: {}", log());
        }
    }
}

/// A daemon; killed, and its files removed, when dropped.
pub struct Daemon {
    /// The command that starts the program with the arguments that follow; mostly none.
    under: Vec<String>,
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
        Daemon::start_in(&memory(), program, config, table_size)
    }

    /// The same, with the table on the file system of the directory `memory`.
    pub fn start_in(memory: &Path, program: &str, config: &str, table_size: &str) -> Daemon {
        let mut daemon = Daemon::prepare_in(memory, program, config, table_size);
        daemon.restart();
        daemon
    }

    /// A daemon that [`restart`](Self::restart) starts for the first time.
    pub fn prepare(program: &str, config: &str, table_size: &str) -> Daemon {
        Daemon::prepare_in(&memory(), program, config, table_size)
    }

    fn prepare_in(memory: &Path, program: &str, config: &str, table_size: &str) -> Daemon {
        let daemon = Daemon {
            under: Vec::new(),
            program: program.into(),
            tables: tempfile::Builder::new().prefix("l1d-test-").tempdir_in(memory).unwrap(),
            directory: tempfile::tempdir().unwrap(),
            table_size: table_size.into(),
            child: None,
        };
        daemon.configure(config);
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

    /// Has this command, which ends by replacing itself with its arguments, start it from now on.
    pub fn run_under(&mut self, command: &[&str]) {
        self.under = command.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Starts it again in the same place, and returns when it is ready.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.child = Some(start_ready(&mut self.command(), self.directory.path()).unwrap());
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
        let mut command = match self.under.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        let tables = self.tables.path().join("tables");
        serve(&mut command, self.directory.path(), &tables, &self.table_size);
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

/// Where tables are, if the system has that.
fn memory() -> PathBuf {
    if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() }
}
