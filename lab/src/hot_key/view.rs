//! One reader's way to the values, and the loop around it that is timed.

use crate::random::Random;
use crate::reads::workload::{KEY_BYTES, VALUE_BYTES, key};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// A value: one number, eight times, so that a torn one shows.
pub type Value = [u8; VALUE_BYTES];

/// Reads between two looks at the clock.
const CHUNK: usize = 1024;
/// Reads until keys come in the same order again, at most: a list that the caches of a core hold.
const ORDER_MAX: usize = 1 << 16;

/// The value that a set of this number stores.
pub fn value(number: u64) -> Value {
    let mut value = [0; VALUE_BYTES];
    let (words, _) = value.as_chunks_mut::<8>();
    words.fill(number.to_le_bytes());
    value
}

/// A key that is asked for: making it must not be part of what is timed.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Ask {
    /// The key.
    pub key: [u8; KEY_BYTES],
    /// Its number.
    pub number: u32,
}

/// How a reader finds a value.
pub trait View {
    /// Copies the value of a key out. Whether it was found.
    fn read(&mut self, ask: &Ask, value: &mut Value) -> bool;
}

/// What a pass came to.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Figures {
    /// Per read.
    pub ns: f64,
    /// Reads that found nothing.
    pub missed: u64,
    /// Values whose first and last words are of two sets.
    pub torn: u64,
}

/// A view with its loop, which the compiler sees through.
pub trait Reader {
    /// Reads for so long.
    fn pass(&mut self, time: Duration) -> Figures;
}

/// A view, and the order in which it is asked for keys.
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
