//! The protocol between clients, the owner, L2, L3 and the next owner, for one key, in every order
//! of events: fills, writes, invalidations, lost connections, unknown outcomes, kills.
//!
//! Servers carry out requests in the order of each connection, also those of a connection that was
//! closed, if they have received them. Values are numbered in the order in which they are written.
//!
//! | property | in words |
//! |---|---|
//! | `reads` | a read returns what was acknowledged before it began, or later (W7, P1-P3, P7, P9) |
//! | `never back` | what L1 shows never goes back to an older value |
//! | `agreement` | at rest, L1 and a readable L2 have what L3 has (P7, P12, P13) |
//! | `one flight` | at most one flight can be joined (P10) |
//!
//! Each rule that is left out must break one of them. That nothing is filled while a write is in
//! progress (P7) is part of the model, but adds nothing to the order of each connection. Outside of
//! this model: P5 and P11, which concern invalidations from other hosts; P4, which is not built; P6
//! and P8, which need a second host and time; S1 to S5, which the kills at fault points test.

mod owner;
mod tests;

use owner::{Flight, Stage, Write};
use stateright::{Model, Property};
use std::collections::VecDeque;

/// A value of the key; the higher, the later it was written.
type Value = u8;

/// The rules in force.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// P1: a flight is known, and can be killed, before its first byte is sent.
    pub flight_first: bool,
    /// P2: a write kills the key's flight, at its beginning and at its end.
    pub write_kills: bool,
    /// P3: only a live flight installs its value.
    pub alive_only: bool,
    /// P7: an unknown outcome clears the slot.
    pub unknown_clears: bool,
    /// P9: an error is no absence.
    pub error_no_absence: bool,
    /// P10: a miss joins the flight under way.
    pub one_flight: bool,
    /// P12: what is read while a former connection lasts is not kept, and a write of L3 is not
    /// acknowledged.
    pub doubt: bool,
    /// P13: L2 is left alone until it has confirmed a delete.
    pub debt: bool,
    /// P12: a restart leaves L2 out, and ends the former session with L3, if anything was
    /// unsettled.
    pub unsettled: bool,
    /// P22: a restart drops what L1 has of a key that was in change.
    pub changing: bool,
    /// S7: a write in flight at a kill is not sent again.
    pub no_replay: bool,
    /// W7: acknowledged only after the slot store.
    pub late_ack: bool,
}

impl Rules {
    pub const ALL: Rules = Rules {
        flight_first: true,
        write_kills: true,
        alive_only: true,
        unknown_clears: true,
        error_no_absence: true,
        one_flight: true,
        doubt: true,
        debt: true,
        unsettled: true,
        changing: true,
        no_replay: true,
        late_ack: true,
    };
}

/// How often each thing may happen: bounds of the exploration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Left {
    pub reads: u8,
    pub writes: u8,
    /// Of a connection, each.
    pub losses: u8,
    pub kills: u8,
    /// From L1 and L2, each.
    pub evictions: u8,
    /// Changes by another host, each with an invalidation here. Only without L2, in which such a
    /// change may be undone by a late fill (P6).
    pub others: u8,
    pub errors: u8,
}

/// The model: which rules hold, and how much happens.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    pub rules: Rules,
    pub left: Left,
    pub has_l2: bool,
}

/// A request that a server has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ask {
    Get(u8),
    Set(Value),
    /// Only if there is none.
    Add(Value),
    Delete,
}

/// An answer on its way, in wire order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    Got(u8, Option<Value>),
    Failed(u8),
    Set,
    Filled,
    Deleted,
}

/// A connection to a tier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Line {
    pub asked: VecDeque<Ask>,
    pub answers: VecDeque<Answer>,
    /// What the server may still carry out of connections that were closed.
    pub former: VecDeque<Ask>,
    /// The owner knows of a former connection with changes that may not have ended.
    pub in_doubt: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    L2,
    L3,
}

