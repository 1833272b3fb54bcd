//! What the control plane tells: configuration, certificates, admission, leadership, shutdown.
//!
//! These change rarely, so they are ordinary metrics of the `prometheus` crate, shared by everybody. What there is for
//! each host or Ingress is kept as facts and written when somebody asks: the crate sorts all of its series by all of
//! their labels for each scrape, which took two thirds of the time of a large one.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::checked::{Checked, Key, Verdict};
use super::config::MetricsConfig;
use super::lock;
use super::names::{self, Family};
use super::objects::{IngressName, Orphaned, Orphans};
use super::text::{Text, push_label};

/// Facts about the certificate of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Host, `_` for the default certificate.
    pub host: String,
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// SHA-256 of the material, hexadecimal: label `identifier`.
    pub identifier: String,
    /// Issuer's organization.
    pub issuer_organization: String,
    /// Issuer's common name.
    pub issuer_common_name: String,
    /// Serial number.
    pub serial_number: String,
    /// Public key algorithm.
    pub public_key_algorithm: String,
    /// End of validity, seconds since 1970.
    pub not_after: i64,
}

/// Sizes of a routing table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableSize {
    /// Virtual hosts.
    pub hosts: usize,
    /// Locations.
    pub locations: usize,
    /// Backends.
    pub backends: usize,
    /// Endpoints.
    pub endpoints: usize,
    /// Certificates.
    pub certificates: usize,
}

/// Numbers of an admission check.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AdmissionFacts {
    /// Ingresses looked at.
    pub tested: usize,
    /// Time of looking at them.
    pub tested_time: Duration,
    /// Ingresses compiled.
    pub compiled: usize,
    /// Time of compiling them.
    pub compiled_time: Duration,
    /// Size of the object, bytes.
    pub size: usize,
    /// From request to answer.
    pub roundtrip: Duration,
}

/// Handles of the control plane. Every method may be called from any thread.
#[derive(Debug)]
pub struct ControlMetrics {
    registry: Registry,
    class: String,
    build_info: IntGaugeVec,
    config_hash: Gauge,
    reload_ok: IntGauge,
    reload_time: Gauge,
    success: IntCounter,
    errors: IntCounter,
    checked: Mutex<Checked>,
    leader: IntGaugeVec,
    certificates: Mutex<Arc<[CertificateFacts]>>,
    orphans: Orphans,
    admission: [Gauge; 6],
    generation: IntGauge,
    snapshot_age: Gauge,
    confirmed: Mutex<Option<Instant>>,
    build_seconds: Histogram,
    propagation_seconds: Histogram,
    table: IntGaugeVec,
    diagnostics: IntGaugeVec,
    quarantined: IntCounter,
    removals_held: IntCounter,
    source_connected: IntGauge,
    connection_limit: IntGauge,
    memory_bound: Gauge,
    memory_limit: GaugeVec,
    panics: IntCounterVec,
    drained: IntCounter,
    cut: IntCounter,
    drain_phase: IntGauge,
}

/// Makes metrics from the name table and registers them.
struct Maker<'r> {
    registry: &'r Registry,
    constant: [(&'static str, &'r str); 3],
}

impl Maker<'_> {
    /// `common` adds the labels that all metrics of ingress-nginx's controller have.
    fn opts(&self, family: &Family, common: bool) -> Opts {
        let opts = Opts::new(family.name, family.help);
        if !common {
            return opts;
        }
        self.constant.iter().fold(opts, |opts, (name, value)| opts.const_label(*name, *value))
    }

    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> M {
        self.registry.register(Box::new(metric.clone())).expect("each name stands once in the table");
        metric
    }

    fn gauge(&self, family: &Family, common: bool) -> Gauge {
        self.register(Gauge::with_opts(self.opts(family, common)).expect("names in the table are valid"))
    }

    fn int_gauge(&self, family: &Family, common: bool) -> IntGauge {
        self.register(IntGauge::with_opts(self.opts(family, common)).expect("names in the table are valid"))
    }

    fn counter(&self, family: &Family, common: bool) -> IntCounter {
        self.register(IntCounter::with_opts(self.opts(family, common)).expect("names in the table are valid"))
    }

    fn gauges(&self, family: &Family, common: bool, labels: &[&str]) -> IntGaugeVec {
        self.register(
            IntGaugeVec::new(self.opts(family, common), labels).expect("names in the table are valid"),
        )
    }

    fn float_gauges(&self, family: &Family, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(self.opts(family, false), labels).expect("names in the table are valid"))
    }

    fn counters(&self, family: &Family, common: bool, labels: &[&str]) -> IntCounterVec {
        self.register(
            IntCounterVec::new(self.opts(family, common), labels).expect("names in the table are valid"),
        )
    }

    fn histogram(&self, family: &Family, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts::new(family.name, family.help).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(opts).expect("names and buckets in the table are valid"))
    }
}

// === impl ControlMetrics ===

