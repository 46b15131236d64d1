//! The read protocol against the owner, over the interleavings and weak orders that loom explores,
//! with the real fences: `./dev loom`.
//!
//! The hazard: a reader that is stopped anywhere returns bytes of an entry that was recycled under
//! it, or of one whose words it sees before they are all there.
//!
//! Each mechanism was taken out once, and a model failed:
//!
//! | taken out | the model that fails |
//! |---|---|
//! | the fence before the slot store that publishes (W3) | an overwrite |
//! | the second load of the slot (R4) | a recycled segment |
//! | the odd generation (W4) | a recycled segment |
//! | the fence before the next even generation (W4) | a recycled segment |
//! | the last load of the generation, or the fence before it (R6) | a recycled segment |
//! | the generation, in `Reader::holds` | a sighting of an entry whose place was given out again |
//! | the slot, in `Reader::holds` | a sighting of a deleted entry |
//! | the lease's place before the slot and the floor, or either of its fences (R8, W8) | a renewed lease |
//!
//! A prefetch is a hint that changes no value, so the models have none. What it brings about is that a
//! slot is looked at long after it was found: reads by steps are in the models.
//!
//! The fence behind the odd generation is not missed by any model: the one before the even
//! generation stands between the two, too, and entries are only appended behind that. It stays,
//! because W4 is then true of each of its two functions alone.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;
use shm_layout::entry::NEVER;
use shm_layout::header::{
    IDENTITY_COPIES, IDENTITY_WORDS, LEASE_UNTIL, POLICY_FLOORS, STATE, STRICT_FLOOR,
};
use shm_layout::{
    Entry, Geometry, InPlace, KeyHash, Location, Memory, MemoryMut, NoHit, Outcome, Plan, Reader,
    Receiver, Sighting, VecDestination, Writer,
};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// The few words of a table that a model touches, as loom's atomics; all others are plain zero or
/// part of the identity, and never change while a model runs.
struct Words {
    live: HashMap<usize, AtomicU64>,
    identity: [u64; IDENTITY_WORDS],
}

#[derive(Clone)]
struct Shared(Arc<Words>);

impl Memory for Shared {
    unsafe fn load(&self, index: usize) -> u64 {
        if let Some(word) = self.0.live.get(&index) {
            return word.load(Ordering::Relaxed);
        }
        let copies = IDENTITY_COPIES.iter().find(|start| (**start..**start + 16).contains(&index));
        copies.map_or(0, |start| self.0.identity[index - start])
    }
    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }
    unsafe fn nominate(&self, bucket: usize, _: u16) -> u32 {
        // A nomination is only a hint: every slot that the model uses is one.
        (0..8).filter(|slot| self.0.live.contains_key(&(bucket + slot))).fold(0, |m, s| m | 1 << s)
    }
}

impl MemoryMut for Shared {
    unsafe fn store(&self, index: usize, word: u64) {
        self.0.live[&index].store(word, Ordering::Relaxed);
    }
    fn fence_release(&self) {
        fence(Ordering::Release);
    }
}

const A: &[u8] = b"a";
const B: &[u8] = b"b";
const OLD: &[u8] = b"oldvalue";
const NEW: &[u8] = b"newvalue";
/// Where the entries of a model are.
const FIRST: Location = Location { segment: 0, word: 0 };
const SECOND: Location = Location { segment: 1, word: 0 };
const ENTRY_WORDS: usize = 5;

fn geometry() -> Geometry {
    static GEOMETRY: OnceLock<Geometry> = OnceLock::new();
    *GEOMETRY.get_or_init(|| {
        let plan = Plan { table_bytes: 5 << 20, value_bytes_max: 1000, ..Plan::default() };
        Geometry::plan(&plan).unwrap()
    })
}

fn hash(key: &[u8]) -> KeyHash {
    geometry().hasher().hash(key)
}

fn slot(key: &[u8]) -> usize {
    geometry().buckets(hash(key))[0].slot(0)
}

fn entry(key: &'static [u8], value: &'static [u8], version: u64) -> Entry<'static> {
    Entry { key, value, version, expiry: NEVER, ..Entry::default() }
}

/// A table in which `A` has the value `OLD` at `FIRST`, with a writer and a reader.
fn table() -> (Writer<Shared>, Reader<Shared>) {
    table_with(&entry(A, OLD, 1))
}

