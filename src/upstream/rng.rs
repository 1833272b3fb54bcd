//! A small random generator for balancing. Not for secrets.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// SplitMix64: one word of state, passes what balancing needs. Seeded, so tests repeat.
#[derive(Debug)]
pub struct Rng(Cell<u64>);

impl Rng {
    /// A generator with a seed of the caller's.
    pub const fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// A generator with a seed from the operating system.
    pub fn from_system() -> Self {
        Self::new(RandomState::new().hash_one(std::process::id()))
    }

    /// The next word.
    pub fn next_u64(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: usize) -> usize {
        let wide = u128::from(self.next_u64()) * bound as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_their_bound_and_reach_every_value() {
        let rng = Rng::new(7);
        let mut seen = [false; 5];
        for _ in 0..200 {
            let number = rng.below(5);
            assert!(number < 5);
            seen[number] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn equal_seeds_give_equal_sequences() {
        let (one, two) = (Rng::new(1), Rng::new(1));
        for _ in 0..10 {
            assert_eq!(one.next_u64(), two.next_u64());
        }
    }
}