impl ControlMetrics {
    pub(super) fn new(config: &MetricsConfig) -> Self {
        let registry = Registry::new();
        let make = Maker { registry: &registry, constant: config.constant() };
        Self {
            class: config.controller_class.clone(),
            build_info: make.gauges(&names::BUILD_INFO, true, &["release", "build", "repository"]),
            config_hash: make.gauge(&names::CONFIG_HASH, true),
            reload_ok: make.int_gauge(&names::CONFIG_RELOAD_OK, true),
            reload_time: make.gauge(&names::CONFIG_RELOAD_TIME, true),
            success: make.counter(&names::SUCCESS, true),
            errors: make.counter(&names::ERRORS, true),
            checked: Mutex::default(),
            leader: make.gauges(&names::LEADER, true, &["name"]),
            certificates: Mutex::default(),
            orphans: Orphans::default(),
            admission: [
                make.gauge(&names::ADMISSION_TESTED, true),
                make.gauge(&names::ADMISSION_TESTED_TIME, true),
                make.gauge(&names::ADMISSION_RENDER, true),
                make.gauge(&names::ADMISSION_RENDER_TIME, true),
                make.gauge(&names::ADMISSION_SIZE, true),
                make.gauge(&names::ADMISSION_ROUNDTRIP, true),
            ],
            generation: make.int_gauge(&names::GENERATION, false),
            snapshot_age: make.gauge(&names::SNAPSHOT_AGE, false),
            confirmed: Mutex::new(None),
            build_seconds: make.histogram(&names::BUILD_SECONDS, &names::BUILD_BUCKETS),
            propagation_seconds: make.histogram(&names::PROPAGATION_SECONDS, &names::BUILD_BUCKETS),
            table: make.gauges(&names::TABLE_OBJECTS, false, &["kind"]),
            diagnostics: make.gauges(&names::DIAGNOSTICS, false, &["severity"]),
            quarantined: make.counter(&names::QUARANTINED, false),
            removals_held: make.counter(&names::REMOVALS_HELD, false),
            source_connected: make.int_gauge(&names::SOURCE_CONNECTED, false),
            connection_limit: make.int_gauge(&names::CONNECTION_LIMIT, false),
            memory_bound: make.gauge(&names::MEMORY_BOUND, false),
            memory_limit: make.float_gauges(&names::MEMORY_LIMIT, &[]),
            panics: make.counters(&names::PANICS, false, &["where"]),
            drained: make.counter(&names::DRAINED, false),
            cut: make.counter(&names::CUT, false),
            drain_phase: make.int_gauge(&names::DRAIN_PHASE, false),
            registry,
        }
    }

    /// Version of the binary.
    pub fn set_build(&self, release: &str, build: &str, repository: &str) {
        self.build_info.with_label_values(&[release, build, repository]).set(1);
    }

