//! Request series: one per combination of labels, with one set of cells per worker that met it.
//!
//! Workers reach the shared map only for a combination they have not met yet; afterwards they hold the cells. The map
//! bounds how many lines there can ever be (`H-3`): what does not fit is counted, with its status class, as `other`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::config::MetricsConfig;
use super::layout::Layout;
use super::objects::{Live, LiveObjects};
use super::text::push_label;
use crate::telemetry::record::{HostLabel, RouteLabels};

/// Series of a vanished object leave after this time (`H-3`).
pub const RETIRE_AFTER: Duration = Duration::from_secs(5 * 60);
/// Hosts that no object names and that may become labels with `--metrics-per-undefined-host`.
const UNDEFINED_HOSTS: usize = 1_000;
/// Methods that are labels; others are `OTHER`.
pub(super) const METHODS: [&str; 10] =
    ["-", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
/// Label of a method outside the list.
const OTHER_METHOD: &str = "OTHER";
/// Combinations that are looked at before the map is free for workers again.
const AT_ONCE: usize = 64;
/// Label values of what did not fit.
const OTHER: &str = "other";

/// Counters of one combination and worker. One worker writes, so no read-modify-write is needed; anybody reads.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Cells(Arc<[AtomicU64]>);

impl Cells {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| AtomicU64::new(0)).collect())
    }

    /// Adds from the owning worker's thread.
    pub(super) fn add(&self, cell: usize, amount: u64) {
        if let Some(cell) = self.0.get(cell) {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self, cell: usize) -> u64 {
        self.0.get(cell).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

/// Where a worker counts one combination. The two differ when only the request counter fits the limit.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Cell 0 counts the request.
    pub(super) count: Cells,
    /// Histograms.
    pub(super) observe: Cells,
}

/// Identity of a combination, in the order of its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    namespace: Box<str>,
    ingress: Box<str>,
    host: Option<Box<str>>,
    path: Box<str>,
    service: Box<str>,
    canary: Box<str>,
    method: u8,
    status: u16,
}

/// One combination as the scraper sees it.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// Ready label text, sorted by name.
    pub(super) labels: Arc<str>,
    /// Labels of the summary: namespace, ingress, service, canary.
    pub(super) summary: Arc<str>,
    /// Histograms are kept, not only the counter.
    pub(super) full: bool,
    /// One per worker.
    pub(super) cells: Vec<Cells>,
}

#[derive(Debug)]
struct Entry {
    series: Series,
    by_worker: BTreeMap<usize, Cells>,
    undefined_host: bool,
    /// Since when the object is gone, or the undefined host silent.
    idle_since: Option<Instant>,
    /// Under which statement of what exists the object was found last; they are numbered from 1.
    found_in: u64,
    last_count: u64,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<Labels, Entry>,
    lines: usize,
    undefined: BTreeSet<Box<str>>,
    live: Option<Live>,
    /// How many statements of what exists there were.
    statements: u64,
}

