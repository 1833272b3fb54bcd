//! A scrape in pieces: what there is for each series, certificate and Ingress is written when the reader has room for it,
//! so that tens of MiB of text never lie in memory at once. Pure of sockets; the admin port sends the pieces.

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;
use std::time::Instant;

use super::Shared;
use super::checked::{Key, Verdict};
use super::control::CertificateFacts;
use super::layout::{Histogram, Layout, Observed};
use super::names;
use super::objects::IngressName;
use super::render::{constant_labels, once};
use super::series::{Cells, Series};
use super::text::{Text, push_label};

/// A piece is sent when it has so many bytes: enough for a system call to be worth it, and few enough to stay in the
/// processor's cache from writing to sending, and to leave the data of requests there.
const PIECE: usize = 16 * 1024;

/// One scrape: an iterator of pieces of text. Numbers are read when their line is written.
#[derive(Debug)]
pub struct Scrape {
    shared: Arc<Shared>,
    now: Instant,
    pause: fn(),
    constant: String,
    series: Vec<Series>,
    stage: Stage,
    text: Text,
}

/// What is written next, and how far it is; families come one after the other.
#[derive(Debug)]
enum Stage {
    Begin,
    Requests(usize),
    /// Which histogram, which series, and whether the family has a line yet.
    Histogram(usize, usize, bool),
    /// The summary that Flagger asks for: header times without buckets, per Ingress and Service.
    Summary,
    Summaries(btree_map::IntoIter<Arc<str>, (u64, u64)>),
    Once,
    Expiry(Arc<[CertificateFacts]>, usize),
    Certificates(Arc<[CertificateFacts]>, usize),
    /// The Ingresses after this one.
    Orphans(Option<IngressName>),
    /// The checked Ingresses after this one, and whether the family has a line yet.
    Checks(Verdict, Option<Key>, bool),
    End,
}

// === impl Scrape ===

impl Scrape {
    /// `pause` is called between series: many thousands take long, and others may wait for the processor.
    pub(super) fn new(shared: Arc<Shared>, now: Instant, pause: fn()) -> Self {
        let constant = constant_labels(&shared);
        let (series, text) = (Vec::new(), Text::default());
        Self { shared, now, pause, constant, series, stage: Stage::Begin, text }
    }

    /// Writes the next part of the current stage.
    fn step(&mut self) {
        (self.pause)();
        let Self { shared, series, constant, text, pause, .. } = self;
        let layout = &shared.registry.layout;
        let control = &shared.control;
        self.stage = match std::mem::replace(&mut self.stage, Stage::End) {
            Stage::Begin => {
                shared.registry.retire(self.now, *pause);
                *series = shared.registry.snapshot(*pause);
                Stage::Requests(0)
            }
            Stage::Requests(at) => match series.get(at) {
                Some(one) if layout.requests => {
                    request(text, one, at == 0);
                    Stage::Requests(at.saturating_add(1))
                }
                _ => Stage::Histogram(0, 0, false),
            },
            Stage::Histogram(which, at, begun) => match (layout.histograms.get(which), series.get(at)) {
                (None, _) => Stage::Summary,
                (Some(_), None) => Stage::Histogram(which.saturating_add(1), 0, false),
                (Some(histogram), Some(one)) => {
                    Stage::Histogram(which, at.saturating_add(1), observed(text, histogram, one, begun))
                }
            },
            Stage::Summary => {
                let exported = shared.config.exports(names::UPSTREAM_LATENCY.name);
                let totals = if exported { totals(layout, series, *pause) } else { BTreeMap::new() };
                for one in series.drain(..) {
                    pause();
                    drop(one);
                }
                if !totals.is_empty() {
                    text.family(&names::UPSTREAM_LATENCY);
                }
                Stage::Summaries(totals.into_iter())
            }
            Stage::Summaries(mut totals) => match totals.next() {
                Some((labels, total)) => {
                    summary(text, layout, &labels, total);
                    Stage::Summaries(totals)
                }
                None => Stage::Once,
            },
            Stage::Once => {
                once(text, shared, constant, self.now);
                Stage::Expiry(control.certificates(), 0)
            }
            Stage::Expiry(all, at) => match all.get(at) {
                Some(one) => {
                    control.expiry(text, one, at == 0);
                    Stage::Expiry(all, at.saturating_add(1))
                }
                None => Stage::Certificates(all, 0),
            },
            Stage::Certificates(all, at) => match all.get(at) {
                Some(one) => {
                    control.certificate(text, one, at == 0);
                    Stage::Certificates(all, at.saturating_add(1))
                }
                None => Stage::Orphans(None),
            },
            Stage::Orphans(last) => {
                match control.orphans().render_after(last.as_ref(), text, constant, *pause) {
                    None => Stage::Checks(Verdict::Allow, None, false),
                    last => Stage::Orphans(last),
                }
            }
            Stage::Checks(verdict, last, begun) => {
                let some = control.checked_after(last.as_ref(), verdict);
                let begun = checks(text, constant, verdict, &some, begun);
                match (some.into_iter().next_back(), verdict) {
                    (Some((last, _)), _) => Stage::Checks(verdict, Some(last), begun),
                    (None, Verdict::Allow) => Stage::Checks(Verdict::Deny, None, false),
                    (None, Verdict::Deny) => Stage::End,
                }
            }
            Stage::End => Stage::End,
        };
    }
}