fn table_with(first: &Entry<'_>) -> (Writer<Shared>, Reader<Shared>) {
    let geometry = geometry();
    let mut touched = vec![STATE, STRICT_FLOOR, LEASE_UNTIL, POLICY_FLOORS, slot(A), slot(B)];
    for at in [FIRST, SECOND] {
        touched.push(geometry.generation(at.segment).unwrap());
        let word = geometry.resolve(at).unwrap();
        touched.extend(word..word + ENTRY_WORDS);
    }
    let live = touched.into_iter().map(|index| (index, AtomicU64::new(0))).collect();
    let memory = Shared(Arc::new(Words { live, identity: geometry.identity().pack() }));
    for at in [FIRST, SECOND] {
        let generation = geometry.generation(at.segment).unwrap();
        // SAFETY: one of the model's words.
        unsafe { memory.store(generation, 2) };
    }
    let bytes = geometry.identity().table_bytes;
    // SAFETY: the model answers for every word of the table.
    let writer = unsafe { Writer::take_over(memory.clone(), bytes) }.unwrap();
    writer.open_for_readers();
    writer.append(FIRST, first, hash(A)).unwrap();
    writer.publish(slot(A), hash(A), FIRST);
    // SAFETY: as above.
    let reader = unsafe { Reader::attach(memory, bytes) }.unwrap();
    (writer, reader)
}

fn read(reader: &Reader<Shared>, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = VecDestination::default();
    match reader.read(key, || 0, &mut value) {
        Outcome::Hit(_) => Some(value.bytes().to_vec()),
        _ => None,
    }
}

/// As several keys at once are read: the slot that is looked at was found, and its entry asked for, an
/// arbitrary time before.
fn read_by_steps(reader: &Reader<Shared>, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = VecDestination::default();
    let mut sought = reader.seek(key);
    if !reader.approach(&mut sought) {
        reader.approach_second(&mut sought);
    }
    let is_hit = match reader.read_short(sought, key, || 0, &mut value) {
        Err(NoHit::Unclear) => {
            matches!(reader.read_whole(sought, key, || 0, &mut value), Outcome::Hit(_))
        }
        short => short.is_ok(),
    };
    is_hit.then(|| value.bytes().to_vec())
}

type Read = fn(&Reader<Shared>, &[u8]) -> Option<Vec<u8>>;

/// [`model`] for both ways to read.
fn model_of_reads(run: impl Fn(Read) + Copy + Sync + Send + 'static) {
    for read in [read, read_by_steps] {
        model(move || run(read));
    }
}

#[derive(Default)]
struct Sight(Option<Sighting>);

