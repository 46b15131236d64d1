//! The hazard: a caller whose key is fine waits for what other callers' keys bring (P15).

use super::{PROGRAM, Times, is_long, median, ratio};
use l1d_client::{Client, Error};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use test_support::daemon::{Daemon, connect};
use test_support::servers::Server;

const LARGE: usize = 100 << 20;

/// Whether the key has a value.
fn read(client: &Client, key: &str) -> Result<bool, Error> {
    client.get(key).map(|value| value.is_some())
}

#[test]
fn a_key_that_is_fine_is_answered_as_fast_beside_keys_that_are_not() {
    let (rounds, reads) = if is_long() { (15, 4000) } else { (2, 400) };
    let (l2, l3) = (Server::memcached(), Server::redis());
    let mut redis = l3.client();
    redis.resp(&[b"LPUSH", b"bad:list", b"x"]);
    redis.resp(&[b"SETRANGE", b"bad:large", (LARGE - 1).to_string().as_bytes(), b"x"]);
    redis.resp(&[b"ACL", b"SETUSER", b"default", b"resetkeys", b"~fine:*", b"~bad:l*"]);
    let config = format!(
        "[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"1h\"\nnegative_ttl = \"0s\"\n\
         [l2]\naddress = \"{}\"\n[l3]\nurl = \"redis://{}\"\ndeadline = \"5s\"\n",
        l2.address(),
        l3.address()
    );
    let daemon = Daemon::start(PROGRAM, &config, "64MiB");
    let measured = connect(&daemon);
    // Wrong type, too large, no permission. Beside the client that is measured, one reads each.
    let bad = ["bad:list", "bad:large", "bad:none"];
    // The value is transferred once.
    bad.iter().for_each(|key| assert!(read(&measured, key).is_err(), "{key}"));
    let next = AtomicUsize::new(0);
    let fine = || format!("fine:{}", next.fetch_add(1, Ordering::Relaxed));
    let play = |others_are_bad: bool| {
        let (end, mut times) = (AtomicBool::new(false), Times::default());
        std::thread::scope(|scope| {
            let (end, fine) = (&end, &fine);
            for bad in bad {
                let client = connect(&daemon);
                scope.spawn(move || {
                    while !end.load(Ordering::Relaxed) {
                        match others_are_bad {
                            true => assert!(read(&client, bad).is_err()),
                            false => assert_eq!(read(&client, &fine()), Ok(false)),
                        }
                    }
                });
            }
            for _ in 0..reads {
                let key = fine();
                assert_eq!(times.time(|| read(&measured, &key)), Ok(false));
            }
            end.store(true, Ordering::Relaxed);
        });
        times
    };
    let mut figures = vec![];
    for _ in 0..rounds {
        let (usual, beside) = (play(false).at(990), play(true).at(990));
        figures.push((ratio(beside, usual), usual, beside));
    }
    println!("p99 beside bad keys: {:.2} times the usual (median)", median(figures.clone()).0);
    println!("of {rounds} rounds (ratio, usual, beside bad keys): {figures:?}");
}
