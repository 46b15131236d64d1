//! The owner's figures: a snapshot of all, hits by rule, and samples of the last seconds.

use super::versions::Versions;
use super::{Owner, admin};
use crate::advise::advice;
use crate::doors::{Origin, Replies};
use l1d_wire::policy::{PolicySet, Rule};
use l1d_wire::snapshot::{
    Daemon, Flights, Hits, Moves, PagesFigures, PolicyFigures, Recent, Requests, Snapshot,
    TableFile, TableStats, Totals, percent,
};
use shm_layout::KeyHash;
use shm_layout::header::POLICIES;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Seconds of which the longest turn is kept.
const SECONDS: usize = 60;
/// Samples that `recent` spans.
const RECENT: usize = 10;

/// Counts that only rise, at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) at: Option<Instant>,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) writes: u64,
    pub(super) evicted: u64,
}

/// Samples of the last seconds. Reading them changes nothing.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// The latest first.
    counts: VecDeque<Counts>,
    /// The longest turn of each second that has ended, the latest first.
    turns: VecDeque<Duration>,
    /// That of the second under way.
    turn: Duration,
    /// Since the start.
    longest_turn: Duration,
    versions: Versions,
}

impl Samples {
    /// Of an owner that begins with this version.
    pub(super) fn new(version: u64) -> Samples {
        let mut samples = Samples::default();
        samples.versions.note(version, Instant::now());
        samples
    }

    /// A turn took this long.
    pub(super) fn turned(&mut self, took: Duration) {
        self.turn = self.turn.max(took);
        self.longest_turn = self.longest_turn.max(took);
    }

    fn take(&mut self, counts: Counts) {
        self.turns.push_front(std::mem::take(&mut self.turn));
        self.turns.truncate(SECONDS);
        self.counts.push_front(counts);
        self.counts.truncate(RECENT + 1);
    }

    fn recent(&self, now: &Counts) -> Recent {
        let before = self.counts.back().unwrap_or(now);
        let covers = now.at.zip(before.at).map_or(Duration::ZERO, |(now, before)| now - before);
        // Clients count their hits themselves, and may say anything.
        let hits = now.hits.saturating_sub(before.hits);
        let misses = now.misses - before.misses;
        let writes = now.writes - before.writes;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = |count: u64| match covers.as_secs_f64() {
            0.0 => 0.0,
            seconds => count as f64 / seconds,
        };
        let turns = self.turns.iter().take(RECENT).chain([&self.turn]);
        Recent {
            covers_ms: u64::try_from(covers.as_millis()).unwrap_or(u64::MAX),
            hits,
            misses,
            hit_percent: percent(hits, hits.saturating_add(misses)),
            reads_per_second: rate(hits.saturating_add(misses)),
            writes,
            writes_per_second: rate(writes),
            // Another table may be in force meanwhile.
            evicted: now.evicted.saturating_sub(before.evicted),
            longest_turn_us: turns.copied().map(micros).max().unwrap_or(0),
        }
    }
}

/// Hits and misses by the number of a rule.
#[derive(Debug)]
pub(super) struct PolicyHits {
    counts: Box<[(u64, u64); POLICIES]>,
    /// Hits of keys that have left the table, and of rules that are gone.
    others: u64,
}

impl PolicyHits {
    pub(super) fn new() -> PolicyHits {
        PolicyHits { counts: Box::new([(0, 0); POLICIES]), others: 0 }
    }

    pub(super) fn hit(&mut self, rule: u8, times: u32) {
        let (hits, _) = &mut self.counts[usize::from(rule)];
        *hits = hits.saturating_add(times.into());
    }

    pub(super) fn missed(&mut self, rule: u8) {
        self.counts[usize::from(rule)].1 += 1;
    }

    /// The hits of a rule, out of `hits` of all: those that were reported are a sample.
    fn hits(&self, rule: u8, hits: u64) -> u64 {
        let counted = |sum: u64, count: &(u64, u64)| sum.saturating_add(count.0);
        let sum = self.counts.iter().fold(self.others, counted).max(1);
        let share = u128::from(self.counts[usize::from(rule)].0) * u128::from(hits);
        u64::try_from(share / u128::from(sum)).unwrap_or(u64::MAX)
    }

