//! A real daemon with a private table and socket, for the duration of an experiment.

use crate::failure::Failure;
use crate::interrupt;
use crate::scratch;
use anyhow::{Context, Result, bail};
use l1d_client::Client;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START_DEADLINE: Duration = Duration::from_secs(20);
/// Deadline of requests, long enough for a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

/// Shape of the daemon's table.
#[derive(Debug, Clone, Copy)]
pub struct TableShape {
    /// Bytes of the file.
    pub table_bytes: u64,
    /// Largest value.
    pub value_bytes_max: u64,
    /// Expected bytes of an entry, including its header.
    pub entry_bytes: u64,
}

/// The daemon. Dropping it stops it and removes its directory.
#[derive(Debug)]
pub struct Daemon {
    program: PathBuf,
    /// The process; ended between [`kill`](Daemon::kill) and [`restart`](Daemon::restart).
    child: Child,
    directory: TempDir,
}

impl Daemon {
    /// Starts a daemon and returns when clients can attach. `program`: the binary, `None` for the
    /// `l1d` beside this program. `rules`: TOML after the `[table]` section.
    pub fn start(program: Option<&Path>, shape: TableShape, rules: &str) -> Result<Daemon> {
        let program = program_at(program)?;
        let directory = scratch::directory()?;
        std::fs::create_dir(directory.path().join("table"))
            .context("cannot make the table's directory")?;
        configure(directory.path(), shape, rules)?;
        let (child, ready) = launch(&program, directory.path())?;
        let mut daemon = Daemon { program, child, directory };
        daemon.wait(&ready)?;
        Ok(daemon)
    }

    /// Writes another configuration, for the next start or reload.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn configure(&self, shape: TableShape, rules: &str) -> Result<()> {
        configure(self.directory.path(), shape, rules)
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// The system does not tell of its end.
    pub fn kill(&mut self) -> Result<()> {
        // An error means that it has ended.
        let _ = self.child.kill();
        self.child.wait().context("cannot wait for the daemon's end")?;
        Ok(())
    }

    /// Starts it again after its end, with the same table, and returns when clients can attach.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> Result<()> {
        let (child, ready) = launch(&self.program, self.directory.path())?;
        self.child = child;
        self.wait(&ready)
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot look for the daemon's end")
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?);
        kill(pid, signal).with_context(|| format!("cannot send {signal} to the daemon"))
    }

    /// The file of its table.
    pub fn table(&self) -> PathBuf {
        self.directory.path().join("table/table")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Pins all its threads to one core.
    ///
    /// # Errors
    /// It has ended, or may not be pinned.
    pub fn pin(&self, core: usize) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(core).context("a core beyond what the kernel can name")?;
        let tasks = format!("/proc/{}/task", self.pid());
        for task in std::fs::read_dir(tasks).context("the daemon has ended")?.flatten() {
            if let Some(id) = task.file_name().to_str().and_then(|name| name.parse().ok()) {
                sched_setaffinity(Pid::from_raw(id), &set).context("cannot pin the daemon")?;
            }
        }
        Ok(())
    }

    /// Attaches a client to it.
    pub fn client(&self) -> Result<Client> {
        connect(&self.socket())
    }

    /// Bytes of memory in the table's files, including untouched pages.
    pub fn table_memory_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let Ok(files) = std::fs::read_dir(self.directory.path().join("table")) else { return 0 };
        files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.blocks() * 512).sum()
    }

    fn wait(&mut self, ready: &UnixDatagram) -> Result<()> {
        let end = Instant::now() + START_DEADLINE;
        let mut message = [0; 1024];
        while Instant::now() < end {
            if let Ok(bytes) = ready.recv(&mut message) {
                let text = message.get(..bytes).unwrap_or_default();
                if text.split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
                    return Ok(());
                }
            }
            if let Some(status) = self.child.try_wait()? {
                let text = format!("the daemon ended ({status}): {}", self.last_words());
                return Err(Failure::Daemon(text).into());
            }
        }
        let text =
            format!("the daemon is not ready after {START_DEADLINE:?}: {}", self.last_words());
        Err(Failure::Daemon(text).into())
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.trim().lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

fn configure(directory: &Path, shape: TableShape, rules: &str) -> Result<()> {
    let TableShape { table_bytes, value_bytes_max, entry_bytes } = shape;
    let config = format!(
        "[table]\nsize = \"{table_bytes}B\"\nvalue_bytes_max = \
         \"{value_bytes_max}B\"\naverage_entry_bytes = \"{entry_bytes}B\"\n\n{rules}"
    );
    std::fs::write(directory.join("l1d.toml"), config)
        .context("cannot write the daemon's configuration")
}

/// Starts the process. Returns it with the socket on which it says that it is ready.
fn launch(program: &Path, directory: &Path) -> Result<(Child, UnixDatagram)> {
    let at = |name: &str| directory.join(name);
    // That of an earlier start.
    let _ = std::fs::remove_file(at("ready"));
    let ready = UnixDatagram::bind(at("ready"))
        .context("cannot bind a socket for the daemon's readiness")?;
    ready.set_read_timeout(Some(POLL))?;
    let log = File::options().append(true).create(true).open(at("log"));
    let log = log.context("cannot make the daemon's log")?;
    let mut command = Command::new(program);
    interrupt::die_together(&mut command);
    let child = command
        .args(["serve".as_ref(), "--config".as_ref(), at("l1d.toml").as_os_str()])
        .args(["--socket".as_ref(), at("socket").as_os_str()])
        .args(["--table-directory".as_ref(), at("table").as_os_str()])
        .env("NOTIFY_SOCKET", at("ready"))
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| Failure::Daemon(format!("cannot start {}", program.display())))?;
    Ok((child, ready))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its table goes with the directory, so it has nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of the daemon at this socket, with deadlines long enough for a busy machine.
pub fn connect(socket: &Path) -> Result<Client> {
    let builder = Client::builder().socket(socket).deadline(DEADLINE).attach_deadline(DEADLINE);
    builder.connect().with_context(|| {
        Failure::Daemon(format!("cannot attach to the daemon at {}", socket.display()))
    })
}

/// The daemon's program: the named one, or else the `l1d` beside this program.
///
/// # Errors
/// There is no such file.
pub fn program_at(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(program) = named {
        if !program.is_file() {
            bail!(Failure::Usage(format!(
                "--l1d {}: there is no such program; build it (`cargo build --release`) or name \
                 another",
                program.display()
            )));
        }
        return Ok(program.to_owned());
    }
    let own = std::env::current_exe().context("this program's own file cannot be found")?;
    let beside = own.with_file_name("l1d");
    if !beside.is_file() {
        bail!(Failure::Usage(format!(
            "no l1d beside {}: build it (`cargo build --release`) or name it with --l1d PATH",
            own.display()
        )));
    }
    Ok(beside)
}
