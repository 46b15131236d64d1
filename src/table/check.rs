//! Checks every invariant of the table in shared memory.

use super::{Found, Table};
use serde::Serialize;
use shm_layout::entry::MARK_FLAGS;
use shm_layout::segment::Role;
use shm_layout::slot::SLOTS;
use shm_layout::{EntryHeader, MemoryMut};

/// Most violations that are described; further ones are only counted.
const DESCRIBED_MAX: usize = 20;

/// The result of a check.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckReport {
    /// Slots checked.
    pub slots: u64,
    /// Entries that slots refer to.
    pub entries: u64,
    /// Entries in the first of their two candidate lines.
    pub entries_in_first_line: u64,
    /// Entries whose checksums were verified.
    pub checksums: u64,
    /// Violations found.
    pub violation_count: u64,
    /// Descriptions of the first of them.
    pub violations: Vec<String>,
    /// Live entries that index conflicts have evicted since the daemon started.
    pub displaced: u64,
    /// Entries stored since then.
    pub puts: u64,
    /// `displaced` in percent of `puts`.
    pub displaced_percent: f64,
}

impl CheckReport {
    fn violation(&mut self, what: String) {
        self.violation_count += 1;
        if self.violations.len() < DESCRIBED_MAX {
            self.violations.push(what);
        }
    }
}

impl<M: MemoryMut> Table<M> {
    /// Checks all buckets and segments.
    #[must_use]
    pub fn check(&mut self) -> CheckReport {
        let mut report = CheckReport::default();
        self.check_buckets(0, u32::MAX, &mut report);
        self.finish_check(&mut report);
        report
    }

    /// Checks `count` buckets from `start` on. Returns the bucket to continue with; `None`: all are
    /// done.
    pub fn check_buckets(
        &mut self,
        start: u32,
        count: u32,
        report: &mut CheckReport,
    ) -> Option<u32> {
        let buckets = self.writer.geometry().bucket_count();
        let end = start.saturating_add(count).min(buckets);
        for bucket in start..end {
            for index in 0..SLOTS {
                let slot = self.writer.geometry().bucket(bucket).slot(index);
                report.slots += 1;
                let word = self.writer.slot(slot);
                if word.is_empty() {
                    continue;
                }
                report.entries += 1;
                let Some(found) = self.at_slot(slot) else {
                    report.violation(format!(
                        "bucket {bucket} slot {index}: no entry can be at word {} of the log",
                        word.position()
                    ));
                    continue;
                };
                report.checksums += 1;
                match self.entry_is_whole(&found) {
                    Ok(in_first) => report.entries_in_first_line += u64::from(in_first),
                    Err(what) => report.violation(format!("bucket {bucket} slot {index}: {what}")),
                }
            }
        }
        (end < buckets).then_some(end)
    }

    /// Checks the table as a whole.
    pub fn finish_check(&mut self, report: &mut CheckReport) {
        for number in 0..self.writer.geometry().segment_count() {
            let segment = self.log.segment(number).clone();
            let (role, sequence, filled, _) = self.writer.segment(number).unwrap_or_default();
            let is_free = segment.role == Role::Free;
            if role != Some(segment.role) || (!is_free && sequence != segment.sequence) {
                report.violation(format!("segment {number}: its header names another role"));
            }
            if !is_free && filled != u64::from(segment.filled_words) * 8 {
                report
                    .violation(format!("segment {number}: its header says {filled} bytes filled"));
            }
            if self.writer.is_recycling(number) {
                report.violation(format!("segment {number}: its generation is odd between turns"));
            }
        }
        report.displaced = self.counters.displaced;
        report.puts = self.counters.puts;
        #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
        if report.puts > 0 {
            report.displaced_percent = report.displaced as f64 * 100.0 / report.puts as f64;
        }
    }

    /// Checks an entry that a slot refers to: it is in a used segment, whole, in a bucket of its
    /// key under its tag, and the only one of its key. `Ok(true)`: it is in its first line.
    pub(super) fn entry_is_whole(&mut self, found: &Found) -> Result<bool, String> {
        let segment = self.log.segment(found.at.segment).clone();
        if segment.role == Role::Free {
            return Err(format!("segment {} is free", found.at.segment));
        }
        if found.at.word as usize + found.header.words() > segment.filled_words as usize {
            return Err(format!("segment {} is not filled that far", found.at.segment));
        }
        let held = self.held(found);
        let key = self.key_at(found.at, &found.header).to_vec();
        let hasher = *self.writer.geometry().hasher();
        let hash = hasher.hash(&key);
        let plain = EntryHeader { checksum: 0, ..found.header };
        if hasher.checksum(plain.pack(), held.flags, hash, &held.value) != found.header.checksum {
            return Err("the entry's checksum is wrong".into());
        }
        if found.header.marks & MARK_FLAGS != 0 && held.flags == 0 {
            return Err("an entry announces client flags and has none".into());
        }
        if found.header.version >= self.next_version {
            return Err(format!("version {} was never given out", found.header.version));
        }
        if self.writer.slot(found.slot).tag() != hash.tag() {
            return Err("the slot's tag is not the key's".into());
        }
        let mine = self.candidate_slots(hash).any(|slot| slot == found.slot);
        if !mine {
            return Err("the entry's key does not belong in this bucket".into());
        }
        for slot in self.candidate_slots(hash).filter(|slot| *slot != found.slot) {
            let Some(other) = self.at_slot(slot) else { continue };
            let same_tag = self.writer.slot(slot).tag() == hash.tag();
            if same_tag
                && self.key_at(other.at, &other.header) == key.as_slice()
                && (other.header.version, slot) > (found.header.version, found.slot)
            {
                return Err("another slot holds the key in a later version".into());
            }
        }
        let first = self.writer.geometry().buckets(hash)[0];
        Ok((0..SLOTS).any(|index| first.slot(index) == found.slot))
    }
}
