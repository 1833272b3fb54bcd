//! When to rebuild: a little after the last change of a burst, and never long after the first. Pure; time is handed in.

use std::time::{Duration, Instant};

/// How long nothing must have changed.
pub const QUIET: Duration = Duration::from_millis(50);
/// How long the first change of a burst waits at most, so that a writer that never pauses is followed too.
pub const LONGEST: Duration = Duration::from_millis(150);

/// The changes that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// First and last change that wait.
    waiting: Option<(Instant, Instant)>,
}

impl Pace {
    /// Notes a change.
    pub fn note(&mut self, now: Instant) {
        self.waiting = Some(self.waiting.map_or((now, now), |(first, _)| (first, now)));
    }

    /// When to rebuild; `None` when nothing waits.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.map(|(first, last)| (last + QUIET).min(first + LONGEST))
    }

    /// Takes the waiting changes when it is time: when the first of them came.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        if self.due()? > now {
            return None;
        }
        self.waiting.take().map(|(first, _)| first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_change_waits_for_the_quiet_time() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.due(), None);
        assert_eq!(pace.take(start), None);
        pace.note(start);
        assert_eq!(pace.due(), Some(start + QUIET));
        assert_eq!(pace.take(start + QUIET - Duration::from_nanos(1)), None);
        assert_eq!(pace.take(start + QUIET), Some(start));
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn a_writer_that_never_pauses_is_followed_within_the_longest_wait() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let mut rebuilds = Vec::new();
        for millisecond in 0..1000 {
            let now = start + Duration::from_millis(millisecond);
            pace.note(now);
            rebuilds.extend(pace.take(now).map(|first| now - first));
        }
        assert!(rebuilds.len() >= 6, "{rebuilds:?}");
        assert!(rebuilds.iter().all(|waited| *waited == LONGEST), "{rebuilds:?}");
    }
}
