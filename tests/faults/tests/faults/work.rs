//! Requests of every kind, so that a daemon passes each of its fault points.

use crate::model::{Bounds, CHANGING, KEPT, Model};
use l1d_client::{Client, SetOptions};
use shm_layout::Geometry;
use shm_layout::header::{IDENTITY_WORDS, Identity};
use shm_layout::slot::SLOTS;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use test_support::random::Random;

/// Of so many rounds, two move the table; in between, its log fills.
const MOVES_EVERY: u64 = 12;
/// The rounds after a start that do.
const MOVES: Range<u64> = 3..5;
const MIB: u64 = 1 << 20;

/// The configuration, in which one rule changes from round to round: its life, and whether its
/// entries are evicted.
pub fn config(memcached: &str, round: u64) -> String {
    let turn = match round % 2 {
        0 => "ttl = \"1000s\"",
        _ => "ttl = \"1001s\"\nevict = \"never\"\nshare_max = \"5%\"",
    };
    format!(
        "[table]\nvalue_bytes_max = \"16KiB\"\naverage_entry_bytes = 4096\n\
         [defaults]\nttl = \"1h\"\nwrite = \"l1-only\"\n\
         [l2]\naddress = \"{memcached}\"\n\
         [[policy]]\nprefix = \"pin:\"\nwrite = \"l1-only\"\n\
         evict = \"never\"\nshare_max = \"5%\"\n\
         [[policy]]\nprefix = \"turn:\"\nwrite = \"l1-only\"\n{turn}\n\
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
    (since_start, table, reconfigure): (u64, &Path, &dyn Fn()),
    is_over: &dyn Fn() -> bool,
) {
    let options = SetOptions::default();
    let large = [b'l'; 15 << 10];
    for n in 0..80 {
        // Dead soon, and the entries between are alive: segments are reclaimed, and these copied.
        let _ = client.set(format!("large:{}", n % 8), large);
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
    // A key whose lines are full: a neighbour moves.
    let crowd = crowd(table, random.below(100)).unwrap_or_default();
    for key in &crowd {
        let _ = client.set(key, b"small");
    }
    for key in &crowd {
        let _ = client.delete(key);
    }
    let _ = client.get("nowhere");
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
    reconfigure();
    let _ = client.admin().reload_policy_within(Duration::from_secs(5));
    // A pause, after which the daemon must be rung.
    std::thread::sleep(Duration::from_millis(1));
    if MOVES.contains(&(since_start % MOVES_EVERY)) && !is_over() {
        let size = if since_start % MOVES_EVERY == MOVES.start { 10 } else { 8 };
        std::thread::scope(|scope| {
            let moved = scope.spawn(|| client.admin().resize(Some(size * MIB), None).is_ok());
            while !moved.is_finished() && !is_over() {
                model.set(client, bounds, random.below(KEPT));
                let _ = client.set("below:0", b"during a move");
            }
        });
    }
}

/// Keys that fill both lines of the last of them, by the hash of the table in this file.
fn crowd(table: &Path, line: usize) -> Option<Vec<String>> {
    let bytes = std::fs::read(table).ok()?;
    let mut words = bytes.chunks_exact(8).map(|word| word.try_into().map(u64::from_le_bytes));
    let mut identity = [0; IDENTITY_WORDS];
    for word in &mut identity {
        *word = words.next()?.ok()?;
    }
    let geometry = Geometry::check(Identity::unpack(&identity).ok()?).ok()?;
    let lines = |n: u32| {
        let key = format!("crowd:{n}");
        let lines = geometry.buckets(geometry.hasher().hash(key.as_bytes()));
        (key, lines.map(|line| line.word()))
    };
    let wanted = geometry.bucket(u32::try_from(line).ok()?).word();
    let (last, [first, second]) = (0..).map(lines).find(|(_, lines)| lines[0] == wanted)?;
    let beginning_in = |line: usize| {
        let keys = (0..).map(lines).filter(move |(_, lines)| lines[0] == line);
        keys.map(|(key, _)| key).take(SLOTS)
    };
    let others = beginning_in(first).chain(beginning_in(second)).filter(|key| *key != last);
    Some(others.chain([last.clone()]).collect())
}
