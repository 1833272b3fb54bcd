//! How long to wait after a failure: longer each time, never the same for two processes. Pure; chance is handed in.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Wait after the first failure.
const FIRST: Duration = Duration::from_millis(200);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// The state of one series of failures.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Notes a failure: how long to wait. `chance` is anything; the wait is between half and the whole of what the
    /// number of failures gives.
    pub(super) fn fail(&mut self, chance: u64) -> Duration {
        let whole = FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(LONGEST);
        self.failures = self.failures.saturating_add(1).min(16);
        let half = whole / 2;
        half + half.mul_f64(fraction(chance))
    }

    /// After so many failures.
    #[cfg(test)]
    pub(super) fn after(failures: u32) -> Self {
        Self { failures }
    }

    /// Notes a success.
    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }
}

/// A number in `[0, 1)` made of the upper bits of `chance`.
fn fraction(chance: u64) -> f64 {
    f64::from(u32::try_from(chance >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

/// Some chance: the standard library seeds its hash maps from the system.
pub(super) fn chance() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let shortest: Vec<u128> = (0..9).map(|_| backoff.fail(0).as_millis()).collect();
        assert_eq!(shortest, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 15000]);
        for _ in 0..100 {
            assert!(backoff.fail(u64::MAX) <= LONGEST);
        }
        backoff.succeed();
        assert_eq!(backoff.fail(0), FIRST / 2);
    }

    #[test]
    fn chance_spreads_a_wait_over_its_upper_half() {
        let wait = |chance| Backoff::default().fail(chance);
        assert_eq!(wait(0), Duration::from_millis(100));
        assert_eq!(wait(1 << 63), Duration::from_millis(150));
        assert!(wait(u64::MAX) > Duration::from_millis(199) && wait(u64::MAX) <= Duration::from_millis(200));
        assert_ne!((chance(), chance()), (chance(), chance()));
    }
}
