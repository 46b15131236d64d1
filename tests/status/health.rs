//! The hazard: a daemon that looks healthy and is not, or the other way round.

use super::http::{Reply, get, get_at, status_socket};
use super::start;
use l1d_wire::snapshot::Snapshot;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use std::time::{Duration, Instant};
use test_support::servers::{Server, until};

/// A deadline of the server's for each answer, on a busy machine.
const QUICKLY: Duration = Duration::from_secs(10);

/// A debugger stops the owner's thread alone; the status thread goes on.
#[test]
fn a_stuck_owner_shows_in_health() {
    let (daemon, address) = start("");
    let owner = daemon.pid();
    assert_eq!((get(address, "/healthz").status, get(address, "/readyz").status), (200, 200));
    if let Err(errno) = ptrace::seize(owner, ptrace::Options::empty()) {
        eprintln!("SKIPPED: this system does not allow ptrace: {errno}");
        return;
    }
    ptrace::interrupt(owner).unwrap();
    waitpid(owner, Some(WaitPidFlag::__WALL)).unwrap();
    until("the last answer to be old", || (get(address, "/healthz").status != 200).then_some(()));
    for _ in 0..2 {
        let begun = Instant::now();
        let [health, ready] = ["/healthz", "/readyz"].map(|path| get(address, path));
        assert_eq!((health.status, ready.status), (503, 503), "{health:?}");
        assert!(begun.elapsed() < QUICKLY, "{:?}", begun.elapsed());
        assert!(health.body.contains("does not answer"), "{health:?}");
    }
    // What needs no answer of the owner's.
    assert_eq!(get(address, "/api/history").status, 200);
    // Many askers wait no longer than one.
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(get(address, "/metrics").status, 503));
        }
    });
    assert!(begun.elapsed() < QUICKLY, "{:?}", begun.elapsed());
    ptrace::detach(owner, None).unwrap();
    until("health", || (get(address, "/healthz").status == 200).then_some(()));
    until("readiness", || (get(address, "/readyz").status == 200).then_some(()));
}

/// The hazard: a daemon that is restarted because it has much to do.
#[test]
fn a_full_daemon_is_healthy_and_not_ready() {
    let (daemon, address) = start("[daemon]\nclients_max = 8\n");
    let statuses = || ["/healthz", "/readyz", "/metrics"].map(|path| get(address, path).status);
    let full: Vec<_> = (0..8).map(|_| test_support::daemon::connect(&daemon)).collect();
    assert_eq!(statuses(), [200, 503, 503]);
    drop(full);
    until("room", || (statuses() == [200; 3]).then_some(()));
}

#[test]
fn lost_tiers_change_neither_health_nor_readiness() {
    let redis = Server::redis();
    let (daemon, address) = start(&format!("[l3]\nurl = \"redis://{}\"\n", redis.address()));
    drop(redis);
    let client = test_support::daemon::connect(&daemon);
    until("a lost tier", || {
        let _ = client.get("absent");
        let metrics = get(address, "/metrics").body;
        metrics.contains("l1d_tier_up{tier=\"l3\"} 0").then_some(())
    });
    assert_eq!((get(address, "/healthz").status, get(address, "/readyz").status), (200, 200));
    let socket = status_socket(&daemon);
    let [all, few] = [get_at(&socket, "/api/snapshot"), get(address, "/api/snapshot")];
    let reasons = |reply: Reply| {
        let snapshot: Snapshot = serde_json::from_value(reply.json()).unwrap();
        let tier = snapshot.tiers.unwrap().l3.unwrap();
        [tier.lost_by, tier.last_error].map(Option::unwrap)
    };
    let concealed = "only shown on the status socket";
    assert!(reasons(all).iter().all(|reason| reason != concealed));
    assert!(reasons(few).iter().all(|reason| reason == concealed));
}
