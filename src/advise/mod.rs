//! Estimates the hit ratio that the table would have if it were smaller or larger.
//!
//! A sample of the keys, chosen by hash, stands for all (spatial sampling: SHARDS, Waldspurger et
//! al., FAST 2015). Their events are simulated in miniature caches, one for each size (Waldspurger
//! et al., "Cache Modeling and Optimization using Miniature Simulations", USENIX ATC 2017): one key
//! in a hundred, in a hundredth of the memory. The miniatures keep no values and evict as the table
//! does ([`mini`]).
//!
//! The sampling rate adapts to the table: it is halved whenever the miniature of the table's own
//! size holds more than [`OBJECTS_MAX`] keys. So the memory is at most about a megabyte, and a key
//! that is not sampled costs a multiplication and a comparison.

mod advice;
mod mini;

pub use advice::advice;
use mini::Mini;
use shm_layout::entry::MARK_ABSENT;
use shm_layout::header::POLICIES;
use shm_layout::{EntryHeader, KeyHash};

/// The simulated sizes, in halves of the table's own.
const HALVES: [u64; SIZES] = [1, 2, 4, 8];
/// Number of simulated sizes.
pub const SIZES: usize = 4;
/// Position of the table's own size.
const OWN: usize = 1;
/// Most keys in the miniature of the table's own size.
pub const OBJECTS_MAX: usize = 1024;
/// If it holds fewer when it is full, more keys are sampled.
const OBJECTS_MIN: usize = OBJECTS_MAX / 8;
/// The policy of a hit is looked up for one in 2^DRAWN_BITS of the keys that are not sampled.
const DRAWN_BITS: u32 = 3;
/// Every key is sampled.
const ALL: u64 = 1 << 32;
/// After this many sampled reads, the weight of earlier reads is halved.
const MEMORY: f64 = 2_000_000.0;
/// With fewer sampled reads there is no estimate.
const READS_MIN: f64 = 200.0;

/// Classes that can have a share of the table: each policy, and all known absences.
const CLASSES: usize = POLICIES + 1;
/// The shares, in thousandths of the log; `None`: no limit.
type Shares = [Option<u16>; CLASSES];

/// Properties of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Bytes, including header and padding.
    pub bytes: u32,
    /// Id of its policy rule.
    pub policy: u8,
    /// It is a known absence.
    pub is_absent: bool,
    /// Expiry tick.
    pub expiry: u32,
}

impl Known {
    fn classes(self) -> impl Iterator<Item = usize> {
        [usize::from(self.policy)].into_iter().chain(self.is_absent.then_some(POLICIES))
    }
}

impl From<EntryHeader> for Known {
    fn from(header: EntryHeader) -> Known {
        let bytes = u32::try_from(header.bytes()).unwrap_or(u32::MAX);
        let is_absent = header.marks & MARK_ABSENT != 0;
        Known { bytes, policy: header.policy, is_absent, expiry: header.expiry }
    }
}

/// Reads of one policy, or of all policies.
#[derive(Debug, Clone, Copy, Default)]
struct Reads {
    /// Reads of sampled keys.
    all: f64,
    /// The hits among them, by size.
    hits: [f64; SIZES],
    /// Reads of all keys, each weighted by the sampling rate at the time, and the part of them that
    /// missed the real table.
    expected: f64,
    missed: f64,
}

impl Reads {
    fn scale(&mut self, by: f64) {
        for figure in [&mut self.all, &mut self.expected, &mut self.missed] {
            *figure *= by;
        }
        self.hits.iter_mut().for_each(|hits| *hits *= by);
    }

    /// The share of reads that hit, by size.
    ///
    /// It is a matter of chance how many of the few hottest keys are sampled. The difference
    /// between expected and sampled reads is attributed to them, and they hit at every size
    /// (SHARDS-adj, in the FAST 2015 paper). The miss ratio of the real table is known: all
    /// miniatures are corrected by the factor by which the miniature of its size is wrong.
    fn hit_ratios(&self) -> Option<[f64; SIZES]> {
        if self.all < READS_MIN || self.expected <= 0.0 {
            return None;
        }
        let missing = self.expected - self.all;
        let ratios = self.hits.map(|hits| ((hits + missing) / self.expected).clamp(0.0, 1.0));
        let times = self.missed / self.expected / (1.0 - ratios[OWN]);
        if !times.is_finite() {
            return Some(ratios);
        }
        Some(ratios.map(|ratio| (1.0 - (1.0 - ratio) * times).clamp(0.0, 1.0)))
    }
}

