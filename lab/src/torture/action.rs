//! What is done, and when: drawn by the seed alone, whatever comes of it.

use super::flips::Place;
use super::mode::{Mode, Weights};
use crate::random::Random;
use std::time::Duration;

/// A fault of a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its replies are held back.
    Replies,
    /// Requests are delivered late.
    Requests,
    /// Its connections are cut, and new ones too.
    Cut,
    /// Nothing passes over the connections that exist, and neither side is told.
    HalfOpen,
    /// The server is stopped.
    Stop,
    /// The server is killed and started again: memcached empty, Redis with its record.
    Kill,
}

/// One action. `Duration`s: until its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    KillWriter(usize),
    KillReader(usize),
    /// Stops a client; at the end it is killed or goes on.
    StopClient(usize, Duration, bool),
    /// A process attaches, reads this many times and ends.
    Visit(u64),
    /// Kills the daemon, and starts it again later.
    KillDaemon(Duration),
    StopDaemon(Duration),
    /// Ends the daemon by SIGTERM, and starts it again.
    TerminateDaemon,
    Tier(usize, Fault, Duration),
    /// Moves the table to its other size.
    Resize,
    /// Reads the configuration again: that of this variant.
    Reload(usize),
    /// Flips a bit; the numbers choose the word and the bit.
    Flip(Place, u64, u32),
}

/// The sequence of actions and of pauses before them.
pub struct Plan {
    random: Random,
    weights: Weights,
}

impl Plan {
    /// The plan of this mode for this seed.
    pub fn new(mode: Mode, seed: u64) -> Plan {
        let random = Random::new(seed.wrapping_mul(31).wrapping_add(mode as u64));
        Plan { random, weights: mode.weights() }
    }

    /// The next pause and the action that follows it.
    pub fn next(&mut self) -> (Duration, Action) {
        let pause = self.millis(5, 100);
        (pause, self.action())
    }

    /// The seed of a process.
    pub fn seed(&mut self) -> u64 {
        self.random.word()
    }

    fn millis(&mut self, from: usize, to: usize) -> Duration {
        let millis = from + self.random.below(to - from);
        Duration::from_millis(millis as u64)
    }

    fn action(&mut self) -> Action {
        let Weights { kill_writer, kill_reader, stop_client, visit, .. } = self.weights;
        let Weights { kill_daemon, stop_daemon, terminate_daemon, .. } = self.weights;
        let Weights { tier, resize, reload, flip, .. } = self.weights;
        let weights = [
            kill_writer,
            kill_reader,
            stop_client,
            visit,
            kill_daemon,
            stop_daemon,
            terminate_daemon,
            tier,
            resize,
            reload,
            flip,
        ];
        let mut draw = self.random.below(weights.iter().sum());
        let kind = weights.iter().position(|weight| {
            let is_drawn = draw < *weight;
            draw = draw.saturating_sub(*weight);
            is_drawn
        });
        let number = self.random.below(1 << 20);
        match kind.unwrap_or(0) {
            0 => Action::KillWriter(number),
            1 => Action::KillReader(number),
            2 => Action::StopClient(number, self.millis(5, 400), number.is_multiple_of(4)),
            3 => Action::Visit(number as u64 % 100),
            4 if number.is_multiple_of(3) => Action::KillDaemon(self.millis(1, 300)),
            4 => Action::KillDaemon(Duration::ZERO),
            // Longer than the calls of clients wait.
            5 if number.is_multiple_of(4) => Action::StopDaemon(self.millis(400, 900)),
            5 => Action::StopDaemon(self.millis(5, 200)),
            6 => Action::TerminateDaemon,
            7 => {
                let fault = [
                    Fault::Replies,
                    Fault::Requests,
                    Fault::Cut,
                    Fault::HalfOpen,
                    Fault::Stop,
                    Fault::Kill,
                ][number % 6];
                Action::Tier(self.random.below(2), fault, self.millis(20, 300))
            }
            8 => Action::Resize,
            9 => Action::Reload(number),
            _ => {
                let place = Place::ALL[number % Place::ALL.len()];
                let bit = u32::try_from(self.random.below(64)).unwrap_or(0);
                Action::Flip(place, self.random.word(), bit)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_alone_decides_what_is_done() {
        let actions = |mode, seed| {
            let mut plan = Plan::new(mode, seed);
            (0..500).map(|_| plan.next()).collect::<Vec<_>>()
        };
        assert_eq!(actions(Mode::All, 7), actions(Mode::All, 7));
        assert_ne!(actions(Mode::All, 7), actions(Mode::All, 8));
        let all = actions(Mode::Flips, 7);
        assert!(all.iter().any(|(_, action)| matches!(action, Action::Flip(..))));
        let clients = actions(Mode::Clients, 7);
        assert!(!clients.iter().any(|(_, action)| matches!(action, Action::KillDaemon(_))));
    }
}
