//! What a publication tells metrics and the access log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Instant, SystemTime};

use crate::cert::CertStore;
use crate::config::{self, Config};
use crate::control::{HELD, Hook, Report, Sources};
use crate::diagnostic::{Diagnostic, Severity};
use crate::limit::priority::breathe;
use crate::model::{CertInfo, ObjectKey};
use crate::places::Places;
use crate::policy::global::{Globals, LogEscape, UNKNOWN_VARIABLE};
use crate::route::{CertificateChoice, Table};
use crate::snapshot::Snapshot;
use crate::stapler::Bell;
use crate::telemetry::access_log::{Escape, Format, StreamFormat};
use crate::telemetry::metrics::{CertificateFacts, MetricsConfig, TableSize};
use crate::telemetry::spans::{self, Spans};
use crate::telemetry::writer::{Destination, OpenError, syslog};
use crate::telemetry::{AccessLog, Metrics};

mod ledger;

use ledger::{Ledger, News};

/// The metrics flags as telemetry takes them.
pub(super) fn metrics_config(config: &Config) -> MetricsConfig {
    let metrics = &config.metrics;
    MetricsConfig {
        controller_namespace: metrics.controller_namespace.clone(),
        controller_class: config.options.controller_class.clone(),
        controller_pod: metrics.controller_pod.clone(),
        time_buckets: metrics.time_buckets.clone(),
        length_buckets: metrics.length_buckets.clone(),
        size_buckets: metrics.size_buckets.clone(),
        per_host: metrics.per_host,
        per_undefined_host: metrics.per_undefined_host,
        status_classes: metrics.status_classes,
        exclude: metrics.exclude.iter().cloned().collect(),
        ..MetricsConfig::default()
    }
}

/// Tells the metrics of each publication.
pub(super) fn metrics_hook(metrics: Metrics) -> Hook {
    metrics.control().set_build(crate::cli::VERSION, "", "");
    let mut held_before = 0;
    let mut ledger = Ledger::default();
    let mut told = Told::default();
    Box::new(move |snapshot: &Arc<Snapshot>, report: &Report| {
        let control = metrics.control();
        let is_new = !told.table.ptr_eq(&Arc::downgrade(&snapshot.table));
        let News { came, left, orphans } = ledger.follow(&snapshot.table, &snapshot.endpoints);
        metrics.change_live(came, left, Instant::now());
        control.change_orphans(orphans);
        let size = TableSize {
            hosts: ledger.hosts(),
            locations: ledger.locations(),
            backends: snapshot.table.backends.len(),
            endpoints: ledger.ready(),
            certificates: snapshot.certs.pairs.len(),
        };
        // Endpoints come and go without a new table, and often.
        if is_new {
            told.table = Arc::downgrade(&snapshot.table);
            told.fingerprint = ledger.fingerprint(&snapshot.table);
        }
        if !told.sources.ptr_eq(&Arc::downgrade(&report.sources)) {
            told.sources = Arc::downgrade(&report.sources);
            let ingresses = &report.sources.world.ingresses;
            let exists =
                |namespace: &str, name: &str| ingresses.contains_key(&ObjectKey::new(namespace, name));
            control.retain_checked(exists, breathe);
        }
        control.published(told.fingerprint, snapshot.generation, size, SystemTime::now());
        control.confirmed(Instant::now());
        control.observe_build(report.build);
        if let Some(propagation) = report.propagation {
            control.observe_propagation(propagation);
        }
        let count = |severity| snapshot.diagnostics.iter().filter(|found| found.severity == severity).count();
        control.set_diagnostics(count(Severity::Info), count(Severity::Warning), count(Severity::Error));
        let held = snapshot.diagnostics.iter().filter(|found| found.code == HELD).count();
        control.removals_held(held.saturating_sub(std::mem::replace(&mut held_before, held)));
        if let Some(certificates) = told.follow(snapshot) {
            control.set_certificates(certificates);
        }
    })
}

/// What metrics were told of the table and its certificates last: ten thousand of them take longer than to compile a change.
#[derive(Default)]
struct Told {
    /// Weak, so that no table stays for it.
    table: Weak<Table>,
    sources: Weak<Sources>,
    fingerprint: u64,
    /// What it was made of, while nothing else is served.
    parts: Option<Parts>,
    certificates: Arc<[CertificateFacts]>,
}

