//! Spans on their way to a collector: bounded, never in the way of who makes them.
//!
//! A worker encodes a finished span ([`encode`]) and offers it to [`Spans`]; a full queue drops and counts it. Who
//! takes them out and sends them is `collector`; who decides what is traced is `policy::tracing`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

pub mod encode;

pub use encode::{Attribute, Span};

/// Bytes of spans that may wait, whatever their number.
const MAX_BYTES: usize = 16 << 20;

/// What the ConfigMap says about sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Host and port of the collector; without one nothing is kept.
    pub collector: Option<(Arc<str>, u16)>,
    /// `service.name` of the resource.
    pub service: Arc<str>,
    /// Spans that may wait.
    pub queue: usize,
    /// Time between two exports.
    pub delay: Duration,
    /// Spans of one export.
    pub batch: usize,
}

/// The queue of the process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Spans(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    settings: Option<Arc<Settings>>,
    spans: Vec<Vec<u8>>,
    bytes: usize,
}

impl Spans {
    /// Sets what the ConfigMap says. What waits stays, less what has no place any more.
    pub fn configure(&self, settings: Settings) {
        let mut waiting = lock(&self.0.waiting);
        let keep = if settings.collector.is_some() { settings.queue } else { 0 };
        let lost = waiting.spans.len().saturating_sub(keep);
        waiting.spans.truncate(keep);
        waiting.bytes = waiting.spans.iter().map(Vec::len).sum();
        waiting.settings = Some(Arc::new(settings));
        drop(waiting);
        self.0.dropped.fetch_add(lost as u64, Ordering::Relaxed);
        self.wake();
    }

    /// What the ConfigMap says; `None` before it was read.
    pub fn settings(&self) -> Option<Arc<Settings>> {
        lock(&self.0.waiting).settings.clone()
    }

    /// Who is told that there is reason not to wait for the next export. Counts once.
    pub fn on_wake(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _first_counts = self.0.wake.set(Box::new(wake));
    }

    /// Takes an encoded span; false when it was dropped, or there is nobody to send it to.
    pub fn offer(&self, span: Vec<u8>) -> bool {
        let mut waiting = lock(&self.0.waiting);
        let Some(queue) =
            waiting.settings.as_ref().filter(|set| set.collector.is_some()).map(|set| set.queue)
        else {
            return false;
        };
        if waiting.spans.len() >= queue || waiting.bytes >= MAX_BYTES {
            drop(waiting);
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        waiting.bytes += span.len();
        waiting.spans.push(span);
        let half = waiting.spans.len() == queue.div_ceil(2);
        drop(waiting);
        if half {
            self.wake();
        }
        true
    }

    /// Takes out everything that waits.
    pub fn take(&self) -> Vec<Vec<u8>> {
        let mut waiting = lock(&self.0.waiting);
        waiting.bytes = 0;
        std::mem::take(&mut waiting.spans)
    }

    /// Counts spans that a collector took.
    pub fn exported(&self, count: usize) {
        self.0.exported.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts spans that no collector took.
    pub fn failed(&self, count: usize) {
        self.0.failed.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// How many spans were exported, dropped for want of room, and lost because the collector failed.
    pub fn counts(&self) -> [u64; 3] {
        [&self.0.exported, &self.0.dropped, &self.0.failed].map(|count| count.load(Ordering::Relaxed))
    }

    fn wake(&self) {
        if let Some(wake) = self.0.wake.get() {
            wake();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

/// A panic elsewhere leaves the queue usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn settings(queue: usize, collector: bool) -> Settings {
        Settings {
            collector: collector.then(|| (Arc::from("collector.test"), 4317)),
            service: Arc::from("nginx"),
            queue,
            delay: Duration::from_secs(5),
            batch: 512,
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_wakes_when_it_is_half_full() {
        let spans = Spans::default();
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        spans.configure(settings(4, true));
        spans.on_wake(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let taken: Vec<bool> = (0..6).map(|number| spans.offer(vec![number])).collect();
        assert_eq!(taken, [true, true, true, true, false, false]);
        assert_eq!((woken.load(Ordering::Relaxed), spans.counts()), (1, [0, 2, 0]));
        assert_eq!(spans.take().len(), 4);
        assert!(spans.offer(vec![1]), "there is room again");
    }

    #[test]
    fn without_a_collector_nothing_is_kept() {
        let spans = Spans::default();
        assert!(!spans.offer(vec![1]));
        spans.configure(settings(4, false));
        assert!(!spans.offer(vec![1]));
        spans.configure(settings(4, true));
        assert!(spans.offer(vec![1]) && spans.offer(vec![2]));
        spans.configure(settings(1, true));
        assert_eq!(spans.take(), [vec![1]]);
        assert_eq!(spans.counts(), [0, 1, 0]);
    }
}
