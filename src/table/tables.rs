//! The table in force and, while its entries move to a table of another shape, its successor (W11).
//!
//! Until every entry is copied, the table in force is authoritative: readers read it, the owner
//! answers from it, and a restart finds it. Every change is made in both tables, so what is already
//! in the successor is never older. At the end, in this order, the successor is opened for readers,
//! the state of the old table becomes "superseded", and the successor gets the table's name. A kill
//! before the last of these steps leaves the old table complete, and its readers attach to it
//! again.

use super::directory::{Directory, boot_id};
use super::epoch::Shift;
use super::file::{FileError, FileOptions, Opened, TableFile, system};
use super::numbers_file::NumbersFile;
use super::pins::{Most, PutError};
use super::preparation::{self, Preparation};
use super::{Held, Key, Largest, Table, epoch};
use crate::advise::{Advisor, Estimate, Known};
use l1d_wire::policy::{Evict, PolicySet};
use l1d_wire::snapshot::Move;
use shm_layout::entry::tick;
use shm_layout::{Entry, Geometry, KeyHash, LayoutError, MappedMut, Plan, fault_point};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use moving::{MoveError, Step};
pub use policy::{Adopted, PolicyChange};

#[derive(Debug)]
enum Successor {
    /// A thread is making its file, whose memory must be cleared.
    Making { geometry: Box<Geometry>, made: JoinHandle<Result<TableFile, FileError>> },
    /// Entries of buckets below `bucket` are copied.
    Filling { opened: Box<Opened>, bucket: u32 },
}

/// The table in force, and its successor if there is one.
#[derive(Debug)]
pub struct Tables {
    current: Opened,
    /// The rest of its memory.
    preparation: Preparation,
    successor: Option<Successor>,
    directory: Arc<Directory>,
    options: FileOptions,
    replaced: Option<String>,
    taken_over: bool,
    advisor: Advisor,
    policy: PolicySet,
    /// The file beside the table, as it was written last.
    numbers: NumbersFile,
    adopted: Adopted,
}

impl Tables {
    /// Opens the table in the directory if it is sound, or else makes a new one. If an existing
    /// table has another shape than `options` ask for, a move to that shape begins.
    ///
    /// # Errors
    /// An unsafe directory, another daemon at work, no space, impossible sizes.
    pub fn open(options: FileOptions) -> Result<Tables, FileError> {
        Geometry::plan(&options.plan)?;
        let directory = Directory::open(&options.directory)?;
        Tables::open_in(directory, options)
    }

    /// The same in the directory of `options`, which is open and locked already.
    ///
    /// # Errors
    /// No space, impossible sizes.
    pub fn open_in(directory: Directory, options: FileOptions) -> Result<Tables, FileError> {
        Geometry::plan(&options.plan)?;
        let directory = Arc::new(directory);
        let mut options = options;
        options.plan.table_bytes = directory.whole_pages(options.plan.table_bytes);
        let wanted = Geometry::plan(&options.plan)?;
        let replaced = match directory.existing(&options) {
            Ok(Some((file, identity))) => match Opened::take_over(file) {
                Ok(current) => {
                    let fits = options.accepts(&identity, wanted.identity());
                    return Ok(Tables::taken_over(current, fits, directory, options));
                }
                Err(error) => Some(error.to_string()),
            },
            Ok(None) => None,
            Err(reason) => Some(reason),
        };
        Tables::made(directory, options, replaced)
    }

    /// A table that an earlier daemon has made. One that does not fit begins to move.
    fn taken_over(
        current: Opened,
        fits: bool,
        directory: Arc<Directory>,
        options: FileOptions,
    ) -> Tables {
        let (policy, plan) = (options.policy.clone(), options.plan);
        let mut tables = Tables::of(current, directory, options);
        tables.taken_over = true;
        tables.adopt_policy(&policy);
        tables.limit_policies();
        fault_point!("adopt.serving");
        tables.current().writer().open_for_readers();
        if !fits && let Err(error) = tables.begin_move(&plan) {
            tracing::warn!(%error, "the table keeps the size and index that it was left with");
        }
        tables
    }

