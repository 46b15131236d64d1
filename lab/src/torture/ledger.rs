//! What all processes of a run know: the history of each key, and counts. A region that outlives
//! each of them, so a kill between two steps leaves it consistent.
//!
//! ```text
//!  word 0: stop | kills of the daemon | counts | for each key a `Record`
//! ```

use anyhow::{Context, Result, ensure};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use test_support::history::Key;

/// Words before the records, whole lines.
const HEAD_WORDS: usize = 32;
const STOP: usize = 0;
const KILLS: usize = 1;
const COUNTS: usize = 2;
const _: () = assert!(COUNTS + Count::ALL.len() <= HEAD_WORDS);
/// Texts of findings; further ones are only counted.
const TEXTS_MAX: u64 = 20;

/// Counts that every process adds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Reads that ended.
    Reads,
    /// Values found by them, each verified.
    Values,
    /// Sets, deletes and so on that were begun.
    Writes,
    /// Those that were acknowledged.
    Acknowledged,
    /// Sets that wait for no answer.
    Unanswered,
    /// Writes whose outcome is not known.
    Unknown,
    /// Calls that ended in another error.
    Errors,
    /// Illegal reads, and values that are not what was written.
    Wrong,
    /// Values that were acknowledged, and lost by a kill of the daemon.
    Lost,
    /// Attachments.
    Attached,
}

impl Count {
    const ALL: [Count; 10] = [
        Count::Reads,
        Count::Values,
        Count::Writes,
        Count::Acknowledged,
        Count::Unanswered,
        Count::Unknown,
        Count::Errors,
        Count::Wrong,
        Count::Lost,
        Count::Attached,
    ];
}

/// A key's history, and what decides whether a kill of the daemon can have lost it.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Record {
    pub key: Key,
    /// [`Ledger::kills`] when the last acknowledged change began.
    pub kills: AtomicU64,
    /// The last change that was counted as lost.
    pub lost: AtomicU64,
}

/// The region, mapped.
pub struct Ledger {
    path: PathBuf,
    region: MmapRaw,
    keys: usize,
}

impl Ledger {
    /// Creates a region in which nothing has happened.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn create(path: &Path, keys: usize) -> Result<Ledger> {
        // Written, not only sized: a page that is missing later would kill whoever touches it.
        std::fs::write(path, vec![0; bytes(keys)]).context("no room for the run's ledger")?;
        Ledger::open(path, keys)
    }

    /// Opens the region that another process created.
    ///
    /// # Errors
    /// It is not there, or has another size.
    pub fn open(path: &Path, keys: usize) -> Result<Ledger> {
        let file = File::options().read(true).write(true).open(path);
        let file = file.context("cannot open the run's ledger")?;
        let region = MmapOptions::new().map_raw(&file).context("cannot map the run's ledger")?;
        ensure!(region.len() == bytes(keys), "the run's ledger is of another run");
        Ok(Ledger { path: path.to_owned(), region, keys })
    }

    /// Tells all processes to end.
    pub fn stop(&self) {
        self.word(STOP).store(1, Ordering::SeqCst);
    }

    /// All processes are to end.
    pub fn is_stopped(&self) -> bool {
        self.word(STOP).load(Ordering::SeqCst) != 0
    }

    /// Rises before and after each kill of the daemon: odd while one is under way.
    pub fn kills(&self) -> u64 {
        self.word(KILLS).load(Ordering::SeqCst)
    }

    /// A kill of the daemon begins, or has ended.
    pub fn step_kills(&self) {
        self.word(KILLS).fetch_add(1, Ordering::SeqCst);
    }

    /// Adds to a count. Returns the sum before.
    pub fn add(&self, count: Count, number: u64) -> u64 {
        self.word(COUNTS + count as usize).fetch_add(number, Ordering::Relaxed)
    }

    /// A count so far.
    pub fn count(&self, count: Count) -> u64 {
        self.word(COUNTS + count as usize).load(Ordering::Relaxed)
    }

    /// Something that must not happen has happened.
    pub fn find(&self, text: &str) {
        if self.add(Count::Wrong, 1) >= TEXTS_MAX {
            return;
        }
        let file = File::options().append(true).create(true).open(self.texts());
        // One write, so that lines of several processes stay apart. The count stands without it.
        let line = format!("{text}\n");
        let _ = file.and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes()));
    }

    /// The texts of the first findings.
    pub fn findings(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.texts()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn texts(&self) -> PathBuf {
        self.path.with_extension("findings")
    }

    /// Number of keys.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// The record of key `number`.
    pub fn record(&self, number: usize) -> &Record {
        assert!(number < self.keys);
        // SAFETY: the region has `bytes(keys)` bytes (checked by `open`), so the record lies in it;
        // the head is whole lines and the mapping page-aligned, so it is aligned; a record consists
        // of AtomicU64, for which any bytes are valid and which every process accesses only as
        // such; and the region stays mapped as long as `self`.
        unsafe {
            let records = self.region.as_ptr().add(HEAD_WORDS * size_of::<u64>());
            &*records.cast::<Record>().add(number)
        }
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        assert!(word < HEAD_WORDS);
        // SAFETY: the head lies in the region; the rest as in `record`.
        unsafe { &*self.region.as_ptr().cast::<AtomicU64>().add(word) }
    }
}

fn bytes(keys: usize) -> usize {
    HEAD_WORDS * size_of::<u64>() + keys * size_of::<Record>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_sees_what_was_acknowledged_and_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let mine = Ledger::create(&path, 3).unwrap();
        let other = Ledger::open(&path, 3).unwrap();
        let change = mine.record(2).key.begin(false);
        mine.record(2).key.acknowledge(change);
        assert_eq!(other.record(2).key.acknowledged(), (1, false));
        assert_eq!(other.record(1).key.acknowledged(), (0, true), "its neighbour is as it was");
        for number in 0..30 {
            other.find(&format!("finding {number}"));
        }
        assert_eq!((mine.count(Count::Wrong), mine.findings().len()), (30, 20));
        mine.stop();
        assert!(other.is_stopped());
        assert!(Ledger::open(&path, 4).is_err());
    }
}