/// Everything that is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub left: Left,
    pub has_l2: bool,
    // Below.
    pub l2: Option<Value>,
    pub l3: Value,
    pub to_l2: Line,
    pub to_l3: Line,
    // In the table, which outlives the owner.
    pub l1: Option<Value>,
    pub unsettled: bool,
    // The owner's private state.
    pub flights: Vec<Flight>,
    pub next_flight: u8,
    pub write: Option<Write>,
    /// L2 owes a delete.
    pub debt: bool,
    /// L2 may hold anything until all has expired.
    pub l2_is_out: bool,
    // Clients.
    pub next_value: Value,
    pub acknowledged: Value,
    /// The latest value that L1 has shown.
    pub seen: Value,
    /// A write that a client would send again.
    pub to_replay: Option<Value>,
    /// A read has returned less than it may.
    pub is_wrong: bool,
    pub went_back: bool,
    /// Another host has changed L3, and nobody here has invalidated the key yet.
    pub is_stale: bool,
    /// What it stored last.
    pub others_value: Value,
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A read that L1 answers.
    Hit,
    /// A read that it does not.
    Miss,
    Write,
    Replay,
    /// A server carries out its next request.
    Serves(Tier),
    /// It cannot, and says so.
    Fails(Tier),
    /// The owner takes the next answer.
    Takes(Tier),
    /// A connection breaks.
    Breaks(Tier),
    /// A server carries out a request of a former connection.
    ServesFormer(Tier),
    /// The former connections have ended.
    EndsFormer(Tier),
    /// The owner has L2 delete the key.
    PaysDebt,
    /// All that L2 held has expired.
    Expires,
    EvictsL1,
    EvictsL2,
    /// Another host changes L3.
    OtherWrites,
    /// Somebody here who knows of that invalidates the key.
    Invalidates,
    /// SIGKILL, and the next owner.
    Restarts,
}

impl State {
    fn line(&mut self, tier: Tier) -> &mut Line {
        match tier {
            Tier::L2 => &mut self.to_l2,
            Tier::L3 => &mut self.to_l3,
        }
    }

    /// A server carries out one request.
    fn carry_out(&mut self, tier: Tier, ask: Ask) -> Answer {
        match (tier, ask) {
            (Tier::L2, Ask::Get(flight)) => Answer::Got(flight, self.l2),
            (Tier::L3, Ask::Get(flight)) => Answer::Got(flight, Some(self.l3)),
            (Tier::L2, Ask::Set(value)) => {
                self.l2 = Some(value);
                Answer::Set
            }
            (Tier::L3, Ask::Set(value)) => {
                self.l3 = value;
                Answer::Set
            }
            (_, Ask::Add(value)) => {
                self.l2 = self.l2.or(Some(value));
                Answer::Filled
            }
            (_, Ask::Delete) => {
                self.l2 = None;
                Answer::Deleted
            }
        }
    }

    /// A read ends with a value; 0: absent. `floor` was acknowledged when it began.
    fn returns(&mut self, value: Value, floor: Value) {
        self.is_wrong |= value < floor;
    }

    /// Nothing is under way.
    fn is_at_rest(&self) -> bool {
        let is_quiet = |line: &Line| {
            line.asked.is_empty() && line.answers.is_empty() && line.former.is_empty()
        };
        self.write.is_none()
            && self.flights.is_empty()
            && is_quiet(&self.to_l2)
            && is_quiet(&self.to_l3)
            && !self.debt
    }

