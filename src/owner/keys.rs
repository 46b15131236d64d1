//! The hottest and the largest keys, from samples, a bounded step a turn.

use super::Owner;
use super::admin::{BUCKETS_PER_TURN, Task, reply_json};
use super::request::remaining;
use crate::doors::{Origin, Replies};
use crate::table::{Key, Largest};
use l1d_wire::snapshot::{KeyFigures, KeyOrder, Keys, percent};
use rapidhash::RapidHashMap;
use shm_layout::KeyHash;
use shm_layout::entry::MARK_ABSENT;
use std::collections::VecDeque;

/// Reports in the sample, in 16 bytes each.
const RECORDS: usize = 1 << 14;
/// Reports a second that the sample should take, so that it covers some ten seconds.
const PER_SECOND: u32 = 1600;
/// Steps of a walk over the index.
const STEPS: u32 = 128;
/// Keys that are looked up by their hashes in one turn.
const HASHES_PER_TURN: usize = 256;
/// The most keys that are named.
const TOP_MAX: u16 = 1000;
/// Bytes of a key that are shown.
const KEY_BYTES_SHOWN: usize = 256;

/// A report, and how many hits it stands for.
#[derive(Debug, Clone, Copy)]
struct Record {
    hash: u64,
    hits: u32,
    second: u32,
}

/// A sample of the keys that were hit lately.
#[derive(Debug)]
pub(super) struct HotKeys {
    /// The latest last.
    records: VecDeque<Record>,
    second: u32,
    /// Reports in the second under way.
    reports: u32,
    /// One report in this many is kept.
    one_in: u32,
    /// Reports to go until the next one is kept, and the hits of those that were left out.
    left: u32,
    passed: u32,
    random: u64,
}

impl HotKeys {
    pub(super) fn new() -> HotKeys {
        HotKeys {
            records: VecDeque::new(),
            second: 0,
            reports: 0,
            one_in: 1,
            left: 1,
            passed: 0,
            random: 1,
        }
    }

    /// A key was reported, for `hits` hits.
    #[inline]
    pub(super) fn hit(&mut self, hash: KeyHash, hits: u32) {
        self.reports = self.reports.saturating_add(1);
        self.passed = self.passed.saturating_add(hits);
        self.left -= 1;
        if self.left == 0 {
            self.keep(hash);
        }
    }

    fn keep(&mut self, hash: KeyHash) {
        // Knuth's MMIX generator: in no rhythm, which the keys of a program might have as well.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let span = u64::from(self.one_in) * 2 - 1;
        self.left = 1 + u32::try_from((self.random >> 33) % span).unwrap_or(0);
        if self.records.len() == RECORDS {
            self.records.pop_front();
        }
        let hits = std::mem::take(&mut self.passed);
        self.records.push_back(Record { hash: hash.0, hits, second: self.second });
    }

    /// Once a second: keeps fewer reports where more come.
    pub(super) fn next_second(&mut self) {
        self.one_in = (std::mem::take(&mut self.reports) / PER_SECOND).max(1);
        self.left = self.left.min(2 * self.one_in);
        self.second = self.second.wrapping_add(1);
    }

    /// Hits by the key's hash, and their sum.
    fn hits(&self) -> (RapidHashMap<u64, u64>, u64) {
        let mut hits = RapidHashMap::default();
        for record in &self.records {
            *hits.entry(record.hash).or_insert(0) += u64::from(record.hits);
        }
        (hits, self.records.iter().map(|record| u64::from(record.hits)).sum())
    }

    fn covers_seconds(&self) -> u64 {
        let first = self.records.front().map_or(self.second, |record| record.second);
        u64::from(self.second.wrapping_sub(first))
    }
}

/// A search for keys that spans several turns.
#[derive(Debug)]
pub(super) struct Search {
    answer: Keys,
    top: usize,
    prefix: Vec<u8>,
    hits: RapidHashMap<u64, u64>,
    /// By hits: the hashes that were not looked up yet, the hottest last.
    hashes: Vec<u64>,
    /// By size: the next step.
    step: u32,
    largest: Largest,
}

impl Search {
    /// Another table is in force.
    pub(super) fn restart(&mut self) {
        self.step = 0;
        self.largest = Largest::new(&self.prefix, self.top);
    }
}

impl Owner {
    pub(super) fn keys(
        &mut self,
        (prefix, top, by): (&[u8], u16, KeyOrder),
        origin: Origin,
        replies: &mut dyn Replies,
    ) {
        let top = usize::from(top.min(TOP_MAX));
        let (hits, sampled_hits) = self.hot_keys.hits();
        let mut hashes = Vec::new();
        if by == KeyOrder::Hits {
            hashes.extend(hits.keys().copied());
            hashes.sort_unstable_by_key(|hash| hits.get(hash));
        }
        let answer = Keys {
            by,
            prefix: String::from_utf8_lossy(prefix).into_owned(),
            sampled_reports: self.hot_keys.records.len() as u64,
            sampled_hits,
            covers_seconds: self.hot_keys.covers_seconds(),
            ..Keys::default()
        };
        let largest = Largest::new(prefix, top);
        let prefix = prefix.to_vec();
        let search = Search { answer, top, prefix, hits, hashes, step: 0, largest };
        self.queue(Task::Keys { origin, search: Box::new(search) }, origin, replies);
    }

