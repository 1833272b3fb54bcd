//! Passive health (F-14): an endpoint that refused a connection, or broke one before any answer, is skipped for a
//! while. Statuses never count, most of a backend is never skipped, a lone endpoint never.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

/// First skip.
const FIRST: Duration = Duration::from_secs(1);
/// Longest skip.
const LONGEST: Duration = Duration::from_secs(10);
/// Illness is forgotten after this time without another failure.
const MEMORY: Duration = Duration::from_secs(30);

/// Health of endpoints, of one worker.
#[derive(Debug)]
pub struct Health {
    enabled: bool,
    ill: RefCell<HashMap<SocketAddr, Illness, RandomState>>,
}

#[derive(Debug, Clone, Copy)]
struct Illness {
    until: Instant,
    span: Duration,
}

impl Health {
    /// `enabled: false` is `--passive-health=off`: nothing is ever skipped.
    pub fn new(enabled: bool) -> Self {
        Self { enabled, ill: RefCell::new(HashMap::default()) }
    }

    /// An endpoint failed. Failures while it is already skipped (requests that were under way) do not add up.
    pub fn failed(&self, address: SocketAddr, now: Instant) {
        if !self.enabled {
            return;
        }
        let mut ill = self.ill.borrow_mut();
        match ill.get_mut(&address) {
            Some(illness) if illness.until > now => {}
            Some(illness) => {
                let span = illness.span.saturating_mul(2).min(LONGEST);
                *illness = Illness { until: now + span, span };
            }
            None => {
                ill.insert(address, Illness { until: now + FIRST, span: FIRST });
            }
        }
    }

    /// An endpoint answered.
    pub fn answered(&self, address: SocketAddr) {
        let mut ill = self.ill.borrow_mut();
        if !ill.is_empty() {
            ill.remove(&address);
        }
    }

    /// Who of `peers` takes a try now.
    pub fn filter(&self, peers: &[SocketAddr], now: Instant) -> Filter<'_> {
        let ill = self.ill.borrow();
        if ill.is_empty() || peers.len() < 2 {
            return Filter { health: None, now };
        }
        let skipped = peers.iter().filter(|peer| is_skipped(&ill, peer, now)).count();
        let panic = skipped.saturating_mul(2) > peers.len();
        Filter { health: (skipped > 0 && !panic).then_some(self), now }
    }

    /// Forgets old illnesses.
    pub fn sweep(&self, now: Instant) {
        self.ill.borrow_mut().retain(|_, illness| illness.until + MEMORY > now);
    }
}

/// Answer of [`Health::filter`].
#[derive(Debug)]
pub struct Filter<'h> {
    health: Option<&'h Health>,
    now: Instant,
}

impl Filter<'_> {
    /// True when `address` is not skipped.
    pub fn takes(&self, address: SocketAddr) -> bool {
        self.health.is_none_or(|health| !is_skipped(&health.ill.borrow(), &address, self.now))
    }
}

fn is_skipped(ill: &HashMap<SocketAddr, Illness, RandomState>, address: &SocketAddr, now: Instant) -> bool {
    ill.get(address).is_some_and(|illness| illness.until > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(count: u16) -> Vec<SocketAddr> {
        (0..count).map(|port| SocketAddr::from(([10, 0, 0, 1], port))).collect()
    }

    fn taken(health: &Health, peers: &[SocketAddr], now: Instant) -> usize {
        let filter = health.filter(peers, now);
        peers.iter().filter(|peer| filter.takes(**peer)).count()
    }

    #[test]
    fn skips_grow_from_one_to_ten_seconds_and_end_with_an_answer() {
        let (health, peers, start) = (Health::new(true), peers(4), Instant::now());
        let mut now = start;
        for seconds in [1, 2, 4, 8, 10, 10] {
            health.failed(peers[0], now);
            let end = now + Duration::from_secs(seconds);
            assert_eq!(taken(&health, &peers, end - Duration::from_millis(1)), 3, "{seconds}");
            assert_eq!(taken(&health, &peers, end), 4, "{seconds}");
            now = end;
        }
        health.answered(peers[0]);
        health.failed(peers[0], now);
        assert_eq!(taken(&health, &peers, now + FIRST), 4);
    }

    #[test]
    fn failures_of_requests_under_way_count_once() {
        let (health, peers, now) = (Health::new(true), peers(4), Instant::now());
        for _ in 0..5 {
            health.failed(peers[0], now);
        }
        assert_eq!(taken(&health, &peers, now + FIRST), 4);
    }

    #[test]
    fn half_may_be_skipped_but_not_more_and_a_lone_one_never() {
        let (health, now) = (Health::new(true), Instant::now());
        let four = peers(4);
        for (failed, taken_then) in [(1, 3), (2, 2), (3, 4), (4, 4)] {
            health.failed(four[failed - 1], now);
            assert_eq!(taken(&health, &four, now), taken_then, "{failed}");
        }
        assert_eq!(taken(&health, &four[..1], now), 1);
    }

    #[test]
    fn nothing_is_skipped_when_switched_off() {
        let (health, peers, now) = (Health::new(false), peers(4), Instant::now());
        health.failed(peers[0], now);
        assert_eq!(taken(&health, &peers, now), 4);
    }

    #[test]
    fn old_illness_is_forgotten() {
        let (health, peers, now) = (Health::new(true), peers(2), Instant::now());
        health.failed(peers[0], now);
        health.sweep(now + FIRST + MEMORY);
        assert!(health.ill.borrow().is_empty());
    }
}
