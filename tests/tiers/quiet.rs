//! Hazard: a connection that has died without a sign is found out about by those whose requests
//! are lost on it.

use l1d_wire::snapshot::Breaker;
use std::time::Duration;

use l1d::tiers::{Fetched, Tier, Written};

use crate::bench::{Bench, found, is_absent};
use test_support::servers::{Proxy, Server};

const DEADLINE: Duration = Duration::from_millis(600);
/// Longer than a connection is trusted without a check.
const PAUSE: Duration = Duration::from_millis(2300);

#[test]
fn a_connection_that_died_in_a_pause_fails_nobody() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let (before_l2, before_l3) = (Proxy::before(&l2), Proxy::before(&l3));
    let bench =
        Bench::new(Some((before_l2.address(), DEADLINE)), Some((before_l3.address(), DEADLINE)));
    let both = [&before_l2, &before_l3];
    assert!(matches!(bench.set(b"key", b"one"), Written::Applied { .. }));
    for round in 0..2 {
        std::thread::sleep(PAUSE);
        both.iter().for_each(|proxy| proxy.forget_connections());
        if round == 0 {
            assert!(is_absent(&bench.fetch(b"none"), true), "a read");
        } else {
            assert!(matches!(bench.set(b"key", b"two"), Written::Applied { .. }), "a write");
            assert_eq!(found(bench.fetch(b"key")).1, b"two");
        }
        assert_eq!(both.map(|proxy| proxy.connections()), [round + 2; 2]);
    }
    let stats = bench.tiers.stats();
    for stats in [stats.l2.unwrap(), stats.l3.unwrap()] {
        assert_eq!((stats.breaker, stats.errors, stats.timeouts), (Breaker::Closed, 0, 0));
    }
}

#[test]
fn a_connection_that_is_well_after_a_pause_is_kept() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let (before_l2, before_l3) = (Proxy::before(&l2), Proxy::before(&l3));
    let bench =
        Bench::new(Some((before_l2.address(), DEADLINE)), Some((before_l3.address(), DEADLINE)));
    assert!(matches!(bench.set(b"key", b"one"), Written::Applied { .. }));
    std::thread::sleep(PAUSE);
    assert!(is_absent(&bench.fetch(b"none"), true));
    assert_eq!([&before_l2, &before_l3].map(|proxy| proxy.connections()), [1, 1]);
}

#[test]
fn one_lost_request_is_enough_to_leave_a_dead_connection() {
    let l3 = Server::redis();
    let proxy = Proxy::before(&l3);
    let bench = Bench::new(None, Some((proxy.address(), DEADLINE)));
    assert!(matches!(bench.set(b"key", b"one"), Written::Applied { .. }));
    proxy.forget_connections();
    assert!(matches!(bench.fetch(b"key"), Fetched::Failed { tier: Tier::L3, .. }));
    assert_eq!(found(bench.fetch(b"key")).1, b"one");
    assert!(matches!(bench.set(b"key", b"two"), Written::Applied { .. }));
    assert_eq!(proxy.connections(), 2);
}