/// The current estimate.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// One key in `sampled_one_in` is sampled.
    pub sampled_one_in: u64,
    /// Number of reads of sampled keys, older ones weighted less.
    pub sampled_reads: u64,
    /// Sizes, as multiples of the table's.
    pub times: [f64; SIZES],
    /// The hit ratio at each size; `None`: too few reads.
    pub overall: Option<[f64; SIZES]>,
    /// The same for each policy that was read: its id, its part of the reads, its hit ratios.
    pub policies: Vec<(u8, f64, Option<[f64; SIZES]>)>,
}

/// Collects the owner's events and estimates hit ratios.
#[derive(Debug)]
pub struct Advisor {
    minis: [Mini; SIZES],
    /// Keys whose [`place`] is below it are sampled; at most [`ALL`].
    threshold: u64,
    /// By policy. The expected reads of each are known from misses and from randomly drawn hits.
    reads: Vec<Reads>,
    expected: f64,
    missed: f64,
    /// State of the random number generator.
    drawn: u64,
    shares: Box<Shares>,
    /// Bytes of live entries that fit the table.
    capacity: u64,
}

impl Advisor {
    /// An advisor for a table that can hold `capacity` bytes of live entries.
    #[must_use]
    pub fn new(capacity: u64) -> Advisor {
        let minis = HALVES.map(|halves| Mini::new(capacity * halves / 2));
        Advisor {
            minis,
            threshold: ALL,
            reads: vec![Reads::default(); POLICIES],
            expected: 0.0,
            missed: 0.0,
            drawn: 1,
            shares: Box::new([None; CLASSES]),
            capacity,
        }
    }

    /// The table can now hold `bytes` bytes of live entries.
    pub fn set_capacity(&mut self, bytes: u64) {
        if self.capacity != bytes {
            self.capacity = bytes;
            self.fit();
        }
        // Entries became larger, or the table smaller.
        let own = &self.minis[OWN];
        if self.threshold < ALL && own.is_full() && own.objects() < OBJECTS_MIN {
            self.threshold *= 2;
            self.scale(2.0);
            self.fit();
        }
    }

    /// Limits a policy's entries to a share of the log, in thousandths; `None`: no limit.
    pub fn limit_policy(&mut self, policy: u8, permille: Option<u16>) {
        self.shares[usize::from(policy)] = permille;
    }

    /// Limits known absences to a share of the log, in thousandths; `None`: no limit.
    pub fn limit_absences(&mut self, permille: Option<u16>) {
        self.shares[POLICIES] = permille;
    }

