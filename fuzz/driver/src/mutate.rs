//! Random changes of an input.

/// No input grows beyond this.
const BYTES_MAX: usize = 4096;
/// Bytes at the limits of something.
const EXTREMES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'\n', b'0'];

/// xorshift64 (Marsaglia, 2003).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The generator with this seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.max(1))
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap_or(0)
    }
}

/// An input of `corpus`, changed in a few places.
pub fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = pick(corpus, random).to_vec();
    for _ in 0..=random.below(6) {
        change(&mut input, corpus, random);
    }
    input.truncate(BYTES_MAX);
    input
}

fn pick<'a>(corpus: &'a [Vec<u8>], random: &mut Random) -> &'a [u8] {
    corpus.get(random.below(corpus.len().max(1))).map_or(&[], Vec::as_slice)
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let count = 1 + random.below(16);
    let end = (at + count).min(input.len());
    match random.below(7) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = EXTREMES[random.below(EXTREMES.len())],
        2 => input[at..end].fill_with(|| random.below(256).to_le_bytes()[0]),
        3 => drop(input.drain(at..end)),
        4 => input.truncate(at),
        5 => {
            let copy = input[at..end].to_vec();
            input.splice(at..at, copy);
        }
        _ => {
            let other = pick(corpus, random);
            let from = random.below(other.len() + 1);
            let until = (from + 4 * count).min(other.len());
            input.splice(at..end, other[from..until].iter().copied());
        }
    }
}
