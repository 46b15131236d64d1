//! The file in which the numbers of rules survive the daemon, beside the table.
//!
//! The table's header has the fingerprint of what the file says. While another policy comes into
//! force, these stores follow one another, and a kill between any two leaves numbers that are right:
//!
//! 1. The file: only the rules that are the same before and after, with a fingerprint of its own.
//! 2. The header: that fingerprint.
//! 3. Floors, then entries of either policy, and the walk over the index.
//! 4. The file: the new rules. 5. The header: their fingerprint.
//!
//! Between 1 and 2, and between 4 and 5, the file's rules hold for the table already, so it also
//! names the fingerprint before and the daemon (the table's instance) that wrote it: if another one
//! has been there since, one that does not know the file, the file counts for nothing.

use super::directory::Directory;
use super::numbers::Numbered;
use l1d_wire::words;
use serde::{Deserialize, Serialize};

/// Its content, as JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct NumbersFile {
    /// Identities of the table in force and, during a move, of its successor.
    pub(super) tables: Vec<u64>,
    pub(super) instance: u64,
    /// The header's fingerprint before and after the file was written.
    pub(super) before: u64,
    pub(super) fingerprint: u64,
    pub(super) rules: Vec<Numbered>,
}

impl NumbersFile {
    /// The file in `directory`, if there is one.
    pub(super) fn read(directory: &Directory) -> Option<NumbersFile> {
        serde_json::from_slice(&directory.read_numbers().ok()?).ok()
    }

    /// Whether it tells the numbers in the table `table`, whose header has `fingerprint`, and whose
    /// last daemon was its owner number `instance`.
    pub(super) fn holds_for(&self, table: u64, fingerprint: u64, instance: u64) -> bool {
        let is_before = self.before == fingerprint && self.instance == instance;
        self.tables.contains(&table) && (self.fingerprint == fingerprint || is_before)
    }

    /// Replaces the file; a kill leaves the one before or this one. Returns whether that succeeded:
    /// if not, the fingerprint in the header must be another one than the file before has.
    pub(super) fn write(&self, directory: &Directory) -> bool {
        let written = serde_json::to_vec(self)
            .map_err(std::io::Error::other)
            .and_then(|bytes| directory.write_numbers(&bytes));
        if let Err(error) = &written {
            let error = words::of(error);
            tracing::warn!(
                error,
                "the numbers of the policy's rules cannot be kept beside the table, which will be \
                 empty after a restart with another policy: free space in its directory"
            );
        }
        written.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_for_its_table_and_only_as_long_as_its_writer_was_the_last() {
        let file = NumbersFile {
            tables: vec![7, 8],
            instance: 3,
            before: 10,
            fingerprint: 11,
            rules: Vec::new(),
        };
        assert!(file.holds_for(7, 11, 3) && file.holds_for(8, 11, 3));
        assert!(file.holds_for(7, 11, 9), "later daemons with the same policy");
        assert!(file.holds_for(7, 10, 3), "killed before the header was stored");
        assert!(!file.holds_for(7, 10, 4), "a daemon that does not know the file");
        assert!(!file.holds_for(9, 11, 3) && !file.holds_for(7, 12, 3));
    }
}