    fn fit(&mut self) {
        for (mini, halves) in self.minis.iter_mut().zip(HALVES) {
            let bytes = u128::from(self.capacity) * u128::from(halves) / 2;
            let bytes = bytes * u128::from(self.threshold) / u128::from(ALL);
            mini.set_capacity(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }

    /// Returns whether this key is sampled.
    #[inline]
    #[must_use]
    pub fn samples(&self, hash: KeyHash) -> bool {
        place(hash) < self.threshold
    }

    /// Records a hit that stands for `times` hits. `known` looks up the entry; if it is gone, the
    /// hit of a sampled key is not counted.
    #[inline]
    pub fn hit(
        &mut self,
        hash: KeyHash,
        times: u32,
        now: u32,
        known: impl FnOnce() -> Option<Known>,
    ) {
        let expected = f64::from(times) * self.rate();
        if self.samples(hash) {
            let Some(known) = known() else { return };
            self.expected += expected;
            self.reads[usize::from(known.policy)].expected += expected;
            self.read(hash, known.policy, f64::from(times), now, Some(known));
            return;
        }
        self.expected += expected;
        if self.draws()
            && let Some(known) = known()
        {
            let drawn = expected * f64::from(1 << DRAWN_BITS);
            self.reads[usize::from(known.policy)].expected += drawn;
        }
    }

    /// Returns true for a random one in 2^DRAWN_BITS calls: looking up a policy costs a cache miss.
    fn draws(&mut self) -> bool {
        // Knuth's MMIX generator.
        self.drawn = self
            .drawn
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.drawn >> (64 - DRAWN_BITS) == 0
    }

    /// Records a miss of a key of `policy`.
    pub fn missed(&mut self, hash: KeyHash, policy: u8, now: u32) {
        let rate = self.rate();
        self.expected += rate;
        self.missed += rate;
        let reads = &mut self.reads[usize::from(policy)];
        reads.expected += rate;
        reads.missed += rate;
        if self.samples(hash) {
            self.read(hash, policy, 1.0, now, None);
        }
    }

    fn read(&mut self, hash: KeyHash, policy: u8, times: f64, now: u32, known: Option<Known>) {
        let reads = &mut self.reads[usize::from(policy)];
        reads.all += times;
        let known = known.filter(|known| known.expiry > now);
        for (mini, hits) in self.minis.iter_mut().zip(&mut reads.hits) {
            if mini.read(hash.0, now) {
                *hits += times;
            } else if let Some(known) = known {
                // The table has the entry; a smaller table would have fetched it again.
                mini.store(hash.0, known, &self.shares);
            }
        }
        if reads.all > MEMORY {
            self.scale(0.5);
        }
        self.keep_bounds();
    }

    /// Records that an entry was stored.
    #[inline]
    pub fn stored(&mut self, hash: KeyHash, known: Known) {
        if self.samples(hash) {
            self.store(hash, known);
        }
    }

    fn store(&mut self, hash: KeyHash, known: Known) {
        // If the smallest miniature holds the same entry, the others nearly always do.
        if self.minis[0].holds(hash.0, known) {
            return;
        }
        self.minis.iter_mut().for_each(|mini| mini.store(hash.0, known, &self.shares));
        self.keep_bounds();
    }

    /// Records that a key was removed.
    pub fn removed(&mut self, hash: KeyHash) {
        if self.samples(hash) {
            self.minis.iter_mut().for_each(|mini| mini.remove(hash.0));
        }
    }

    /// Records that all keys were removed.
    pub fn flushed(&mut self) {
        self.minis.iter_mut().for_each(Mini::clear);
    }

    /// Multiplies the weight of all reads so far by `by`.
    fn scale(&mut self, by: f64) {
        self.expected *= by;
        self.missed *= by;
        self.reads.iter_mut().for_each(|reads| reads.scale(by));
    }

    fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most 2^32")]
        let rate = self.threshold as f64 / ALL as f64;
        rate
    }

    /// Halves the sampling rate while the miniatures hold too many keys.
    fn keep_bounds(&mut self) {
        let many =
            |(mini, halves): (&Mini, u64)| mini.objects() as u64 > OBJECTS_MAX as u64 * halves / 2;
        while self.threshold > 1 && self.minis.iter().zip(HALVES).any(many) {
            self.threshold /= 2;
            let threshold = self.threshold;
            for mini in &mut self.minis {
                mini.retain(|hash| place(KeyHash(hash)) < threshold);
            }
            self.scale(0.5);
            self.fit();
        }
    }

    /// The current estimate.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        let mut all = Reads { expected: self.expected, missed: self.missed, ..Reads::default() };
        for reads in &self.reads {
            all.all += reads.all;
            all.hits.iter_mut().zip(reads.hits).for_each(|(sum, hits)| *sum += hits);
        }
        let expected: f64 = self.reads.iter().map(|reads| reads.expected).sum();
        let policies = self.reads.iter().zip(0..=u8::MAX).filter(|(reads, _)| reads.expected > 0.0);
        let policies =
            policies.map(|(reads, id)| (id, reads.expected / expected, reads.hit_ratios()));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let sampled_reads = all.all as u64;
        #[expect(clippy::cast_precision_loss, reason = "8 at most")]
        let times = HALVES.map(|halves| halves as f64 / 2.0);
        Estimate {
            sampled_one_in: ALL / self.threshold,
            sampled_reads,
            times,
            overall: all.hit_ratios(),
            policies: policies.collect(),
        }
    }

    /// Approximate bytes of memory in use.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(self.reads.as_slice()) + self.minis.iter().map(Mini::bytes).sum::<usize>()
    }

    /// Number of keys in the miniature of the table's own size.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.minis[OWN].objects()
    }
}

/// A key's position in the sampling order, from bits that choose neither its lines nor its tag.
fn place(hash: KeyHash) -> u64 {
    hash.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

#[cfg(test)]
mod tests;
