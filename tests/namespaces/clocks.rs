//! Clocks that jump while the daemon runs. A library that is loaded before the C library's stands
//! between the daemon and its clocks, and adds what a file says.

use super::peer::Peer;
use super::{can_run, daemon};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use test_support::daemon::Daemon;
use test_support::servers::until;

/// Adds the seconds in the file `L1D_CLOCKS` to CLOCK_REALTIME (the first) and CLOCK_BOOTTIME.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile long *seconds;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("L1D_CLOCKS"), O_RDONLY | O_CLOEXEC);
    seconds = mmap(0, 16, PROT_READ, MAP_SHARED, file, 0);
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = syscall(SYS_clock_gettime, clock, time);
    if (clock == CLOCK_REALTIME) time->tv_sec += seconds[0];
    if (clock == CLOCK_BOOTTIME) time->tv_sec += seconds[1];
    return failed;
}
"#;

/// A running daemon whose clocks can be set.
struct Clocks {
    directory: TempDir,
    daemon: Daemon,
}

impl Clocks {
    fn start(test: &str) -> Option<Clocks> {
        let directory = tempfile::tempdir().unwrap();
        let (source, library) = (directory.path().join("clocks.c"), Clocks::library(&directory));
        fs::write(&source, LIBRARY).unwrap();
        let [source, library] = [&source, &library].map(|path| path.to_str().unwrap());
        if !can_run(test, &["cc", "-shared", "-fPIC", "-o", library, source]) {
            return None;
        }
        let mut clocks = Clocks { directory, daemon: daemon() };
        clocks.set(0, 0);
        let [preload, file] = [("LD_PRELOAD", Path::new(library)), ("L1D_CLOCKS", &clocks.file())]
            .map(|(name, path)| format!("{name}={}", path.display()));
        clocks.daemon.run_under(&["env", &preload, &file]);
        clocks.daemon.restart();
        Some(clocks)
    }

    fn library(directory: &TempDir) -> PathBuf {
        directory.path().join("clocks.so")
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("seconds")
    }

    /// Has the wall clock and CLOCK_BOOTTIME jump by these seconds from what they are for others.
    fn set(&self, realtime: i64, boottime: i64) {
        let bytes = [realtime.to_le_bytes(), boottime.to_le_bytes()].concat();
        // In place: the daemon has it mapped.
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.file())
            .and_then(|mut file| std::io::Write::write_all(&mut file, &bytes))
            .unwrap();
    }
}

/// The hazard: somebody sets the clock, and what is cached lives for an hour longer or is gone.
#[test]
fn a_step_of_the_wall_clock_changes_no_life() {
    let Some(clocks) = Clocks::start("steps of the wall clock") else { return };
    let mut peer = Peer::start(&[], &clocks.daemon.socket());
    for step in [-100_000, 100_000] {
        assert_eq!(peer.ask("set lasting value 3600000"), "stored");
        assert_eq!(peer.ask("set key value 2000"), "stored");
        let end = SystemTime::now() + Duration::from_millis(2060);
        clocks.set(step, 0);
        assert_eq!(peer.ask("get lasting"), "value");
        assert!(peer.last_sight("key") <= end);
        assert_eq!(peer.ask("get key"), "nothing");
        assert_eq!(peer.ask("get lasting"), "value");
    }
}

/// The hazard: an hour in which the machine slept does not count.
#[test]
fn what_expires_during_a_suspend_is_gone_after_it() {
    let Some(clocks) = Clocks::start("a suspend") else { return };
    let mut peer = Peer::start(&[], &clocks.daemon.socket());
    assert_eq!(peer.ask("set hour value 3600000"), "stored");
    assert_eq!(peer.ask("set day value 86400000"), "stored");
    assert_eq!(peer.ask("peek hour"), "value");
    // CLOCK_BOOTTIME has gone on, CLOCK_MONOTONIC has not.
    clocks.set(4000, 4000);
    // The daemon looks once a second.
    until("the hour to be over", || (peer.ask("peek hour") == "nothing").then_some(()));
    assert_eq!(peer.ask("get hour"), "nothing");
    assert_eq!(peer.ask("get day"), "value");
    assert_eq!(peer.ask("set key value 2000"), "stored");
    let end = SystemTime::now() + Duration::from_millis(2060);
    assert!(peer.last_sight("key") <= end);
}
