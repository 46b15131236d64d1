//! One mapped table and how it is read.

use crate::clock;
use crate::deadline::Deadline;
use crate::populate::Populate;
use crate::value::{Meta, Source};
use l1d_wire::mapping::{Access, Mapping};
use l1d_wire::pages::Pages;
use shm_layout::memory::WORD_BYTES;
use shm_layout::{
    Destination, Hit, InPlace, LayoutError, Look, Mapped, NoHit, Outcome, Probe, Reader, Receiver,
    Sighting,
};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Keys that are read together: as many lines as a core can wait for at once, and some.
pub(crate) const TOGETHER: usize = 16;

/// The outcome of a read of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableRead {
    /// The value is in the vector.
    Hit(Meta),
    /// The key is known to have no value.
    Absent,
    /// The table does not hold the key.
    Miss,
    /// The table is not in use (any more): attach anew.
    Detached,
}

/// Why there is no table to read.
#[derive(Debug)]
pub(crate) enum NoTable {
    /// It has a layout that this client does not know.
    UnknownLayout,
    /// The reason not to trust it.
    Untrusted(String),
}

/// A checked table.
pub(crate) struct Table {
    /// Before `mapping`, whose memory it reads.
    reader: Reader<Mapped>,
    mapping: Mapping,
    /// What to add (wrapping) to this process's CLOCK_MONOTONIC to get the daemon's. Measured anew
    /// with each connection, as a forked child may live in another time namespace.
    clock_difference_ns: AtomicU64,
}

impl Table {
    /// Maps and checks the table in `file`, which has `bytes` bytes (R2).
    pub(crate) fn map(
        file: impl AsFd,
        bytes: u64,
        clock_difference_ns: u64,
    ) -> Result<Table, NoTable> {
        let mapping = Mapping::of_file(file, bytes, Access::Read)
            .map_err(|error| NoTable::Untrusted(format!("mmap: {error}")))?;
        // SAFETY: `base` is aligned to 2 MiB; `bytes` bytes stay mapped for reading as long as
        // `mapping` lives, which is dropped with the reader; nobody else in this process reaches
        // them.
        let reader =
            unsafe { Reader::attach(Mapped::new(mapping.base()), bytes) }.map_err(|error| {
                match error {
                    LayoutError::Version { .. } | LayoutError::Fingerprint => {
                        NoTable::UnknownLayout
                    }
                    error => NoTable::Untrusted(error.to_string()),
                }
            })?;
        Ok(Table { reader, mapping, clock_difference_ns: AtomicU64::new(clock_difference_ns) })
    }

    pub(crate) fn id(&self) -> u64 {
        self.reader.geometry().identity().table_id
    }

    pub(crate) fn value_bytes_max(&self) -> u32 {
        self.reader.geometry().value_bytes_max()
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.reader.is_serving()
    }

    pub(crate) fn set_clock_difference_ns(&self, ns: u64) {
        self.clock_difference_ns.store(ns, Ordering::Relaxed);
    }

