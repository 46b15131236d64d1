//! One mapped table, and reading it.

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
use std::time::Duration;

/// Reads trust the table for this long without a look at whether it is still the daemon's.
const LOOK_INTERVAL_NS: u64 = 1_000_000_000;

/// Keys per batch: slightly more than the cache lines that a core can wait for at once.
pub(crate) const BATCH_KEYS: usize = 16;

/// The outcome of a read of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableRead {
    /// The value is in the vector.
    Hit(Meta),
    /// The key is known to have no value.
    Absent,
    /// The table does not hold the key.
    Miss,
    /// The table is no longer in use, there is none, or it is time for a look at whether it is
    /// still the daemon's.
    Detached,
}

/// Why there is no table to read.
#[derive(Debug)]
pub(crate) enum NoTable {
    /// It has a layout that this client does not know.
    UnknownLayout,
    /// The reason not to trust it.
    Untrusted(String),
    /// The system refuses the mapping.
    System(std::io::Error),
}

/// A checked table.
pub(crate) struct Table {
    /// Dropped before `mapping`, whose memory it reads.
    reader: Reader<Mapped>,
    mapping: Mapping,
    /// Added (wrapping) to this process's CLOCK_MONOTONIC, it gives the daemon's. Measured again
    /// for each connection, because a forked child may live in another time namespace.
    clock_difference_ns: AtomicU64,
    /// When the next look is due at whether it is still the daemon's, by the coarse clock (S9).
    look_due_ns: AtomicU64,
}

