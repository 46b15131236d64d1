//! What the owner does with requests, answers and lost connections.

use super::{Answer, Ask, Rules, State, Tier, Value};

/// A fetch, and the reads that wait for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flight {
    pub number: u8,
    pub tier: Tier,
    pub is_alive: bool,
    /// A miss would join it.
    pub is_joinable: bool,
    /// A write can kill it.
    pub is_known: bool,
    /// The tier was in doubt when it was asked.
    pub in_doubt: bool,
    /// The least that each waiting read may return.
    pub floors: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    InL3,
    InL2,
}

/// A write in progress.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Write {
    pub value: Value,
    pub stage: Stage,
    pub in_doubt: bool,
}

impl State {
    /// L2 may be read and filled.
    fn may_use_l2(&self, rules: &Rules) -> bool {
        self.has_l2 && !self.l2_is_out && (!self.debt || !rules.debt)
    }

    /// A read that L1 cannot answer.
    pub fn board(&mut self, rules: &Rules) {
        let floor = self.acknowledged;
        if rules.one_flight
            && let Some(flight) = self.flights.iter_mut().find(|flight| flight.is_joinable)
        {
            flight.floors.push(floor);
            return;
        }
        let number = self.next_flight;
        self.next_flight += 1;
        let tier = if self.may_use_l2(rules) { Tier::L2 } else { Tier::L3 };
        self.line(tier).asked.push_back(Ask::Get(number));
        let in_doubt = self.line(tier).in_doubt;
        self.flights.push(Flight {
            number,
            tier,
            is_alive: true,
            is_joinable: true,
            is_known: rules.flight_first,
            in_doubt,
            floors: vec![floor],
        });
    }

    pub fn kill_flights(&mut self, rules: &Rules) {
        if rules.write_kills {
            for flight in self.flights.iter_mut().filter(|flight| flight.is_known) {
                flight.is_alive = false;
                flight.is_joinable = false;
            }
        }
    }

    pub fn begin_write(&mut self, value: Value, rules: &Rules) {
        self.kill_flights(rules);
        self.to_l3.asked.push_back(Ask::Set(value));
        let in_doubt = self.to_l3.in_doubt;
        self.write = Some(Write { value, stage: Stage::InL3, in_doubt });
    }

    /// The owner takes an answer.
    pub fn take(&mut self, tier: Tier, answer: Answer, rules: &Rules) {
        match answer {
            Answer::Got(number, found) => self.fetched(tier, number, found, rules),
            Answer::Failed(number) => {
                let Some(flight) = self.end_flight(number) else { return };
                if !rules.error_no_absence {
                    for floor in flight.floors {
                        self.returns(0, floor);
                    }
                }
            }
            Answer::Set => self.written(tier, rules),
            Answer::Filled => {}
            Answer::Deleted => self.debt = false,
        }
    }

    fn end_flight(&mut self, number: u8) -> Option<Flight> {
        let at = self.flights.iter().position(|flight| flight.number == number)?;
        Some(self.flights.remove(at))
    }

    fn fetched(&mut self, tier: Tier, number: u8, found: Option<Value>, rules: &Rules) {
        let Some(value) = found else {
            // L2 does not have it: L3 is asked.
            let in_doubt = self.to_l3.in_doubt;
            if let Some(flight) = self.flights.iter_mut().find(|flight| flight.number == number) {
                flight.tier = Tier::L3;
                flight.is_known = true;
                flight.in_doubt = in_doubt;
                self.to_l3.asked.push_back(Ask::Get(number));
            }
            return;
        };
        let Some(flight) = self.end_flight(number) else { return };
        let keep = (flight.is_alive || !rules.alive_only)
            && (!flight.in_doubt || !rules.doubt)
            && self.write.is_none();
        if keep {
            self.l1 = Some(value);
            if tier == Tier::L3 && self.may_use_l2(rules) {
                self.to_l2.asked.push_back(Ask::Add(value));
            }
        }
        for floor in flight.floors {
            self.returns(value, floor);
        }
    }

    fn written(&mut self, tier: Tier, rules: &Rules) {
        let Some(write) = self.write.clone() else { return };
        match tier {
            Tier::L3 if write.in_doubt && rules.doubt => self.end_unknown(rules),
            Tier::L3 => {
                if !rules.late_ack {
                    self.acknowledged = self.acknowledged.max(write.value);
                }
                if self.may_use_l2(rules) && !(self.to_l2.in_doubt && rules.doubt) {
                    self.write = Some(Write { stage: Stage::InL2, ..write });
                    self.to_l2.asked.push_back(Ask::Set(write.value));
                } else {
                    // L2 is left alone: it owes a delete, unless all of it is left out.
                    self.debt |= self.has_l2 && !self.l2_is_out;
                    self.end_write(rules);
                }
            }
            Tier::L2 => self.end_write(rules),
        }
    }

    /// Both tiers have it, or L2 owes a delete: published, then acknowledged.
    fn end_write(&mut self, rules: &Rules) {
        let Some(write) = self.write.take() else { return };
        self.kill_flights(rules);
        self.l1 = Some(write.value);
        self.acknowledged = self.acknowledged.max(write.value);
    }

    /// Nobody knows whether L3 has it.
    fn end_unknown(&mut self, rules: &Rules) {
        self.write = None;
        self.kill_flights(rules);
        if rules.unknown_clears {
            self.l1 = None;
        }
        // L2 has the old value, or none, and L3 may have the new one.
        self.debt |= self.has_l2 && !self.l2_is_out;
    }

    /// A connection breaks. Its reads get errors.
    pub fn lose(&mut self, tier: Tier, rules: &Rules) {
        let line = self.line(tier);
        let is_change = |ask: &Ask| !matches!(ask, Ask::Get(_));
        let is_read = |answer: &Answer| matches!(answer, Answer::Got(..) | Answer::Failed(_));
        line.in_doubt |= line.asked.iter().any(is_change) || !line.answers.iter().all(is_read);
        let asked = std::mem::take(&mut line.asked);
        line.former.extend(asked.into_iter().filter(is_change));
        line.answers.clear();
        self.flights.retain(|flight| flight.tier != tier);
        match self.write.as_ref().map(|write| write.stage) {
            Some(Stage::InL3) if tier == Tier::L3 => self.end_unknown(rules),
            Some(Stage::InL2) if tier == Tier::L2 => {
                // L3 has it, and decides (P14).
                self.debt = true;
                self.end_write(rules);
            }
            _ => {}
        }
    }

    /// The owner is killed, and the next one takes the table over.
    pub fn restart(&mut self, rules: &Rules) {
        for tier in [Tier::L2, Tier::L3] {
            let line = self.line(tier);
            let asked = std::mem::take(&mut line.asked);
            line.former.extend(asked.into_iter().filter(|ask| !matches!(ask, Ask::Get(_))));
            line.answers.clear();
            line.in_doubt = false;
        }
        self.flights.clear();
        self.debt = false;
        self.l2_is_out = false;
        if let Some(write) = self.write.take() {
            if rules.changing {
                self.l1 = None;
            }
            if !rules.no_replay {
                self.to_replay = Some(write.value);
            }
        }
        if self.unsettled && rules.unsettled {
            // The former session is ended before L3 is asked for anything else.
            self.to_l3.former.clear();
            self.l2_is_out = self.has_l2;
        }
    }
}
