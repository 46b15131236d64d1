//! The report: what was done, what was seen, what was found.

use super::flips::Place;
use super::leaks::{Held, Leaks};
use super::mode::Mode;
use crate::machine::Machine;
use crate::table::table;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Kills, by kind.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Kills {
    /// Of the daemon, by SIGKILL.
    pub daemon: u64,
    /// Of writers.
    pub writers: u64,
    /// Of readers and visitors.
    pub readers: u64,
    /// Of these clients, those that were stopped.
    pub stopped_clients: u64,
}

/// Other things done, by kind.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Done {
    pub daemon_stops: u64,
    pub daemon_ends: u64,
    pub client_stops: u64,
    pub visits: u64,
    pub tier_faults: u64,
    pub resizes: u64,
    pub reloads: u64,
}

/// What the clients did.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Seen {
    pub attached: u64,
    pub reads: u64,
    pub values: u64,
    pub writes: u64,
    pub acknowledged: u64,
    pub unanswered: u64,
    pub unknown: u64,
    pub errors: u64,
}

/// One mode.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    pub mode: Mode,
    pub seconds: f64,
    pub kills: Kills,
    pub done: Done,
    pub seen: Seen,
    /// Bits flipped, by place.
    pub flips: BTreeMap<Place, u64>,
    /// Restarts after flips that had to make a fresh table.
    pub fresh_tables: u64,
    /// Bits flipped inside values; found by a check; found after the next start.
    pub values_flipped: u64,
    pub values_found_by_check: u64,
    pub values_found_by_restart: u64,
    /// Keys verified at the end, in L1 and in the store of record.
    pub verified: u64,
    /// Settled values that a kill of the daemon has lost.
    pub lost: u64,
    pub evicted: u64,
    pub daemon: Leaks,
    pub anchor: Leaks,
    pub wrong: u64,
    pub findings: Vec<String>,
}

/// The whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub command: String,
    pub seed: u64,
    pub parts: Vec<Part>,
}

impl Part {
    /// Kills of all kinds.
    pub fn kills(&self) -> u64 {
        self.kills.daemon + self.kills.writers + self.kills.readers
    }
}

impl Report {
    /// Kills of all kinds.
    pub fn kills(&self) -> u64 {
        self.parts.iter().map(Part::kills).sum()
    }

    /// Whatever must not have happened.
    pub fn wrong(&self) -> u64 {
        self.parts.iter().map(|part| part.wrong).sum()
    }

    /// For people, on one page.
    pub fn text(&self) -> String {
        let Machine { cpu, kernel, .. } = &self.machine;
        let mut lines = table(1, ["", "all", "clients", "presence", "flips", "sum"]);
        let mut row = |name: &str, of: &dyn Fn(&Part) -> u64| {
            let of_mode = |mode| {
                let part = self.parts.iter().find(|part| part.mode == mode);
                part.map_or_else(|| "-".to_owned(), |part| of(part).to_string())
            };
            let cells = Mode::ALL.map(of_mode);
            let sum: u64 = self.parts.iter().map(of).sum();
            let name = std::iter::once(name.to_owned());
            lines.add_row(name.chain(cells).chain([sum.to_string()]).collect::<Vec<_>>());
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds")]
        row("seconds", &|part| part.seconds as u64);
        row("kills of the daemon", &|part| part.kills.daemon);
        row("kills of writers", &|part| part.kills.writers);
        row("kills of readers", &|part| part.kills.readers);
        row("of these clients, stopped ones", &|part| part.kills.stopped_clients);
        row("stops of the daemon", &|part| part.done.daemon_stops);
        row("ends of the daemon by SIGTERM", &|part| part.done.daemon_ends);
        row("stops of clients", &|part| part.done.client_stops);
        row("faults of tiers", &|part| part.done.tier_faults);
        row("resizes", &|part| part.done.resizes);
        row("reloads", &|part| part.done.reloads);
        row("bits flipped", &|part| part.flips.values().sum());
        row("fresh tables after flips", &|part| part.fresh_tables);
        row("attachments", &|part| part.seen.attached);
        row("reads", &|part| part.seen.reads);
        row("values verified", &|part| part.seen.values);
        row("writes", &|part| part.seen.writes);
        row("of these acknowledged", &|part| part.seen.acknowledged);
        row("of unknown outcome", &|part| part.seen.unknown);
        row("other errors", &|part| part.seen.errors);
        row("keys verified at the end", &|part| part.verified);
        row("lost by kills of the daemon", &|part| part.lost);
        row("evicted", &|part| part.evicted);
        row("wrong", &|part| part.wrong);
        let mut text = format!(
            "{cpu}, kernel {kernel}. {}\nSeed {}: {} kills, {} wrong.\n{lines}",
            self.command,
            self.seed,
            self.kills(),
            self.wrong()
        );
        for part in &self.parts {
            let name = part.mode.name();
            for (who, leaks) in [("the daemon", &part.daemon), ("a client", &part.anchor)] {
                let _ = write!(text, "\n{name}, {who}: {}", held(leaks));
            }
            if part.values_flipped > 0 {
                let _ = write!(
                    text,
                    "\n{name}: bits flipped inside {} values; a check found {}, a restart {}",
                    part.values_flipped, part.values_found_by_check, part.values_found_by_restart
                );
            }
            for finding in &part.findings {
                let _ = write!(text, "\n{name}: WRONG: {finding}");
            }
        }
        text
    }
}

fn held(Leaks { start, end, .. }: &Leaks) -> String {
    let of = |held: &Held| {
        format!(
            "{} descriptors, {} mappings, {:.1} MiB",
            held.descriptors,
            held.mappings,
            held.private_bytes as f64 / f64::from(1 << 20)
        )
    };
    format!("{} at the start; {} at the end", of(start), of(end))
}
