//! Ending without breaking what runs: phases of shutdown, and who is still busy (`F-9`).
//!
//! `app` owns the [`DrainTrigger`] and runs it once on SIGTERM; workers hold [`DrainWatcher`]s and give every
//! connection, request and tunnel a [`DrainToken`]. Counting is an atomic of the worker's own, so it costs nothing
//! while serving. What a phase means for a connection is decided in `proxy`.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

/// Where the process stands between serving and gone. Only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Phase {
    /// Ready.
    Serving = 0,
    /// Not ready, though still accepting: load balancers take us out meanwhile.
    Grace = 1,
    /// Accepts nothing new; answers carry `Connection: close`, HTTP/2 connections get GOAWAY.
    Draining = 2,
    /// Tunnels are asked to end (WebSocket close 1001); requests still run.
    EndingTunnels = 3,
    /// Whatever still runs is cut.
    Cut = 4,
}

impl Phase {
    fn from_u8(number: u8) -> Self {
        match number {
            0 => Self::Serving,
            1 => Self::Grace,
            2 => Self::Draining,
            3 => Self::EndingTunnels,
            _ => Self::Cut,
        }
    }
}

/// How long the phases last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainPlan {
    /// `--shutdown-grace-period`: not ready but accepting.
    pub grace: Duration,
    /// `worker-shutdown-timeout`: from the end of the grace period to the cut.
    pub deadline: Duration,
}

impl DrainPlan {
    /// Ctrl-C in a terminal: five seconds in all.
    pub const INTERACTIVE: Self = Self { grace: Duration::ZERO, deadline: Duration::from_secs(5) };
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Work that ended by itself since the grace period was over.
    pub finished: u64,
    /// Work that was still running at the deadline.
    pub cut: u64,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A client connection.
    Connection,
    /// A request.
    Request,
    /// An upgraded connection or a TCP session.
    Tunnel,
    /// A listening socket whose queue may still hold clients. Keeps the drain from ending before they were taken, and
    /// is in no count.
    Listener,
}

/// The side that ends. One owner; cheap handles for watching come from [`DrainTrigger::watcher`].
#[derive(Debug, Clone)]
pub struct DrainTrigger(Arc<Shared>);

/// The side that is ended. Clone it inside a worker; take a new one from the trigger for each worker.
#[derive(Debug, Clone)]
pub struct DrainWatcher {
    shared: Arc<Shared>,
    shard: Arc<Shard>,
}

/// Keeps the process from ending until it is dropped.
#[derive(Debug)]
#[must_use = "work counts as ended when its token is dropped"]
pub struct DrainToken {
    shared: Arc<Shared>,
    shard: Arc<Shard>,
    work: Work,
}

#[derive(Debug)]
struct Shared {
    /// For a look without registering.
    phase: AtomicU8,
    /// For those who wait.
    changes: watch::Sender<Phase>,
    hurry: Notify,
    idle: Notify,
    finished: AtomicU64,
    shards: Mutex<Vec<Arc<Shard>>>,
}

/// Open work by kind.
#[derive(Debug, Default)]
struct Shard([AtomicUsize; 4]);

// === impl DrainTrigger ===

impl Default for DrainTrigger {
    fn default() -> Self {
        Self::new()
    }
}

