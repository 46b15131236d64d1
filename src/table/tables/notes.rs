//! What a daemon notes in the table's header about the tiers below, for the next daemon. A table
//! that is being made gets it as well.

use super::Tables;
use shm_layout::{KeyHash, fault_point};

impl Tables {
    /// Notes whether anything below is unsettled, and over which session with L3.
    pub fn set_unsettled(&mut self, unsettled: Option<[u64; 2]>) {
        for writer in self.writers() {
            fault_point!("note.unsettled");
            writer.set_unsettled(unsettled);
        }
    }

    /// What was noted last, by this daemon or by the one before.
    #[must_use]
    pub fn unsettled(&self) -> Option<[u64; 2]> {
        self.current.table.writer().unsettled()
    }

    /// Notes in word `index` that `key` is in change below; `None`: that the word is free.
    pub fn set_changing(&mut self, index: usize, key: Option<&[u8]>) {
        // Both tables hash alike.
        let hash = key.map(|key| self.current.table.hash(key));
        for writer in self.writers() {
            fault_point!("note.changing");
            writer.set_changing(index, hash);
        }
    }

    /// Notes of the key in word `index` whether only a tier may still change it.
    pub fn set_doubtful(&mut self, index: usize, is_doubtful: bool) {
        for writer in self.writers() {
            fault_point!("note.doubtful");
            writer.set_doubtful(index, is_doubtful);
        }
    }

    /// Notes whether keys without a word are in doubt.
    pub fn set_changing_more(&mut self, has_more: bool) {
        for writer in self.writers() {
            fault_point!("note.changing-more");
            writer.set_changing_more(has_more);
        }
    }

    /// Notes whether keys of the rule with this number are in change and have no word.
    pub fn set_changing_rule(&mut self, rule: u8, is_changing: bool) {
        for writer in self.writers() {
            fault_point!("note.changing-policy");
            writer.set_changing_policy(rule, is_changing);
        }
    }

    /// Removes what L1 holds of the key with this hash, whatever that is.
    pub fn distrust(&mut self, hash: KeyHash, now_ns: u64) {
        if let Some(found) = self.key_by_hash(hash, now_ns) {
            self.remove(&found.key, now_ns);
        }
    }
}