    /// Takes a step. Returns whether it was the last one, which answers.
    pub(super) fn search_keys(
        &mut self,
        origin: Origin,
        search: &mut Search,
        replies: &mut dyn Replies,
    ) -> bool {
        let now_ns = self.now_ns();
        let is_done = match search.answer.by {
            KeyOrder::Hits => self.look_up_hottest(search, now_ns),
            KeyOrder::Size => self.look_for_largest(search, now_ns),
        };
        if is_done {
            search.answer.entries = self.tables.current().stats().entries;
            reply_json(origin, &search.answer, replies);
        }
        is_done
    }

    fn look_up_hottest(&mut self, search: &mut Search, now_ns: u64) -> bool {
        for _ in 0..HASHES_PER_TURN {
            if search.answer.keys.len() >= search.top {
                return true;
            }
            let Some(hash) = search.hashes.pop() else { return true };
            search.answer.entries_seen += 1;
            if let Some(key) = self.tables.key_by_hash(KeyHash(hash), now_ns)
                && key.key.starts_with(&search.prefix)
            {
                search.answer.keys.push(figures(&key, search, now_ns));
            }
        }
        false
    }

    fn look_for_largest(&mut self, search: &mut Search, now_ns: u64) -> bool {
        let buckets = self.tables.current().writer().geometry().bucket_count();
        // Steps that are spread over the index, or all of it where they reach.
        let pace = (buckets / STEPS).max(BUCKETS_PER_TURN);
        let start = search.step.saturating_mul(pace);
        self.tables.look_for_largest(start, BUCKETS_PER_TURN, now_ns, &mut search.largest);
        search.step += 1;
        let is_done = search.step == STEPS || start.saturating_add(pace) >= buckets;
        if is_done {
            let keys = search.largest.keys().iter().map(|key| figures(key, search, now_ns));
            search.answer.keys = keys.collect();
            search.answer.entries_seen = search.largest.seen;
        }
        is_done
    }
}

fn figures(key: &Key, search: &Search, now_ns: u64) -> KeyFigures {
    let shown = key.key.get(..KEY_BYTES_SHOWN).unwrap_or(&key.key);
    let is_text = std::str::from_utf8(&key.key).is_ok();
    let hits = search.hits.get(&key.hash.0).copied().unwrap_or(0);
    let ttl_ms = u64::try_from(remaining(key.header.expiry, now_ns).as_millis());
    KeyFigures {
        key: String::from_utf8_lossy(shown).into_owned(),
        key_hex: (!is_text).then(|| shown.iter().map(|byte| format!("{byte:02x}")).collect()),
        key_bytes: key.key.len() as u64,
        hits,
        hits_percent: percent(hits, search.answer.sampled_hits),
        value_bytes: key.header.value_bytes.into(),
        entry_bytes: key.header.bytes() as u64,
        ttl_ms: ttl_ms.ok(),
        known_absent: key.header.marks & MARK_ABSENT != 0,
        policy: key.header.policy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hazard: a sample that takes the memory of a busy host, or names the wrong keys.
    #[test]
    fn the_sample_is_bounded_and_its_parts_are_those_of_all_hits() {
        let mut hot = HotKeys::new();
        for _ in 0..60 {
            // 200,000 reports, every fourth of them for one key.
            for n in 0..200_000_u64 {
                hot.hit(KeyHash(if n % 4 == 0 { 7 } else { n + 10 }), 3);
            }
            hot.next_second();
        }
        assert!(hot.records.len() <= RECORDS);
        assert!((5..=15).contains(&hot.covers_seconds()), "{}", hot.covers_seconds());
        let (hits, all) = hot.hits();
        #[expect(clippy::cast_precision_loss, reason = "a part")]
        let part = hits[&7] as f64 / all as f64;
        assert!((0.23..0.27).contains(&part), "{part}");
        // All of the time that is covered.
        let real = 600_000 * hot.covers_seconds();
        assert!((real * 9 / 10..=real * 11 / 10).contains(&all), "{all} of {real}");
    }

    #[test]
    fn few_reports_are_all_kept() {
        let mut hot = HotKeys::new();
        for n in 0..100 {
            hot.hit(KeyHash(n), 1);
            hot.next_second();
        }
        assert_eq!((hot.hits().1, hot.covers_seconds()), (100, 100));
    }
}