    /// The hash of a key in this table, as the daemon knows it.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.reader.geometry().hasher().hash(key).0
    }

    /// [`hash`](Self::hash), and asks for the line of the table in which the key most likely
    /// stands.
    #[inline(always)]
    pub(crate) fn seek(&self, key: &[u8]) -> u64 {
        self.reader.prefetch_index(key).hash().0
    }

    /// Reads `key` into `value`, replacing what is there. Not a hit: `value` is empty.
    #[inline]
    pub(crate) fn read(&self, key: &[u8], value: &mut Vec<u8>) -> TableRead {
        self.read_by(key, value, move || self.daemon_clock())
    }

    /// Nearly every hit, as [`read`](Self::read), and with little code. No hit: what `value` holds
    /// is void, and unless it is clear why, [`read_slow`](Self::read_slow) finds out.
    #[inline(always)]
    pub(crate) fn read_fast(&self, key: &[u8], value: &mut Vec<u8>) -> Result<Hit, NoHit> {
        let mut over = Over(value);
        let clock = move || self.daemon_clock();
        let hit = self.reader.read_fast(self.reader.probe(key), key, clock, &mut over)?;
        over.keep(&hit);
        Ok(hit)
    }

    /// Asks for the lines and entries of up to [`TOGETHER`] keys, so that the waits for memory of
    /// what [`read_sought`](Self::read_sought) then reads overlap.
    #[inline]
    pub(crate) fn seek_together<K: AsRef<[u8]>>(&self, keys: &[K]) -> [Probe; TOGETHER] {
        let mut sought = [Probe::default(); TOGETHER];
        for (key, sought) in keys.iter().zip(&mut sought) {
            *sought = self.reader.prefetch_index(key.as_ref());
        }
        let mut elsewhere = 0_u32;
        for (index, sought) in sought.iter_mut().take(keys.len()).enumerate() {
            elsewhere |= u32::from(!self.reader.prefetch_entry(sought)) << index;
        }
        while let Some(sought) = sought.get_mut(elsewhere.trailing_zeros() as usize) {
            self.reader.prefetch_second_entry(sought);
            elsewhere &= elsewhere - 1;
        }
        sought
    }

    /// Nearly every hit of a key that was sought together with others, appended to `value`; `now`
    /// is what [`daemon_clock`](Self::daemon_clock) shows, or showed for another of them.
    #[inline(always)]
    pub(crate) fn read_sought(
        &self,
        sought: Probe,
        key: &[u8],
        value: &mut Vec<u8>,
        now: impl Fn() -> u64 + Copy,
    ) -> Result<Hit, NoHit> {
        self.short(sought, key, value, now)
    }

    /// The daemon's CLOCK_MONOTONIC, at most a tick of the coarse clock late.
    #[inline(always)]
    pub(crate) fn daemon_clock(&self) -> u64 {
        let difference = self.clock_difference_ns.load(Ordering::Relaxed);
        clock::monotonic_coarse_ns().wrapping_add(difference)
    }

    /// [`read`](Self::read) by a given CLOCK_MONOTONIC of the daemon.
    #[inline(always)]
    fn read_by(
        &self,
        key: &[u8],
        value: &mut Vec<u8>,
        clock: impl Fn() -> u64 + Copy,
    ) -> TableRead {
        value.clear();
        let sought = self.reader.probe(key);
        match self.short(sought, key, value, clock) {
            Ok(hit) => TableRead::Hit(meta(&hit)),
            Err(NoHit::Miss) => TableRead::Miss,
            Err(NoHit::Detached) => TableRead::Detached,
            Err(NoHit::Unclear) => self.whole(sought, key, value, clock),
        }
    }

    /// [`read`](Self::read) without its short way. `value` is empty.
    pub(crate) fn read_slow(&self, key: &[u8], value: &mut Vec<u8>) -> TableRead {
        self.whole(self.reader.probe(key), key, value, move || self.daemon_clock())
    }

    #[inline(always)]
    fn short(
        &self,
        sought: Probe,
        key: &[u8],
        value: &mut Vec<u8>,
        clock: impl Fn() -> u64 + Copy,
    ) -> Result<Hit, NoHit> {
        let mut behind = Behind(value);
        let hit = self.reader.read_fast(sought, key, clock, &mut behind)?;
        behind.keep(&hit);
        Ok(hit)
    }

    /// What is not for the short way. Out of line, so that a hit there need not share its
    /// registers.
    #[cold]
    #[inline(never)]
    fn whole(
        &self,
        sought: Probe,
        key: &[u8],
        value: &mut Vec<u8>,
        clock: impl Fn() -> u64 + Copy,
    ) -> TableRead {
        let mut behind = Behind(value);
        let outcome = self.reader.read_slow(sought, key, clock, &mut behind);
        if let Outcome::Hit(hit) = &outcome {
            behind.keep(hit);
        }
        outcome.into()
    }

    /// Shows the value of `key` to `look`, where it lies. What `look` made of it counts only with a
    /// hit; it may have been called before, or several times.
    pub(crate) fn read_with(&self, key: &[u8], look: impl FnMut(InPlace<'_, Mapped>)) -> TableRead {
        self.reader.read(key, move || self.daemon_clock(), &mut Look(look)).into()
    }

    /// Reads `key` without a look at its value. A hit: how to find out later whether it is the
    /// key's value still.
    pub(crate) fn sight(&self, key: &[u8]) -> Option<Sighting> {
        let mut sight = Sight(None);
        let outcome = self.reader.read(key, move || self.daemon_clock(), &mut sight);
        sight.0.filter(|_| matches!(outcome, Outcome::Hit(_)))
    }

    /// Whether what was sighted in this table is still its key's value, and at that place.
    #[inline(always)]
    pub(crate) fn holds(&self, sighting: &Sighting) -> bool {
        self.reader.holds(sighting, move || self.daemon_clock())
    }

    /// Enters the table into this process's page table, as far as is wanted and can be done in
    /// time.
    pub(crate) fn populate(&self, populate: Populate, deadline: &Deadline) {
        let geometry = self.reader.geometry();
        let begin = geometry.bucket(0).word() * WORD_BYTES;
        let end = usize::try_from(geometry.index_bytes()).map_or(begin, |bytes| begin + bytes);
        populate.carry_out(&self.mapping, begin..end, deadline);
    }

    /// In what pages this process has the table.
    pub(crate) fn pages(&self) -> Option<Pages> {
        Pages::of(&self.mapping)
    }

    /// Gives the table's memory back; every read from now on, and any under way, is `Detached` or a
    /// miss.
    pub(crate) fn give_back(&self) {
        // Where the kernel cannot (no more mappings allowed), the file stays mapped until the
        // client is dropped. That costs memory and nothing else: its state no longer says
        // "serving", or another table was handed out in its place.
        let _ = self.mapping.give_back();
    }
}

