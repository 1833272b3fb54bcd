//! A scrape: adds the workers' cells up and writes the text. The control plane's part comes ready from the crate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::layout::{Histogram, Layout, Observed};
use super::names;
use super::process::Process;
use super::series::{Cells, Series};
use super::text::{Text, push_label};
use super::worker::{COUNTERS, Counter, GAUGES, Gauge, Worded, WorkerCells};
use super::{Shared, lock};

pub(super) fn render(shared: &Shared, now: Instant, pause: fn()) -> String {
    let series = shared.registry.snapshot();
    let layout = &shared.registry.layout;
    // A line of a request series is about 300 bytes long.
    let mut text = Text::with_capacity(16 * 1024 + series.len() * layout.lines * 300);
    let constant = constant_labels(shared);
    requests(&mut text, layout, &series, pause);
    if shared.config.exports(names::UPSTREAM_LATENCY.name) {
        upstream_latency(&mut text, layout, &series);
    }
    drop(series);
    workers(&mut text, shared, &constant);
    words(&mut text, shared);
    logs(&mut text, shared);
    spans(&mut text, shared);
    process(&mut text, &constant);
    text.single(&names::SERIES, "", shared.registry.lines());
    text.single(&names::SERIES_LIMIT, "", shared.registry.limit());
    text.single(&names::SERIES_DROPPED, "", shared.registry.dropped());
    shared.control.render(&mut text, &constant, now, pause);
    text.finish()
}

fn constant_labels(shared: &Shared) -> String {
    let mut labels = String::new();
    push_label(&mut labels, "controller_class", &shared.config.controller_class);
    push_label(&mut labels, "controller_namespace", &shared.config.controller_namespace);
    push_label(&mut labels, "controller_pod", &shared.config.controller_pod);
    labels
}

fn sum(cells: &[Arc<Cells>], cell: usize) -> u64 {
    cells.iter().map(|cells| cells.read(cell)).fold(0, u64::wrapping_add)
}

fn requests(text: &mut Text, layout: &Layout, series: &[Series], pause: fn()) {
    if layout.requests && !series.is_empty() {
        text.family(&names::REQUESTS);
        for one in series {
            pause();
            let count = sum(&one.cells, 0);
            // The series of what did not fit may have only histograms.
            if count > 0 {
                text.sample(names::REQUESTS.name, "", &one.labels, count);
            }
        }
    }
    for histogram in &layout.histograms {
        let mut begun = false;
        for one in series.iter().filter(|one| one.full) {
            pause();
            let counts: Vec<u64> =
                (histogram.start..histogram.sum()).map(|cell| sum(&one.cells, cell)).collect();
            let total = counts.iter().copied().fold(0, u64::wrapping_add);
            // What was never observed has no series: a redirect has no upstream time.
            if total == 0 {
                continue;
            }
            if !begun {
                text.family(histogram.family);
                begun = true;
            }
            buckets(text, histogram, one, &counts, total);
        }
    }
}

fn buckets(text: &mut Text, histogram: &Histogram, series: &Series, counts: &[u64], total: u64) {
    let name = histogram.family.name;
    let mut below = 0_u64;
    for (label, count) in histogram.labels.iter().zip(counts) {
        below = below.wrapping_add(*count);
        text.bucket(name, &series.labels, label, below);
    }
    text.bucket(name, &series.labels, "+Inf", total);
    text.sample(name, "_sum", &series.labels, histogram.unit.to_base(sum(&series.cells, histogram.sum())));
    text.sample(name, "_count", &series.labels, total);
}

/// The summary that Flagger asks for: header times without buckets, per Ingress and Service.
fn upstream_latency(text: &mut Text, layout: &Layout, series: &[Series]) {
    let Some(histogram) = layout.of(Observed::HeaderDuration) else { return };
    let mut totals: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for one in series.iter().filter(|one| one.full) {
        let count =
            (histogram.start..histogram.sum()).map(|cell| sum(&one.cells, cell)).fold(0, u64::wrapping_add);
        if count > 0 {
            let total = totals.entry(&one.summary).or_default();
            total.0 = total.0.wrapping_add(sum(&one.cells, histogram.sum()));
            total.1 = total.1.wrapping_add(count);
        }
    }
    if totals.is_empty() {
        return;
    }
    text.family(&names::UPSTREAM_LATENCY);
    for (labels, (time, count)) in totals {
        text.sample(names::UPSTREAM_LATENCY.name, "_sum", labels, histogram.unit.to_base(time));
        text.sample(names::UPSTREAM_LATENCY.name, "_count", labels, count);
    }
}