impl Receiver<Shared> for Sight {
    fn receive(&mut self, _: InPlace<'_, Shared>) {}
    fn sighted(&mut self, sighting: Sighting) {
        self.0 = Some(sighting);
    }
}

/// A reader sights `A`; another one, which may hear of what `change` does, asks for it again. Whether
/// it had heard, and whether the sighting held.
fn sighted_and_asked(change: impl Fn(&Writer<Shared>)) -> (bool, bool) {
    let (writer, reader) = table();
    let mut sight = Sight::default();
    assert!(matches!(reader.read(A, || 0, &mut sight), Outcome::Hit(_)));
    let sighting = sight.0.unwrap();
    assert!(reader.holds(&sighting, || 0));
    let told = Arc::new(AtomicU64::new(0));
    let acknowledged = told.clone();
    let asking = thread::spawn(move || {
        let known = told.load(Ordering::Acquire) == 1;
        (known, reader.holds(&sighting, || 0))
    });
    change(&writer);
    acknowledged.store(1, Ordering::Release);
    asking.join().unwrap()
}

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

/// W3 against R4: who sees the slot sees the entry.
#[test]
fn an_overwrite_shows_the_old_value_or_the_new_one() {
    model_of_reads(|read| {
        let (writer, reader) = table();
        let reading = thread::spawn(move || read(&reader, A));
        writer.append(SECOND, &entry(A, NEW, 2), hash(A)).unwrap();
        writer.publish(slot(A), hash(A), SECOND);
        let seen = reading.join().unwrap();
        assert!(seen.is_some_and(|value| value == OLD || value == NEW));
    });
}

/// W4 against R4 and R6: another key's entry takes the place of the one being read.
#[test]
fn a_recycled_segment_never_shows_another_entry() {
    model_of_reads(|read| {
        let (writer, reader) = table();
        let reading = thread::spawn(move || read(&reader, A));
        writer.begin_recycling(0);
        writer.clear(slot(A));
        writer.end_recycling(0);
        writer.append(FIRST, &entry(B, NEW, 2), hash(B)).unwrap();
        writer.publish(slot(B), hash(B), FIRST);
        let seen = reading.join().unwrap();
        assert!(seen.is_none_or(|value| value == OLD), "bytes of another entry");
    });
}

/// The same key again, at the same words, under the same slot word: the generation tells.
#[test]
fn a_key_that_returns_to_its_place_is_whole() {
    model_of_reads(|read| {
        let (writer, reader) = table();
        let reading = thread::spawn(move || read(&reader, A));
        writer.begin_recycling(0);
        writer.clear(slot(A));
        writer.end_recycling(0);
        writer.append(FIRST, &entry(A, NEW, 2), hash(A)).unwrap();
        writer.publish(slot(A), hash(A), FIRST);
        let seen = reading.join().unwrap();
        assert!(seen.is_none_or(|value| value == OLD || value == NEW));
    });
}

/// A delete that was acknowledged is seen by whoever heard of it.
#[test]
fn a_delete_that_is_known_of_is_seen() {
    model_of_reads(|read| {
        let (writer, reader) = table();
        let told = Arc::new(AtomicU64::new(0));
        let acknowledged = told.clone();
        let reading = thread::spawn(move || {
            let deleted = told.load(Ordering::Acquire) == 1;
            (deleted, read(&reader, A))
        });
        writer.clear(slot(A));
        acknowledged.store(1, Ordering::Release);
        let (deleted, seen) = reading.join().unwrap();
        assert!(!(deleted && seen.is_some()), "read after its delete was acknowledged");
    });
}

/// R8: a floor that was raised hides what is older from whoever heard of it.
#[test]
fn a_raised_floor_hides_what_is_older() {
    model_of_reads(|read| {
        let (writer, reader) = table();
        let told = Arc::new(AtomicU64::new(0));
        let raised = told.clone();
        let reading = thread::spawn(move || {
            let known = told.load(Ordering::Acquire) == 1;
            (known, read(&reader, A))
        });
        writer.raise_policy_floor(0, 2);
        raised.store(1, Ordering::Release);
        let (known, seen) = reading.join().unwrap();
        assert!(!(known && seen.is_some()), "read below a floor that was known of");
    });
}

/// The slot word is the same as before, and the words of the entry are another's.
#[test]
fn a_sighting_does_not_hold_for_what_returned_to_its_place() {
    model(|| {
        let (known, held) = sighted_and_asked(|writer| {
            writer.begin_recycling(0);
            writer.clear(slot(A));
            writer.end_recycling(0);
            writer.append(FIRST, &entry(A, NEW, 2), hash(A)).unwrap();
            writer.publish(slot(A), hash(A), FIRST);
        });
        assert!(!(known && held), "held after a new value was acknowledged");
    });
}

/// The generation is the same as before.
#[test]
fn a_sighting_does_not_hold_for_what_was_deleted_replaced_or_hidden() {
    let changes: [fn(&Writer<Shared>); 3] = [
        |writer| writer.clear(slot(A)),
        |writer| {
            writer.append(SECOND, &entry(A, NEW, 2), hash(A)).unwrap();
            writer.publish(slot(A), hash(A), SECOND);
        },
        |writer| writer.raise_policy_floor(0, 2),
    ];
    for change in changes {
        model(move || {
            let (known, held) = sighted_and_asked(change);
            assert!(!(known && held), "held after the change was acknowledged");
        });
    }
}

fn strict() -> Entry<'static> {
    Entry { strict: true, ..entry(A, OLD, 1) }
}

/// What the owner does before it renews a lease that had run out, for what it has missed.
const INVALIDATIONS: [fn(&Writer<Shared>); 2] =
    [|writer| writer.raise_strict_floor(2), |writer| writer.clear(slot(A))];

/// W8 against R8: an entry that was invalid before the lease was renewed is never seen under it, also
/// by a reader that began before.
#[test]
fn a_renewed_lease_does_not_bring_an_invalid_entry_back() {
    for invalidate in INVALIDATIONS {
        model(move || {
            let (writer, reader) = table_with(&strict());
            let reading = thread::spawn(move || {
                matches!(reader.read(A, || 5, &mut VecDestination::default()), Outcome::Hit(_))
            });
            invalidate(&writer);
            writer.set_lease_until(10);
            assert!(!reading.join().unwrap(), "seen under a lease that began behind its end");
        });
    }
}

/// The same, for an entry that was sighted while the lease before was alive.
#[test]
fn a_renewed_lease_does_not_bring_an_invalid_sighting_back() {
    for invalidate in INVALIDATIONS {
        model(move || {
            let (writer, reader) = table_with(&strict());
            writer.set_lease_until(10);
            let mut sight = Sight::default();
            assert!(matches!(reader.read(A, || 5, &mut sight), Outcome::Hit(_)));
            let sighting = sight.0.unwrap();
            let asking = thread::spawn(move || reader.holds(&sighting, || 15));
            invalidate(&writer);
            writer.set_lease_until(20);
            assert!(!asking.join().unwrap(), "held under a lease that began behind its end");
        });
    }
}
