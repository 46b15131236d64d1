//! Keys that collide under the table's seed, which every reader sees.

use crate::attack::{Found, Target};
use l1d_client::Client;
use l1d_wire::mapping::{Access, Mapping};
use shm_layout::header::{HEADER_BYTES, Identity};
use shm_layout::{Mapped, TableHasher};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use test_support::posted::Posted;
use test_support::servers::PATIENCE;

/// Keys with the same hash: more than two lines have slots.
const COLLIDING: u64 = 200;
/// Sets of each kind, for the comparison of their times.
const TIMED: u64 = 100;

/// Stores keys that have all 64 bits of their hashes in common, and reads them.
pub fn collide(target: &Target, found: &mut Found) {
    let Some(seed) = seed(target) else {
        return found.expects(false, "the table's header cannot be read");
    };
    let (hasher, secret) = (TableHasher::new(seed), first_secret(seed));
    let key = |number: u64| colliding(secret, number);
    let hashes: BTreeSet<u64> = (0..COLLIDING).map(|number| hasher.hash(&key(number)).0).collect();
    found.expects(hashes.len() == 1, "the keys do not collide: the attack is wrong");
    let builder = Client::builder().socket(&target.socket);
    let client = builder.deadline(PATIENCE).connect().expect("a member may attach");
    let [other, same] = [false, true].map(|is_same| {
        let mut times: Vec<Duration> = (0..TIMED)
            .map(|number| {
                let number = number % COLLIDING;
                let name = if is_same { key(number) } else { key(number).map(|byte| !byte) };
                let asked = Instant::now();
                let _ = client.set(name, b"attack");
                asked.elapsed()
            })
            .collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    });
    found.says(format!(
        "{COLLIDING} keys with one hash: a set takes {same:?}, of other keys {other:?}"
    ));
    let held = (0..COLLIDING).filter(|number| client.peek(key(*number)).is_some()).count();
    found.expects(held <= 16, format!("{held} of them are held, more than two lines have slots"));
    while target.goes_on() {
        let number = found.repeats % COLLIDING;
        let _ = client.set(key(number), b"attack");
        let _ = client.get(key(number + 1));
        found.repeats += 1;
    }
}

/// The seed in the table's header.
fn seed(target: &Target) -> Option<u64> {
    let posted = Posted::attached(&target.socket);
    let bytes = u64::try_from(nix::sys::stat::fstat(&posted.table).ok()?.st_size).ok()?;
    if bytes < HEADER_BYTES as u64 {
        return None;
    }
    let mapping = Mapping::of_file(&posted.table, bytes, Access::Read).ok()?;
    // SAFETY: page-aligned, and mapped for the rest of this function.
    let memory = unsafe { Mapped::new(mapping.base()) };
    // SAFETY: the mapping has these bytes.
    Some(unsafe { Identity::load(&memory, bytes) }.ok()?.hash_seed)
}

/// What the hash combines with a key's first word: a step of SplitMix64, as in `TableHasher::new`.
fn first_secret(seed: u64) -> u64 {
    let state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One of the keys with the same hash. It multiplies the key's first two words, each combined with
/// a secret: if the first factor is zero, the second does not matter.
fn colliding(secret: u64, number: u64) -> [u8; 32] {
    let mut key = [b'c'; 32];
    key[..8].copy_from_slice(&secret.to_le_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    key
}
