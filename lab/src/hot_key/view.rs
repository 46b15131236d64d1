//! A reader's access to the values, and the timed loop around it.

use crate::random::Random;
use crate::reads::workload::{KEY_BYTES, VALUE_BYTES, key};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// A value: one number, repeated eight times, so that a torn value shows.
pub type Value = [u8; VALUE_BYTES];

/// Reads between two clock readings.
const CHUNK: usize = 1024;
/// Reads after which keys come in the same order again, at most: a list that fits into the caches
/// of a core.
const ORDER_MAX: usize = 1 << 16;

/// The value that the set with this number stores.
pub fn value(number: u64) -> Value {
    let mut value = [0; VALUE_BYTES];
    let (words, _) = value.as_chunks_mut::<8>();
    words.fill(number.to_le_bytes());
    value
}

/// A key to ask for, made in advance so that making it is not timed.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Ask {
    /// The key.
    pub key: [u8; KEY_BYTES],
    /// Its number.
    pub number: u32,
}

/// Access to the values.
pub trait View {
    /// Copies the value of a key out. Returns whether it was found.
    fn read(&mut self, ask: &Ask, value: &mut Value) -> bool;
}

/// The result of a pass.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Figures {
    /// ns per read.
    pub ns: f64,
    /// Reads that found nothing.
    pub missed: u64,
    /// Values whose first and last words come from different sets.
    pub torn: u64,
}

/// A view with its loop, which the compiler can inline.
pub trait Reader {
    /// Reads for this time.
    fn pass(&mut self, time: Duration) -> Figures;
}

/// A view, and the order of keys that it is asked for.
pub struct Looping<V> {
    view: V,
    order: Vec<Ask>,
    position: usize,
}

impl<V: View> Looping<V> {
    /// Keys `0..keys`, in an order of this seed.
    pub fn new(view: V, keys: u32, seed: u64) -> Looping<V> {
        let mut random = Random::new(seed);
        let reads = (keys as usize * 4).next_multiple_of(CHUNK).min(ORDER_MAX);
        let draw = || {
            let number = u32::try_from(random.below(keys as usize)).unwrap_or(0);
            Ask { key: key(number), number }
        };
        Looping { view, order: std::iter::repeat_with(draw).take(reads).collect(), position: 0 }
    }
}

impl<V: View> Reader for Looping<V> {
    fn pass(&mut self, time: Duration) -> Figures {
        let mut value = [0; VALUE_BYTES];
        let (mut missed, mut torn, mut chunks) = (0, 0, 0);
        let begin = Instant::now();
        while chunks == 0 || begin.elapsed() < time {
            let from = self.position * CHUNK % self.order.len();
            for ask in self.order.get(from..from + CHUNK).unwrap_or_default() {
                missed += u64::from(!self.view.read(ask, black_box(&mut value)));
                torn += u64::from(value.first_chunk::<8>() != value.last_chunk::<8>());
            }
            self.position += 1;
            chunks += 1;
        }
        let ns = begin.elapsed().as_secs_f64() * 1e9 / (chunks * CHUNK) as f64;
        Figures { ns, missed, torn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Half;

    impl View for Half {
        fn read(&mut self, _: &Ask, to: &mut Value) -> bool {
            *to = value(1);
            to[VALUE_BYTES / 2..].copy_from_slice(&value(2)[VALUE_BYTES / 2..]);
            false
        }
    }

    #[test]
    fn torn_values_and_misses_are_counted() {
        let figures = Looping::new(Half, 3, 1).pass(Duration::ZERO);
        assert_eq!((figures.torn, figures.missed), (CHUNK as u64, CHUNK as u64));
    }
}
