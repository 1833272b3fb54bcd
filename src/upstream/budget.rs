//! How many tries after the first one a backend gets (`security.md` F-12): a fifth of its requests and a few more each
//! second, so that a backend that fails under load is not sent several times the load.
//!
//! One worker, one backend. The balancer holds one for each backend and asks it.

use std::time::{Duration, Instant};

/// Tries that each request adds, in hundredths.
const PER_REQUEST: u64 = 20;
/// Tries that each second adds over all workers, in hundredths.
const PER_SECOND: u64 = 10 * WHOLE;
/// Hundredths of one try.
const WHOLE: u64 = 100;
/// Seconds of the above that may be saved up.
const SAVED: u64 = 10;

/// Tries that are left, in hundredths.
#[derive(Debug, Clone)]
pub(super) struct RetryBudget {
    left: u64,
    filled: Instant,
    per_second: u64,
}

impl RetryBudget {
    /// Full; `workers` share what each second adds.
    pub(super) fn new(workers: u32, now: Instant) -> Self {
        let per_second = (PER_SECOND / u64::from(workers.max(1))).max(1);
        Self { left: Self::most(per_second), filled: now, per_second }
    }

    /// At least one try, however many workers share.
    fn most(per_second: u64) -> u64 {
        (per_second * SAVED).max(WHOLE)
    }

    /// A request came.
    pub(super) fn request(&mut self) {
        // What busy backends save up from requests is bounded too: ten times of what idle ones do.
        self.left = (self.left + PER_REQUEST).min(Self::most(self.per_second) * 10);
    }

    /// Takes one try; false when there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled).min(Duration::from_secs(SAVED));
        let gained = self.per_second * u64::try_from(since.as_millis()).unwrap_or(0) / 1000;
        if gained > 0 {
            self.filled = now;
            let most = Self::most(self.per_second);
            self.left = if self.left >= most { self.left } else { (self.left + gained).min(most) };
        }
        match self.left.checked_sub(WHOLE) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(budget: &mut RetryBudget, now: Instant) -> usize {
        (0..100_000).take_while(|_| budget.take(now)).count()
    }

    #[test]
    fn a_quiet_backend_has_ten_tries_a_second_and_some_saved() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(1, now);
        assert_eq!(spend(&mut budget, now), 100);
        assert_eq!(spend(&mut budget, now + Duration::from_secs(1)), 10);
        assert_eq!(spend(&mut budget, now + Duration::from_secs(3600)), 100);
    }

    #[test]
    fn a_busy_backend_has_a_fifth_of_its_requests_beside() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(1, now);
        spend(&mut budget, now);
        (0..1000).for_each(|_| budget.request());
        assert_eq!(spend(&mut budget, now), 200);
        (0..1_000_000).for_each(|_| budget.request());
        assert_eq!(spend(&mut budget, now), 1000);
    }

    #[test]
    fn workers_share_the_seconds_and_each_has_one_try_at_least() {
        let now = Instant::now();
        assert_eq!(spend(&mut RetryBudget::new(4, now), now), 25);
        assert_eq!(spend(&mut RetryBudget::new(10_000, now), now), 1);
    }
}