impl From<Outcome> for TableRead {
    #[inline(always)]
    fn from(outcome: Outcome) -> TableRead {
        match outcome {
            Outcome::Miss => TableRead::Miss,
            Outcome::Detached => TableRead::Detached,
            Outcome::Absent => TableRead::Absent,
            Outcome::Hit(hit) => TableRead::Hit(meta(&hit)),
        }
    }
}

/// The part of a hit that callers get.
#[inline(always)]
pub(crate) fn meta(hit: &Hit) -> Meta {
    Meta { flags: hit.flags, version: hit.version, source: Source::Table }
}

/// Receives no value, but where it is.
struct Sight(Option<Sighting>);

impl Receiver<Mapped> for Sight {
    #[inline(always)]
    fn receive(&mut self, _: InPlace<'_, Mapped>) {}

    #[inline(always)]
    fn sighted(&mut self, sighting: Sighting) {
        self.0 = Some(sighting);
    }
}

/// The spare capacity of a vector, after its content.
struct Behind<'a>(&'a mut Vec<u8>);

impl Behind<'_> {
    /// Adds the value of this hit, which has just been received, to what the vector holds.
    #[inline(always)]
    fn keep(self, hit: &Hit) {
        let bytes = hit.value_bytes as usize;
        debug_assert!(bytes <= self.0.capacity() - self.0.len());
        // SAFETY: a hit has received `value_bytes` bytes in the room that it asked for last, which
        // begins behind this vector's bytes and of which there is as much.
        unsafe { self.0.set_len(self.0.len() + bytes) };
    }
}

/// The room of a vector whose content is replaced, and void until then.
struct Over<'a>(&'a mut Vec<u8>);

impl Over<'_> {
    /// Makes the value of this hit, which has just been received, what the vector holds.
    #[inline(always)]
    fn keep(self, hit: &Hit) {
        let bytes = hit.value_bytes as usize;
        debug_assert!(bytes <= self.0.capacity());
        // SAFETY: a hit has received `value_bytes` bytes in the room that it asked for last, which
        // is this vector's from its first byte on and of which there is as much.
        unsafe { self.0.set_len(bytes) };
    }
}

// SAFETY: the memory of a vector that is borrowed exclusively: it has room for as many bytes as
// asked for, and does not move before it grows.
unsafe impl Destination for Over<'_> {
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> *mut u8 {
        if bytes > self.0.capacity() {
            self.0.clear();
            grow(self.0, bytes);
        }
        self.0.as_mut_ptr()
    }
}

/// Apart, and not a method of what lives in registers on the way to a hit.
#[cold]
#[inline(never)]
fn grow(value: &mut Vec<u8>, bytes: usize) {
    value.reserve(bytes);
}

