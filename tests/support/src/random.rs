//! Repeatable randomness.

/// xorshift64; `L1D_TEST_SEED` repeats a run.
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        let seed = std::env::var("L1D_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or(u64::from(std::process::id()));
        println!("seed {seed}");
        Random(seed.max(1))
    }

    /// A second generator, for another thread.
    pub fn split(&mut self) -> Random {
        Random(self.word().wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1))
    }

    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.word() % end as u64).unwrap()
    }
}

impl Default for Random {
    fn default() -> Random {
        Random::new()
    }
}
