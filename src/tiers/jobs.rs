//! Jobs under way, each with the answers that it waits for.

use std::sync::Arc;

use super::request::{Answer, Ask, Reply};
use super::{Fetched, Operate, Operated, Tier};

/// Why a tier's answer of another kind counts as none.
pub const NOT_ASKED: &str = "it answered what was not asked";

/// A job and the answer that it waits for.
#[derive(Debug)]
pub enum Step {
    /// L2's, then L3 is asked.
    FetchL2 {
        flight: u64,
        key: Arc<[u8]>,
    },
    FetchL3 {
        flight: u64,
    },
    /// What one tier holds, for people.
    Look {
        id: u64,
    },
    /// Both tiers'.
    FetchBoth(FetchBoth),
    /// L3's, then L2 is written to, if that is asked.
    WriteL3 {
        id: u64,
        key: Arc<[u8]>,
        to_l2: Option<Ask>,
    },
    WriteL2(WriteL2),
    /// L2 refused a value: its answer to the delete of the older one.
    ClearL2 {
        step: WriteL2,
        why: String,
    },
    /// That of the store of record to an operation.
    Operate {
        id: u64,
        key: Arc<[u8]>,
        in_l2: bool,
    },
    /// L2's, where it is the store of record, to a question for the value that an operation depends
    /// on.
    Examine(Examine),
    /// L2's to the change that was made of that. `operated` is the outcome if it is done.
    Condition {
        examine: Examine,
        operated: Operated,
    },
    /// L2's to a delete that it owes.
    Settle {
        key: Arc<[u8]>,
    },
}

/// A change that L3 has taken, if there is one.
#[derive(Debug)]
pub struct WriteL2 {
    pub id: u64,
    pub key: Arc<[u8]>,
    pub taken: Taken,
    pub is_set: bool,
}

/// What L3 has taken, or would have if there were one.
#[derive(Debug)]
pub enum Taken {
    /// A set or a delete. `existed`: it had the deleted key.
    Change { existed: bool },
    /// An operation.
    Operation(Operated),
}

/// An operation that depends on a value in L2.
#[derive(Debug)]
pub struct Examine {
    pub id: u64,
    pub key: Arc<[u8]>,
    pub operate: Arc<Operate>,
    /// How often the value has changed in between.
    pub conflicts: u32,
    /// The value and its number, from a get that another one must confirm.
    pub seen: Option<(Arc<[u8]>, u64)>,
}

/// A fetch that has asked both tiers.
#[derive(Debug)]
pub struct FetchBoth {
    pub flight: u64,
    pub key: Arc<[u8]>,
    /// L3's answer. It counts if L2 has no value: L2 keeps client flags, and L3 does not.
    l3: Option<Fetched>,
    /// Replies that are to come. The last one frees the ticket.
    pub replies_left: u8,
    is_over: bool,
}

impl FetchBoth {
    pub fn new(flight: u64, key: Arc<[u8]>) -> FetchBoth {
        FetchBoth { flight, key, l3: None, replies_left: 2, is_over: false }
    }

    /// Takes a reply. Returns the outcome if this reply decides it.
    pub fn take(&mut self, tier: Tier, reply: Reply) -> Option<Fetched> {
        self.replies_left = self.replies_left.saturating_sub(1);
        let outcome = match (tier, &reply.answer) {
            _ if self.is_over => None,
            (Tier::L2, Answer::Hit { .. }) => Some(fetched(tier, reply)),
            (Tier::L2, _) => self.l3.take(),
            (Tier::L3, _) if self.replies_left == 0 => Some(fetched(tier, reply)),
            (Tier::L3, _) => {
                self.l3 = Some(fetched(tier, reply));
                None
            }
        };
        self.is_over |= outcome.is_some();
        outcome
    }
}

/// The outcome of a fetch whose last question `tier` has answered.
pub fn fetched(tier: Tier, reply: Reply) -> Fetched {
    match reply.answer {
        Answer::Hit { value, flags, remaining } => Fetched::Found {
            tier,
            value,
            flags,
            remaining,
            sent_at: reply.sent_at,
            epoch: reply.epoch,
            is_in_doubt: reply.is_in_doubt,
        },
        // L3 decides what exists, and L2 where it is alone (P9): while there is an L3, it is asked
        // last, and a miss of L2 is not an outcome.
        Answer::Miss { absent } => Fetched::Absent {
            authoritative: absent,
            tier,
            epoch: reply.epoch,
            is_in_doubt: reply.is_in_doubt,
        },
        Answer::TooLarge { bytes } => Fetched::TooLarge { tier, bytes },
        Answer::Refused(why) => Fetched::Refused { tier, why },
        Answer::NotSent(why) | Answer::Unanswered(why) => Fetched::Failed { tier, why },
        Answer::Stored
        | Answer::Deleted { .. }
        | Answer::Unique { .. }
        | Answer::Operated(_)
        | Answer::AskAgain(_)
        | Answer::Faulty(_) => Fetched::Failed { tier, why: NOT_ASKED.into() },
    }
}
