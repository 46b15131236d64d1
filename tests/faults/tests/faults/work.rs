//! Requests of every kind, so that a daemon passes each of its fault points.

use crate::model::{Bounds, CHANGING, KEPT, Model};
use l1d_client::{Client, SetOptions};
use std::time::Duration;
use test_support::random::Random;

/// One round in so many moves the table.
const ROUNDS_PER_MOVE: u64 = 6;
const MIB: u64 = 1 << 20;

/// The configuration, in which the life of one rule changes from round to round.
pub fn config(memcached: &str, round: u64) -> String {
    let ttl = 1000 + round % 2;
    format!(
        "[table]\nvalue_bytes_max = \"16KiB\"\naverage_entry_bytes = 4096\n\
         [defaults]\nttl = \"1h\"\n\
         [l2]\naddress = \"{memcached}\"\n\
         [[policy]]\nprefix = \"\"\nwrite = \"l1-only\"\n\
         [[policy]]\nprefix = \"pin:\"\nwrite = \"l1-only\"\nevict = \"never\"\nshare_max = \"5%\"\n\
         [[policy]]\nprefix = \"turn:\"\nwrite = \"l1-only\"\nttl = \"{ttl}s\"\n\
         [[policy]]\nprefix = \"below:\"\nwrite = \"through\"\n"
    )
}

/// One round. Failures of requests are those of a daemon that dies meanwhile; the model keeps
/// account of them. Ends early when `is_over`.
pub fn round(
    client: &Client,
    model: &mut Model,
    bounds: &Bounds,
    random: &mut Random,
    (round, reconfigure): (u64, &dyn Fn(u64)),
    is_over: &dyn Fn() -> bool,
) {
    let options = SetOptions::default();
    for _ in 0..80 {
        model.set(client, bounds, random.below(KEPT));
        let changing = KEPT + random.below(CHANGING);
        if random.below(3) == 0 {
            model.delete(client, bounds, changing);
        } else {
            model.set(client, bounds, changing);
        }
        // Hits, so that keys move to their own slots and segments are kept.
        for _ in 0..4 {
            let _ = client.peek(crate::model::key(random.below(KEPT)));
        }
    }
    if is_over() {
        return;
    }
    // Large values that are dead at once: segments are reclaimed, and what lives is copied.
    let large = [b'l'; 15 << 10];
    for n in 0..40 {
        let _ = client.set(format!("large:{}", n % 8), large);
        let _ = client.set(format!("crowd:{}", random.below(500)), b"small");
        let _ = client.get(format!("crowd:{}", random.below(500)));
    }
    let flags = SetOptions { flags: 7, ..options };
    for n in 0..10 {
        let _ = client.set_with(format!("gone:{n}"), b"soon", &flags);
        let _ = client.set(format!("below:{n}"), b"in memcached");
        let _ = client.set(format!("turn:{n}"), b"until the reload");
    }
    if is_over() {
        return;
    }
    let _ = client.admin().flush("gone:");
    reconfigure(round);
    let _ = client.admin().reload_policy_within(Duration::from_secs(5));
    // A pause, after which the daemon must be rung.
    std::thread::sleep(Duration::from_millis(1));
    if round % ROUNDS_PER_MOVE == 1 && !is_over() {
        let size = if round / ROUNDS_PER_MOVE % 2 == 0 { 10 } else { 8 };
        std::thread::scope(|scope| {
            let moved = scope.spawn(|| client.admin().resize(Some(size * MIB), None).is_ok());
            while !moved.is_finished() && !is_over() {
                model.set(client, bounds, random.below(KEPT));
                let _ = client.set("below:0", b"during a move");
            }
        });
    }
}
