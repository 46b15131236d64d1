//! The keys in change, in the table's header, so that the next daemon knows of them (P22): until
//! their writers are told, L1 may hold what the store of record has no longer; and as long as a
//! tier may still carry a change out, another one of the same key could come too early.

use super::Owner;
use crate::table::Tables;
use crate::tiers::{Inherited, Tiers};
use rapidhash::RapidHashMap;
use shm_layout::KeyHash;
use shm_layout::header::CHANGING_MAX;
use std::sync::Arc;

/// Where a key in change is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Word(usize),
    /// All words were taken: the key's rule is noted.
    Rule,
}

/// The words, and who has them.
#[derive(Debug, Default)]
pub(super) struct Changing {
    /// Those without a key. The last one is taken first, so few lines are in use.
    free: Vec<usize>,
    /// Keys whose writers were told that the outcome is not known.
    doubtful: RapidHashMap<Arc<[u8]>, Place>,
    /// Words of keys that an earlier daemon has left, as long as the tiers have something of it.
    inherited: Vec<usize>,
    /// It may have left keys without a word.
    inherits_more: bool,
    /// Keys without a word, apart from doubtful ones, and the rules that are noted for them.
    more: usize,
    rules: Vec<u8>,
    /// Doubtful keys without a word.
    doubtful_more: usize,
    /// The table says that there are some.
    has_noted_more: bool,
}

impl Changing {
    /// Takes over what an earlier daemon has left in the table. What L1 holds of keys that were in
    /// change is dropped, because the store of record may have changed.
    pub(super) fn take_over(
        tables: &mut Tables,
        below: Option<&mut (dyn Tiers + 'static)>,
        now_ns: u64,
    ) -> Changing {
        let unsettled = tables.unsettled();
        let writer = tables.current().writer();
        let hasher = *writer.geometry().hasher();
        let mut noted: Vec<_> = writer.changing().collect();
        let rules: Vec<u8> = writer.changing_policies().collect();
        let has_noted_more = writer.changing_more();
        let mut has_more = has_noted_more || !rules.is_empty();
        if unsettled.is_some() {
            drop_copies(tables, &noted, &rules, now_ns);
        } else {
            // Nothing was sent.
            noted.drain(..).for_each(|(index, ..)| tables.set_changing(index, None));
            has_more = false;
        }
        // Without tiers all stays as it is, for a daemon that has them again.
        if let (Some(below), Some(l3_session)) = (below, unsettled) {
            let hashes = noted.iter().map(|(_, hash, _)| *hash);
            below.take_over(l3_session, Inherited::new(hasher, hashes, has_more));
        }
        let mut is_free = [true; CHANGING_MAX];
        noted.iter().for_each(|(index, ..)| is_free[*index] = false);
        let mut changing = Changing {
            free: (0..CHANGING_MAX).rev().filter(|index| is_free[*index]).collect(),
            inherited: noted.iter().map(|(index, ..)| *index).collect(),
            inherits_more: has_more,
            has_noted_more,
            ..Changing::default()
        };
        changing.note_more(tables);
        // Now they are among those that only a tier may still change.
        rules.into_iter().for_each(|rule| tables.set_changing_rule(rule, false));
        changing
    }

    /// A change of `key`, which is of the rule with this number, is about to be sent.
    pub(super) fn begin(&mut self, key: &[u8], rule: u8, tables: &mut Tables) -> Place {
        let Some(index) = self.free.pop() else {
            self.more += 1;
            if !self.rules.contains(&rule) {
                self.rules.push(rule);
                tables.set_changing_rule(rule, true);
            }
            return Place::Rule;
        };
        // Whatever it says of a free word.
        tables.set_doubtful(index, false);
        tables.set_changing(index, Some(key));
        Place::Word(index)
    }

    /// It has ended, and L1 has what its writer is told.
    pub(super) fn end(&mut self, place: Place, tables: &mut Tables) {
        match place {
            Place::Word(index) => self.release(index, tables),
            Place::Rule => self.end_without_word(tables),
        }
    }

    /// The same, but nobody knows whether the store of record has it, or will.
    pub(super) fn doubt(&mut self, place: Place, key: &Arc<[u8]>, tables: &mut Tables) {
        if self.doubtful.contains_key(key) {
            return self.end(place, tables);
        }
        self.doubtful.insert(key.clone(), place);
        match place {
            Place::Word(index) => tables.set_doubtful(index, true),
            Place::Rule => {
                self.doubtful_more += 1;
                self.note_more(tables);
                self.end_without_word(tables);
            }
        }
    }

    /// Frees the words of keys that the store of record cannot change any more.
    pub(super) fn settle(&mut self, below: &dyn Tiers, tables: &mut Tables) {
        if !self.doubtful.is_empty() {
            let sent = below.sent_changes();
            let settled = self.doubtful.extract_if(|key, _| !sent.contains(key));
            for (_, place) in settled.collect::<Vec<_>>() {
                match place {
                    Place::Word(index) => self.release(index, tables),
                    Place::Rule => self.doubtful_more -= 1,
                }
            }
        }
        if (self.inherits_more || !self.inherited.is_empty()) && !below.inherits() {
            for index in std::mem::take(&mut self.inherited) {
                self.release(index, tables);
            }
            self.inherits_more = false;
        }
        self.note_more(tables);
    }

    fn release(&mut self, index: usize, tables: &mut Tables) {
        tables.set_changing(index, None);
        self.free.push(index);
    }

    fn end_without_word(&mut self, tables: &mut Tables) {
        self.more -= 1;
        if self.more == 0 {
            self.rules.drain(..).for_each(|rule| tables.set_changing_rule(rule, false));
        }
    }

    fn note_more(&mut self, tables: &mut Tables) {
        let has_more = self.inherits_more || self.doubtful_more > 0;
        if has_more != self.has_noted_more {
            self.has_noted_more = has_more;
            tables.set_changing_more(has_more);
        }
    }
}

/// Drops what L1 holds of keys that were in change, and notes that only a tier may still change
/// them.
fn drop_copies(tables: &mut Tables, noted: &[(usize, KeyHash, bool)], rules: &[u8], now_ns: u64) {
    let mut dropped = 0;
    for (index, hash, is_doubtful) in noted {
        if !is_doubtful {
            tables.distrust(*hash, now_ns);
            tables.set_doubtful(*index, true);
            dropped += 1;
        }
    }
    if dropped > 0 {
        tracing::info!(
            keys = dropped,
            "the earlier daemon ended while keys were in change; what L1 held of them is dropped"
        );
    }
    if !rules.is_empty() {
        tables.hide_rules(rules);
        tracing::warn!(
            rules = rules.len(),
            "the earlier daemon ended while more keys were in change than it could note; what L1 \
             held under their rules is dropped"
        );
    }
}

impl Owner {
    /// Takes over what an earlier daemon has left unanswered.
    pub(super) fn take_over_changing(&mut self) {
        let now_ns = self.now_ns();
        let below = self.below.as_deref_mut();
        self.changing = Changing::take_over(&mut self.tables, below, now_ns);
    }

    /// Frees words of the table's header, once a second.
    pub(super) fn settle_changing(&mut self) {
        if let Some(below) = &self.below {
            self.changing.settle(&**below, &mut self.tables);
        }
    }
}