/// Which host presents what, and the pairs.
type Parts = (Arc<BTreeMap<Arc<str>, CertificateChoice>>, Arc<CertStore>);

impl Told {
    /// The certificates of all hosts, if they are others than before.
    fn follow(&mut self, snapshot: &Snapshot) -> Option<Arc<[CertificateFacts]>> {
        let (tls, certs) = (&snapshot.table.tls, &snapshot.certs);
        let same = |parts: &Parts| Arc::ptr_eq(&parts.0, tls) && Arc::ptr_eq(&parts.1, certs);
        if self.parts.as_ref().is_some_and(same) {
            return None;
        }
        self.parts = Some((Arc::clone(tls), Arc::clone(certs)));
        let certificates = certificates(snapshot);
        if *self.certificates == *certificates {
            return None;
        }
        self.certificates = certificates.into();
        Some(Arc::clone(&self.certificates))
    }
}

fn certificates(snapshot: &Snapshot) -> Vec<CertificateFacts> {
    let mut all = vec![facts("_", None, &snapshot.certs.default.info)];
    for (host, choice) in snapshot.table.tls.iter() {
        if let CertificateChoice::Secret(key) = choice
            && let Some(pair) = snapshot.certs.pairs.get(key)
        {
            all.push(facts(host, Some(key), &pair.info));
        }
    }
    all
}

fn facts(host: &str, key: Option<&ObjectKey>, info: &CertInfo) -> CertificateFacts {
    use std::fmt::Write;
    let mut identifier = String::with_capacity(64);
    for byte in info.id {
        // Writing to a String cannot fail.
        let _ = write!(identifier, "{byte:02x}");
    }
    CertificateFacts {
        host: host.to_owned(),
        namespace: key.map(|key| key.namespace.to_string()).unwrap_or_default(),
        secret: key.map(|key| key.name.to_string()).unwrap_or_default(),
        identifier,
        issuer_organization: info.issuer_organization.clone(),
        issuer_common_name: info.issuer_common_name.clone(),
        serial_number: info.serial_number.clone(),
        public_key_algorithm: info.public_key_algorithm.to_owned(),
        not_after: info.not_after,
    }
}

/// Keeps the way of spans that of the ConfigMap. `instead` is the collector that the environment names.
pub(super) fn spans_hook(spans: Spans, instead: Option<(Arc<str>, u16)>) -> Hook {
    let mut told = false;
    Box::new(move |snapshot: &Arc<Snapshot>, _: &Report| {
        let tracing = &snapshot.table.globals.tracing;
        let nowhere = tracing.on && instead.is_none() && tracing.host.is_empty();
        if nowhere && !told {
            let hint = "set otlp-collector-host, or OTEL_EXPORTER_OTLP_ENDPOINT";
            tracing::warn!(hint, "enable-opentelemetry is set and no collector: no span is sent");
        }
        told = nowhere;
        let named = || (!tracing.host.is_empty()).then(|| (Arc::clone(&tracing.host), tracing.port));
        let settings = spans::Settings {
            collector: instead.clone().or_else(named),
            service: Arc::clone(&tracing.service),
            queue: usize::try_from(tracing.queue).unwrap_or(usize::MAX),
            delay: tracing.delay,
            batch: usize::try_from(tracing.batch).unwrap_or(usize::MAX),
        };
        if spans.settings().as_deref() != Some(&settings) {
            spans.configure(settings);
        }
    })
}

/// Reads the databases of `use-geoip2`, once they are asked for.
pub(super) fn places_hook(places: Places) -> Hook {
    Box::new(move |snapshot: &Arc<Snapshot>, _: &Report| {
        let globals = &snapshot.table.globals;
        places.configure(globals.geoip, globals.geoip_reload);
    })
}

/// Wakes who asks OCSP responders: there may be new certificates.
pub(super) fn ocsp_hook(bell: Bell) -> Hook {
    Box::new(move |_: &Arc<Snapshot>, _: &Report| bell.ring())
}

/// Keeps the access log's format and file those of the ConfigMap.
#[derive(Clone)]
pub(super) struct LogFormats {
    log: Arc<OnceLock<AccessLog>>,
    form: config::LogFormat,
}

impl LogFormats {
    /// Before the log is open: the first table says where it goes.
    pub(super) fn new(form: config::LogFormat) -> Self {
        Self { log: Arc::default(), form }
    }

