//! Metrics: counted by workers without locks, merged when somebody scrapes.
//!
//! Each worker owns a [`WorkerMetrics`] and writes cells that nobody else writes; a scrape adds the cells of all
//! workers. Labels come from configured objects and closed lists only (`H-3`), and their number is bounded.
//! The control plane tells its facts through [`ControlMetrics`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use super::spans::Spans;
use super::writer::LineWriter;

mod checked;
pub mod config;
pub mod control;
mod layout;
pub mod names;
pub mod objects;
mod process;
mod render;
mod scrape;
pub mod series;
mod text;
pub mod worker;

pub use config::MetricsConfig;
pub use control::{AdmissionFacts, CertificateFacts, ControlMetrics, TableSize};
pub use objects::{IngressName, LiveObjects, Orphaned};
pub use scrape::Scrape;
pub use worker::{Counter, Gauge, GaugeGuard, WorkerMetrics};

/// All metrics of the process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Shared>);

/// What workers, control plane and scraper share.
#[derive(Debug)]
struct Shared {
    config: MetricsConfig,
    registry: series::Registry,
    control: ControlMetrics,
    workers: Mutex<Vec<Arc<worker::WorkerCells>>>,
    made: AtomicUsize,
    words: Mutex<BTreeMap<worker::WordedKey, Arc<AtomicU64>>>,
    logs: Mutex<Vec<(&'static str, LineWriter)>>,
    spans: OnceLock<Spans>,
}

// === impl Metrics ===

impl Metrics {
    /// Empty metrics.
    pub fn new(config: MetricsConfig) -> Self {
        Self(Arc::new(Shared {
            registry: series::Registry::new(&config),
            control: ControlMetrics::new(&config),
            workers: Mutex::default(),
            made: AtomicUsize::new(0),
            words: Mutex::default(),
            logs: Mutex::default(),
            spans: OnceLock::new(),
            config,
        }))
    }

    /// The handle of one worker. Each call makes cells of its own, so no two handles ever write the same cell.
    pub fn worker(&self) -> WorkerMetrics {
        let number = self.0.made.fetch_add(1, Ordering::Relaxed);
        WorkerMetrics::new(Arc::clone(&self.0), number)
    }

    /// The handles of the control plane.
    pub fn control(&self) -> &ControlMetrics {
        &self.0.control
    }

    /// Says after a publication which objects came into the table and which left it: series of the latter leave five
    /// minutes later.
    pub fn change_live(&self, came: LiveObjects, left: LiveObjects, now: Instant) {
        self.0.registry.change_live(came, left, now);
    }

    /// Shows the counters of a log under this name, such as `access` or `diagnostic`.
    pub fn add_log(&self, name: &'static str, writer: &LineWriter) {
        lock(&self.0.logs).push((name, writer.clone()));
    }

    /// Shows what became of spans.
    pub fn add_spans(&self, spans: &Spans) {
        let _first_counts = self.0.spans.set(spans.clone());
    }

    /// Prometheus text, version 0.0.4, in pieces, each made when it is asked for; `pause` is called between series: many
    /// thousands take long, and others may wait for the processor.
    pub fn scrape(&self, now: Instant, pause: fn()) -> Scrape {
        Scrape::new(Arc::clone(&self.0), now, pause)
    }

    /// All pieces as one text.
    #[cfg(test)]
    fn render(&self, now: Instant) -> String {
        self.scrape(now, || {}).collect()
    }
}

// === impl Shared ===

impl Shared {
    fn add_worker(&self, cells: Arc<worker::WorkerCells>) {
        lock(&self.workers).push(cells);
    }

    fn word(&self, key: worker::WordedKey) -> Arc<AtomicU64> {
        Arc::clone(lock(&self.words).entry(key).or_default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
