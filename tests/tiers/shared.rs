//! Hazards: what one key brings delays, or is the answer for, the others that share its exchange
//! or its connection (P15).

use l1d_wire::snapshot::Breaker;
use std::time::{Duration, Instant};

use l1d::tiers::{Fetched, Tier, TierEvent};

use crate::bench::{Bench, LONG, VALUE_BYTES_MAX, found};
use test_support::servers::{Client, Pieces, Proxy, Server};

/// For values that take about twice as long.
const DEADLINE: Duration = Duration::from_millis(200);
const LARGE: u64 = 128 << 20;

/// A value of [`LARGE`] zeros in Redis.
fn store_large(resp: &mut Client, key: &[u8]) {
    let last = (LARGE - 1).to_string();
    assert_eq!(resp.resp_int(&[b"SETRANGE", key, last.as_bytes(), b"x"]), LARGE.cast_signed());
}

fn output_bytes(l3: &Server) -> u64 {
    let info = String::from_utf8(l3.client().resp(&[b"INFO", b"stats"])).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    line.unwrap().trim().parse().unwrap()
}

/// Most bytes of memory that this process has had.
fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn values_that_are_much_too_large_take_neither_memory_nor_the_others_answers() {
    let l3 = Server::redis();
    let bench = Bench::new(None, Some((l3.address(), LONG)));
    let mut resp = l3.client();
    resp.resp(&[b"SET", b"small", b"v"]);
    store_large(&mut resp, b"large");
    let before = memory_peak();
    let job = |n: u64| match n {
        5 => Bench::fetch_job(n, b"large"),
        n => Bench::fetch_job(n, b"small"),
    };
    for round in 0..10 {
        bench.tiers.submit_all((0..32).map(job).collect());
        for _ in 0..32 {
            let TierEvent::Fetched { flight, outcome } = bench.done() else { panic!("no fetch") };
            if flight == 5 {
                let is_right = matches!(outcome, Fetched::TooLarge { bytes: LARGE, .. });
                assert!(is_right, "{round}: {outcome:?}");
            } else {
                assert_eq!(found(outcome).1, b"v", "{round}");
            }
        }
    }
    let stats = bench.tiers.stats().l3.unwrap();
    assert_eq!((stats.breaker, stats.timeouts), (Breaker::Closed, 0));
    let transferred = output_bytes(&l3);
    assert!(transferred < 2 * LARGE, "{transferred} bytes for ten reads");
    assert!(memory_peak().saturating_sub(before) < LARGE, "the values were kept");
    // What is stored there now is read.
    assert!(matches!(bench.set(b"large", b"now small"), l1d::tiers::Written::Applied { .. }));
    assert_eq!(found(bench.fetch(b"large")).1, b"now small");
}

#[test]
fn the_values_of_one_exchange_are_bounded_together_and_all_arrive() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let mut resp = l3.client();
    let value = |n: u64| vec![u8::try_from(n).unwrap(); VALUE_BYTES_MAX / 2];
    for n in 0..24 {
        resp.resp(&[b"SET", format!("key:{n}").as_bytes(), &value(n)]);
        l2.client().ascii_set(&format!("key:{n}"), 0, 0, &value(n)[..1000 << 10]);
    }
    for is_l2 in [true, false] {
        let (l2, l3) = (Some((l2.address(), LONG)), Some((l3.address(), LONG)));
        let bench = if is_l2 { Bench::new(l2, None) } else { Bench::new(None, l3) };
        let job = |n: u64| Bench::fetch_job(n, format!("key:{n}").as_bytes());
        bench.tiers.submit_all((0..24).map(job).collect());
        for _ in 0..24 {
            let TierEvent::Fetched { flight, outcome } = bench.done() else { panic!("no fetch") };
            let bytes = found(outcome).1;
            let expected = if is_l2 { 1000 << 10 } else { VALUE_BYTES_MAX / 2 };
            assert!(bytes == value(flight)[..expected], "{flight}");
        }
    }
}

/// The hazard: a value that takes longer than the deadline is a lost tier, and everything that was
/// asked together with it has no answer.
#[test]
fn a_value_that_arrives_slowly_is_no_lost_tier() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let large = vec![b'x'; 400 << 10];
    l3.client().resp(&[b"SET", b"large", &large]);
    l2.client().ascii_set("large", 0, 0, &large);
    for is_l2 in [true, false] {
        let proxy = Proxy::cutting(if is_l2 { &l2 } else { &l3 }, Pieces::Slow);
        let tier = Some((proxy.address(), DEADLINE));
        let bench = if is_l2 { Bench::new(tier, None) } else { Bench::new(None, tier) };
        let began = Instant::now();
        bench.submit_fetch(1, b"large");
        bench.submit_fetch(2, b"none");
        let mut outcomes: Vec<_> = (0..2)
            .map(|_| match bench.done() {
                TierEvent::Fetched { flight, outcome } => (flight, outcome),
                other => panic!("{other:?}"),
            })
            .collect();
        outcomes.sort_by_key(|(flight, _)| *flight);
        assert!(matches!(outcomes[1].1, Fetched::Absent { authoritative: true, .. }));
        assert!(found(outcomes.swap_remove(0).1).1 == large);
        assert!(began.elapsed() > DEADLINE * 3 / 2, "the value was not slow");
        let stats = bench.tiers.stats();
        let stats = if is_l2 { stats.l2 } else { stats.l3 }.unwrap();
        assert_eq!((stats.breaker, stats.timeouts, stats.errors), (Breaker::Closed, 0, 0));
    }
}

/// The hazard: it never ends.
#[test]
fn a_value_that_arrives_too_slowly_ends_at_a_bound_and_the_tier_stays() {
    let l3 = Server::redis();
    l3.client().resp(&[b"SET", b"huge", &vec![b'x'; 2 << 20]]);
    let proxy = Proxy::cutting(&l3, Pieces::Slow);
    let bench = Bench::new(None, Some((proxy.address(), DEADLINE)));
    let began = Instant::now();
    assert!(matches!(bench.fetch(b"huge"), Fetched::Failed { tier: Tier::L3, .. }));
    let took = began.elapsed();
    assert!((DEADLINE * 3..DEADLINE * 12).contains(&took), "{took:?}");
    assert!(bench.tiers.available(Tier::L3));
    assert_eq!(bench.tiers.stats().l3.unwrap().timeouts, 1);
}
