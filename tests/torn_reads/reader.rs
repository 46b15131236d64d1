//! A process that reads in every possible way, and verifies everything.

use super::values::{KEYS, below, key, next, proven};
use l1d_client::{Client, Memo, Meta, ValueView, Values};
use std::convert::Infallible;
use std::time::Duration;

/// Maximum keys per batch: more than the library reads at once.
const TOGETHER: usize = 24;
/// Fewer than there are keys, so that objects are also evicted and decoded again.
const OBJECTS: usize = 40;

/// Ways to read.
pub const WAYS: [&str; 5] = ["peek_into", "read_with", "decoded", "get_many_into", "get_many"];

pub struct Reader {
    client: Client,
    random: u64,
    memo: Memo<Option<u64>>,
    values: Values,
    bytes: Vec<u8>,
    expected: Vec<u8>,
    /// For each key, the last version seen: the one in its value, and the table's.
    seen: Vec<(u64, u64)>,
    /// Hits for each way, and how many of them were newer than the one before.
    pub hits: [u64; WAYS.len()],
    pub changes: u64,
    /// In-place reads during which the owner wrote.
    pub written_over: u64,
}

impl Reader {
    pub fn new(client: Client, random: u64) -> Reader {
        Reader {
            memo: Memo::new(&client, OBJECTS).unwrap(),
            client,
            random,
            values: Values::new(),
            bytes: Vec::new(),
            expected: Vec::new(),
            seen: vec![(0, 0); usize::try_from(KEYS).unwrap()],
            hits: [0; WAYS.len()],
            changes: 0,
            written_over: 0,
        }
    }

    /// Reads in a random way; returns the number of keys.
    pub fn read(&mut self) -> u64 {
        let number = next(&mut self.random) % KEYS;
        match next(&mut self.random) % 64 {
            0..32 => self.peek(number),
            32..48 => self.look(number),
            48..62 => self.decode(number),
            way => return self.read_many(way == 62),
        }
        1
    }

    /// Records a hit, with the version in the value and the table's version if they are known:
    /// neither goes back, and they advance together.
    fn note(&mut self, way: usize, number: u64, version: Option<u64>, meta: Option<Meta>) {
        self.hits[way] += 1;
        let (last, last_stored) = &mut self.seen[usize::try_from(number).unwrap()];
        if let Some(version) = version {
            let way = WAYS[way];
            assert!(version >= *last, "{way}: key {number} went back from {last} to {version}");
            self.changes += u64::from(version > *last);
            *last = version;
        }
        if let Some(Meta { version, .. }) = meta {
            assert!(version >= *last_stored, "{}: key {number} went back", WAYS[way]);
            *last_stored = version;
        }
    }

    fn peek(&mut self, number: u64) {
        let Some(meta) = self.client.peek_into(key(number), &mut self.bytes) else { return };
        let version = proven(number, &self.bytes, &mut self.expected);
        self.note(0, number, version, Some(meta));
    }

    /// Reads in place: two partial copies, and a comparison of the value with the copied bytes.
    fn look(&mut self, number: u64) {
        let (cut, bytes) = (below(&mut self.random, 200), &mut self.bytes);
        let seen = self.client.read_with(key(number), |value| copy_in_parts(value, cut, bytes));
        // Without a daemon, only keys in the table are answered.
        let Ok(Some(is_same)) = seen else { return };
        assert!(is_same, "key {number}: a value that differs from itself");
        let version = proven(number, &self.bytes, &mut self.expected);
        self.note(1, number, version, None);
    }

    /// An in-place read that pauses until the owner has recycled the segment, or for some seconds
    /// if the value came from the daemon.
    pub fn look_for_long(&mut self) {
        let number = next(&mut self.random) % KEYS;
        let (mut is_stopped, mut is_written_over) = (false, false);
        let seen = self.client.read_with(key(number), |value| {
            let mut bytes = Vec::new();
            let is_same = copy_in_parts(value, value.len() / 2, &mut bytes);
            if std::mem::replace(&mut is_stopped, true) || bytes.is_empty() {
                return is_same.then_some(bytes);
            }
            is_written_over = (0..3000).any(|_| {
                std::thread::sleep(Duration::from_millis(1));
                !value.has_at(0, &bytes)
            });
            let half = bytes.len() / 2;
            value.copy_to(half, &mut bytes[half..]).then_some(bytes)
        });
        let Ok(Some(seen)) = seen else { return };
        self.written_over += u64::from(is_written_over);
        let bytes = seen.expect("a value that differs from itself");
        let version = proven(number, &bytes, &mut self.expected);
        self.note(1, number, version, None);
    }

    fn decode(&mut self, number: u64) {
        let expected = &mut self.expected;
        let decoded = self
            .memo
            .decoded(key(number), |bytes| Ok::<_, Infallible>(proven(number, bytes, expected)));
        let Ok(Some(version)) = decoded else { return };
        self.note(2, number, *version, None);
    }

    fn read_many(&mut self, into: bool) -> u64 {
        let count = 1 + below(&mut self.random, TOGETHER);
        let numbers: Vec<u64> = (0..count).map(|_| next(&mut self.random) % KEYS).collect();
        let keys: Vec<Vec<u8>> = numbers.iter().map(|number| key(*number)).collect();
        if into {
            let mut values = std::mem::take(&mut self.values);
            if self.client.get_many_into(&keys, &mut values).is_ok() {
                assert_eq!(values.len(), count);
                for (index, number) in numbers.iter().enumerate() {
                    let Some(bytes) = values.get(index) else { continue };
                    let version = proven(*number, bytes, &mut self.expected);
                    self.note(3, *number, version, values.meta(index));
                }
            }
            self.values = values;
        } else if let Ok(values) = self.client.get_many(&keys) {
            assert_eq!(values.len(), count);
            for (number, value) in numbers.iter().zip(values) {
                let Some(value) = value else { continue };
                let version = proven(*number, &value, &mut self.expected);
                self.note(4, *number, version, Some(value.meta()));
            }
        }
        count as u64
    }
}

/// Copies the value in two parts that meet at `cut`. Returns whether it still has the copied bytes.
fn copy_in_parts(value: &ValueView<'_>, cut: usize, bytes: &mut Vec<u8>) -> bool {
    bytes.clear();
    bytes.resize(value.len(), 0);
    let cut = cut.min(value.len());
    let (head, rest) = bytes.split_at_mut(cut);
    let is_copied = value.copy_to(cut, rest) && value.copy_to(0, head);
    is_copied && value.has_at(cut / 2, &bytes[cut / 2..])
}
