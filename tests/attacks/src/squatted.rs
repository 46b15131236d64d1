//! Names that a stranger has taken before the daemon starts, in a directory that everybody may
//! write as /tmp: the daemon refuses them and changes nothing. And the daemon of another trust
//! domain.

use crate::attack::Found;
use crate::child::Role;
use crate::report::Outcome;
use crate::stage::{Stage, directory};
use crate::users::{ATTACKER, DAEMON, MEMBERS, NOBODY_ELSE, OTHER};
use anyhow::{Context, Result};
use std::fs::{self, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use test_support::servers::PATIENCE;

const DEFENCE: &str = "only a directory of the daemon's user that nobody else can write holds \
                       a table; no links are followed; no file is removed that is no socket; \
                       a lock beside each socket; one daemon, user, group and table for each \
                       trust domain";

/// Squats each name in turn, and attacks another domain's daemon.
pub fn run(program: &Path) -> Result<Outcome> {
    let mut outcome = Outcome::new("squatted-names, other-domain", false, DEFENCE);
    let mut found = Found::default();
    // A daemon that starts nowhere would be refused by every squat.
    let (refused, said) = Place::new()?.start(program)?;
    found.expects(!refused, format!("the daemon does not start where nothing is squatted: {said}"));
    for (what, squat) in SQUATS {
        let place = Place::new()?;
        squat(&place)?;
        let (refused, said) = place.start(program)?;
        found.expects(refused, format!("{what}: the daemon started"));
        found.expects(place.is_untouched()?, format!("{what}: a file was changed through it"));
        let reason = said.lines().last().unwrap_or_default().to_owned();
        let shown = reason.replace(&place.path.display().to_string(), "");
        found.says(format!("{what}: {shown}"));
    }
    other_domain(program, &mut found)?;
    outcome.attempts = found.attempts;
    outcome.breaches = found.breaches;
    Ok(outcome)
}

/// A directory as /tmp, with a file of the daemon's user that a link may aim at.
struct Place {
    parent: tempfile::TempDir,
    path: PathBuf,
    /// Sockets that listen as long as this lives.
    listeners: std::cell::RefCell<Vec<UnixListener>>,
}

type Squat = fn(&Place) -> Result<()>;

const SQUATS: [(&str, Squat); 8] = [
    ("the table's directory, of another user", |place| {
        fs::create_dir(place.tables())?;
        place.give(&place.tables())
    }),
    ("a link in place of the table's directory", |place| {
        fs::create_dir(place.path.join("real"))?;
        place.give(&place.path.join("real"))?;
        Ok(symlink(place.path.join("real"), place.tables())?)
    }),
    ("a file in place of the table's directory", |place| {
        fs::write(place.tables(), b"squatted")?;
        place.give(&place.tables())
    }),
    ("a file in place of the socket", |place| {
        fs::write(place.socket(), b"squatted")?;
        place.give(&place.socket())
    }),
    ("a link in place of the socket", |place| Ok(symlink(place.aim(), place.socket())?)),
    ("a socket of another user that listens", |place| {
        place.listeners.borrow_mut().push(UnixListener::bind(place.socket())?);
        place.give(&place.socket())
    }),
    ("a socket of another user that nobody serves", |place| {
        drop(UnixListener::bind(place.socket())?);
        place.give(&place.socket())
    }),
    ("a link in place of the socket's lock", |place| {
        Ok(symlink(place.aim(), place.path.join("l1d.sock.lock"))?)
    }),
];

impl Place {
    fn new() -> Result<Place> {
        let parent = directory(&std::env::temp_dir(), 0, 0)?;
        let path = parent.path().join("tmp");
        fs::create_dir(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o1777))?;
        let place = Place { parent, path, listeners: Vec::default().into() };
        fs::write(place.aim(), b"of the daemon's user")?;
        chown(place.aim(), Some(DAEMON), Some(MEMBERS))?;
        Ok(place)
    }

    fn tables(&self) -> PathBuf {
        self.path.join("tables")
    }

    fn socket(&self) -> PathBuf {
        self.path.join("l1d.sock")
    }

    fn aim(&self) -> PathBuf {
        self.path.join("aim")
    }

    fn give(&self, path: &Path) -> Result<()> {
        Ok(std::os::unix::fs::lchown(path, Some(ATTACKER), Some(NOBODY_ELSE))?)
    }

    fn is_untouched(&self) -> Result<bool> {
        let aim = fs::metadata(self.aim())?;
        Ok(fs::read(self.aim())? == b"of the daemon's user" && aim.uid() == DAEMON)
    }

    /// Starts a daemon here, and returns whether it refused, and what it said.
    fn start(&self, program: &Path) -> Result<(bool, String)> {
        let log = fs::File::create(self.parent.path().join("log"))?;
        // Opened by root: the daemon's user may not reach its place.
        let file = fs::File::open(program)?;
        let at = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut command = Command::new(at);
        command.arg("serve").arg("--socket").arg(self.socket());
        command.arg("--table-directory").arg(self.tables()).args(["--table-size", "16MiB"]);
        command.env_remove("NOTIFY_SOCKET").current_dir(&self.path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.uid(DAEMON).gid(MEMBERS);
        let mut child = command.spawn().context("the daemon")?;
        let begun = Instant::now();
        let said = || fs::read_to_string(self.parent.path().join("log"));
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok((!status.success(), said()?));
            }
            if said()?.contains("ready socket=") || begun.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return Ok((false, said()?));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A member of one trust domain at the files, sockets and process of another's daemon, which has
/// its socket from a service manager.
fn other_domain(program: &Path, found: &mut Found) -> Result<()> {
    let mut stage = Stage::start_as(program, OTHER, OTHER, true)?;
    // Nobody of its own user can look into it, and it leaves no core.
    let process = fs::metadata(format!("/proc/{}/fd", stage.pid()))?;
    found.expects(process.uid() == 0, "the system's daemon can be dumped");
    let orders = stage.orders("strange-files");
    let there: Found = Role::start("attack", &orders)?.end()?;
    found.says(format!("a member of another domain: {} attempts refused", there.attempts.len()));
    found.breaches.extend(there.breaches);
    found.breaches.extend(stage.faults()?);
    Ok(())
}
