//! A client that writes anything into its mailbox at any time, against the built daemon. The
//! hazard: it harms more than its own attachment: another client's attachment, a value, the table,
//! the daemon.

use l1d_client::WriteMode;
use l1d_client::{Client, SetOptions};
use l1d_wire::protocol::{Request, Set};
use serde_json::Value;
use shm_layout::mailbox::SHAPE;
use shm_layout::mailbox::ring::{Head, Kind};
use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use test_support::daemon::{Daemon, connect};
use test_support::posted::{Posted, Words, payload};
use test_support::random::Random;

/// The scribbler's actions in total; it attaches again whenever it is dropped.
const ACTIONS: usize = 40_000;
/// Its actions in one attachment at most.
const ACTIONS_PER_ATTACHMENT: usize = 60;
/// Words that its second thread overwrites meanwhile.
const STRAY_WORDS: usize = 4000;
/// Clients that follow the rules, and the number of keys of each.
const OTHERS: usize = 2;
const KEYS: usize = 300;

fn stats(client: &Client) -> Value {
    serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap()
}

/// Sets the flag when it is dropped, also in a panic.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client that follows the rules, and the values it has stored.
struct Honest {
    client: Client,
    name: usize,
    stored: HashMap<Vec<u8>, Vec<u8>>,
    random: Random,
    writes: u64,
}

impl Honest {
    fn key(&mut self) -> Vec<u8> {
        format!("honest client {}, key {}", self.name, self.random.below(KEYS)).into_bytes()
    }

    /// A value that identifies its client and key.
    fn value(&mut self, key: &[u8]) -> Vec<u8> {
        let bytes = [self.random.below(200), self.random.below(6000)][self.random.below(2)];
        let mut value = [key, b" ", &self.random.word().to_le_bytes()[..]].concat();
        value.resize(value.len() + bytes, key[key.len() - 1]);
        value
    }

    fn act(&mut self) {
        let key = self.key();
        match self.random.below(6) {
            0 | 1 => {
                let value = self.value(&key);
                self.client.set(&key, &value).unwrap();
                self.writes += 1;
                self.stored.insert(key.clone(), value);
            }
            2 => {
                let existed = self.client.delete(&key).unwrap().existed;
                assert_eq!(existed, self.stored.remove(&key).is_some(), "{key:?}");
                self.writes += 1;
            }
            3 => {
                let value = self.value(&key);
                let no_wait = SetOptions { no_wait: true, ..SetOptions::default() };
                self.client.set_with(&key, &value, &no_wait).unwrap();
                // One mailbox is processed in order: once a later request is answered, the earlier
                // ones are visible.
                self.client.delete(b"honest, and never there").unwrap();
                self.stored.insert(key.clone(), value);
                self.writes += 2;
            }
            4 => {
                let keys: Vec<Vec<u8>> = (0..16).map(|_| self.key()).collect();
                let many: HashMap<Vec<u8>, Vec<u8>> =
                    keys.iter().map(|key| (key.clone(), self.value(key))).collect();
                let many: Vec<(Vec<u8>, Vec<u8>)> = many.into_iter().collect();
                let stored = self.client.set_many(&many).unwrap();
                assert!(stored.iter().all(Result::is_ok), "{stored:?}");
                self.writes += many.len() as u64;
                self.stored.extend(many);
            }
            _ => {
                let keys: Vec<Vec<u8>> = (0..16).map(|_| self.key()).collect();
                let values = self.client.get_many(&keys).unwrap();
                for (key, value) in keys.iter().zip(&values) {
                    let held = self.stored.get(key).map(Vec::as_slice);
                    assert!(value.as_deref() == held, "{}: many", String::from_utf8_lossy(key));
                }
            }
        }
        self.verify(&key);
    }

    fn verify(&self, key: &[u8]) {
        let held = self.stored.get(key).map(Vec::as_slice);
        let name = String::from_utf8_lossy(key);
        assert!(self.client.peek(key).as_deref() == held, "{name}: read");
        assert!(self.client.get(key).unwrap().as_deref() == held, "{name}: asked for");
    }

    fn verify_all(&self) {
        for number in 0..KEYS {
            self.verify(format!("honest client {}, key {number}", self.name).as_bytes());
        }
    }
}

/// A number for a size, a count or a time, near the limits more often than chance would have it.
fn size(random: &mut Random) -> u32 {
    let few = u32::try_from(random.below(2000)).unwrap();
    let piece = u32::try_from(SHAPE.piece_bytes()).unwrap();
    [0, 1, few, 0xffff, 0x1_0000, piece, piece + 1, 1 << 20, i32::MAX as u32, u32::MAX]
        [random.below(10)]
}

