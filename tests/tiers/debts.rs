//! Hazard: Redis has taken a change and memcached has not, and its older value is read again (P13,
//! P14).

use l1d::tiers::{Tier, TierEvent, Written};

use crate::bench::{Bench, LONG, found};
use test_support::servers::{Proxy, Server, until};

/// Asserts that the store of record took a write that L2 did not.
fn assert_degraded(written: &Written) {
    assert!(matches!(written, Written::Applied { degraded: true, .. }), "{written:?}");
}

fn has_value(bench: &Bench, key: &[u8], tier: Tier, value: &[u8]) {
    let found = found(bench.fetch(key));
    assert_eq!((found.0, &found.1[..]), (tier, value));
}

#[test]
fn an_older_value_in_l2_is_deleted_before_it_is_read_again() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let proxy = Proxy::before(&l2);
    let bench = Bench::new(Some((proxy.address(), LONG)), Some((l3.address(), LONG)));
    assert!(matches!(bench.set(b"key", b"old"), Written::Applied { degraded: false, .. }));
    assert!(matches!(bench.set(b"gone", b"old"), Written::Applied { degraded: false, .. }));
    assert!(matches!(bench.set(b"other", b"kept"), Written::Applied { degraded: false, .. }));
    has_value(&bench, b"key", Tier::L2, b"old");
    proxy.cut();
    until("the breaker to open", || {
        // Refused, or lost on the way: the store of record has it either way.
        assert_degraded(&bench.set(b"key", b"new"));
        (!bench.tiers.available(Tier::L2)).then_some(())
    });
    assert_degraded(&bench.delete(b"gone"));
    has_value(&bench, b"key", Tier::L3, b"new");
    assert_eq!(l2.client().ascii_get("key").unwrap().1, b"old");
    proxy.mend();
    bench.until_settled();
    assert_eq!((l2.client().ascii_get("key"), l2.client().ascii_get("gone")), (None, None));
    has_value(&bench, b"key", Tier::L3, b"new");
    has_value(&bench, b"other", Tier::L2, b"kept");
}

#[test]
fn a_server_that_refuses_connections_leaves_no_doubt() {
    let (mut l2, mut l3) = (Server::memcached(), Server::redis());
    let bench = Bench::both(&l2, &l3);
    assert!(matches!(bench.set(b"key", b"old"), Written::Applied { degraded: false, .. }));
    l2.kill();
    until("a connection to be refused", || {
        assert_degraded(&bench.set(b"key", b"new"));
        (!bench.tiers.available(Tier::L2)).then_some(())
    });
    l3.kill();
    until("the loss of Redis to be seen", || (bench.tiers.epoch(Tier::L3) > 0).then_some(()));
    for _ in 0..5 {
        let written = bench.set(b"key", b"newer");
        assert!(matches!(written, Written::NotApplied { tier: Tier::L3, .. }), "{written:?}");
    }
    l2.restart();
    l3.restart();
    bench.until_settled();
}

#[test]
fn more_debts_than_are_remembered_leave_l2_out() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let proxy = Proxy::before(&l2);
    let bench = Bench::new(Some((proxy.address(), LONG)), Some((l3.address(), LONG)));
    for key in [&b"0"[..], b"untouched"] {
        assert!(matches!(bench.set(key, b"old"), Written::Applied { degraded: false, .. }));
    }
    proxy.cut();
    bench.until_open(Tier::L2);
    for round in 0..2 {
        let jobs = (0..6000_u64).map(|n| {
            let id = round * 6000 + n;
            Bench::set_job(id, id.to_string().as_bytes(), b"new")
        });
        bench.tiers.submit_all(jobs.collect());
        for _ in 0..6000 {
            let TierEvent::Written { outcome, .. } = bench.done() else { panic!("a write") };
            assert_degraded(&outcome);
        }
    }
    proxy.mend();
    bench.until_available(Tier::L2);
    has_value(&bench, b"0", Tier::L3, b"new");
    has_value(&bench, b"untouched", Tier::L3, b"old");
    let stats = bench.tiers.stats();
    assert!(stats.l2_left_out_ms > 3_000_000, "for as long as the longest life: {stats:?}");
}