impl Iterator for Scrape {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        while self.text.len() < PIECE && !matches!(self.stage, Stage::End) {
            self.step();
        }
        let piece = self.text.take(2 * PIECE);
        (!piece.is_empty()).then_some(piece)
    }
}

/// Counts of admission checks; an Ingress of which there was no such check has no line. Says whether the family has begun.
fn checks(text: &mut Text, constant: &str, verdict: Verdict, some: &[(Key, u64)], mut begun: bool) -> bool {
    let family = match verdict {
        Verdict::Allow => &names::CHECK_SUCCESS,
        Verdict::Deny => &names::CHECK_ERRORS,
    };
    for ((namespace, ingress), count) in some.iter().filter(|(_, count)| *count > 0) {
        if !begun {
            text.family(family);
            begun = true;
        }
        let mut labels = constant.to_owned();
        push_label(&mut labels, "ingress", ingress);
        push_label(&mut labels, "namespace", namespace);
        text.sample(family.name, "", &labels, count);
    }
    begun
}

fn sum(cells: &[Cells], cell: usize) -> u64 {
    cells.iter().map(|cells| cells.read(cell)).fold(0, u64::wrapping_add)
}

fn request(text: &mut Text, one: &Series, first: bool) {
    if first {
        text.family(&names::REQUESTS);
    }
    let count = sum(&one.cells, 0);
    // The series of what did not fit may have only histograms.
    if count > 0 {
        text.sample(names::REQUESTS.name, "", &one.labels, count);
    }
}

/// One series of a histogram; says whether the family has begun.
fn observed(text: &mut Text, histogram: &Histogram, one: &Series, begun: bool) -> bool {
    if !one.full {
        return begun;
    }
    let counts: Vec<u64> = (histogram.start..histogram.sum()).map(|cell| sum(&one.cells, cell)).collect();
    let total = counts.iter().copied().fold(0, u64::wrapping_add);
    // What was never observed has no series: a redirect has no upstream time.
    if total == 0 {
        return begun;
    }
    if !begun {
        text.family(histogram.family);
    }
    buckets(text, histogram, one, &counts, total);
    true
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

/// Time and number of answers per Ingress and Service.
fn totals(layout: &Layout, series: &[Series], pause: fn()) -> BTreeMap<Arc<str>, (u64, u64)> {
    let mut totals: BTreeMap<Arc<str>, (u64, u64)> = BTreeMap::new();
    let Some(histogram) = layout.of(Observed::HeaderDuration) else { return totals };
    for one in series.iter().filter(|one| one.full) {
        pause();
        let count =
            (histogram.start..histogram.sum()).map(|cell| sum(&one.cells, cell)).fold(0, u64::wrapping_add);
        if count > 0 {
            let total = totals.entry(Arc::clone(&one.summary)).or_default();
            total.0 = total.0.wrapping_add(sum(&one.cells, histogram.sum()));
            total.1 = total.1.wrapping_add(count);
        }
    }
    totals
}

fn summary(text: &mut Text, layout: &Layout, labels: &str, (time, count): (u64, u64)) {
    let Some(histogram) = layout.of(Observed::HeaderDuration) else { return };
    text.sample(names::UPSTREAM_LATENCY.name, "_sum", labels, histogram.unit.to_base(time));
    text.sample(names::UPSTREAM_LATENCY.name, "_count", labels, count);
}