/// A request, often one that the daemon accepts.
fn request(random: &mut Random) -> Vec<u8> {
    let key = format!("scribbled {}", random.below(50)).into_bytes();
    let value = vec![b's'; [random.below(100), random.below(30_000)][random.below(2)]];
    let ttls = [None, Some(Duration::ZERO), Some(Duration::from_millis(1)), Some(Duration::MAX)];
    let writes = [None, Some(WriteMode::Through), Some(WriteMode::L1Only)];
    let set = Set {
        key: &key,
        value: &value,
        ttl: ttls[random.below(4)],
        flags: [0, size(random)][random.below(2)],
        write: writes[random.below(3)],
        reply: random.below(2) == 0,
    };
    let small = Set { value: &value[..value.len() / 200], ..set.clone() };
    let many = random.below(100);
    payload(&match random.below(12) {
        0..4 => Request::Set(set),
        4 => Request::SetMany { sets: vec![small; many] },
        5 => Request::GetMany { keys: vec![&key; many] },
        6 => Request::Delete { key: &key },
        // Not allowed in a mailbox, and it would affect everyone.
        7 => Request::Flush { prefix: b"" },
        8 => Request::Resize { table_bytes: Some(1 << 40), entry_bytes: None },
        _ => Request::Get { key: &key },
    })
}

/// The same with some bytes or sizes changed, truncated or extended.
fn damaged(random: &mut Random) -> Vec<u8> {
    let mut bytes = request(random);
    for _ in 0..random.below(4) {
        let place = random.below(bytes.len());
        // Most fields are at the beginning.
        let place = [place, place % 24][random.below(2)];
        match random.below(3) {
            0 => bytes[place] = random.word().to_le_bytes()[0],
            1 => {
                let size = size(random).to_le_bytes();
                let end = bytes.len().min(place + 4);
                bytes[place..end].copy_from_slice(&size[..end - place]);
            }
            _ => bytes.resize([place, bytes.len() + 8][random.below(2)].max(1), 0),
        }
    }
    bytes
}

/// The head of a record, valid or not.
fn head(random: &mut Random) -> u64 {
    let lane = [random.below(SHAPE.lanes), random.below(256), 255][random.below(3)] as u64;
    let kind = random.below(7) as u64;
    let bytes = u64::from(size(random)) & 0xffff;
    bytes | kind << 16 | lane << 24 | (random.below(4) as u64) << 32
}

/// A word, one kind for each way in which it may be read.
fn word(random: &mut Random) -> u64 {
    match random.below(5) {
        0 => head(random),
        1 => u64::from(size(random)),
        2 => u64::from(size(random)) << 32 | u64::from(size(random)),
        3 => u64::MAX - random.below(9000) as u64,
        _ => random.word(),
    }
}

/// Where the nonsense goes: to the words that are read next, to the start of the parts, or
/// anywhere.
fn place(random: &mut Random, words: &Words) -> usize {
    let ring = SHAPE.words() - SHAPE.ring_words;
    let produced = usize::try_from(words.peek(0) % SHAPE.ring_words as u64).unwrap();
    let near = (produced + random.below(64) + SHAPE.ring_words - 48) % SHAPE.ring_words;
    match random.below(8) {
        // The words of either side, the lanes and the marks.
        0 => 1 + random.below(40 + 8 * (SHAPE.lanes + SHAPE.stripes) - 1),
        1 => random.below(SHAPE.words()).max(1),
        2 => random.below(8),
        _ => ring + near,
    }
}

/// One thing that no client should do, or one that it may.
fn scribble(client: &mut Posted, words: &Words, random: &mut Random) {
    let lane = u8::try_from(random.below(SHAPE.lanes)).unwrap();
    let sequence = u32::try_from(random.below(3)).unwrap();
    match random.below(10) {
        0..4 => {
            let bytes = [request, damaged][random.below(2)](random);
            let lane = [None, Some(lane), Some(lane), Some(lane)][random.below(4)];
            let pieces: Vec<&[u8]> = bytes.chunks(SHAPE.piece_bytes()).collect();
            for (index, piece) in pieces.iter().enumerate() {
                let kind = match (index, index + 1 == pieces.len()) {
                    (0, true) => Kind::Whole,
                    (0, false) => Kind::First,
                    (_, false) => Kind::Next,
                    (_, true) => Kind::Last,
                };
                let _ = client.producer.push(Head { kind, lane, sequence }, piece);
            }
        }
        4 => {
            let kind = [Kind::More, Kind::First, Kind::Next, Kind::Last][random.below(4)];
            let bytes = vec![4; random.below(SHAPE.piece_bytes())];
            let _ = client.producer.push(Head { kind, lane: Some(lane), sequence }, &bytes);
        }
        5 => client.mailbox.open_lane(lane.into(), sequence),
        6 => {
            for _ in 0..random.below(300) {
                let hits = [1, u64::from(size(random)), random.word()][random.below(3)];
                client.mailbox.report(random.below(SHAPE.stripes), &[random.word()], hits);
            }
        }
        7 => {
            // A made-up head after the written records, published as if it were a record.
            let produced = words.peek(0);
            let at = usize::try_from(produced % SHAPE.ring_words as u64).unwrap();
            words.poke(SHAPE.words() - SHAPE.ring_words + at, head(random));
            words.poke(0, produced.wrapping_add(random.below(3000) as u64));
        }
        _ => words.poke(place(random, words), word(random)),
    }
    // A wakeup, even if the daemon does not ask for it.
    let _ = client.stream.write_all(&[1]);
}