// SAFETY: the memory behind the bytes of a vector that is borrowed exclusively: it has room for as
// many bytes as asked for, and does not move before it grows.
unsafe impl Destination for Behind<'_> {
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> *mut u8 {
        if bytes > self.0.capacity() - self.0.len() {
            grow(self.0, bytes);
        }
        self.0.spare_capacity_mut().as_mut_ptr().cast()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use memmap2::{MmapOptions, MmapRaw};
    use shm_layout::{Entry, Geometry, Location, MappedMut, Plan, Writer};

    const BYTES: u64 = 5 << 20;

    /// The writer of a new table, its memory, and a reader of it.
    pub(crate) fn table(id: u64) -> (Writer<MappedMut>, MmapRaw, Table) {
        let plan =
            Plan { table_bytes: BYTES, value_bytes_max: 1000, table_id: id, ..Plan::default() };
        let geometry = Geometry::plan(&plan).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(BYTES).unwrap();
        let memory = MmapOptions::new().map_raw(&file).unwrap();
        // SAFETY: page-aligned, of the geometry's size, mapped as long as `memory` lives, and
        // written by nobody else.
        let writer = unsafe { Writer::create(MappedMut::new(memory.as_mut_ptr()), geometry) };
        writer.open_for_readers();
        let table = Table::map(&file, BYTES, 0).unwrap();
        (writer, memory, table)
    }

    fn put(writer: &Writer<MappedMut>, table: &Table, entry: &Entry<'_>) {
        let geometry = table.reader.geometry();
        let hash = geometry.hasher().hash(entry.key);
        let at = Location { segment: 0, word: 0 };
        writer.append(at, &writer.prepare(entry).unwrap(), hash).unwrap();
        writer.publish(geometry.buckets(hash)[0].slot(0), hash, at);
    }

    #[test]
    fn what_was_hidden_stays_hidden_when_the_memory_is_given_back_under_a_read() {
        let (writer, _memory, table) = table(1);
        let entry =
            Entry { key: b"key", value: b"stale", version: 1, expiry: 10, ..Entry::default() };
        put(&writer, &table, &entry);
        writer.set_clock_offset(1 << 40);
        let mut value = Vec::new();
        assert_eq!(table.read_by(b"key", &mut value, || 0), TableRead::Miss);

        // The clock is asked behind the check of the generation, and then its offset is loaded.
        let read = table.read_by(b"key", &mut value, || {
            table.give_back();
            0
        });
        assert_eq!(read, TableRead::Detached, "an expired entry came back");
        assert_eq!(value, b"");
        assert_eq!(table.read(b"key", &mut value), TableRead::Detached);
    }

    #[test]
    fn an_entry_lives_until_its_expiry_on_the_daemons_clock() {
        let (writer, _memory, table) = table(1);
        let entry =
            Entry { key: b"key", value: b"value", version: 1, expiry: 10, ..Entry::default() };
        put(&writer, &table, &entry);
        // The table's epoch is now, on a daemon's clock that is far from ours.
        let ahead = 1 << 50;
        let daemon_now = clock::monotonic_ns().wrapping_add(ahead);
        writer.set_clock_offset(0_u64.wrapping_sub(daemon_now));
        let mut value = Vec::new();
        // Our clock alone shows a time long before the epoch, which wraps to long after it.
        assert_eq!(table.read(b"key", &mut value), TableRead::Miss);
        // The coarse clock may lag behind the epoch by its tick; the difference makes up for that.
        table.set_clock_difference_ns(ahead + 20_000_000);
        let mut unexpired = || matches!(table.read(b"key", &mut value), TableRead::Hit(_));
        assert!(unexpired());
        table.set_clock_difference_ns(ahead + (11 << 24));
        assert!(!unexpired());
    }

    #[test]
    fn what_a_look_saw_counts_only_if_nothing_changed_meanwhile() {
        let (writer, _memory, table) = table(1);
        let entry = Entry {
            key: b"key",
            value: b"value",
            version: 1,
            expiry: u32::MAX,
            ..Entry::default()
        };
        put(&writer, &table, &entry);
        let mut looks = 0;
        let read = table.read_with(b"key", |value| {
            assert!(value.has_at(0, b"value"));
            looks += 1;
        });
        assert!(matches!(read, TableRead::Hit(_)));
        assert_eq!(looks, 1);
        // The segment is recycled while somebody looks.
        let read = table.read_with(b"key", |_| {
            looks += 1;
            writer.begin_recycling(0);
        });
        assert_eq!((read, looks), (TableRead::Miss, 2));
    }

    #[test]
    fn memory_is_aligned_for_huge_pages() {
        let (_writer, _memory, table) = table(1);
        assert_eq!(table.mapping.base().addr() % (2 << 20), 0);
    }
}
