//! Hazards: an unbounded queue; a job that never ends; a stop that hangs.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use l1d::reactor::Reactor;
use l1d::tiers::{
    Fetched, JOBS_MAX, Job, L2Config, L3Config, Tier, TierEvent, TiersConfig, TiersError, Upstream,
};

use crate::bench::{Bench, HOUR, LONG, SHORT, is_absent};
use test_support::servers::{PATIENCE, Proxy, Server};

#[test]
fn the_queue_is_bounded_and_every_accepted_job_ends() {
    let l3 = Server::redis();
    let proxy = Proxy::before(&l3);
    let bench = Bench::new(None, Some((proxy.address(), PATIENCE)));
    assert!(is_absent(&bench.fetch(b"miss"), true));
    proxy.hold();
    for n in 0..JOBS_MAX {
        bench.submit_fetch(u64::try_from(n).unwrap(), b"key");
    }
    let refused =
        bench.tiers.submit(Job::Delete { id: 77, key: Arc::from(&b"key"[..]), in_l2: true });
    assert!(matches!(refused, Err(Job::Delete { id: 77, .. })));
    proxy.release();
    let Bench { tiers, dones } = bench;
    drop(tiers);
    assert_eq!(dones.iter().count(), JOBS_MAX, "what was accepted has ended before the thread did");
}

/// The hazard: a busy loop while more requests wait than may be in flight.
#[test]
fn a_full_window_is_waited_for_asleep() {
    let l2 = Server::memcached();
    let proxy = Proxy::before(&l2);
    let bench = Bench::new(Some((proxy.address(), PATIENCE)), None);
    assert!(is_absent(&bench.fetch(b"miss"), true));
    proxy.hold();
    const JOBS: u64 = 4000;
    bench.tiers.submit_all((0..JOBS).map(|n| Bench::fetch_job(n, b"key")).collect());
    proxy.wait_until_held();
    let before = bench.tiers.turns();
    std::thread::sleep(Duration::from_millis(100));
    let turns = bench.tiers.turns() - before;
    assert!(turns < 100, "{turns} turns for nothing");
    proxy.release();
    for _ in 0..JOBS {
        assert!(matches!(bench.done(), TierEvent::Fetched { .. }));
    }
}

#[test]
fn stopping_does_not_wait_for_a_silent_tier_beyond_its_deadlines() {
    let l3 = Server::redis();
    let proxy = Proxy::before(&l3);
    let bench = Bench::new(None, Some((proxy.address(), SHORT)));
    proxy.hold();
    for n in 0..500 {
        bench.submit_fetch(n, b"key");
    }
    let Bench { tiers, dones } = bench;
    drop(tiers);
    assert!(
        dones
            .iter()
            .all(|done| matches!(done, TierEvent::Fetched { outcome: Fetched::Failed { .. }, .. }))
    );
}

#[test]
fn servers_that_are_down_are_no_reason_not_to_start_but_a_bad_address_is() {
    let reactor = Rc::new(Reactor::new().unwrap());
    let start = |l2: &str, l3: &str, deadline| {
        let l2 = Some(L2Config { address: l2.into(), deadline });
        let l3 = Some(L3Config { url: l3.into(), password: None, deadline });
        let config = TiersConfig { l2, l3, ..TiersConfig::default() };
        Upstream::new(&config, HOUR, &reactor)
    };
    assert!(start("127.0.0.1:1", "redis://127.0.0.1:1", LONG).is_ok());
    assert!(matches!(start("localhost", "redis://127.0.0.1:1", LONG), Err(TiersError::Address(_))));
    assert!(matches!(start("localhost:1", "127.0.0.1:1", LONG), Err(TiersError::Url(_))));
    assert!(matches!(start("localhost:1", "rediss://127.0.0.1:1", LONG), Err(TiersError::Url(_))));
    assert!(matches!(
        start("localhost:1", "redis://127.0.0.1:1", Duration::ZERO),
        Err(TiersError::Deadline(Tier::L2))
    ));
}
