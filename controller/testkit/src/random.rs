//! Random choices that a seed repeats.

use anyhow::{Context, Result};

/// Random numbers (xorshift, Marsaglia 2003).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From `SEED`, or from the moment; prints the seed, which repeats `what`.
    pub fn seeded(what: &str) -> Result<(Random, u64)> {
        let seed = match std::env::var("SEED") {
            Ok(seed) => seed.parse().context("SEED is no number")?,
            Err(_) => {
                u64::from(std::process::id()) << 20 ^ u64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_micros())?
            }
        };
        println!("SEED={seed} repeats {what}");
        Ok((Random::new(seed), seed))
    }

    /// From a number.
    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// Other numbers, which the same seed and number repeat whatever is drawn from these.
    pub fn fork(&self, number: u64) -> Random {
        let mut fork = Random::new(self.0 ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        fork.below(1);
        fork
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// An index of something that has `length` places.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }
}