fn workers(text: &mut Text, shared: &Shared, constant: &str) {
    let workers: Vec<Arc<WorkerCells>> = lock(&shared.workers).clone();
    let counter = |counter: Counter| {
        workers.iter().map(|cells| cells.counter(counter as usize)).fold(0, u64::wrapping_add)
    };
    let gauge = |gauge: Gauge| {
        workers.iter().map(|cells| cells.gauge(gauge as usize)).fold(0, i64::wrapping_add).max(0)
    };
    for (index, family) in COUNTERS.iter().enumerate() {
        let value = workers.iter().map(|cells| cells.counter(index)).fold(0, u64::wrapping_add);
        let labels = if index == Counter::Requests as usize { constant } else { "" };
        text.single(family, labels, value);
    }
    for (index, family) in GAUGES.iter().enumerate() {
        let value = workers.iter().map(|cells| cells.gauge(index)).fold(0, i64::wrapping_add);
        text.single(family, "", value.max(0));
    }
    text.single(&names::WORKERS, "", workers.len());
    // nginx's states: reading a head (we: handshaking), writing an answer, waiting for the next request.
    let active = gauge(Gauge::Connections);
    let reading = gauge(Gauge::TlsHandshakes);
    let writing = gauge(Gauge::Requests).saturating_add(gauge(Gauge::Tunnels));
    let waiting = active.saturating_sub(reading).saturating_sub(writing).max(0);
    states(
        text,
        &names::PROCESS_CONNECTIONS,
        constant,
        &[("active", active), ("reading", reading), ("waiting", waiting), ("writing", writing)],
    );
    let accepted = i64::try_from(counter(Counter::Accepted)).unwrap_or(i64::MAX);
    states(
        text,
        &names::PROCESS_CONNECTIONS_TOTAL,
        constant,
        &[("accepted", accepted), ("handled", accepted)],
    );
}

fn states(text: &mut Text, family: &names::Family, constant: &str, values: &[(&str, i64)]) {
    text.family(family);
    for (state, value) in values {
        let mut labels = constant.to_owned();
        push_label(&mut labels, "state", state);
        text.sample(family.name, "", &labels, value);
    }
}

fn words(text: &mut Text, shared: &Shared) {
    let words = lock(&shared.words);
    for (counted, family, first, second) in [
        (Worded::LocalReply, &names::LOCAL_REPLIES, "kind", "rule"),
        (Worded::Retry, &names::RETRIES, "reason", ""),
        (Worded::Refused, &names::REFUSED, "reason", ""),
        (Worded::Session, &names::SESSIONS, "protocol", "status"),
    ] {
        let mut begun = false;
        for ((_, one, other), count) in words.iter().filter(|((which, ..), _)| *which == counted) {
            if !begun {
                text.family(family);
                begun = true;
            }
            let mut labels = String::new();
            push_label(&mut labels, first, one);
            if !second.is_empty() {
                push_label(&mut labels, second, other);
            }
            text.sample(family.name, "", &labels, count.load(Ordering::Relaxed));
        }
    }
}

fn logs(text: &mut Text, shared: &Shared) {
    let logs = lock(&shared.logs);
    if logs.is_empty() {
        return;
    }
    for (family, read) in [
        (&names::LOG_LINES, super::LineWriter::written as fn(&super::LineWriter) -> u64),
        (&names::LOG_DROPPED, super::LineWriter::dropped),
        (&names::LOG_ERRORS, super::LineWriter::errors),
    ] {
        text.family(family);
        for (name, writer) in logs.iter() {
            let mut labels = String::new();
            push_label(&mut labels, "log", name);
            text.sample(family.name, "", &labels, read(writer));
        }
    }
}

fn spans(text: &mut Text, shared: &Shared) {
    let Some(spans) = shared.spans.get() else { return };
    text.family(&names::SPANS);
    for (outcome, count) in ["exported", "dropped", "failed"].into_iter().zip(spans.counts()) {
        let mut labels = String::new();
        push_label(&mut labels, "outcome", outcome);
        text.sample(names::SPANS.name, "", &labels, count);
    }
}

fn process(text: &mut Text, constant: &str) {
    let process = Process::read();
    text.single(&names::PROCESS_CPU, constant, process.cpu_seconds);
    text.single(&names::PROCESS_READ_BYTES, constant, process.read_bytes);
    text.single(&names::PROCESS_WRITE_BYTES, constant, process.write_bytes);
    text.single(&names::PROCESS_NUM, constant, 1);
    text.single(&names::PROCESS_RESIDENT, constant, process.resident);
    text.single(&names::PROCESS_VIRTUAL, constant, process.virtual_size);
    text.single(&names::PROCESS_START, constant, process.start_time);
    text.single(&names::PROCESS_CPU_SECONDS, "", process.cpu_seconds);
    text.single(&names::PROCESS_RSS, "", process.resident);
    text.single(&names::PROCESS_VSIZE, "", process.virtual_size);
    text.single(&names::PROCESS_OPEN_FDS, "", process.open_fds);
    text.single(&names::PROCESS_MAX_FDS, "", process.max_fds);
    text.single(&names::PROCESS_START_TIME, "", process.start_time);
    text.single(&names::PROCESS_THREADS, "", process.threads);
}