/// Overwrites words as fast as it can, for some time.
fn stray(words: &Words, random: &mut Random, is_over: &AtomicBool) {
    for _ in 0..STRAY_WORDS {
        words.poke(place(random, words), word(random));
        (0..random.below(2000)).for_each(|_| std::hint::spin_loop());
        if is_over.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Attaches, scribbles until it is dropped or has done enough, and repeats. Returns how often it
/// attached and how often it was dropped.
fn scribble_on(daemon: &Daemon, random: &mut Random) -> (u64, u64) {
    let (mut attached, mut dropped, mut actions) = (0, 0, 0);
    while actions < ACTIONS {
        let mut client = Posted::attached(&daemon.socket());
        attached += 1;
        let words = client.words();
        let is_over = AtomicBool::new(false);
        let is_dropped = std::thread::scope(|scope| {
            let _over = AtTheEnd(&is_over);
            if random.below(4) > 0 {
                let (words, mut random, is_over) = (words.clone(), random.split(), &is_over);
                scope.spawn(move || stray(&words, &mut random, is_over));
            }
            (0..random.below(ACTIONS_PER_ATTACHMENT)).any(|_| {
                scribble(&mut client, &words, random);
                actions += 1;
                client.is_closed()
            })
        });
        // Even a slow daemon drops a client that claims more than any ring holds.
        if !is_dropped && attached % 4 == 0 {
            words.poke(0, 1 << 50);
            let _ = client.stream.write_all(&[1]);
            client.assert_is_closed();
        }
        dropped += u64::from(is_dropped || attached % 4 == 0);
    }
    (attached, dropped)
}

#[test]
fn a_client_that_writes_anything_at_any_time_harms_no_other() {
    let config = "[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"1h\"\n";
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), config, "64MiB");
    let mut random = Random::new();
    let mut honest: Vec<Honest> = (0..OTHERS)
        .map(|name| {
            let (client, random) = (connect(&daemon), random.split());
            Honest { client, name, stored: HashMap::new(), random, writes: 0 }
        })
        .collect();
    honest.iter_mut().for_each(Honest::act);
    honest.iter_mut().for_each(|honest| honest.writes = 0);
    let watcher = connect(&daemon);
    let before = stats(&watcher);

    let is_over = AtomicBool::new(false);
    let (attached, dropped) = std::thread::scope(|scope| {
        for honest in &mut honest {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    honest.act();
                }
                honest.verify_all();
            });
        }
        let _over = AtTheEnd(&is_over);
        scribble_on(&daemon, &mut random)
    });

    let after = stats(&watcher);
    let figure = |stats: &Value, path: &str| stats.pointer(path).unwrap().as_u64().unwrap();
    let grown = |path: &str| figure(&after, path) - figure(&before, path);
    let writes: u64 = honest.iter().map(|honest| honest.writes).sum();
    let scribbled = grown("/clients/writes") - writes;
    println!("attached {attached}, dropped {dropped}; writes {scribbled}, of others {writes}");
    // Only the scribbler had to attach again.
    assert_eq!(grown("/requests/attaches"), attached);
    // Bad enough to be dropped, good enough to be served in between; and there were other clients.
    assert!(dropped > attached / 5 && scribbled > 100 && writes > 100);
    assert_eq!(after["table"]["evicted"], 0, "{after:#}");
    assert_eq!(figure(&after, "/daemon/pid"), figure(&before, "/daemon/pid"));
    let report: Value = serde_json::from_str(&watcher.admin().check_json().unwrap()).unwrap();
    assert_eq!(report["violation_count"], 0, "{report:#}");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