    /// Another policy is in force: rules that are new begin with nothing.
    pub(super) fn follow(&mut self, before: &PolicySet, now: &PolicySet) {
        let prefix = |policy: &PolicySet, id| policy.by_id(id).map(|rule| rule.prefix.clone());
        for id in 0..=u8::MAX {
            if prefix(before, id) != prefix(now, id) {
                let (hits, _) = std::mem::take(&mut self.counts[usize::from(id)]);
                self.others = self.others.saturating_add(hits);
            }
        }
    }
}

impl Owner {
    /// Counts a reported hit for the rule of its key.
    pub(super) fn count_hit(&mut self, hash: KeyHash, times: u32) {
        self.counters.hits_told += u64::from(times);
        self.hot_keys.hit(hash, times);
        match self.tables.current().header_by_hash(hash) {
            Some(header) => self.policy_hits.hit(header.policy, times),
            None => {
                let others = &mut self.policy_hits.others;
                *others = others.saturating_add(times.into());
            }
        }
    }

    /// Requests for keys, and hits that clients have reported.
    pub(super) fn served(&self) -> u64 {
        let Requests { gets, hits_told, sets, deletes, operations, .. } = self.counters;
        gets + hits_told + sets + deletes + operations
    }

    /// Once a second.
    pub(super) fn take_sample(&mut self, replies: &dyn Replies) {
        let counts = self.counts(&replies.totals());
        self.add_to_history(counts, self.samples.turn);
        self.samples.take(counts);
        self.samples.versions.note(self.tables.current().next_version(), Instant::now());
        self.hot_keys.next_second();
    }

    fn counts(&self, clients: &Totals) -> Counts {
        let Requests { gets, gets_found_in_table: found, sets, deletes, operations, .. } =
            self.counters;
        Counts {
            at: Some(Instant::now()),
            hits: clients.figures.client_reported.hits.saturating_add(found),
            misses: gets - found,
            writes: sets + deletes + operations,
            evicted: self.tables.current().evicted(),
        }
    }

    pub(super) fn stats(&self, origin: Origin, replies: &mut dyn Replies) {
        let snapshot = self.snapshot(replies);
        admin::reply_json(origin, &snapshot, replies);
    }

    pub(super) fn snapshot(&self, replies: &dyn Replies) -> Snapshot {
        let clients = replies.totals();
        let counts = self.counts(&clients);
        let rules = self.policy.rules().iter();
        let policies = rules.map(|rule| self.policy_figures(rule, counts.hits)).collect();
        let mut snapshot = Snapshot {
            advice: Vec::new(),
            daemon: Daemon {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                uptime_seconds: self.started.elapsed().as_secs(),
                longest_turn_us: micros(self.samples.longest_turn),
                longest_turn_each_second_us: self.longest_turns(),
                log_lines_dropped: crate::log::lines_dropped(),
                table_taken_over: self.tables.was_taken_over(),
            },
            table_file: self.table_file(),
            hits: Hits::new(counts.hits, counts.misses),
            recent: self.samples.recent(&counts),
            clients,
            table: self.table_stats(),
            index_advice: self.index_advice(),
            moves: self.moves(),
            advisor_private_bytes: self.tables.advisor_bytes() as u64,
            policies,
            requests: self.counters,
            flights: Flights {
                under_way: self.flights.count() as u64,
                begun: self.flights.begun,
                joined: self.flights.joined,
                killed: self.flights.killed,
            },
            writes_under_way: self.writes.count() as u64,
            tiers: self.below.as_ref().map(|below| below.stats()),
        };
        snapshot.advice = advice(&snapshot, &self.tables.estimate());
        snapshot
    }

    fn table_stats(&self) -> TableStats {
        let table = self.tables.current();
        let oldest = table.oldest_version().and_then(|version| self.samples.versions.at(version));
        let oldest_entry_seconds = oldest.map(|at| at.elapsed().as_secs());
        TableStats { oldest_entry_seconds, ..table.stats() }
    }