/// All combinations.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) layout: Layout,
    per_host: bool,
    per_undefined_host: bool,
    status_classes: bool,
    limit: usize,
    constant: [(&'static str, String); 3],
    inner: Mutex<Inner>,
    /// Grows when series were removed: workers then forget what they hold.
    epoch: AtomicU64,
    dropped: AtomicU64,
}

// === impl Registry ===

impl Registry {
    pub(super) fn new(config: &MetricsConfig) -> Self {
        Self {
            layout: Layout::new(config),
            per_host: config.per_host,
            per_undefined_host: config.per_undefined_host,
            status_classes: config.status_classes,
            limit: config.series_limit,
            constant: config.constant().map(|(name, value)| (name, value.to_owned())),
            inner: Mutex::default(),
            epoch: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn lines(&self) -> usize {
        self.lock().lines
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether requests of this route are counted at all: those that no Ingress took are not, as in ingress-nginx,
    /// unless hosts are no label or undefined ones are wanted.
    pub(super) fn counts(&self, route: &RouteLabels<'_>) -> bool {
        match route.host {
            HostLabel::Configured(_) => true,
            HostLabel::Undefined(_) => !route.ingress.is_empty() || !self.per_host || self.per_undefined_host,
        }
    }

    /// Whether hosts that no object names are told apart.
    pub(super) const fn tells_undefined(&self) -> bool {
        self.per_host && self.per_undefined_host
    }

    /// The status as it is told apart.
    pub(super) fn status(&self, status: u16) -> u16 {
        if self.status_classes { status / 100 } else { status }
    }

    /// Finds or makes the cells of a combination for a worker. `method` is an index into [`METHODS`] or its length.
    pub(super) fn slot(
        &self,
        worker: usize,
        route: &RouteLabels<'_>,
        canary: &str,
        method: u8,
        status: u16,
    ) -> Slot {
        let mut inner = self.lock();
        let (host, undefined_host) = self.host_label(route.host, &mut inner);
        let labels = Labels {
            namespace: route.namespace.into(),
            ingress: route.ingress.into(),
            host: host.map(Into::into),
            path: route.path.into(),
            service: route.service.into(),
            canary: canary.into(),
            method,
            status: self.status(status),
        };
        let lines = self.layout.lines;
        if !inner.entries.contains_key(&labels) {
            // A fifth of the limit is kept for bare request counters, the metric that alerts and rollouts stand on.
            let full = inner.lines + lines <= self.limit / 5 * 4;
            if !full {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            if !full && (inner.lines >= self.limit || !self.layout.requests) {
                let other = self.other(&mut inner, worker, status);
                return Slot { count: other.clone(), observe: other };
            }
            let entry = self.entry(&labels, full, undefined_host);
            inner.entries.insert(labels.clone(), entry);
            inner.lines += if full { lines } else { 1 };
        }
        let cells = self.layout.cells;
        let Some(entry) = inner.entries.get_mut(&labels) else {
            let other = self.other(&mut inner, worker, status);
            return Slot { count: other.clone(), observe: other };
        };
        let full = entry.series.full;
        let count = entry.cells_of(worker, if full { cells } else { 1 });
        let observe = if full { count.clone() } else { self.other(&mut inner, worker, status) };
        Slot { count, observe }
    }

    /// The combination for what does not fit, told apart by status class only; outside the limit.
    fn other(&self, inner: &mut Inner, worker: usize, status: u16) -> Cells {
        let class = if self.status_classes { self.status(status) } else { status / 100 };
        let labels = Labels {
            namespace: OTHER.into(),
            ingress: OTHER.into(),
            host: self.per_host.then(|| OTHER.into()),
            path: OTHER.into(),
            service: OTHER.into(),
            canary: "".into(),
            method: METHODS.len() as u8,
            status: class,
        };
        let entry = inner.entries.entry(labels).or_insert_with_key(|labels| self.entry(labels, true, false));
        entry.cells_of(worker, self.layout.cells)
    }

    fn entry(&self, labels: &Labels, full: bool, undefined_host: bool) -> Entry {
        let method = METHODS.get(usize::from(labels.method)).copied().unwrap_or(OTHER_METHOD);
        let status = match labels.status {
            0 => "-".to_owned(),
            class @ 1..=9 => format!("{class}xx"),
            status => status.to_string(),
        };
        let mut pairs: Vec<(&str, &str)> =
            self.constant.iter().map(|(name, value)| (*name, value.as_str())).collect();
        pairs.extend([
            ("ingress", &*labels.ingress),
            ("namespace", &*labels.namespace),
            ("service", &*labels.service),
            ("canary", &*labels.canary),
        ]);
        let summary = label_text(&mut pairs.clone());
        pairs.extend([("method", method), ("path", &*labels.path), ("status", &status)]);
        pairs.extend(labels.host.as_deref().map(|host| ("host", host)));
        let series = Series {
            labels: label_text(&mut pairs).into(),
            summary: summary.into(),
            full,
            cells: Vec::new(),
        };
        Entry {
            series,
            by_worker: BTreeMap::new(),
            undefined_host,
            idle_since: None,
            found_in: 0,
            last_count: 0,
        }
    }

    /// The label `host`, and whether a client chose it.
    fn host_label<'h>(&self, host: HostLabel<'h>, inner: &mut Inner) -> (Option<&'h str>, bool) {
        if !self.per_host {
            return (None, false);
        }
        match host {
            HostLabel::Configured(name) => (Some(name), false),
            HostLabel::Undefined(name) if self.per_undefined_host && is_host(name) => {
                if !inner.undefined.contains(name) {
                    if inner.undefined.len() >= UNDEFINED_HOSTS {
                        self.dropped.fetch_add(1, Ordering::Relaxed);
                        return (Some("_"), false);
                    }
                    inner.undefined.insert(name.into());
                }
                (Some(name), true)
            }
            HostLabel::Undefined(_) => (Some("_"), false),
        }
    }

    /// Says what came and what left; series of what does not exist leave [`RETIRE_AFTER`] later.
    pub(super) fn change_live(&self, came: LiveObjects, left: LiveObjects, now: Instant) {
        let mut inner = self.lock();
        let first = inner.live.is_none();
        if !inner.live.get_or_insert_default().change(came, left) && !first {
            return;
        }
        inner.statements = inner.statements.wrapping_add(1);
        drop(inner);
        self.retire(now, || {});
    }

    /// Removes what has been gone, or silent under an undefined host, for [`RETIRE_AFTER`]. Workers that meet a new
    /// combination wait for [`AT_ONCE`] of them at most, and `pause` is called in between.
    pub(super) fn retire(&self, now: Instant, pause: fn()) {
        let (mut last, mut any_left, mut forget_hosts) = (None, false, false);
        loop {
            let mut inner = self.lock();
            let Inner { entries, lines, live, statements, .. } = &mut *inner;
            let mut gone = Vec::new();
            let (mut looked_at, mut end) = (0, None);
            for (labels, entry) in entries.range_mut::<Labels, _>(after(last.as_ref())).take(AT_ONCE) {
                looked_at += 1;
                end = Some(labels);
                if !entry.is_idle(labels, live.as_ref(), *statements) {
                    entry.idle_since = None;
                    continue;
                }
                let since = *entry.idle_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= RETIRE_AFTER {
                    gone.push(labels.clone());
                }
            }
            last = end.cloned();
            for labels in &gone {
                let Some(entry) = entries.remove(labels) else { continue };
                *lines = lines.saturating_sub(if entry.series.full { self.layout.lines } else { 1 });
                forget_hosts |= entry.undefined_host;
            }
            any_left |= !gone.is_empty();
            if looked_at < AT_ONCE {
                break;
            }
            drop(inner);
            pause();
        }
        // Once: workers forget all that they know of series.
        if any_left {
            self.epoch.fetch_add(1, Ordering::Release);
        }
        if forget_hosts {
            self.forget_hosts();
        }
    }

    /// Makes room for other undefined hosts instead of those whose last series left.
    fn forget_hosts(&self) {
        let mut inner = self.lock();
        let Inner { entries, undefined, .. } = &mut *inner;
        let kept: BTreeSet<&str> = entries
            .iter()
            .filter(|(_, entry)| entry.undefined_host)
            .filter_map(|(labels, _)| labels.host.as_deref())
            .collect();
        undefined.retain(|host| kept.contains(&**host));
    }

    /// What a scrape shows; the map is free again before anything is formatted, and now and then meanwhile.
    pub(super) fn snapshot(&self, pause: fn()) -> Vec<Series> {
        let (mut all, mut last) = (Vec::new(), None);
        loop {
            let inner = self.lock();
            let (before, mut end) = (all.len(), None);
            for (labels, entry) in inner.entries.range::<Labels, _>(after(last.as_ref())).take(AT_ONCE) {
                all.push(entry.series.clone());
                end = Some(labels);
            }
            last = end.cloned();
            drop(inner);
            if all.len().saturating_sub(before) < AT_ONCE {
                return all;
            }
            pause();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Entry ===

impl Entry {
    fn cells_of(&mut self, worker: usize, cells: usize) -> Cells {
        if let Some(known) = self.by_worker.get(&worker) {
            return known.clone();
        }
        let made = Cells::new(cells);
        self.by_worker.insert(worker, made.clone());
        self.series.cells.push(made.clone());
        made
    }

    fn is_idle(&mut self, labels: &Labels, live: Option<&Live>, statement: u64) -> bool {
        if self.undefined_host {
            let count = self.series.cells.iter().map(|cells| cells.read(0)).fold(0, u64::wrapping_add);
            return std::mem::replace(&mut self.last_count, count) == count;
        }
        let Some(live) = live else { return false };
        if self.found_in == statement {
            return false;
        }
        if &*labels.namespace == OTHER && &*labels.ingress == OTHER && &*labels.path == OTHER {
            return false;
        }
        let owner_gone = !labels.ingress.is_empty() && !live.has_ingress(&labels.namespace, &labels.ingress);
        let host_gone = labels.host.as_deref().is_some_and(|host| host != "_" && !live.has_host(host));
        let idle = owner_gone || host_gone;
        if !idle {
            self.found_in = statement;
        }
        idle
    }
}

/// The range after `last`, or all.
fn after(last: Option<&Labels>) -> (Bound<&Labels>, Bound<&Labels>) {
    (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

/// Labels sorted by name, as Prometheus' own clients write them.
fn label_text(pairs: &mut [(&str, &str)]) -> String {
    pairs.sort_unstable();
    let mut text = String::new();
    for (name, value) in pairs {
        push_label(&mut text, name, value);
    }
    text
}

/// A name that can be a host: nothing else that a client sends becomes a label.
fn is_host(name: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(allowed)
}

/// Index of a method in [`METHODS`]; its length for others.
pub(super) fn method_index(method: Option<&str>) -> u8 {
    let method = method.unwrap_or("-");
    METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len()) as u8
}
