//! How one label combination's numbers lie in memory: the request counter, then for each exported histogram its
//! buckets and its sum. The same for all combinations, so it is worked out once.

use super::config::MetricsConfig;
use super::names::{self, Family};
use super::text::go_float;

/// Histograms made of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Observed {
    RequestDuration,
    ResponseDuration,
    HeaderDuration,
    ConnectDuration,
    RequestSize,
    ResponseSize,
    BytesSent,
}

/// Their order in memory and in the text.
const OBSERVED: [(Observed, &Family, Unit); 7] = [
    (Observed::RequestDuration, &names::REQUEST_DURATION, Unit::Seconds),
    (Observed::ResponseDuration, &names::RESPONSE_DURATION, Unit::Seconds),
    (Observed::HeaderDuration, &names::HEADER_DURATION, Unit::Seconds),
    (Observed::ConnectDuration, &names::CONNECT_DURATION, Unit::Seconds),
    (Observed::RequestSize, &names::REQUEST_SIZE, Unit::Bytes),
    (Observed::ResponseSize, &names::RESPONSE_SIZE, Unit::Bytes),
    (Observed::BytesSent, &names::BYTES_SENT, Unit::Bytes),
];

/// What a stored number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Stored as microseconds: whole numbers add without loss, and 64 bits hold 500,000 years.
    Seconds,
    Bytes,
}

impl Unit {
    /// Stored number to base unit.
    pub(super) fn to_base(self, stored: u64) -> f64 {
        match self {
            Self::Seconds => stored as f64 / 1e6,
            Self::Bytes => stored as f64,
        }
    }

    /// Bucket bound in base unit to stored number.
    fn to_stored(self, base: f64) -> u64 {
        match self {
            Self::Seconds => (base * 1e6).round() as u64,
            Self::Bytes => base as u64,
        }
    }
}

/// One histogram's place.
#[derive(Debug)]
pub(super) struct Histogram {
    pub(super) observed: Observed,
    pub(super) family: &'static Family,
    pub(super) unit: Unit,
    /// Upper bounds in stored units; one more bucket without bound follows.
    pub(super) bounds: Box<[u64]>,
    /// `le` of every bound, as Go's client writes it.
    pub(super) labels: Box<[String]>,
    /// First bucket; the sum stands after the last one.
    pub(super) start: usize,
}

impl Histogram {
    /// Cell of the bucket that counts `value`.
    pub(super) fn bucket(&self, value: u64) -> usize {
        match &*self.bounds {
            // Most requests are quick, and larger than what sizes are told apart by.
            [first, ..] if value <= *first => self.start,
            [.., last] if value > *last => self.start + self.bounds.len(),
            bounds => self.start + bounds.partition_point(|bound| *bound < value),
        }
    }

    /// Cell of the sum.
    pub(super) fn sum(&self) -> usize {
        self.start + self.bounds.len() + 1
    }

    /// Lines of text.
    fn lines(&self) -> usize {
        self.bounds.len() + 3
    }
}

/// The whole layout.
#[derive(Debug)]
pub(super) struct Layout {
    /// Exported histograms.
    pub(super) histograms: Vec<Histogram>,
    /// Whether `requests` is exported.
    pub(super) requests: bool,
    /// Cells per combination; cell 0 counts requests.
    pub(super) cells: usize,
    /// Lines of text per combination.
    pub(super) lines: usize,
}

impl Layout {
    pub(super) fn new(config: &MetricsConfig) -> Self {
        let mut histograms = Vec::new();
        let mut cells = 1;
        for (observed, family, unit) in OBSERVED {
            if !config.exports(family.name) {
                continue;
            }
            let buckets = match observed {
                Observed::RequestSize | Observed::ResponseSize => &config.length_buckets,
                Observed::BytesSent => &config.size_buckets,
                _ => &config.time_buckets,
            };
            let mut buckets: Vec<f64> =
                buckets.iter().copied().filter(|b| b.is_finite() && *b > 0.0).collect();
            buckets.sort_by(f64::total_cmp);
            buckets.dedup();
            let histogram = Histogram {
                observed,
                family,
                unit,
                bounds: buckets.iter().map(|bound| unit.to_stored(*bound)).collect(),
                labels: buckets.iter().map(|bound| go_float(*bound)).collect(),
                start: cells,
            };
            cells = histogram.sum() + 1;
            histograms.push(histogram);
        }
        let requests = config.exports(names::REQUESTS.name);
        let lines = usize::from(requests) + histograms.iter().map(Histogram::lines).sum::<usize>();
        Self { histograms, requests, cells, lines: lines.max(1) }
    }

    pub(super) fn of(&self, observed: Observed) -> Option<&Histogram> {
        self.histograms.iter().find(|histogram| histogram.observed == observed)
    }
}