    fn longest_turns(&self) -> Vec<u64> {
        let turns = [&self.samples.turn].into_iter().chain(&self.samples.turns);
        turns.take(SECONDS).copied().map(micros).collect()
    }

    /// The table's file, and the pages in which the daemon has mapped it.
    fn table_file(&self) -> TableFile {
        let file = self.tables.file();
        TableFile {
            path: self.tables.path().to_string_lossy().into_owned(),
            bytes: file.bytes(),
            pages: file.pages().map(|pages| PagesFigures::from(&pages)),
        }
    }

    fn moves(&self) -> Moves {
        let table_id = self.tables.current().writer().geometry().identity().table_id;
        let (processes, bytes) = self.resizing.behind(table_id);
        Moves {
            moves: self.resizing.moves,
            under_way: self.tables.progress(),
            processes_in_former_tables: processes as u64,
            bytes_of_these_tables: bytes,
            index_suits_entry_bytes: self.tables.current().misfit(),
        }
    }

    fn policy_figures(&self, rule: &Rule, all_hits: u64) -> PolicyFigures {
        let live_bytes = self.tables.current().policy_bytes(rule.id);
        let log_bytes = self.tables.current().writer().geometry().log_bytes();
        let hits = self.policy_hits.hits(rule.id, all_hits);
        let (_, misses) = self.policy_hits.counts[usize::from(rule.id)];
        PolicyFigures {
            id: rule.id,
            prefix: String::from_utf8_lossy(&rule.prefix).into_owned(),
            live_bytes,
            share_percent: percent(live_bytes, log_bytes).unwrap_or(0.0),
            share_max_percent: rule.share_max_permille.map(|share| f64::from(share) / 10.0),
            refused_as_full: self.tables.current().refused_as_full(rule.id),
            hits,
            misses,
            hit_percent: percent(hits, hits.saturating_add(misses)),
            ttl_ms: u64::try_from(rule.ttl.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_turn_is_kept_for_as_long_as_is_said_whoever_asks() {
        let mut samples = Samples::default();
        samples.turned(Duration::from_micros(700));
        for second in 0..RECENT {
            let now = Counts::default();
            for _ in 0..3 {
                assert_eq!(samples.recent(&now).longest_turn_us, 700, "{second}");
            }
            samples.take(now);
            samples.turned(Duration::from_micros(20));
        }
        samples.take(Counts::default());
        assert_eq!(samples.recent(&Counts::default()).longest_turn_us, 20);
        assert_eq!(samples.longest_turn, Duration::from_micros(700));
        for _ in 0..2 * SECONDS {
            samples.take(Counts::default());
        }
        assert_eq!((samples.turns.len(), samples.counts.len()), (SECONDS, RECENT + 1));
    }

    #[test]
    fn a_rate_covers_the_samples_that_there_are() {
        let begun = Instant::now();
        let at = |seconds, count| Counts {
            at: Some(begun + Duration::from_secs(seconds)),
            hits: count * 3,
            misses: count,
            ..Counts::default()
        };
        let mut samples = Samples::default();
        assert_eq!(samples.recent(&at(0, 0)).covers_ms, 0);
        for second in 0..30 {
            samples.take(at(second, second * 100));
        }
        let recent = samples.recent(&at(30, 3000));
        assert_eq!((recent.covers_ms, recent.misses), (11_000, 1100));
        assert_eq!(recent.hit_percent, Some(75.0));
        assert!((recent.reads_per_second - 400.0).abs() < 1e-6);
    }

    #[test]
    fn hits_by_rule_are_scaled_to_all_hits_and_what_is_gone_keeps_its_part() {
        let mut hits = PolicyHits::new();
        assert_eq!(hits.hits(0, 1000), 0);
        hits.hit(1, 30);
        hits.hit(2, 10);
        assert_eq!([1, 2].map(|rule| hits.hits(rule, 1000)), [750, 250]);
        hits.others = 60;
        assert_eq!([1, 2].map(|rule| hits.hits(rule, 1000)), [300, 100]);
        hits.hit(3, u32::MAX);
        assert!(hits.hits(3, u64::MAX) > u64::MAX / 2);
    }
}
