//! Bounds of the whole process: connections, descriptors, memory, workers.
//!
//! What a route allows is in `policy`; what a connection may buffer is in its driver. `app` reads these once at start
//! and hands the [`ConnectionLimit`] to all listeners.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub mod cgroup;
pub mod clients;
pub mod descriptors;
pub mod memory;
pub mod priority;

pub use cgroup::memory_limit;
pub use clients::{ClientConnection, Clients};
pub use descriptors::Descriptors;
pub use memory::{Bodies, Held, Memory, Pressure};

/// Default of `max-worker-connections`: connections per worker (ingress-nginx's).
pub const CONNECTIONS_PER_WORKER: usize = 16_384;
/// Descriptors that are no client or upstream connection: listeners, logs, admin, files, the source of configuration.
const RESERVED_DESCRIPTORS: u64 = 512;
/// Pipes that a worker may use for long bodies, two descriptors each.
pub const PIPES_PER_WORKER: usize = 32;
/// Where idle pooled connections begin to be closed (`F-21`), in percent of the limit.
const TIGHT_PERCENT: usize = 80;
/// Where idle client connections begin to be closed (`D-6`), in percent of the limit.
const CROWDED_PERCENT: usize = 90;

/// Connections over all listeners and workers (`D.2`). Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConnectionLimit {
    free: Arc<Semaphore>,
    limit: usize,
}

/// Room for one connection until it is dropped.
#[derive(Debug)]
#[must_use = "the connection counts while the permit lives"]
pub struct ConnectionPermit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl ConnectionLimit {
    /// Room for so many connections, at least one.
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(limit)), limit }
    }

    /// A permit if there is room.
    pub fn try_acquire(&self) -> Option<ConnectionPermit> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(ConnectionPermit)
    }

    /// Waits for room: accepting pauses meanwhile, and the kernel's backlog fills.
    pub async fn acquire(&self) -> ConnectionPermit {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        ConnectionPermit(permit.expect("the semaphore is never closed"))
    }

    /// The limit.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// True when a permit could be had now.
    pub fn has_room(&self) -> bool {
        self.free.available_permits() > 0
    }

    /// Connections above nine tenths of the limit: so many idle ones are to be closed (`D-6`).
    pub fn surplus(&self) -> usize {
        // Tenths first, so that the largest limit does not overflow.
        let crowded = self.limit.saturating_sub(self.limit.div_ceil(100 / (100 - CROWDED_PERCENT)));
        self.open().saturating_sub(crowded)
    }

    /// Connections now.
    pub fn open(&self) -> usize {
        self.limit.saturating_sub(self.free.available_permits())
    }

    /// True from four fifths of the limit on: idle pooled connections are to go first (`F-21`).
    pub fn is_tight(&self) -> bool {
        self.open().saturating_mul(100) >= self.limit.saturating_mul(TIGHT_PERCENT)
    }
}

/// How many connections this process can hold: what the workers are given, and no more than half of the descriptors,
/// because most connections need one upstream too.
pub fn connection_cap(per_worker: usize, workers: usize, descriptors: u64) -> usize {
    let wanted = per_worker.saturating_mul(workers.max(1));
    let pipes = u64::try_from(PIPES_PER_WORKER.saturating_mul(2).saturating_mul(workers)).unwrap_or(u64::MAX);
    let possible = descriptors.saturating_sub(RESERVED_DESCRIPTORS).saturating_sub(pipes) / 2;
    wanted.min(usize::try_from(possible).unwrap_or(usize::MAX)).max(1)
}

/// One worker per CPU that the scheduler and the control group grant, at least one.
pub fn default_workers() -> usize {
    // The standard library looks at the affinity mask and at the quotas of control groups, versions 1 and 2.
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_is_what_workers_get_and_half_of_the_free_descriptors() {
        for (per_worker, workers, descriptors, expect) in [
            (16_384, 4, 1 << 20, 65_536),
            (16_384, 4, 65_536, 32_384),
            (16_384, 1, 1_024, 224),
            (16_384, 1, 512, 1),
            (16_384, 1, 0, 1),
            (16_384, 0, 1 << 20, 16_384),
            (0, 4, 1 << 20, 1),
            (usize::MAX, 4, u64::MAX, usize::MAX / 2 - 384),
        ] {
            assert_eq!(
                connection_cap(per_worker, workers, descriptors),
                expect,
                "{per_worker} {workers} {descriptors}"
            );
        }
    }

    #[test]
    fn permits_are_given_up_to_the_limit_and_come_back() {
        let limit = ConnectionLimit::new(5);
        let mut permits: Vec<_> = (0..5).filter_map(|_| limit.try_acquire()).collect();
        assert_eq!((permits.len(), limit.open(), limit.is_tight()), (5, 5, true));
        assert!(limit.try_acquire().is_none());
        assert!(!limit.has_room());
        permits.truncate(3);
        assert_eq!((limit.open(), limit.is_tight()), (3, false));
        assert!(limit.try_acquire().is_some());
    }

    #[test]
    fn the_surplus_is_what_stands_above_nine_tenths() {
        let limit = ConnectionLimit::new(20);
        let mut permits = Vec::new();
        for (open, surplus) in [(17, 0), (18, 0), (19, 1), (20, 2)] {
            permits.extend((permits.len()..open).filter_map(|_| limit.try_acquire()));
            assert_eq!(limit.surplus(), surplus, "{open}");
        }
    }

    #[tokio::test]
    async fn accepting_goes_on_when_a_connection_ends() {
        let limit = ConnectionLimit::new(1);
        let first = limit.acquire().await;
        let waiting = tokio::spawn({
            let limit = limit.clone();
            async move { limit.acquire().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        let _second = waiting.await.unwrap();
        assert_eq!(limit.open(), 1);
    }

    #[test]
    fn a_limit_of_nothing_still_lets_one_in() {
        assert_eq!(ConnectionLimit::new(0).limit(), 1);
        assert_eq!(ConnectionLimit::new(usize::MAX).limit(), Semaphore::MAX_PERMITS);
    }

    #[test]
    fn there_is_at_least_one_worker() {
        assert!(default_workers() >= 1);
    }
}