    /// A new table, in place of one that cannot be used for the reason `replaced`, if there is one.
    fn made(
        directory: Arc<Directory>,
        options: FileOptions,
        replaced: Option<String>,
    ) -> Result<Tables, FileError> {
        let geometry = Geometry::plan(&Plan {
            table_id: random(&options.directory)?,
            hash_seed: random(&options.directory)?,
            boot_id: boot_id(),
            epoch_ns: crate::clock::boottime_ns().saturating_sub(epoch::LEAD_NS),
            ..options.plan
        })?;
        let first = if directory.is_hugetlbfs() {
            geometry.segment_count()
        } else {
            preparation::segments_at_once(&geometry)
        };
        let bytes = geometry.identity().table_bytes;
        let file = directory.create(bytes, geometry.bytes_up_to(first), &options)?;
        let mut current = Opened::create(file, geometry, first);
        current.table.begin_after(directory.version_to_begin_after());
        fault_point!("made.serving");
        current.table.writer().open_for_readers();
        fault_point!("made.supersede");
        directory.supersede_existing();
        fault_point!("made.publish");
        directory.publish()?;
        let mut tables = Tables::of(current, directory, options);
        tables.replaced = replaced;
        tables.policy = tables.options.policy.clone();
        tables.settle_policy();
        tables.limit_policies();
        Ok(tables)
    }

    fn of(current: Opened, directory: Arc<Directory>, options: FileOptions) -> Tables {
        Tables {
            preparation: Preparation::of(&current),
            advisor: Advisor::new(current.table.room_bytes()),
            current,
            successor: None,
            directory,
            options,
            replaced: None,
            taken_over: false,
            policy: PolicySet::default(),
            numbers: NumbersFile::default(),
            adopted: Adopted::default(),
        }
    }

    /// The table in force, for reading.
    #[must_use]
    pub fn current(&self) -> &Table<MappedMut> {
        &self.current.table
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> &TableFile {
        &self.current.file
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.table()
    }

    /// Why the file found at start could not be used, if there was one.
    #[must_use]
    pub fn replaced(&self) -> Option<&str> {
        self.replaced.as_deref()
    }

    /// Whether an earlier daemon made the table.
    #[must_use]
    pub fn was_taken_over(&self) -> bool {
        self.taken_over
    }

    /// Takes in what was allocated of the table in force since the last call. Returns when to call
    /// it again; `None`: all is allocated. While the number of requests and hits served rises, the
    /// rest is allocated slowly.
    pub fn prepare(&mut self, now: Instant, served: u64) -> Option<Instant> {
        self.preparation.advance(&mut self.current, now, served)
    }

    fn filling(&mut self) -> Option<&mut Table<MappedMut>> {
        self.filling_from().map(|(successor, _)| successor)
    }

    /// The successor, and its epoch relative to that of the table in force.
    fn filling_from(&mut self) -> Option<(&mut Table<MappedMut>, Shift)> {
        match &mut self.successor {
            Some(Successor::Filling { opened, .. }) => {
                let shift = Shift::between(&self.current.table, &opened.table);
                Some((&mut opened.table, shift))
            }
            _ => None,
        }
    }

    /// Whether entries are being copied. The flush of a prefix must then also go through the
    /// successor, by [`flush_prefix_in_successor`](Self::flush_prefix_in_successor).
    #[must_use]
    pub fn is_filling_successor(&self) -> bool {
        matches!(self.successor, Some(Successor::Filling { .. }))
    }

    /// Estimated hit ratios at other sizes.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        self.advisor.estimate()
    }

    /// Bytes of memory that the advisor uses.
    #[must_use]
    pub fn advisor_bytes(&self) -> usize {
        self.advisor.bytes()
    }

    /// Tells the advisor how much the table holds now.
    pub fn look_at_room(&mut self) {
        self.advisor.set_capacity(self.current.table.room_bytes());
    }

    /// Tells the advisor of a miss of a key whose rule, `policy`, keeps it in the table.
    pub fn missed(&mut self, key: &[u8], policy: u8, now_ns: u64) {
        self.advisor.missed(self.current.table.hash(key), policy, tick(now_ns));
    }

