//! Hazards: a reply that arrives in pieces is taken for another one; a large one delays the others.

use l1d::tiers::{Fetched, Tier, TierEvent, Written};

use crate::bench::{Bench, LONG, found, is_absent};
use test_support::servers::{Pieces, Proxy, Server};

const KEYS: u64 = 64;

/// Every third key is in L2, every third in L3.
fn tier_of(number: u64) -> Option<Tier> {
    match number % 3 {
        0 => Some(Tier::L2),
        1 => Some(Tier::L3),
        _ => None,
    }
}

fn key(number: u64) -> String {
    format!("key:{number}")
}

fn value(number: u64) -> Vec<u8> {
    let length = usize::try_from(number * 5 % 301).unwrap();
    format!("{number}\r\nEN\r\n$-1\r\n").into_bytes().into_iter().cycle().take(length).collect()
}

fn store(l2: &Server, l3: &Server) {
    let (mut ascii, mut resp) = (l2.client(), l3.client());
    for number in 0..KEYS {
        match tier_of(number) {
            Some(Tier::L2) => ascii.ascii_set(&key(number), 0, 0, &value(number)),
            Some(Tier::L3) => drop(resp.resp(&[b"SET", key(number).as_bytes(), &value(number)])),
            None => {}
        }
    }
}

fn assert_own_value(flight: u64, outcome: Fetched) {
    match tier_of(flight) {
        None => assert!(is_absent(&outcome, true), "{flight}: {outcome:?}"),
        Some(tier) => {
            let (from, bytes, ..) = found(outcome);
            assert_eq!((from, bytes), (tier, value(flight)), "{flight}");
        }
    }
}

#[test]
fn replies_in_pieces_reach_the_requests_that_they_answer() {
    for pieces in [Pieces::Bytes, Pieces::Halves] {
        let (l2, l3) = (Server::memcached(), Server::redis());
        store(&l2, &l3);
        let before_l2 = Proxy::cutting(&l2, pieces);
        let before_l3 = Proxy::cutting(&l3, pieces);
        let bench =
            Bench::new(Some((before_l2.address(), LONG)), Some((before_l3.address(), LONG)));
        // All at once, then one at a time.
        bench.tiers.submit_all((0..KEYS).map(|n| Bench::fetch_job(n, key(n).as_bytes())).collect());
        for _ in 0..KEYS {
            let TierEvent::Fetched { flight, outcome } = bench.done() else {
                panic!("not a fetch")
            };
            assert_own_value(flight, outcome);
        }
        for number in 0..9 {
            assert_own_value(number, bench.fetch(key(number).as_bytes()));
        }
        // Writes, too.
        for number in 0..9 {
            let set = bench.set(key(number).as_bytes(), b"new");
            assert!(matches!(set, Written::Applied { .. }), "{pieces:?}: {set:?}");
        }
        let stats = bench.tiers.stats();
        assert_eq!((stats.l2.unwrap().errors, stats.l3.unwrap().errors), (0, 0));
    }
}

#[test]
fn large_values_at_once_and_small_ones_between_them_all_arrive() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    store(&l2, &l3);
    let large = |fill: u8| vec![fill; 2 << 20];
    let mut resp = l3.client();
    for fill in [1, 2, 3] {
        resp.resp(&[b"SET", format!("large:{fill}").as_bytes(), &large(fill)]);
        // memcached's default limit is slightly less than 1 MiB.
        let most = vec![fill; 1000 << 10];
        l2.client().ascii_set(&format!("most:{fill}"), 0, 0, &most);
    }
    let bench = Bench::both(&l2, &l3);
    for _ in 0..3 {
        let mut jobs = Vec::new();
        for fill in [1, 2, 3] {
            jobs.push(Bench::fetch_job(100 + fill, format!("large:{fill}").as_bytes()));
            jobs.push(Bench::fetch_job(200 + fill, format!("most:{fill}").as_bytes()));
        }
        jobs.extend((0..KEYS).map(|n| Bench::fetch_job(n, key(n).as_bytes())));
        let count = jobs.len();
        bench.tiers.submit_all(jobs);
        for _ in 0..count {
            let TierEvent::Fetched { flight, outcome } = bench.done() else {
                panic!("not a fetch")
            };
            match flight {
                101..=103 => {
                    let (tier, bytes, ..) = found(outcome);
                    let fill = u8::try_from(flight - 100).unwrap();
                    assert!(tier == Tier::L3 && bytes == large(fill), "{flight}");
                }
                201..=203 => {
                    let (tier, bytes, ..) = found(outcome);
                    let fill = u8::try_from(flight - 200).unwrap();
                    assert!(tier == Tier::L2 && bytes == vec![fill; 1000 << 10], "{flight}");
                }
                _ => assert_own_value(flight, outcome),
            }
        }
    }
}
