//! Time namespaces, in which CLOCK_MONOTONIC and CLOCK_BOOTTIME differ from the host's. The wall
//! clock does not, so times are compared by that.

use super::peer::Peer;
use super::{can_run, daemon};
use std::time::{Duration, SystemTime};

/// The life of an entry.
const LIFE: Duration = Duration::from_millis(2500);
/// The expiry is rounded to a tick of 16.8 ms, and readers' coarse clock lags by one of 4 or 10 ms.
const TICKS: Duration = Duration::from_millis(60);

/// Runs a command in a time namespace whose clocks are this many seconds ahead.
fn ahead(monotonic: &str, boottime: &str) -> [String; 6] {
    ["unshare", "--time", "--monotonic", monotonic, "--boottime", boottime].map(str::to_owned)
}

fn borrowed(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

/// Whether a program can be started in a time namespace; before Linux 6.3 only its children were.
fn has_time_namespaces(test: &str) -> bool {
    let ahead = ahead("1000000", "1000000");
    let uptime = ["sh", "-c", "read up rest </proc/uptime && test ${up%.*} -ge 1000000"];
    can_run(test, &[borrowed(&ahead), uptime.to_vec()].concat())
}

/// An entry that `peer` stores, and when its life must be over.
fn store(peer: &mut Peer, key: &str) -> SystemTime {
    let life = LIFE.as_millis();
    assert_eq!(peer.ask(&format!("set {key} value {life}")), "stored");
    // It began before the answer.
    SystemTime::now() + LIFE + TICKS
}

/// The hazard: a client whose clock is behind the daemon's reads what has expired.
#[test]
fn a_life_ends_at_the_same_moment_in_every_time_namespace() {
    if !has_time_namespaces("time namespaces") {
        return;
    }
    // CLOCK_BOOTTIME may differ by less than CLOCK_MONOTONIC.
    for (monotonic, boottime) in [("5000", "5000"), ("100000", "7")] {
        for is_daemon_ahead in [true, false] {
            let ahead = ahead(monotonic, boottime);
            let ahead = borrowed(&ahead);
            let mut daemon = daemon();
            daemon.run_under(if is_daemon_ahead { &ahead } else { &[] });
            daemon.restart();
            let mut host = Peer::start(&[], &daemon.socket());
            let mut other = Peer::start(&ahead, &daemon.socket());
            let end = store(&mut host, "key");
            let seen = [host.last_sight("key"), other.last_sight("key")];
            for seen in seen {
                assert!(seen <= end, "{:?} too long", seen.duration_since(end));
            }
            assert_eq!(other.ask("get key"), "nothing");
            let end = store(&mut other, "later");
            assert_eq!(host.ask("get later"), "value");
            assert!(host.last_sight("later") <= end);
        }
    }
}

/// The hazard: the next daemon is in a namespace in which the host has been up for less time, and
/// the lives of everything in its table become longer by that.
#[test]
fn a_daemon_in_another_time_namespace_lengthens_no_life() {
    if !has_time_namespaces("a daemon that moves between time namespaces") {
        return;
    }
    let (behind, before) = (ahead("-2", "-2"), ahead("90000", "90000"));
    let (behind, before) = (borrowed(&behind), borrowed(&before));
    for (first, second) in [(&[][..], &behind[..]), (&before, &[]), (&[], &before)] {
        let mut daemon = daemon();
        daemon.run_under(first);
        daemon.restart();
        let mut reader = Peer::start(&[], &daemon.socket());
        // The table must be older than the next clock is behind.
        std::thread::sleep(Duration::from_millis(1300));
        let end = store(&mut reader, "key");
        let lasting = reader.ask("set lasting value 3600000");
        assert_eq!(lasting, "stored");
        daemon.kill();
        daemon.run_under(second);
        daemon.restart();
        let seen = reader.last_sight("key");
        assert!(seen <= end, "{first:?} {second:?}: {:?} too long", seen.duration_since(end));
        let mut fresh = Peer::start(&[], &daemon.socket());
        assert_eq!(fresh.ask("peek key"), "nothing");
        // The restart was warm.
        assert_eq!(fresh.ask("peek lasting"), "value", "{}", daemon.log());
        assert_eq!(reader.ask("peek lasting"), "value");
    }
}
