//! Hazard: a change that was given up at its deadline is carried out after a later one was
//! acknowledged, and the older value is read again (P12).

use std::time::Duration;

use l1d::tiers::{Fetched, Tier, Written};

use crate::bench::{Bench, HOUR, LONG, found};
use test_support::servers::{Proxy, Server, until};

/// A timeout that a busy server keeps and a held request does not.
const SOON: Duration = Duration::from_millis(400);

fn is_unknown(written: &Written, expected: Tier) -> bool {
    matches!(written, Written::Unknown { tier, .. } if *tier == expected)
}

fn is_applied(written: &Written, expected: bool) -> bool {
    matches!(written, Written::Applied { degraded, .. } if *degraded == expected)
}

/// Redis and, before it, memcached behind a proxy whose deadline passes soon.
fn late_l2(l2: &Proxy, l3: &Server) -> Bench {
    let bench = Bench::new(Some((l2.address(), SOON)), Some((l3.address(), LONG)));
    until("an answer in time", || is_applied(&bench.set(b"warm", b"v"), false).then_some(()));
    bench
}

#[test]
fn a_late_set_in_l2_is_undone_before_l2_is_read_again() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let proxy = Proxy::before(&l2);
    let bench = late_l2(&proxy, &l3);
    until("the first value", || is_applied(&bench.set(b"key", b"old"), false).then_some(()));
    let late = proxy.hold_requests();
    assert!(is_applied(&bench.set(b"key", b"first"), true));
    bench.until_replaced(Tier::L2);
    // Over another connection L2 answers again. A delete may have been carried out too early.
    bench.until_available(Tier::L2);
    let early = l2.client().ascii_get("key");
    assert!(early.is_none_or(|(_, value)| value == b"old"));
    assert!(is_applied(&bench.set(b"key", b"second"), true));
    let (tier, value, ..) = found(bench.fetch(b"key"));
    assert_eq!((tier, &value[..]), (Tier::L3, &b"second"[..]));
    assert_eq!(bench.tiers.stats().l2_debts, 1);
    late.deliver();
    bench.until_settled();
    assert_eq!(l2.client().ascii_get("key"), None, "the first value was carried out, and deleted");
    assert_eq!(found(bench.fetch(b"key")).1, b"second");
    assert!(is_applied(&bench.set(b"key", b"third"), false));
    assert_eq!(found(bench.fetch(b"key")).0, Tier::L2);
}

#[test]
fn a_late_fill_of_l2_does_not_bring_a_deleted_value_back() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let proxy = Proxy::before(&l2);
    let bench = late_l2(&proxy, &l3);
    let late = proxy.hold_requests();
    bench.fill(b"key", b"deleted", HOUR);
    bench.until_replaced(Tier::L2);
    bench.until_available(Tier::L2);
    assert!(is_applied(&bench.delete(b"key"), true));
    assert!(matches!(bench.fetch(b"key"), Fetched::Absent { authoritative: true, .. }));
    late.deliver();
    bench.until_settled();
    assert_eq!(l2.client().ascii_get("key"), None);
}

#[test]
fn with_memcached_alone_the_outcome_is_unknown_until_the_connection_has_drained() {
    let l2 = Server::memcached();
    let proxy = Proxy::before(&l2);
    let bench = Bench::new(Some((proxy.address(), SOON)), None);
    until("an answer in time", || is_applied(&bench.set(b"w", b"v"), false).then_some(()));
    let late = proxy.hold_requests();
    assert!(is_unknown(&bench.set(b"key", b"first"), Tier::L2));
    bench.until_replaced(Tier::L2);
    bench.until_available(Tier::L2);
    assert!(is_applied(&bench.set(b"other", b"v"), false), "no other key is in doubt");
    assert!(is_unknown(&bench.set(b"key", b"second"), Tier::L2));
    assert!(is_unknown(&bench.delete(b"key"), Tier::L2));
    // A value that is read meanwhile must not be kept.
    assert!(matches!(bench.fetch(b"key"), Fetched::Absent { is_in_doubt: true, .. }));
    late.deliver();
    bench.until_settled();
    assert_eq!(found(bench.fetch(b"key")).1, b"first", "carried out last");
    assert!(is_applied(&bench.set(b"key", b"third"), false));
    assert_eq!(found(bench.fetch(b"key")).1, b"third");
}

/// Redis behind a proxy whose deadline passes soon, after a first set of `key` that the proxy will
/// deliver late, and with a new connection.
fn late_l3(l3: &Server) -> (Bench, test_support::servers::LateRequests) {
    let proxy = Proxy::before(l3);
    let bench = Bench::new(None, Some((proxy.address(), SOON)));
    until("an answer in time", || is_applied(&bench.set(b"w", b"v"), false).then_some(()));
    let late = proxy.hold_requests();
    assert!(is_unknown(&bench.set(b"key", b"first"), Tier::L3));
    bench.until_replaced(Tier::L3);
    bench.until_available(Tier::L3);
    // The bench goes on using it.
    std::mem::forget(proxy);
    (bench, late)
}

#[test]
fn redis_ends_a_former_connection_before_it_takes_a_later_write() {
    let l3 = Server::redis();
    let (bench, late) = late_l3(&l3);
    // On a busy host a set may miss its deadline: then its connection is a former one, too.
    until("a set in time", || is_applied(&bench.set(b"key", b"second"), false).then_some(()));
    assert!(bench.tiers.is_settled(), "nothing can come late any more");
    late.deliver();
    let mut redis = l3.client();
    for _ in 0..50 {
        assert_eq!(redis.resp(&[b"GET", b"key"]), b"second");
        std::thread::sleep(Duration::from_millis(4));
    }
}

#[test]
fn where_redis_may_not_end_connections_the_outcome_is_unknown_until_it_has_drained() {
    let l3 = Server::redis();
    assert_eq!(l3.client().resp(&[b"ACL", b"SETUSER", b"default", b"-client"]), b"+OK");
    let (bench, late) = late_l3(&l3);
    assert!(is_unknown(&bench.set(b"key", b"second"), Tier::L3));
    until("a set of a key that is in no doubt", || {
        is_applied(&bench.set(b"other", b"v"), false).then_some(())
    });
    until("an answer in time", || {
        matches!(bench.fetch(b"key"), Fetched::Found { is_in_doubt: true, .. }).then_some(())
    });
    late.deliver();
    bench.until_settled();
    assert_eq!(l3.client().resp(&[b"GET", b"key"]), b"first", "carried out last");
    assert!(is_applied(&bench.set(b"key", b"third"), false));
    assert!(matches!(bench.fetch(b"key"), Fetched::Found { is_in_doubt: false, .. }));
}

#[test]
fn what_another_server_does_with_a_late_write_is_nobodys_concern() {
    let mut l3 = Server::redis();
    let (bench, _late) = late_l3(&l3);
    // As after a failover behind one address. Its clients have other numbers.
    l3.kill();
    l3.restart();
    until("the new server to take a write", || {
        is_applied(&bench.set(b"key", b"second"), false).then_some(())
    });
    assert!(bench.tiers.is_settled());
}