    /// A configuration was published: its hash, generation and size, and when.
    pub fn published(&self, hash: u64, generation: u64, size: TableSize, at: SystemTime) {
        // A gauge is a float: 53 bits survive.
        self.config_hash.set((hash >> 11) as f64);
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.reload_ok.set(1);
        self.reload_time
            .set(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64().floor());
        self.success.inc();
        for (kind, count) in [
            ("host", size.hosts),
            ("location", size.locations),
            ("backend", size.backends),
            ("endpoint", size.endpoints),
            ("certificate", size.certificates),
        ] {
            self.table.with_label_values(&[kind]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A configuration could not be taken in.
    pub fn failed(&self) {
        self.reload_ok.set(0);
        self.errors.inc();
    }

    /// The source was read completely and without error just now.
    pub fn confirmed(&self, now: Instant) {
        *lock(&self.confirmed) = Some(now);
        self.source_connected.set(1);
    }

    /// The source cannot be read.
    pub fn disconnected(&self) {
        self.source_connected.set(0);
    }

    /// Time of one compilation.
    pub fn observe_build(&self, time: Duration) {
        self.build_seconds.observe(time.as_secs_f64());
    }

    /// Time from the arrival of a change to its publication.
    pub fn observe_propagation(&self, time: Duration) {
        self.propagation_seconds.observe(time.as_secs_f64());
    }

    /// Findings by severity.
    pub fn set_diagnostics(&self, infos: usize, warnings: usize, errors: usize) {
        for (severity, count) in [("info", infos), ("warning", warnings), ("error", errors)] {
            self.diagnostics.with_label_values(&[severity]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// An object was set aside because compiling it failed.
    pub fn quarantined(&self) {
        self.quarantined.inc();
    }

    /// So many losses of most hosts or objects at once began to wait for a second look.
    pub fn removals_held(&self, count: usize) {
        self.removals_held.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Replaces the certificates of all hosts.
    pub fn set_certificates(&self, certificates: Arc<[CertificateFacts]>) {
        *lock(&self.certificates) = certificates;
    }

    /// What became known of the rules of some Ingresses; `None` for those that are gone.
    pub fn change_orphans(&self, changes: impl IntoIterator<Item = (IngressName, Option<Orphaned>)>) {
        self.orphans.change(changes);
    }

    /// One admission check of an Ingress that exists (`known`) or is to be. Names of those that do not are whatever
    /// anybody tries, so a bounded number of them become labels, and no more.
    pub fn admission(
        &self,
        namespace: &str,
        ingress: &str,
        known: bool,
        allowed: bool,
        facts: AdmissionFacts,
    ) {
        let verdict = if allowed { Verdict::Allow } else { Verdict::Deny };
        lock(&self.checked).count(namespace, ingress, known, verdict);
        let values = [
            facts.tested as f64,
            facts.tested_time.as_secs_f64(),
            facts.compiled as f64,
            facts.compiled_time.as_secs_f64(),
            facts.size as f64,
            facts.roundtrip.as_secs_f64(),
        ];
        for (gauge, value) in self.admission.iter().zip(values) {
            gauge.set(value);
        }
    }

    /// Drops the counters of the checked Ingresses that were there and are not any more. `pause` is called between one
    /// Ingress and the next.
    pub fn retain_checked(&self, exists: impl Fn(&str, &str) -> bool, pause: fn()) {
        let keys = lock(&self.checked).keys();
        for key in keys {
            pause();
            let known = exists(&key.0, &key.1);
            lock(&self.checked).look_again(&key, known);
        }
    }

    /// Whether this instance leads the election called `name`.
    pub fn set_leader(&self, name: &str, leads: bool) {
        self.leader.with_label_values(&[name]).set(i64::from(leads));
    }

    /// Bounds fixed at start.
    pub fn set_bounds(&self, connections: usize, memory_bound: u64, memory_limit: Option<u64>) {
        self.connection_limit.set(i64::try_from(connections).unwrap_or(i64::MAX));
        self.memory_bound.set(memory_bound as f64);
        if let Some(limit) = memory_limit {
            self.memory_limit.with_label_values::<&str>(&[]).set(limit as f64);
        }
    }

    /// A panic was contained at `place`, such as `request`, `connection`, `control`.
    pub fn panicked(&self, place: &'static str) {
        self.panics.with_label_values(&[place]).inc();
    }

    /// Phase of shutdown, as a number (see the help text).
    pub fn set_drain_phase(&self, phase: u8) {
        self.drain_phase.set(phase.into());
    }

    /// How a drain ended.
    pub fn drained(&self, finished: u64, cut: u64) {
        self.drained.inc_by(finished);
        self.cut.inc_by(cut);
    }

    /// Appends what the crate holds. What there is for each certificate and Ingress comes one by one.
    pub(super) fn render(&self, text: &mut Text, now: Instant) {
        let confirmed = *lock(&self.confirmed);
        self.snapshot_age.set(confirmed.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64()));
        text.append(&TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default());
    }

    /// The certificates of all hosts, as they were told last.
    pub(super) fn certificates(&self) -> Arc<[CertificateFacts]> {
        Arc::clone(&lock(&self.certificates))
    }

    /// What is known of orphans.
    pub(super) fn orphans(&self) -> &Orphans {
        &self.orphans
    }

    /// Some of the Ingresses that were checked, those after `last`, with their counts of one kind; none at the end.
    pub(super) fn checked_after(&self, last: Option<&Key>, verdict: Verdict) -> Vec<(Key, u64)> {
        lock(&self.checked).after(last, verdict)
    }

    /// Appends when a certificate expires; the `first` one follows the name of the family.
    pub(super) fn expiry(&self, text: &mut Text, one: &CertificateFacts, first: bool) {
        let mut labels = String::with_capacity(LABELS);
        push_label(&mut labels, "class", &self.class);
        push_label(&mut labels, "host", &one.host);
        push_label(&mut labels, "identifier", &one.identifier);
        push_label(&mut labels, "namespace", &one.namespace);
        push_label(&mut labels, "secret_name", &one.secret);
        of_each(text, &names::SSL_EXPIRE, &labels, one.not_after, first);
    }

    /// Appends who made a certificate.
    pub(super) fn certificate(&self, text: &mut Text, one: &CertificateFacts, first: bool) {
        let mut labels = String::with_capacity(LABELS);
        push_label(&mut labels, "class", &self.class);
        push_label(&mut labels, "host", &one.host);
        push_label(&mut labels, "identifier", &one.identifier);
        push_label(&mut labels, "issuer_common_name", &one.issuer_common_name);
        push_label(&mut labels, "issuer_organization", &one.issuer_organization);
        push_label(&mut labels, "namespace", &one.namespace);
        push_label(&mut labels, "public_key_algorithm", &one.public_key_algorithm);
        push_label(&mut labels, "secret_name", &one.secret);
        push_label(&mut labels, "serial_number", &one.serial_number);
        of_each(text, &names::SSL_INFO, &labels, 1, first);
    }
}

/// Bytes that the labels of most certificates take.
const LABELS: usize = 512;

fn of_each(text: &mut Text, family: &Family, labels: &str, value: i64, first: bool) {
    if first {
        text.family(family);
    }
    text.sample(family.name, "", labels, value);
}
