//! Textbook LRU: one list, most recent first.

use super::contestant::Contestant;

/// Stands for no object.
const NONE: u32 = u32::MAX;

/// Links of one object in the list.
#[derive(Debug, Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
    /// 0: not in the cache.
    weight: u32,
}

/// The cache.
#[derive(Debug)]
pub struct Lru {
    links: Vec<Link>,
    newest: u32,
    oldest: u32,
    capacity: u64,
    held: u64,
}

impl Lru {
    /// An empty cache for objects numbered below `objects`.
    pub fn new(objects: usize, capacity: u64) -> Lru {
        let links = vec![Link { newer: NONE, older: NONE, weight: 0 }; objects];
        Lru { links, newest: NONE, oldest: NONE, capacity, held: 0 }
    }

    fn unlink(&mut self, id: u32) {
        let Link { newer, older, weight } = self.links[id as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.links[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        self.links[id as usize].weight = 0;
        self.held -= u64::from(weight);
    }

    fn link(&mut self, id: u32, weight: u32) {
        self.links[id as usize] = Link { newer: NONE, older: self.newest, weight };
        match self.newest {
            NONE => self.oldest = id,
            newest => self.links[newest as usize].newer = id,
        }
        self.newest = id;
        self.held += u64::from(weight);
    }
}

impl Contestant for Lru {
    fn request(&mut self, id: u32, weight: u32) -> bool {
        if self.links[id as usize].weight > 0 {
            self.unlink(id);
            self.link(id, weight);
            return true;
        }
        if u64::from(weight) <= self.capacity {
            while self.held + u64::from(weight) > self.capacity {
                self.unlink(self.oldest);
            }
            self.link(id, weight);
        }
        false
    }

    fn held(&self) -> u64 {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn it_does_what_a_list_does() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let capacity = 1 + random.below(30) as u64;
            let sizes: Vec<u32> =
                (0..40).map(|_| 1 + u32::try_from(random.below(9)).unwrap()).collect();
            let mut lru = Lru::new(40, capacity);
            let mut list: Vec<u32> = Vec::new();
            for _ in 0..3000 {
                let id = u32::try_from(random.below(40)).unwrap();
                let weight = sizes[id as usize];
                let found = list.iter().position(|other| *other == id);
                if let Some(at) = found {
                    list.remove(at);
                }
                if u64::from(weight) <= capacity {
                    list.push(id);
                }
                let weigh = |list: &[u32]| {
                    list.iter().map(|id| u64::from(sizes[*id as usize])).sum::<u64>()
                };
                while weigh(&list) > capacity {
                    list.remove(0);
                }
                assert_eq!(lru.request(id, weight), found.is_some(), "seed {seed}");
                assert_eq!(lru.held(), weigh(&list), "seed {seed}");
            }
        }
    }
}
