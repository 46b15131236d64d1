//! Changes: L3, then L2.
//!
//! The store of record decides (P14): L3, or L2 where it is alone. If L3 has taken a change and L2
//! has not, the change is applied, and L2 owes a delete of the key ([`Debts`]): it is neither read
//! nor written to for that key before it has confirmed one. The delete waits for former connections
//! to L2 to drain, since what was sent over them may still be carried out.
//!
//! [`Debts`]: crate::tiers::debts::Debts

use std::sync::Arc;
use std::time::Instant;

use super::Upstream;
use crate::tiers::jobs::{Step, Taken, WriteL2};
use crate::tiers::request::{Answer, Ask, Reply, Request};
use crate::tiers::server::Server;
use crate::tiers::{Tier, TierEvent, Written};

impl Upstream {
    /// Nothing is begun while the store of record is known to be lost.
    pub(super) fn begin_write(&mut self, id: u64, key: Arc<[u8]>, to_l3: Ask, to_l2: Option<Ask>) {
        if self.l3.is_some() {
            let ticket = self.running.insert(Step::WriteL3 { id, key: key.clone(), to_l2 });
            self.ask_l3(Some(ticket), Request { key, ask: to_l3 });
        } else {
            self.write_l2(id, key, to_l2, Taken::Change { existed: false });
        }
    }

    pub(super) fn write_l2(&mut self, id: u64, key: Arc<[u8]>, to_l2: Option<Ask>, taken: Taken) {
        let Some(ask) = to_l2.filter(|_| self.l2.is_some()) else {
            return self.written(id, taken.written(false));
        };
        if self.debts.owes(&key) {
            return self.written(id, taken.written(true));
        }
        let is_set = matches!(ask, Ask::Set { .. });
        let step = WriteL2 { id, key: key.clone(), taken, is_set };
        let ticket = self.running.insert(Step::WriteL2(step));
        self.ask_l2(Some(ticket), Request { key, ask });
    }

    pub(super) fn written(&mut self, id: u64, outcome: Written) {
        self.events.push_back(TierEvent::Written { id, outcome });
    }

    pub(super) fn written_l3(&mut self, id: u64, key: Arc<[u8]>, to_l2: Option<Ask>, reply: Reply) {
        let tier = Tier::L3;
        let why = match reply.answer {
            Answer::Refused(why) => return self.written(id, Written::Refused { tier, why }),
            Answer::NotSent(why) => {
                return self.written(id, Written::NotApplied { tier, why });
            }
            Answer::Unanswered(why) => why,
            _ if reply.is_in_doubt => in_doubt(),
            answer => {
                let existed = matches!(answer, Answer::Deleted { existed: true });
                return self.write_l2(id, key, to_l2, Taken::Change { existed });
            }
        };
        if to_l2.is_some() && self.l2.is_some() {
            self.debts.owe(&key, Instant::now());
        }
        self.written(id, Written::Unknown { tier, why });
    }

    pub(super) fn written_l2(&mut self, step: WriteL2, reply: Reply) {
        let id = step.id;
        let (tier, is_copy) = (Tier::L2, self.l3.is_some());
        match reply.answer {
            // An older value must not stay where the new one was refused.
            Answer::Refused(why) if step.is_set => {
                let (key, ask) = (step.key.clone(), Ask::Delete);
                let ticket = self.running.insert(Step::ClearL2 { step, why });
                self.ask_l2(Some(ticket), Request { key, ask });
            }
            Answer::Refused(_) | Answer::NotSent(_) | Answer::Unanswered(_) if is_copy => {
                self.debts.owe(&step.key, Instant::now());
                self.written(id, step.taken.written(true));
            }
            Answer::Refused(why) => self.written(id, Written::Refused { tier, why }),
            Answer::NotSent(why) => self.written(id, Written::NotApplied { tier, why }),
            Answer::Unanswered(why) => self.written(id, Written::Unknown { tier, why }),
            // What comes late over the former connection would undo it.
            _ if reply.is_in_doubt && is_copy => {
                self.debts.owe(&step.key, Instant::now());
                self.written(id, step.taken.written(true));
            }
            _ if reply.is_in_doubt => {
                self.written(id, Written::Unknown { tier, why: in_doubt() });
            }
            answer => {
                let mut taken = step.taken;
                if let Taken::Change { existed } = &mut taken {
                    *existed |= matches!(answer, Answer::Deleted { existed: true });
                }
                self.written(id, taken.written(false));
            }
        }
    }

    pub(super) fn cleared_l2(&mut self, step: WriteL2, why: String, reply: &Reply) {
        let (tier, is_copy) = (Tier::L2, self.l3.is_some());
        let is_cleared = matches!(reply.answer, Answer::Deleted { .. });
        let outcome = match (is_cleared, is_copy) {
            // Too large for L2, or L2 is full: the value lives in L3 and above.
            (true, true) if !reply.is_in_doubt => {
                Written::Applied { existed: false, degraded: false }
            }
            (_, true) => {
                self.debts.owe(&step.key, Instant::now());
                Written::Applied { existed: false, degraded: true }
            }
            (true, false) if !reply.is_in_doubt => Written::Removed { tier, why },
            (_, false) => {
                let why = format!("{why}, and the older value could not be deleted for certain");
                Written::Unknown { tier, why }
            }
        };
        self.written(step.id, outcome);
    }

    /// Notes what was lost with connections to L2.
    pub(super) fn note_doubtful(&mut self) {
        if let Some(l3) = &mut self.l3 {
            // Nothing is owed to the store of record.
            let _ = l3.take_doubtful();
        }
        let Some(l2) = &mut self.l2 else { return };
        let (keys, has_lost_sight) = l2.take_doubtful();
        if self.l3.is_none() {
            return;
        }
        let now = Instant::now();
        for key in &keys {
            self.debts.owe(key, now);
        }
        if has_lost_sight {
            self.debts.leave_out(now);
        }
    }

    /// Begins the deletes that L2 owes, if it takes them. Returns when to try again.
    pub(super) fn settle_debts(&mut self, now: Instant) -> Option<Instant> {
        if self.debts.is_empty() {
            return None;
        }
        let takes = |l2: &Server<_>| l2.health.allows() && !l2.has_formers();
        let takes_deletes = self.l2.as_ref().is_some_and(takes);
        let due = self.debts.advance(now, takes_deletes);
        while takes_deletes && let Some(key) = self.debts.next(now) {
            self.settling += 1;
            let ticket = self.running.insert(Step::Settle { key: key.clone() });
            self.ask_l2(Some(ticket), Request { key, ask: Ask::Delete });
        }
        due
    }
}

impl Taken {
    fn written(self, degraded: bool) -> Written {
        match self {
            Taken::Change { existed } => Written::Applied { existed, degraded },
            Taken::Operation(operated) => Written::Operated { tier: Tier::L3, operated, degraded },
        }
    }
}

pub(super) fn in_doubt() -> String {
    "an earlier change of the key has not been answered and may still be carried out".into()
}