    /// The log is open; `first` is the first table.
    pub(super) fn begin(&self, log: AccessLog, first: &Snapshot) {
        let log = self.log.get_or_init(|| log);
        self.apply(log, first);
    }

    /// Follows publications.
    pub(super) fn hook(&self) -> Hook {
        let this = self.clone();
        let mut last: Option<LogSettings> = None;
        Box::new(move |snapshot: &Arc<Snapshot>, _: &Report| {
            let globals = &snapshot.table.globals;
            let now = LogSettings { unknown: unknown_variables(snapshot), ..LogSettings::of(globals) };
            let Some(log) = this.log.get() else {
                last = Some(now);
                return;
            };
            if let Some(before) = last.replace(now.clone())
                && before != now
            {
                this.apply(log, snapshot);
                if before.place != now.place
                    && let Err(error) = log.reopen(&now.place)
                {
                    tracing::error!(%error, "the access log stays where it was");
                }
            }
        })
    }

    fn apply(&self, log: &AccessLog, snapshot: &Snapshot) {
        let globals = &snapshot.table.globals;
        let escape = match globals.log_escape {
            LogEscape::Default => Escape::Default,
            LogEscape::Json => Escape::Json,
            LogEscape::None => Escape::None,
        };
        let format = match self.form {
            config::LogFormat::Json => Format::json(),
            config::LogFormat::Text => {
                let unknown = unknown_variables(snapshot);
                let own = |name: &str| !unknown.contains(name);
                let (format, problems) = Format::compile(&globals.log_format_upstream, escape, own);
                for problem in problems {
                    tracing::warn!(%problem, "log-format-upstream");
                }
                format
            }
        };
        let streams = match self.form {
            config::LogFormat::Json => StreamFormat::json(),
            config::LogFormat::Text => {
                let (format, problems) = StreamFormat::compile(&globals.log_format_stream, escape);
                for problem in problems {
                    tracing::warn!(%problem, "log-format-stream");
                }
                format
            }
        };
        log.set_formats(Arc::new(format), Arc::new(streams));
        if let Err(error) = place_streams(log, &LogSettings::of(globals)) {
            tracing::error!(%error, "the log of TCP and UDP services stays where it was");
        }
    }
}

/// Opens the files of the access log again, after something moved them away (SIGUSR1).
pub(super) fn reopen(log: &AccessLog, snapshot: &Snapshot) {
    let settings = LogSettings::of(&snapshot.table.globals);
    let again = log.reopen(&settings.place).and_then(|()| place_streams(log, &settings));
    if let Err(error) = again {
        tracing::error!(%error, "the access log stays where it was");
    }
}

fn place_streams(log: &AccessLog, settings: &LogSettings) -> Result<(), OpenError> {
    let (requests, streams) = (&settings.place, &settings.stream_place);
    log.place_streams((requests != streams).then_some(streams))
}

/// Where a log of this path goes.
pub(super) fn destination(globals: &Globals, path: &str) -> Destination {
    match globals.syslog.server() {
        Some((host, port)) => Destination::Syslog(syslog::Server { host: host.into(), port }),
        None => Destination::from_path(path),
    }
}

/// What the ConfigMap says about the access log.
#[derive(Clone, PartialEq)]
struct LogSettings {
    format: Arc<str>,
    stream_format: Arc<str>,
    escape: LogEscape,
    place: Destination,
    stream_place: Destination,
    /// Variables of the format that nobody defines.
    unknown: BTreeSet<String>,
}

/// Variables of the log format that nobody defines: what findings name. All others are nginx's or somebody's own.
fn unknown_variables(snapshot: &Snapshot) -> BTreeSet<String> {
    let of_format = |found: &&Diagnostic| {
        found.code == UNKNOWN_VARIABLE && found.field.ends_with("[log-format-upstream]")
    };
    let names =
        snapshot.diagnostics.iter().filter(of_format).filter_map(|found| found.value.strip_prefix('$'));
    names.map(str::to_owned).collect()
}

impl LogSettings {
    fn of(globals: &Globals) -> Self {
        Self {
            format: Arc::clone(&globals.log_format_upstream),
            stream_format: Arc::clone(&globals.log_format_stream),
            escape: globals.log_escape,
            place: destination(globals, &globals.access_log_path),
            stream_place: destination(globals, &globals.stream_access_log_path),
            unknown: BTreeSet::new(),
        }
    }
}
