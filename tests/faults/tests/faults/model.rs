//! Keys, their self-describing values, and what may legally be seen of each.

use l1d_client::{Client, Error};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use test_support::servers::until;

/// Keys that are never deleted, and may not be lost.
pub const KEPT: usize = 700;
/// Keys of a rule with `evict = "never"`, the first of those.
pub const PINNED: usize = 100;
/// Keys that are deleted and stored in turn.
pub const CHANGING: usize = 300;
const KEYS: usize = KEPT + CHANGING;
/// Of a reader, between two looks at all keys.
const PAUSE: Duration = Duration::from_millis(20);

/// The name of a key.
pub fn key(number: usize) -> String {
    match number {
        0..PINNED => format!("pin:{number}"),
        PINNED..KEPT => format!("keep:{number}"),
        _ => format!("change:{number}"),
    }
}

/// The value of a key after its change number `change`.
pub fn value(number: usize, change: u64) -> Vec<u8> {
    let words = 3 + usize::try_from(change * 7 + number as u64).unwrap() % 90;
    let word = (number as u64) << 40 | change;
    let mut value = word.to_le_bytes().repeat(words);
    value.truncate(words * 8 - number % 8);
    value
}

/// The number of the change that has stored this value.
///
/// # Panics
/// If no change of this key has.
pub fn change_of(number: usize, found: &[u8]) -> u64 {
    let word = found.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
    let change = word & ((1 << 40) - 1);
    assert!(word >> 40 == number as u64, "{} has a value of key {}", key(number), word >> 40);
    assert!(found == value(number, change), "{} has a torn value", key(number));
    change
}

/// What a key may have after the last answer, or the lack of one.
#[derive(Debug, Clone, Default)]
struct Legal {
    /// The change that was acknowledged last; `None`: the key has no value.
    certain: Option<u64>,
    /// The outcome of these is unknown.
    unknown: Vec<Option<u64>>,
}

/// What the one driver of the changes knows.
#[derive(Debug)]
pub struct Model {
    legal: Vec<Legal>,
    next: u64,
}

/// Bounds of the changes that a reader may see of each key.
#[derive(Debug)]
pub struct Bounds {
    least: Vec<AtomicU64>,
    most: Vec<AtomicU64>,
    pub is_over: AtomicBool,
    pub reads: AtomicU64,
}

/// The entries found after a kill.
#[derive(Debug, Default, Clone, Copy)]
pub struct Kept {
    /// Acknowledged entries that a table must have.
    pub expected: u64,
    /// Those of them that are not there.
    pub lost: u64,
    /// Those of them that are never evicted.
    pub lost_pinned: u64,
}

impl Bounds {
    pub fn new() -> Bounds {
        let words = || (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        Bounds {
            least: words(),
            most: words(),
            is_over: AtomicBool::new(false),
            reads: AtomicU64::new(0),
        }
    }

    /// Reads all keys over and over, as a process that stays attached. Panics at the first value
    /// that is wrong, torn, older than what was acknowledged before the read, or older than what
    /// this reader has seen.
    pub fn read_on(&self, client: &Client) {
        let (mut seen, mut found) = (vec![0; KEYS], Vec::new());
        while !self.is_over.load(Ordering::SeqCst) {
            for (number, seen) in seen.iter_mut().enumerate() {
                let least = self.least[number].load(Ordering::SeqCst).max(*seen);
                if client.peek_into(key(number), &mut found).is_none() {
                    continue;
                }
                let change = change_of(number, &found);
                let most = self.most[number].load(Ordering::SeqCst);
                assert!(
                    (least..=most).contains(&change),
                    "{}: change {change}, legal are {least} to {most}",
                    key(number)
                );
                *seen = change;
                self.reads.fetch_add(1, Ordering::Relaxed);
            }
            // Leaves the processor to the daemon.
            std::thread::sleep(PAUSE);
        }
    }
}

impl Model {
    pub fn new() -> Model {
        Model { legal: vec![Legal::default(); KEYS], next: 1 }
    }

    /// Stores the next value of a key.
    pub fn set(&mut self, client: &Client, bounds: &Bounds, number: usize) {
        self.change(bounds, number, |change| {
            client.set(key(number), value(number, change)).is_ok().then_some(Some(change))
        });
    }

    /// Deletes a key.
    pub fn delete(&mut self, client: &Client, bounds: &Bounds, number: usize) {
        self.change(bounds, number, |_| client.delete(key(number)).is_ok().then_some(None));
    }

    fn change(
        &mut self,
        bounds: &Bounds,
        number: usize,
        ask: impl FnOnce(u64) -> Option<Option<u64>>,
    ) {
        let change = self.next;
        self.next += 1;
        bounds.most[number].store(change, Ordering::SeqCst);
        let legal = &mut self.legal[number];
        match ask(change) {
            Some(certain) => {
                *legal = Legal { certain, unknown: Vec::new() };
                bounds.least[number].store(change, Ordering::SeqCst);
            }
            None => legal.unknown.extend([Some(change), None]),
        }
    }

    /// The table was replaced: nothing must be there.
    pub fn forget(&mut self) {
        for legal in &mut self.legal {
            if let Some(certain) = legal.certain.take() {
                legal.unknown.push(Some(certain));
            }
            legal.unknown.push(None);
        }
    }

    /// Looks for every value that must be there, and changes nothing. `None`: the daemon died
    /// meanwhile.
    pub fn look(&self, client: &Client) -> Option<Kept> {
        let mut kept = Kept::default();
        for (number, legal) in self.legal.iter().enumerate() {
            if legal.certain.is_some() && legal.unknown.is_empty() {
                let found = read(client, number).ok()?;
                assert!(found.is_none() || found == legal.certain, "{}: {found:?}", key(number));
                kept.add(number, found.is_some());
            }
        }
        Some(kept)
    }

    /// Compares the table with what may be there, and stores again what was lost.
    pub fn verify(&mut self, client: &Client, bounds: &Bounds) -> Kept {
        let mut kept = Kept::default();
        for number in 0..KEYS {
            // memcached may take long to say that it has nothing.
            let found = until("an answer", || read(client, number).ok());
            let legal = std::mem::take(&mut self.legal[number]);
            let is_legal = found == legal.certain || legal.unknown.contains(&found);
            assert!(
                is_legal || found.is_none(),
                "{}: change {found:?}, legal are {legal:?}",
                key(number)
            );
            // A delete whose outcome is unknown may have been carried out.
            if legal.certain.is_some() && (number < KEPT || legal.unknown.is_empty()) {
                kept.add(number, found.is_some());
            }
            self.legal[number] = Legal { certain: found, unknown: Vec::new() };
        }
        for number in 0..KEPT {
            if self.legal[number].certain.is_none() {
                self.set(client, bounds, number);
            }
        }
        // That may have evicted others.
        for number in 0..KEYS {
            let found = until("an answer", || read(client, number).ok());
            self.legal[number] = Legal { certain: found, unknown: Vec::new() };
        }
        kept
    }
}

impl Kept {
    fn add(&mut self, number: usize, is_there: bool) {
        self.expected += 1;
        self.lost += u64::from(!is_there);
        self.lost_pinned += u64::from(!is_there && number < PINNED);
    }
}

/// The change that has stored the value of a key. Waits for a daemon that is still to be attached
/// to, which a look at the table alone does not.
fn read(client: &Client, number: usize) -> Result<Option<u64>, Error> {
    let found = match client.peek(key(number)) {
        Some(value) => Some(value),
        None => client.get(key(number))?,
    };
    Ok(found.map(|value| change_of(number, &value)))
}
