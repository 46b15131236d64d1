//! A table in which the few words that a model touches are loom's atomics.

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use shm_layout::entry::NEVER;
use shm_layout::header::{
    IDENTITY_COPIES, IDENTITY_WORDS, LEASE_UNTIL, POLICY_FLOORS, STATE, STRICT_FLOOR,
};
use shm_layout::{
    Entry, Geometry, KeyHash, Location, Memory, MemoryMut, NoHit, Outcome, Plan, Reader,
    VecDestination, Writer,
};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// All other words are zero or part of the identity, and never change while a model runs.
struct Words {
    live: HashMap<usize, AtomicU64>,
    identity: [u64; IDENTITY_WORDS],
}

#[derive(Clone)]
pub struct Shared(Arc<Words>);

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
}

impl MemoryMut for Shared {
    unsafe fn store(&self, index: usize, word: u64) {
        self.0.live[&index].store(word, Ordering::Relaxed);
    }
    fn fence_release(&self) {
        fence(Ordering::Release);
    }
}

pub const A: &[u8] = b"a000000";
pub const B: &[u8] = b"b000000";
pub const OLD: &[u8] = b"oldvalue";
pub const NEW: &[u8] = b"newvalue";
/// The positions of a model's entries.
pub const FIRST: Location = Location { segment: 0, word: 0 };
pub const SECOND: Location = Location { segment: 1, word: 0 };
pub const THIRD: Location = Location { segment: 1, word: 5 };
pub const ENTRY_WORDS: usize = 5;

pub fn geometry() -> Geometry {
    static GEOMETRY: OnceLock<Geometry> = OnceLock::new();
    *GEOMETRY.get_or_init(|| {
        let plan = Plan { table_bytes: 5 << 20, value_bytes_max: 1000, ..Plan::default() };
        Geometry::plan(&plan).unwrap()
    })
}

pub fn hash(key: &[u8]) -> KeyHash {
    geometry().hasher().hash(key)
}

/// The places of a key in models: a slot of its first line that is not its own, one of its second
/// line, and its own.
pub const OWN: usize = 2;
pub const PLACES: usize = 3;

/// A slot of a key, by place.
pub fn slot(key: &[u8], place: usize) -> usize {
    let [first, second] = geometry().buckets(hash(key));
    let own = hash(key).own_slot();
    match place {
        0 => first.slot(usize::from(own == 0)),
        1 => second.slot(0),
        _ => first.slot(own),
    }
}

pub fn entry(key: &'static [u8], value: &'static [u8], version: u64) -> Entry<'static> {
    Entry { key, value, version, expiry: NEVER, ..Entry::default() }
}

/// A table in which `A` has the value `OLD` at `FIRST`, in this line of the key, with a writer and
/// a reader.
pub fn table(line: usize) -> (Writer<Shared>, Reader<Shared>) {
    table_with(&entry(A, OLD, 1), line)
}

pub fn table_with(first: &Entry<'_>, line: usize) -> (Writer<Shared>, Reader<Shared>) {
    let (writer, reader, _) = table_and_memory(first, line);
    (writer, reader)
}

/// The same with the memory, for a thread that accesses single words.
pub fn table_and_memory(
    first: &Entry<'_>,
    line: usize,
) -> (Writer<Shared>, Reader<Shared>, Shared) {
    let geometry = geometry();
    let mut touched = vec![STATE, STRICT_FLOOR, LEASE_UNTIL, POLICY_FLOORS];
    touched.extend([slot(A, 0), slot(A, 1), slot(A, OWN), slot(B, 0)]);
    for at in [FIRST, SECOND] {
        touched.push(geometry.generation(at.segment).unwrap());
    }
    for at in [FIRST, SECOND, THIRD] {
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
    // SAFETY: the model defines every word of the table.
    let writer = unsafe { Writer::take_over(memory.clone(), bytes) }.unwrap();
    writer.open_for_readers();
    put(&writer, slot(A, line), FIRST, first);
    // SAFETY: as above.
    let reader = unsafe { Reader::attach(memory.clone(), bytes) }.unwrap();
    (writer, reader, memory)
}

/// Appends an entry and points the slot at it.
pub fn put(writer: &Writer<Shared>, slot: usize, at: Location, entry: &Entry<'_>) {
    let hash = hash(entry.key);
    writer.append(at, &writer.prepare(entry).unwrap(), hash).unwrap();
    writer.publish(slot, hash, at);
}

/// Clears the slot, which is the only one that refers to segment 0, and opens the segment for new
/// entries.
pub fn recycle(writer: &Writer<Shared>, slot: usize) {
    writer.begin_recycling(0);
    writer.clear(slot);
    writer.end_recycling(0);
}

/// The owner's acknowledgement of a change.
#[derive(Clone)]
pub struct Ack(Arc<AtomicU64>);

impl Ack {
    pub fn none() -> Ack {
        Ack(Arc::new(AtomicU64::new(0)))
    }
    pub fn give(&self) {
        self.0.store(1, Ordering::Release);
    }
    pub fn is_given(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }
}

/// The result of a read of `A`: its version and value, and whether the reader had the
/// acknowledgement before its last step.
pub struct Seen {
    pub acknowledged: bool,
    pub value: Option<(u64, Vec<u8>)>,
}

impl Seen {
    pub fn is(&self, value: &[u8]) -> bool {
        self.value.as_ref().is_some_and(|(_, seen)| seen == value)
    }
    pub fn is_none(&self) -> bool {
        self.value.is_none()
    }
}

pub type Read = fn(&Reader<Shared>, &Ack) -> Seen;

pub fn read(reader: &Reader<Shared>, ack: &Ack) -> Seen {
    let acknowledged = ack.is_given();
    let mut value = VecDestination::default();
    let value = match reader.read(A, || Some(5), &mut value) {
        Outcome::Hit(hit) => Some((hit.version, value.bytes().to_vec())),
        _ => None,
    };
    Seen { acknowledged, value }
}

/// Reads as a batch does: the slot was found, and its entry prefetched, an arbitrary time before
/// the slot is read.
pub fn read_by_steps(reader: &Reader<Shared>, ack: &Ack) -> Seen {
    let mut probe = reader.prefetch_index(A);
    if !reader.prefetch_entry(&mut probe) {
        reader.prefetch_second_entry(&mut probe);
    }
    let acknowledged = ack.is_given();
    let mut value = VecDestination::default();
    let hit = match reader.read_fast(probe, A, || Some(5), &mut value) {
        Err(NoHit::Unclear) => match reader.read_slow(probe, A, || Some(5), &mut value) {
            Outcome::Hit(hit) => Some(hit),
            _ => None,
        },
        short => short.ok(),
    };
    Seen { acknowledged, value: hit.map(|hit| (hit.version, value.bytes().to_vec())) }
}

/// [`model`] for both ways to read and for every place in which the key may be.
pub fn model_of_reads(run: impl Fn(Read, usize) + Copy + Sync + Send + 'static) {
    for read in [read, read_by_steps] {
        for place in 0..PLACES {
            model(move || run(read, place));
        }
    }
}

pub fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}
