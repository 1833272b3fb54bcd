//! Peak-EWMA: each endpoint has a moving average of what its answers took; two are drawn, the lower one takes the try.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::upstream::rng::Rng;

/// After this time an old average weighs 1/e.
const DECAY: Duration = Duration::from_secs(10);

/// Averages by endpoint.
#[derive(Debug, Default)]
pub struct Ewma {
    scores: HashMap<SocketAddr, Score, RandomState>,
}

#[derive(Debug, Clone, Copy)]
struct Score {
    seconds: f64,
    touched: Instant,
}

impl Score {
    /// The average after a sample of `sample` seconds at `now`.
    fn with(self, sample: f64, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.touched).as_secs_f64();
        let weight = (-age / DECAY.as_secs_f64()).exp();
        self.seconds * weight + sample * (1.0 - weight)
    }
}

impl Ewma {
    /// Takes a new endpoint set over: gone endpoints are forgotten, new ones start at the average of the others.
    pub fn follow(&mut self, peers: &[SocketAddr], now: Instant) {
        self.scores.retain(|address, _| peers.contains(address));
        if self.scores.is_empty() {
            return;
        }
        let sum: f64 = self.scores.values().map(|score| score.seconds).sum();
        let seconds = sum / self.scores.len() as f64;
        for peer in peers {
            self.scores.entry(*peer).or_insert(Score { seconds, touched: now });
        }
    }

    /// Takes a sample in. The first one of an endpoint counts in full.
    pub fn observe(&mut self, address: SocketAddr, took: Duration, now: Instant) {
        let sample = took.as_secs_f64();
        let score = self.scores.entry(address).or_insert(Score { seconds: sample, touched: now });
        *score = Score { seconds: score.with(sample, now), touched: now };
    }

    /// The better one of two drawn from those that are `wanted` and not `tried`; where none is left, from those not
    /// tried, then from all.
    pub fn pick(
        &self,
        peers: &[SocketAddr],
        wanted: impl Fn(SocketAddr) -> bool,
        tried: impl Fn(SocketAddr) -> bool,
        rng: &Rng,
        now: Instant,
    ) -> Option<SocketAddr> {
        let keep = |test: &dyn Fn(SocketAddr) -> bool| -> SmallVec<[SocketAddr; 16]> {
            peers.iter().copied().filter(|peer| test(*peer)).collect()
        };
        let mut candidates = keep(&|peer| wanted(peer) && !tried(peer));
        if candidates.is_empty() {
            candidates = keep(&|peer| !tried(peer));
        }
        if candidates.is_empty() {
            candidates = keep(&|_| true);
        }
        let first = candidates.swap_remove_at(rng.below(candidates.len()))?;
        let Some(second) = candidates.swap_remove_at(rng.below(candidates.len())) else { return Some(first) };
        Some(if self.score(second, now) < self.score(first, now) { second } else { first })
    }

    fn score(&self, address: SocketAddr, now: Instant) -> f64 {
        self.scores.get(&address).map_or(0.0, |score| score.with(0.0, now))
    }
}

/// `swap_remove` that does not panic.
trait SwapRemoveAt<T> {
    fn swap_remove_at(&mut self, index: usize) -> Option<T>;
}

impl<T, const N: usize> SwapRemoveAt<T> for SmallVec<[T; N]> {
    fn swap_remove_at(&mut self, index: usize) -> Option<T> {
        (index < self.len()).then(|| self.swap_remove(index))
    }
}
