//! The offline optimum: evicts the object whose next request is farthest in the future, which may
//! be the new one (Belady, "A study of replacement algorithms for virtual-storage computers",
//! 1966).
//!
//! No policy hits more where all objects weigh the same. Where they do not, the best choice cannot
//! be computed in useful time; the same rule is then a strong reference, not a bound.

use super::contestant::Contestant;
use super::stream::Stream;
use std::collections::BTreeSet;

/// No next request.
const NEVER: u64 = u64::MAX;

/// The cache, which knows the stream in advance.
#[derive(Debug)]
pub struct Optimum {
    /// For each request, the next one for the same object.
    next: Vec<u64>,
    now: usize,
    /// The next request of each cached object; 0: not cached.
    filed: Vec<u64>,
    weights: Vec<u32>,
    /// The last one is evicted first.
    order: BTreeSet<(u64, u32)>,
    capacity: u64,
    held: u64,
}

impl Optimum {
    /// An empty cache that will get exactly this stream.
    pub fn new(stream: &Stream, capacity: u64) -> Optimum {
        let mut last = vec![NEVER; stream.objects()];
        let mut next = vec![NEVER; stream.requests.len()];
        for (at, &id) in stream.requests.iter().enumerate().rev() {
            next[at] = std::mem::replace(&mut last[id as usize], at as u64);
        }
        Optimum {
            next,
            now: 0,
            filed: vec![0; stream.objects()],
            weights: vec![0; stream.objects()],
            order: BTreeSet::new(),
            capacity,
            held: 0,
        }
    }
}

impl Contestant for Optimum {
    fn request(&mut self, id: u32, weight: u32) -> bool {
        let next = self.next[self.now];
        self.now += 1;
        let was = std::mem::take(&mut self.filed[id as usize]);
        let is_hit = was != 0;
        if is_hit {
            self.order.remove(&(was, id));
            self.held -= u64::from(self.weights[id as usize]);
        }
        if next == NEVER {
            return is_hit;
        }
        self.filed[id as usize] = next;
        self.weights[id as usize] = weight;
        self.order.insert((next, id));
        self.held += u64::from(weight);
        while self.held > self.capacity {
            let Some((_, victim)) = self.order.pop_last() else { break };
            self.filed[victim as usize] = 0;
            self.held -= u64::from(self.weights[victim as usize]);
        }
        is_hit
    }

    fn held(&self) -> u64 {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::super::lru::Lru;
    use super::*;
    use crate::random::Random;
    use std::collections::HashMap;

    /// The most hits that any sequence of choices gives, found by trying every set of cached
    /// objects.
    fn best(requests: &[u32], capacity: usize) -> u64 {
        let mut states = HashMap::from([(0u32, 0u64)]);
        for &id in requests {
            let mut after: HashMap<u32, u64> = HashMap::new();
            let mut reach = |set: u32, hits: u64| {
                let best = after.entry(set).or_default();
                *best = (*best).max(hits);
            };
            for (&set, &hits) in &states {
                let bit = 1 << id;
                if set & bit != 0 {
                    reach(set, hits + 1);
                    continue;
                }
                reach(set, hits);
                if (set.count_ones() as usize) < capacity {
                    reach(set | bit, hits);
                }
                for victim in (0..32).filter(|victim| set & (1 << victim) != 0) {
                    reach(set & !(1 << victim) | bit, hits);
                }
            }
            states = after;
        }
        states.into_values().max().unwrap_or(0)
    }

    fn hits(cache: &mut dyn Contestant, stream: &Stream) -> u64 {
        let hit = |id: &&u32| cache.request(**id, stream.weight(**id));
        stream.requests.iter().filter(hit).count() as u64
    }

    #[test]
    fn no_choice_hits_more() {
        for seed in 0..40 {
            let mut random = Random::new(seed);
            let objects = 4 + random.below(4);
            let capacity = 1 + random.below(3);
            let requests: Vec<u32> =
                (0..60).map(|_| u32::try_from(random.below(objects)).unwrap()).collect();
            let stream = Stream::new("random", requests);
            let got = hits(&mut Optimum::new(&stream, capacity as u64), &stream);
            assert_eq!(got, best(&stream.requests, capacity), "seed {seed}");
        }
    }

    #[test]
    fn it_never_holds_more_than_it_may_and_beats_lru() {
        let mut random = Random::new(3);
        let mut requests = Vec::new();
        for _ in 0..5000 {
            let most = 1 + random.below(300);
            requests.push(u32::try_from(random.below(most)).unwrap());
        }
        let mut stream = Stream::new("random", requests);
        let size = |id: usize| 1 + u32::try_from(id % 7).unwrap();
        stream.sizes = Some((0..stream.objects()).map(size).collect());
        let mut optimum = Optimum::new(&stream, 200);
        let mut most = 0;
        let mut count = 0;
        for &id in &stream.requests {
            count += u64::from(optimum.request(id, stream.weight(id)));
            most = most.max(optimum.held());
        }
        assert!((190..=200).contains(&most), "{most}");
        let lru = hits(&mut Lru::new(stream.objects(), 200), &stream);
        assert!(count > lru * 11 / 10, "{count} against {lru}");
    }
}
