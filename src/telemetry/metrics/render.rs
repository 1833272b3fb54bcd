//! The part of a scrape that does not grow with hosts and Ingresses: adds the workers' cells up and writes the text; the
//! control plane's comes ready from the crate. What grows is in [`super::scrape`], which calls this.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::names;
use super::process::Process;
use super::text::{Text, push_label};
use super::worker::{COUNTERS, Counter, GAUGES, Gauge, Worded, WorkerCells};
use super::{Shared, lock};

/// What there is once, however many hosts and Ingresses there are.
pub(super) fn once(text: &mut Text, shared: &Shared, constant: &str, now: Instant) {
    workers(text, shared, constant);
    words(text, shared);
    logs(text, shared);
    spans(text, shared);
    process(text, constant);
    text.single(&names::SERIES, "", shared.registry.lines());
    text.single(&names::SERIES_LIMIT, "", shared.registry.limit());
    text.single(&names::SERIES_DROPPED, "", shared.registry.dropped());
    shared.control.render(text, now);
}

/// Text of [`super::MetricsConfig::constant`].
pub(super) fn constant_labels(shared: &Shared) -> String {
    let mut labels = String::new();
    for (name, value) in shared.config.constant() {
        push_label(&mut labels, name, value);
    }
    labels
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