impl Table {
    /// Maps and checks the table in `file`, which has `bytes` bytes (R2).
    pub(crate) fn map(
        file: impl AsFd,
        bytes: u64,
        clock_difference_ns: u64,
    ) -> Result<Table, NoTable> {
        let mapping = Mapping::of_file(file, bytes, Access::Read).map_err(NoTable::System)?;
        // SAFETY: `base` is aligned to 2 MiB; `bytes` bytes stay mapped for reading as long as
        // `mapping` lives, which is dropped after the reader; nothing else in this process accesses
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
        Ok(Table {
            reader,
            mapping,
            clock_difference_ns: AtomicU64::new(clock_difference_ns),
            look_due_ns: AtomicU64::new(look_due_after(LOOK_INTERVAL_NS)),
        })
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

    /// The daemon has just said that this is its table. Its clock differs by this much.
    pub(crate) fn confirm(&self, clock_difference_ns: u64) {
        self.clock_difference_ns.store(clock_difference_ns, Ordering::Relaxed);
        self.look_due_ns.store(look_due_after(LOOK_INTERVAL_NS), Ordering::Relaxed);
    }

    /// Whether this thread is to look now at whether the table is still the daemon's: true for one
    /// thread in each interval. Until the next look, reads trust the table.
    pub(crate) fn take_look(&self) -> bool {
        let due_ns = self.look_due_ns.load(Ordering::Relaxed);
        let next_ns = look_due_after(LOOK_INTERVAL_NS);
        clock::monotonic_coarse_ns() >= due_ns
            && self
                .look_due_ns
                .compare_exchange(due_ns, next_ns, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// The next look is due after this pause instead of a whole interval.
    pub(crate) fn look_again_after(&self, pause: Duration) {
        let pause_ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.look_due_ns.store(look_due_after(pause_ns), Ordering::Relaxed);
    }

    /// The epoch of the policy in force.
    pub(crate) fn policy_epoch(&self) -> u64 {
        self.reader.policy_epoch()
    }

    /// The hash of a key in this table, which the daemon uses, too.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.reader.geometry().hasher().hash(key).0
    }

    /// [`hash`](Self::hash); also prefetches the line of the table in which the key most likely is.
    #[inline(always)]
    pub(crate) fn prefetch(&self, key: &[u8]) -> u64 {
        self.reader.prefetch_index(key).hash().0
    }

    /// Reads `key` into `value`, replacing its content. Without a hit, `value` is empty.
    #[inline]
    pub(crate) fn read(&self, key: &[u8], value: &mut Vec<u8>) -> TableRead {
        self.read_by(key, value, move || self.daemon_clock())
    }

    /// [`read`](Self::read) for nearly every hit, with little code. Without a hit, the content of
    /// `value` is undefined, and [`read_slow`](Self::read_slow) decides the unclear cases.
    #[inline(always)]
    pub(crate) fn read_fast(&self, key: &[u8], value: &mut Vec<u8>) -> Result<Hit, NoHit> {
        let mut overwrite = Overwrite(value);
        let hit = self.receive_fast(key, &mut overwrite)?;
        overwrite.keep(&hit);
        Ok(hit)
    }

    /// [`read_fast`](Self::read_fast) with another receiver. Without a hit, what was received is
    /// void.
    #[inline(always)]
    pub(crate) fn receive_fast(
        &self,
        key: &[u8],
        receiver: &mut impl Receiver<Mapped>,
    ) -> Result<Hit, NoHit> {
        let clock = move || self.daemon_clock();
        self.reader.read_fast(self.reader.probe(key), key, clock, receiver)
    }

    /// Prefetches the lines and entries of up to [`BATCH_KEYS`] keys, so that the cache misses of
    /// the following calls of [`read_prefetched`](Self::read_prefetched) overlap.
    #[inline]
    pub(crate) fn prefetch_batch<K: AsRef<[u8]>>(&self, keys: &[K]) -> [Probe; BATCH_KEYS] {
        let mut probes = [Probe::default(); BATCH_KEYS];
        for (key, probe) in keys.iter().zip(&mut probes) {
            *probe = self.reader.prefetch_index(key.as_ref());
        }
        let mut elsewhere = 0_u32;
        for (index, probe) in probes.iter_mut().take(keys.len()).enumerate() {
            elsewhere |= u32::from(!self.reader.prefetch_entry(probe)) << index;
        }
        while let Some(probe) = probes.get_mut(elsewhere.trailing_zeros() as usize) {
            self.reader.prefetch_second_entry(probe);
            elsewhere &= elsewhere - 1;
        }
        probes
    }

    /// [`read_fast`](Self::read_fast) for a key of a prefetched batch; appends to `value`. `now` is
    /// a reading of [`daemon_clock`](Self::daemon_clock), which the keys of a batch may share.
    #[inline(always)]
    pub(crate) fn read_prefetched(
        &self,
        probe: Probe,
        key: &[u8],
        value: &mut Vec<u8>,
        now: impl Fn() -> Option<u64> + Copy,
    ) -> Result<Hit, NoHit> {
        self.append_fast(probe, key, value, now)
    }

    /// [`read_prefetched`](Self::read_prefetched) with another receiver. Without a hit, what was
    /// received is void.
    #[inline(always)]
    pub(crate) fn receive_prefetched(
        &self,
        probe: Probe,
        key: &[u8],
        receiver: &mut impl Receiver<Mapped>,
        now: impl Fn() -> Option<u64> + Copy,
    ) -> Result<Hit, NoHit> {
        self.reader.read_fast(probe, key, now, receiver)
    }

    /// The daemon's CLOCK_MONOTONIC, at most one tick of the coarse clock late. `None` when a look
    /// is due (S9): the time that a read loads anyway tells.
    #[inline(always)]
    pub(crate) fn daemon_clock(&self) -> Option<u64> {
        let now_ns = clock::monotonic_coarse_ns();
        if now_ns >= self.look_due_ns.load(Ordering::Relaxed) {
            return None;
        }
        Some(now_ns.wrapping_add(self.clock_difference_ns.load(Ordering::Relaxed)))
    }

    /// What remains of the life of the key's entry; `Duration::MAX` without end, `None` if it is not
    /// here any more.
    #[cfg(feature = "tracing")]
    pub(crate) fn life_left(&self, key: &[u8]) -> Option<std::time::Duration> {
        let expiry = self.sight(key)?.hit().expiry;
        if expiry == shm_layout::entry::NEVER {
            return Some(std::time::Duration::MAX);
        }
        let clock_ns = self.daemon_clock()?;
        let now_ns = self.reader.now(|| clock_ns);
        let expiry_ns = u64::from(expiry) << shm_layout::entry::TICK_BITS;
        Some(std::time::Duration::from_nanos(expiry_ns.saturating_sub(now_ns)))
    }

    /// [`read`](Self::read) with a given CLOCK_MONOTONIC of the daemon.
    #[inline(always)]
    fn read_by(
        &self,
        key: &[u8],
        value: &mut Vec<u8>,
        clock: impl Fn() -> Option<u64> + Copy,
    ) -> TableRead {
        value.clear();
        let probe = self.reader.probe(key);
        match self.append_fast(probe, key, value, clock) {
            Ok(hit) => TableRead::Hit(meta(&hit)),
            Err(NoHit::Miss) => TableRead::Miss,
            Err(NoHit::Detached) => TableRead::Detached,
            Err(NoHit::Unclear) => self.append_slow(probe, key, value, clock),
        }
    }

    /// [`read`](Self::read) without the fast path. `value` must be empty.
    pub(crate) fn read_slow(&self, key: &[u8], value: &mut Vec<u8>) -> TableRead {
        self.append_slow(self.reader.probe(key), key, value, move || self.daemon_clock())
    }

    #[inline(always)]
    fn append_fast(
        &self,
        probe: Probe,
        key: &[u8],
        value: &mut Vec<u8>,
        clock: impl Fn() -> Option<u64> + Copy,
    ) -> Result<Hit, NoHit> {
        let mut append = Append(value);
        let hit = self.reader.read_fast(probe, key, clock, &mut append)?;
        append.keep(&hit);
        Ok(hit)
    }

    /// The cases that the fast path leaves open. Out of line, so that it takes no registers from a
    /// hit.
    #[cold]
    #[inline(never)]
    fn append_slow(
        &self,
        probe: Probe,
        key: &[u8],
        value: &mut Vec<u8>,
        clock: impl Fn() -> Option<u64> + Copy,
    ) -> TableRead {
        let mut append = Append(value);
        let outcome = self.reader.read_slow(probe, key, clock, &mut append);
        if let Outcome::Hit(hit) = &outcome {
            append.keep(hit);
        }
        outcome.into()
    }

    /// Passes the value of `key` to `look` in place. The result of `look` is valid only with a hit;
    /// it may be called several times, and without a hit, too.
    pub(crate) fn read_with(&self, key: &[u8], look: impl FnMut(InPlace<'_, Mapped>)) -> TableRead {
        self.reader.read(key, move || self.daemon_clock(), &mut Look(look)).into()
    }

    /// Reads `key` without its value. For a hit, returns a sighting, which shows later whether it
    /// is still the key's value.
    pub(crate) fn sight(&self, key: &[u8]) -> Option<Sighting> {
        let mut sight = Sight(None);
        let outcome = self.reader.read(key, move || self.daemon_clock(), &mut sight);
        sight.0.filter(|_| matches!(outcome, Outcome::Hit(_)))
    }

    /// The sighted entry of this table is still its key's value, and in the same place.
    #[inline(always)]
    pub(crate) fn holds(&self, sighting: &Sighting) -> bool {
        self.reader.holds(sighting, move || self.daemon_clock())
    }

    /// Populates this process's page table with the table, as far as requested, allocated and
    /// possible by the deadline.
    pub(crate) fn populate(&self, populate: Populate, deadline: &Deadline) {
        let geometry = self.reader.geometry();
        let begin = geometry.bucket(0).word() * WORD_BYTES;
        let end = usize::try_from(geometry.index_bytes()).map_or(begin, |bytes| begin + bytes);
        let usable = usize::try_from(self.reader.usable_bytes()).unwrap_or(usize::MAX);
        populate.carry_out(&self.mapping, usable, begin..end, deadline);
    }

    /// The pages in which this process has mapped the table.
    pub(crate) fn pages(&self) -> Option<Pages> {
        Pages::of(&self.mapping)
    }

    /// Releases the table's memory; every read from now on, even one in progress, is `Detached` or
    /// a miss.
    pub(crate) fn give_back(&self) {
        // If the kernel cannot do that (no more mappings allowed), the file stays mapped until the
        // client is dropped. That only costs memory: its state no longer says "serving", or another
        // table was handed out in its place.
        let _ = self.mapping.give_back();
    }
}

/// When a look is due that is due after `pause_ns`.
fn look_due_after(pause_ns: u64) -> u64 {
    clock::monotonic_coarse_ns().saturating_add(pause_ns)
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

/// Receives no value, only its place.
struct Sight(Option<Sighting>);

impl Receiver<Mapped> for Sight {
    #[inline(always)]
    fn receive(&mut self, _: InPlace<'_, Mapped>) {}

    #[inline(always)]
    fn sighted(&mut self, sighting: Sighting) {
        self.0 = Some(sighting);
    }
}

/// Appends to a vector, in its spare capacity.
struct Append<'a>(&'a mut Vec<u8>);

impl Append<'_> {
    /// Appends the value of this hit, which has just been received.
    #[inline(always)]
    fn keep(self, hit: &Hit) {
        let bytes = hit.value_bytes as usize;
        debug_assert!(bytes <= self.0.capacity() - self.0.len());
        // SAFETY: a hit has received `value_bytes` bytes in the room that it asked for last, which
        // begins after this vector's bytes and is at least as large.
        unsafe { self.0.set_len(self.0.len() + bytes) };
    }
}

/// Replaces the content of a vector, which is undefined until then.
struct Overwrite<'a>(&'a mut Vec<u8>);

impl Overwrite<'_> {
    /// Makes the value of this hit, which has just been received, the vector's content.
    #[inline(always)]
    fn keep(self, hit: &Hit) {
        let bytes = hit.value_bytes as usize;
        debug_assert!(bytes <= self.0.capacity());
        // SAFETY: a hit has received `value_bytes` bytes in the room that it asked for last, which
        // begins at this vector's first byte and is at least as large.
        unsafe { self.0.set_len(bytes) };
    }
}

// SAFETY: the memory of an exclusively borrowed vector: it has room for the requested bytes, and
// does not move before it grows.
unsafe impl Destination for Overwrite<'_> {
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> *mut u8 {
        if bytes > self.0.capacity() {
            self.0.clear();
            grow(self.0, bytes);
        }
        self.0.as_mut_ptr()
    }
}

/// Out of line, and not a method: then the fast path can keep its receiver in registers.
#[cold]
#[inline(never)]
fn grow(value: &mut Vec<u8>, bytes: usize) {
    value.reserve(bytes);
}

// SAFETY: the memory after the bytes of an exclusively borrowed vector: it has room for the
// requested bytes, and does not move before it grows.
unsafe impl Destination for Append<'_> {
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> *mut u8 {
        if bytes > self.0.capacity() - self.0.len() {
            grow(self.0, bytes);
        }
        self.0.spare_capacity_mut().as_mut_ptr().cast()
    }
}

#[cfg(test)]
pub(crate) mod tests;
