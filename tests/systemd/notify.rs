//! The hazards: a daemon that hangs and is not restarted, one that is restarted though it lives, and
//! a reload that systemd takes for finished too early, or waits for.

use super::{L1CTL, L1D};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use test_support::daemon::Daemon;
use test_support::servers::PATIENCE;

/// A service manager that listens for notifications.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    /// Starts `daemon` again under this manager, with a watchdog of this patience.
    fn start(daemon: &Daemon, at: &Path, patience: Duration) -> (Manager, std::process::Child) {
        let socket = UnixDatagram::bind(at).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = daemon
            .command()
            .env("NOTIFY_SOCKET", at)
            .env("WATCHDOG_USEC", patience.as_micros().to_string())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let manager = Manager { socket };
        manager.wait_for("READY=1");
        (manager, child)
    }

    /// The next message.
    fn next(&self) -> Option<String> {
        let mut message = [0; 256];
        let bytes = self.socket.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..bytes]).into_owned())
    }

    /// The next message that has this line.
    fn wait_for(&self, line: &str) -> String {
        loop {
            let message = self.next().unwrap_or_else(|| panic!("{line} does not come"));
            if message.lines().any(|other| other == line) {
                return message;
            }
        }
    }

    /// Takes what has come.
    fn drain(&self) -> usize {
        self.socket.set_nonblocking(true).unwrap();
        let taken = std::iter::from_fn(|| self.next()).count();
        self.socket.set_nonblocking(false).unwrap();
        taken
    }
}

#[test]
fn an_idle_owner_gives_signs_of_life_and_a_stopped_one_none() {
    let mut daemon = Daemon::start(L1D, "", "8MiB");
    daemon.kill();
    let place = tempfile::tempdir().unwrap();
    let patience = Duration::from_millis(600);
    let (manager, mut child) = Manager::start(&daemon, &place.path().join("notify"), patience);
    // Nobody asks it for anything, so it would sleep for a second.
    // A busy machine may be late; a daemon that gives a sign each second always is.
    let five_signs = || {
        let begun = Instant::now();
        (0..5).for_each(|_| drop(manager.wait_for("WATCHDOG=1")));
        begun.elapsed()
    };
    let took = (0..5).map(|_| five_signs()).find(|took| *took < Duration::from_secs(4));
    let took = took.expect("it sleeps for longer than a third of the patience");
    assert!(took > Duration::from_millis(600), "more often than each third of it: {took:?}");

    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let stopped = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WUNTRACED));
    assert!(stopped.is_ok());
    manager.drain();
    manager.socket.set_read_timeout(Some(3 * patience)).unwrap();
    assert_eq!(manager.next(), None, "a stopped owner gives a sign of life");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_reload_is_announced_with_its_time_and_ended() {
    let mut daemon = Daemon::start(L1D, "[defaults]\nttl = \"1m\"\n", "8MiB");
    daemon.kill();
    let place = tempfile::tempdir().unwrap();
    let (manager, mut child) =
        Manager::start(&daemon, &place.path().join("notify"), Duration::from_secs(600));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    // By signal, then by request; a file that is in force, then one that is refused.
    for (config, by_signal) in [("ttl = \"2m\"", true), ("ttl = \"3m\"", false), ("nonsense", true)]
    {
        daemon.configure(&format!("[defaults]\n{config}\n"));
        let before = monotonic_us();
        if by_signal {
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
        } else {
            let mut command = Command::new(L1CTL);
            command.arg("--socket").arg(daemon.socket()).args(["policy", "reload"]);
            assert!(command.output().unwrap().status.success());
        }
        let message = manager.wait_for("RELOADING=1");
        let time = message.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let time: u128 = time.expect("the time, in the same message").parse().unwrap();
        assert!((before..=monotonic_us()).contains(&time), "{time}");
        manager.wait_for("READY=1");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A manager that reads nothing must not hold the daemon up, and learns what it missed.
#[test]
fn a_manager_that_does_not_read_holds_nobody_up() {
    let mut daemon = Daemon::start(L1D, "", "8MiB");
    daemon.kill();
    let place = tempfile::tempdir().unwrap();
    let at = place.path().join("notify");
    let (manager, mut child) = Manager::start(&daemon, &at, Duration::from_secs(600));
    // Its queue is full.
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"FILLER=1", &at).is_ok() {}
    let reload = || {
        let mut command = Command::new(L1CTL);
        command.arg("--socket").arg(daemon.socket()).args(["policy", "reload"]);
        command.output().unwrap()
    };
    fs::metadata(daemon.socket()).unwrap();
    assert!(reload().status.success(), "the daemon waits for its manager");
    manager.drain();
    manager.wait_for("RELOADING=1");
    manager.wait_for("READY=1");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn monotonic_us() -> u128 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    Duration::from(now).as_micros()
}