    /// [`Table::put`].
    ///
    /// # Errors
    /// The table does not take it, and is unchanged.
    pub fn put(&mut self, entry: &Entry<'_>, now_ns: u64) -> Result<u64, PutError> {
        let version = self.current.table.next_version();
        self.put_version(&Entry { version, ..*entry }, now_ns)?;
        Ok(version)
    }

    /// Replaces the entry of a key by one of the same version and value, with another life.
    ///
    /// # Errors
    /// The table does not take it, and is unchanged.
    pub fn renew(&mut self, entry: &Entry<'_>, now_ns: u64) -> Result<(), PutError> {
        self.put_version(entry, now_ns)
    }

    fn put_version(&mut self, entry: &Entry<'_>, now_ns: u64) -> Result<(), PutError> {
        let hash = self.current.table.hash(entry.key);
        if let Some((successor, shift)) = self.filling_from() {
            // What is never evicted must be in both.
            successor.would_admit(&shift.entry(entry), hash, tick(shift.time(now_ns)))?;
        }
        let table = &mut self.current.table;
        let bytes = table.put_version(entry, hash, now_ns)?;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let is_absent = entry.absent;
        let known = Known { bytes, policy: entry.policy, is_absent, expiry: entry.expiry };
        self.advisor.stored(hash, known);
        if let Some((successor, shift)) = self.filling_from() {
            let now_ns = shift.time(now_ns);
            if successor.put_version(&shift.entry(entry), hash, now_ns).is_err() {
                // The successor allows only smaller values, or its index is full of entries that are
                // never evicted. It must not bring back an older one.
                successor.remove(entry.key, now_ns);
            }
        }
        Ok(())
    }

    /// [`Table::remove`].
    pub fn remove(&mut self, key: &[u8], now_ns: u64) -> bool {
        if let Some((successor, shift)) = self.filling_from() {
            successor.remove(key, shift.time(now_ns));
        }
        self.advisor.removed(self.current.table.hash(key));
        self.current.table.remove(key, now_ns)
    }

    /// [`Table::get`].
    pub fn get(&mut self, key: &[u8], now_ns: u64) -> Option<Held> {
        let held = self.current.table.get(key, now_ns)?;
        let hash = self.current.table.hash(key);
        let bytes = u32::try_from(held.entry_bytes).unwrap_or(u32::MAX);
        let is_absent = held.absent;
        let known = Known { bytes, policy: held.policy, is_absent, expiry: held.expiry };
        self.advisor.hit(hash, 1, tick(now_ns), || Some(known));
        if let Some(successor) = self.filling() {
            successor.hit(hash);
        }
        Some(held)
    }

    /// [`Table::hit`], for a report that stands for `times` hits.
    pub fn hit(&mut self, hash: KeyHash, times: u32, now_ns: u64) {
        let table = &mut self.current.table;
        table.hit(hash);
        self.advisor.hit(hash, times, tick(now_ns), || table.header_by_hash(hash).map(Known::from));
        if let Some(successor) = self.filling() {
            successor.hit(hash);
        }
    }

    /// [`Table::key_by_hash`].
    pub fn key_by_hash(&mut self, hash: KeyHash, now_ns: u64) -> Option<Key> {
        self.current.table.key_by_hash(hash, now_ns)
    }

    /// [`Table::look_for_largest`].
    pub fn look_for_largest(&mut self, start: u32, count: u32, now_ns: u64, largest: &mut Largest) {
        self.current.table.look_for_largest(start, count, now_ns, largest);
    }

    /// [`Table::flush`].
    pub fn flush(&mut self) {
        self.current.table.flush();
        self.advisor.flushed();
        let floor = self.current.table.next_version();
        if let Some(successor) = self.filling() {
            successor.flush_below(floor);
        }
    }

    /// [`Table::flush_prefix`], in the table in force.
    pub fn flush_prefix(
        &mut self,
        prefix: &[u8],
        below_version: u64,
        start: u32,
        count: u32,
    ) -> (u64, Option<u32>) {
        let advisor = &mut self.advisor;
        let table = &mut self.current.table;
        table.flush_prefix(prefix, below_version, start, count, |hash| advisor.removed(hash))
    }