impl DrainTrigger {
    /// Serving, nothing open.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            phase: AtomicU8::new(Phase::Serving as u8),
            changes: watch::Sender::new(Phase::Serving),
            hurry: Notify::new(),
            idle: Notify::new(),
            finished: AtomicU64::new(0),
            shards: Mutex::default(),
        }))
    }

    /// A watcher with counters of its own, for one worker.
    pub fn watcher(&self) -> DrainWatcher {
        let shard = Arc::new(Shard::default());
        self.0.shards().push(Arc::clone(&shard));
        DrainWatcher { shared: Arc::clone(&self.0), shard }
    }

    /// Goes through all phases and returns once nothing is open any more or the deadline cut it. `entered` hears of
    /// each phase. To be run once; the phases do not go back.
    pub async fn run(&self, plan: DrainPlan, mut entered: impl FnMut(Phase)) -> Drained {
        let shared = &*self.0;
        shared.enter(Phase::Grace, &mut entered);
        if !plan.grace.is_zero() {
            // A second signal ends the grace period.
            let _ = tokio::time::timeout(plan.grace, shared.hurry.notified()).await;
        }
        shared.enter(Phase::Draining, &mut entered);
        let begun = Instant::now();
        let tunnels_end = begun + plan.deadline.mul_f64(0.8);
        let deadline = begun + plan.deadline;
        if timeout_at(tunnels_end, shared.until_idle()).await.is_err() {
            shared.enter(Phase::EndingTunnels, &mut entered);
            let _ = timeout_at(deadline, shared.until_idle()).await;
        }
        let [connections, requests, tunnels, _listeners] = shared.open();
        let cut = (connections + requests + tunnels) as u64;
        let finished = shared.finished.load(Ordering::Relaxed);
        shared.enter(Phase::Cut, &mut entered);
        if cut > 0 {
            // Those who are cut get a moment to say so on the wire and in the log.
            let _ = timeout_at(Instant::now() + Duration::from_secs(1), shared.until_idle()).await;
        }
        Drained { finished, cut }
    }

    /// Ends the grace period at once (second SIGTERM).
    pub fn hurry(&self) {
        self.0.hurry.notify_one();
    }

    /// Open work over all workers.
    pub fn open(&self, work: Work) -> usize {
        self.0.open().get(work as usize).copied().unwrap_or_default()
    }

    /// Present phase.
    pub fn phase(&self) -> Phase {
        self.0.phase()
    }
}

// === impl DrainWatcher ===

impl DrainWatcher {
    /// Present phase; one atomic load.
    pub fn phase(&self) -> Phase {
        self.shared.phase()
    }

    /// True once connections are to be closed after the answer in hand.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Waits until accepting stops and connections are to close.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Waits until tunnels are to end.
    pub async fn ending_tunnels(&self) {
        self.reached(Phase::EndingTunnels).await;
    }

    /// Waits until everything is to be cut.
    pub async fn cut(&self) {
        self.reached(Phase::Cut).await;
    }

    /// Waits until at least this phase.
    pub async fn reached(&self, phase: Phase) {
        let mut changes = self.shared.changes.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = changes.wait_for(|now| *now >= phase).await;
    }

    /// Counts a piece of work until the token is dropped, by its end, a cancel or a panic.
    pub fn token(&self, work: Work) -> DrainToken {
        self.shard.of(work).fetch_add(1, Ordering::SeqCst);
        DrainToken { shared: Arc::clone(&self.shared), shard: Arc::clone(&self.shard), work }
    }

    /// Open work of this worker.
    pub fn open(&self, work: Work) -> usize {
        self.shard.of(work).load(Ordering::Relaxed)
    }
}

impl Drop for DrainToken {
    fn drop(&mut self) {
        let left = self.shard.of(self.work).fetch_sub(1, Ordering::SeqCst).saturating_sub(1);
        // Sequentially consistent with `enter` and `open`: either this sees the phase, or `until_idle` sees the count.
        if self.shared.phase() >= Phase::Draining {
            if self.work != Work::Listener {
                self.shared.finished.fetch_add(1, Ordering::Relaxed);
            }
            if left == 0 {
                self.shared.idle.notify_one();
            }
        }
    }
}

// === impl Shared ===

impl Shared {
    fn phase(&self) -> Phase {
        Phase::from_u8(self.phase.load(Ordering::SeqCst))
    }

    fn enter(&self, phase: Phase, entered: &mut impl FnMut(Phase)) {
        self.phase.store(phase as u8, Ordering::SeqCst);
        self.changes.send_replace(phase);
        entered(phase);
    }

    async fn until_idle(&self) {
        while self.open().iter().any(|count| *count > 0) {
            // `notify_one` keeps a permit when nobody waits, so an end between the look and the wait is not lost.
            self.idle.notified().await;
        }
    }

    fn open(&self) -> [usize; 4] {
        let mut open = [0; 4];
        for shard in self.shards().iter() {
            for (sum, count) in open.iter_mut().zip(&shard.0) {
                *sum += count.load(Ordering::SeqCst);
            }
        }
        open
    }

    fn shards(&self) -> MutexGuard<'_, Vec<Arc<Shard>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Shard ===

impl Shard {
    fn of(&self, work: Work) -> &AtomicUsize {
        let [connections, requests, tunnels, listeners] = &self.0;
        match work {
            Work::Connection => connections,
            Work::Request => requests,
            Work::Tunnel => tunnels,
            Work::Listener => listeners,
        }
    }
}

#[cfg(test)]
mod tests;