    /// L1 has what L3 has, and so has L2 if it is read.
    fn agrees(&self) -> bool {
        let is_l3 = |held: Option<Value>| held.is_none_or(|value| value == self.l3);
        (is_l3(self.l1) || self.is_stale) && (is_l3(self.l2) || self.l2_is_out)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            left: self.left,
            has_l2: self.has_l2,
            l2: None,
            l3: 1,
            to_l2: Line::default(),
            to_l3: Line::default(),
            l1: None,
            unsettled: false,
            flights: Vec::new(),
            next_flight: 0,
            write: None,
            debt: false,
            l2_is_out: false,
            next_value: 2,
            acknowledged: 1,
            seen: 1,
            to_replay: None,
            is_wrong: false,
            went_back: false,
            is_stale: false,
            others_value: 1,
        }]
    }

    fn actions(&self, state: &State, events: &mut Vec<Event>) {
        let left = &state.left;
        if left.reads > 0 {
            events.push(if state.l1.is_some() { Event::Hit } else { Event::Miss });
        }
        if left.writes > 0 && state.write.is_none() {
            events.push(Event::Write);
        }
        if state.to_replay.is_some() && state.write.is_none() {
            events.push(Event::Replay);
        }
        for (tier, line) in [(Tier::L2, &state.to_l2), (Tier::L3, &state.to_l3)] {
            if !line.asked.is_empty() {
                events.push(Event::Serves(tier));
            }
            if left.errors > 0 && matches!(line.asked.front(), Some(Ask::Get(_))) {
                events.push(Event::Fails(tier));
            }
            if !line.answers.is_empty() {
                events.push(Event::Takes(tier));
            }
            if left.losses > 0 && !(line.asked.is_empty() && line.answers.is_empty()) {
                events.push(Event::Breaks(tier));
            }
            if !line.former.is_empty() {
                events.push(Event::ServesFormer(tier));
            }
            if !line.former.is_empty() || line.in_doubt {
                events.push(Event::EndsFormer(tier));
            }
        }
        let is_paying = state.to_l2.asked.contains(&Ask::Delete)
            || state.to_l2.answers.contains(&Answer::Deleted);
        if state.debt && !state.to_l2.in_doubt && !is_paying {
            events.push(Event::PaysDebt);
        }
        if state.l2_is_out && state.to_l2.former.is_empty() {
            events.push(Event::Expires);
        }
        if left.evictions > 0 {
            events.extend(state.l1.map(|_| Event::EvictsL1));
            events.extend(state.l2.map(|_| Event::EvictsL2));
        }
        // Whatever is still to be carried out of this host's would undo it.
        let is_settled = state.write.is_none() && state.to_l3.former.is_empty();
        if left.others > 0 && is_settled && !state.has_l2 {
            events.push(Event::OtherWrites);
        }
        if state.is_stale && state.write.is_none() {
            events.push(Event::Invalidates);
        }
        if left.kills > 0 {
            events.push(Event::Restarts);
        }
    }

    fn next_state(&self, before: &State, event: Event) -> Option<State> {
        let mut state = before.clone();
        match event {
            Event::Hit => {
                state.left.reads -= 1;
                let value = state.l1?;
                state.returns(value, state.acknowledged);
                state.went_back |= value < state.seen;
                state.seen = value;
            }
            Event::Miss => {
                state.left.reads -= 1;
                state.board(&self.rules);
            }
            Event::Write => {
                state.left.writes -= 1;
                let value = state.next_value;
                state.next_value += 1;
                state.begin_write(value, &self.rules);
            }
            Event::Replay => {
                let value = state.to_replay.take()?;
                state.begin_write(value, &self.rules);
            }
            Event::Serves(tier) => {
                let ask = state.line(tier).asked.pop_front()?;
                let answer = state.carry_out(tier, ask);
                state.line(tier).answers.push_back(answer);
            }
            Event::Fails(tier) => {
                state.left.errors -= 1;
                let Some(Ask::Get(flight)) = state.line(tier).asked.pop_front() else {
                    return None;
                };
                state.line(tier).answers.push_back(Answer::Failed(flight));
            }
            Event::Takes(tier) => {
                let answer = state.line(tier).answers.pop_front()?;
                state.take(tier, answer, &self.rules);
            }
            Event::Breaks(tier) => {
                state.left.losses -= 1;
                state.lose(tier, &self.rules);
            }
            Event::ServesFormer(tier) => {
                let ask = state.line(tier).former.pop_front()?;
                state.carry_out(tier, ask);
            }
            Event::EndsFormer(tier) => {
                state.line(tier).former.clear();
                state.line(tier).in_doubt = false;
            }
            Event::PaysDebt => state.to_l2.asked.push_back(Ask::Delete),
            Event::Expires => {
                state.l2 = None;
                state.l2_is_out = false;
            }
            Event::EvictsL1 => {
                state.left.evictions -= 1;
                state.l1 = None;
            }
            Event::EvictsL2 => {
                state.left.evictions -= 1;
                state.l2 = None;
            }
            Event::OtherWrites => {
                state.left.others -= 1;
                state.l3 = state.next_value;
                state.others_value = state.l3;
                state.next_value += 1;
                state.is_stale = true;
            }
            Event::Invalidates => {
                state.l1 = None;
                state.kill_flights(&self.rules);
                state.acknowledged = state.acknowledged.max(state.others_value);
                state.is_stale = false;
            }
            Event::Restarts => {
                state.left.kills -= 1;
                state.restart(&self.rules);
            }
        }
        state.note_unsettled();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Protocol>> {
        vec![
            Property::always("reads", |_, state: &State| !state.is_wrong),
            Property::always("never back", |_, state: &State| !state.went_back),
            Property::always("agreement", |_, state: &State| !state.is_at_rest() || state.agrees()),
            Property::always("one flight", |_, state: &State| {
                state.flights.iter().filter(|flight| flight.is_joinable).count() <= 1
            }),
        ]
    }
}

impl State {
    /// The word in the table: stored before a change is sent, cleared when nothing is open.
    fn note_unsettled(&mut self) {
        let is_change = |ask: &Ask| !matches!(ask, Ask::Get(_));
        let is_changed =
            |answer: &Answer| matches!(answer, Answer::Set | Answer::Filled | Answer::Deleted);
        let is_open = |line: &Line| {
            line.in_doubt || line.asked.iter().any(is_change) || line.answers.iter().any(is_changed)
        };
        let is_between = self.write.as_ref().is_some_and(|write| write.stage == Stage::InL2);
        self.unsettled = self.debt
            || self.l2_is_out
            || is_between
            || is_open(&self.to_l2)
            || is_open(&self.to_l3);
    }
}