    /// [`Table::flush_prefix`] in the successor, if entries are being copied. To be called after
    /// the flush of the table in force has ended, when no such entry can be carried over any more.
    pub fn flush_prefix_in_successor(
        &mut self,
        prefix: &[u8],
        below_version: u64,
        start: u32,
        count: u32,
    ) -> Option<u32> {
        self.filling()?.flush_prefix(prefix, below_version, start, count, |_| ()).1
    }

    /// [`Table::check_buckets`], of the table in force.
    pub fn check_buckets(
        &mut self,
        start: u32,
        count: u32,
        report: &mut super::CheckReport,
    ) -> Option<u32> {
        self.current.table.check_buckets(start, count, report)
    }

    /// [`Table::finish_check`], of the table in force.
    pub fn finish_check(&mut self, report: &mut super::CheckReport) {
        self.current.table.finish_check(report);
    }

    /// [`Table::sweep`], of the table in force.
    pub fn sweep(&mut self, now_ns: u64, entries: usize) -> bool {
        self.current.table.sweep(now_ns, entries)
    }

    /// Gives each rule of the policy in force its share of the table.
    pub fn limit_policies(&mut self) {
        let mut pinned = Vec::new();
        for id in 0..=u8::MAX {
            let rule = self.policy.by_id(id);
            let permille = rule.and_then(|rule| rule.share_max_permille);
            self.advisor.limit_policy(id, permille);
            let is_pinned = rule.is_some_and(|rule| rule.evict == Evict::Never);
            pinned.extend(permille.filter(|_| is_pinned).map(|permille| (id, permille)));
            // Of a pinned rule, nothing is to be evicted.
            let limit = permille.filter(|_| !is_pinned);
            self.current.table.limit_policy(id, limit);
            if let Some(successor) = self.filling() {
                successor.limit_policy(id, limit);
            }
        }
        let now_ns = self.clock_ns();
        let dropped = self.current.table.pin(&pinned, tick(now_ns));
        if let Some((successor, shift)) = self.filling_from() {
            successor.pin(&pinned, tick(shift.time(now_ns)));
        }
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "rules with evict = \"never\" had more entries than the table can keep of them; the \
                 others were dropped"
            );
        }
    }

    /// Nanoseconds since the epoch of the table in force.
    fn clock_ns(&self) -> u64 {
        let epoch_ns = self.current().writer().geometry().identity().epoch_ns;
        crate::clock::boottime_ns().wrapping_sub(epoch_ns)
    }

    /// [`Table::limit_absences`].
    pub fn limit_absences(&mut self, permille: Option<u16>) {
        self.current.table.limit_absences(permille);
        self.advisor.limit_absences(permille);
    }

    /// Stores what readers add to their clock (R7), in nanoseconds.
    pub fn set_clock_offset(&mut self, offset_ns: u64) {
        fault_point!("note.clock");
        self.current.table.writer().set_clock_offset(offset_ns);
        if let Some((successor, shift)) = self.filling_from() {
            fault_point!("note.clock-successor");
            successor.writer().set_clock_offset(offset_ns.wrapping_sub(shift.ns()));
        }
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        if self.successor.is_some() {
            self.directory.remove_unfinished();
        }
    }
}

/// The successor, if its entries are being copied.
fn successor(successor: &Option<Successor>) -> Option<&Table<MappedMut>> {
    match successor {
        Some(Successor::Filling { opened, .. }) => Some(&opened.table),
        _ => None,
    }
}

/// A random number, for the identity or the hash seed of a table in this directory.
fn random(directory: &Path) -> Result<u64, FileError> {
    let mut bytes = [0; 8];
    // The kernel's call, because the C library has it from glibc 2.25 on only.
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| system("no random seed for a table in", directory, error.into()))?;
    // Once the kernel's generator is ready, 8 bytes come whole, and no signal interrupts.
    if got != bytes.len() {
        let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        return Err(system("no random seed for a table in", directory, source));
    }
    Ok(u64::from_le_bytes(bytes))
}

mod moving;
mod notes;
mod policy;
#[cfg(test)]
mod tests;
