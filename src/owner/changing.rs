//! The keys in change, in the table's header, so that the next daemon knows of them (P22): until
//! their writers are told, L1 may hold what the store of record has no longer; and as long as a
//! tier may still carry a change out, another one of the same key could come too early.

use super::Owner;
use crate::table::Tables;
use crate::tiers::{Inherited, Tiers};
use l1d_wire::policy::{PolicySet, Scope, WriteMode};
use rapidhash::RapidHashMap;
use shm_layout::header::{CHANGING_MAX, MORE_CHANGING, MORE_DOUBTFUL};
use std::sync::Arc;

/// Where a key in change is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Word(usize),
    /// All words were taken.
    None,
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
    /// Such keys without a word.
    inherits_more: bool,
    /// Keys without a word, apart from doubtful ones, and those.
    more: usize,
    doubtful_more: usize,
    /// What the table says of that.
    noted_more: u64,
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
        let (noted, more) = (writer.changing().collect::<Vec<_>>(), writer.changing_more());
        let hasher = *writer.geometry().hasher();
        let mut changing = Changing {
            free: Vec::new(),
            doubtful: RapidHashMap::default(),
            inherited: Vec::new(),
            inherits_more: false,
            more: 0,
            doubtful_more: 0,
            noted_more: more,
        };
        // Without the one word nothing was sent, and without tiers nobody can carry anything out.
        if let (Some(below), Some(l3_session)) = (below, unsettled) {
            for (index, hash, is_doubtful) in &noted {
                if !is_doubtful {
                    tables.distrust(*hash, now_ns);
                    tables.set_doubtful(*index, true);
                }
            }
            let dropped = noted.iter().filter(|(.., is_doubtful)| !is_doubtful).count();
            if dropped > 0 {
                tracing::info!(
                    keys = dropped,
                    "the earlier daemon ended while keys were in change; what L1 held of them is \
                     dropped"
                );
            }
            if more & MORE_CHANGING != 0 {
                tracing::warn!(
                    "the earlier daemon ended while more keys were in change than it could note; \
                     what L1 held under rules that write through is dropped"
                );
                tables.hide_rules(&rules_with_record_below(tables.policy()));
            }
            let hashes = noted.iter().map(|(_, hash, _)| *hash);
            below.take_over(l3_session, Inherited::new(hasher, hashes, more != 0));
            changing.inherited = noted.iter().map(|(index, ..)| *index).collect();
            changing.inherits_more = more != 0;
        } else {
            for (index, ..) in noted {
                tables.set_changing(index, None);
            }
        }
        let mut is_free = [true; CHANGING_MAX];
        changing.inherited.iter().for_each(|index| is_free[*index] = false);
        changing.free = (0..CHANGING_MAX).rev().filter(|index| is_free[*index]).collect();
        for index in &changing.free {
            // A kill may have left the bit of a free word.
            tables.set_doubtful(*index, false);
        }
        changing.note_more(tables);
        changing
    }

    /// A change of `key` is about to be sent.
    pub(super) fn begin(&mut self, key: &[u8], tables: &mut Tables) -> Place {
        let Some(index) = self.free.pop() else {
            self.more += 1;
            self.note_more(tables);
            return Place::None;
        };
        tables.set_changing(index, Some(key));
        Place::Word(index)
    }

    /// It has ended, and L1 has what its writer is told.
    pub(super) fn end(&mut self, place: Place, tables: &mut Tables) {
        match place {
            Place::Word(index) => self.release(index, tables),
            Place::None => {
                self.more -= 1;
                self.note_more(tables);
            }
        }
    }

    /// The same, but nobody knows whether the store of record has it, or will.
    pub(super) fn doubt(&mut self, place: Place, key: &Arc<[u8]>, tables: &mut Tables) {
        if self.doubtful.contains_key(key) {
            return self.end(place, tables);
        }
        match place {
            Place::Word(index) => tables.set_doubtful(index, true),
            Place::None => {
                self.more -= 1;
                self.doubtful_more += 1;
            }
        }
        self.doubtful.insert(key.clone(), place);
        self.note_more(tables);
    }

    /// Frees the words of keys that no tier can change any more.
    pub(super) fn settle(&mut self, below: &dyn Tiers, tables: &mut Tables) {
        if !self.doubtful.is_empty() {
            let sent = below.sent_changes();
            let settled = self.doubtful.extract_if(|key, _| !sent.contains(key));
            for (_, place) in settled.collect::<Vec<_>>() {
                match place {
                    Place::Word(index) => self.release_doubtful(index, tables),
                    Place::None => self.doubtful_more -= 1,
                }
            }
        }
        if (self.inherits_more || !self.inherited.is_empty()) && !below.inherits() {
            for index in std::mem::take(&mut self.inherited) {
                self.release_doubtful(index, tables);
            }
            self.inherits_more = false;
        }
        self.note_more(tables);
    }

    fn release_doubtful(&mut self, index: usize, tables: &mut Tables) {
        self.release(index, tables);
        // After the word: a bit of a free word means nothing.
        tables.set_doubtful(index, false);
    }

    fn release(&mut self, index: usize, tables: &mut Tables) {
        tables.set_changing(index, None);
        self.free.push(index);
    }

    fn note_more(&mut self, tables: &mut Tables) {
        let is_doubtful = self.inherits_more || self.doubtful_more > 0;
        let more = if self.more > 0 { MORE_CHANGING } else { 0 }
            | if is_doubtful { MORE_DOUBTFUL } else { 0 };
        if more != self.noted_more {
            self.noted_more = more;
            tables.set_changing_more(more);
        }
    }
}

/// The numbers of the rules whose keys have their record in a tier, or may have it.
fn rules_with_record_below(policy: &PolicySet) -> Vec<u8> {
    let rules = policy.rules().iter();
    let below =
        rules.filter(|rule| rule.write != WriteMode::L1Only && rule.scope != Scope::Process);
    below.map(|rule| rule.id).collect()
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
