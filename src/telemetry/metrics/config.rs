//! What the flags say about metrics.

use std::collections::BTreeSet;

use super::names::{LENGTH_BUCKETS, NGINX_PREFIX, SIZE_BUCKETS, TIME_BUCKETS};

/// Default of `--metrics-series-limit`.
pub const SERIES_LIMIT: usize = 50_000;

/// Settings of [`super::Metrics`]; fixed at start.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsConfig {
    /// Label `controller_namespace`: `POD_NAMESPACE`.
    pub controller_namespace: String,
    /// Label `controller_class`: `--controller-class`.
    pub controller_class: String,
    /// Label `controller_pod`: `POD_NAME`.
    pub controller_pod: String,
    /// `--time-buckets`, seconds.
    pub time_buckets: Vec<f64>,
    /// `--length-buckets`, bytes.
    pub length_buckets: Vec<f64>,
    /// `--size-buckets`, bytes.
    pub size_buckets: Vec<f64>,
    /// `--metrics-per-host`: label `host`.
    pub per_host: bool,
    /// `--metrics-per-undefined-host`: also hosts that no object names; a bounded number of them.
    pub per_undefined_host: bool,
    /// `--report-status-classes`: `2xx` instead of `200`.
    pub status_classes: bool,
    /// `--exclude-socket-metrics`, names with or without prefix.
    pub exclude: BTreeSet<String>,
    /// `--metrics-series-limit`: lines of the request metrics that may exist.
    pub series_limit: usize,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            controller_namespace: String::new(),
            controller_class: "k8s.io/ingress-nginx".to_owned(),
            controller_pod: String::new(),
            time_buckets: TIME_BUCKETS.to_vec(),
            length_buckets: LENGTH_BUCKETS.to_vec(),
            size_buckets: SIZE_BUCKETS.to_vec(),
            per_host: true,
            per_undefined_host: false,
            status_classes: false,
            exclude: BTreeSet::new(),
            series_limit: SERIES_LIMIT,
        }
    }
}

impl MetricsConfig {
    /// The labels that all metrics of ingress-nginx's controller have, in the order of their names.
    pub(super) fn constant(&self) -> [(&'static str, &str); 3] {
        [
            ("controller_class", &self.controller_class),
            ("controller_namespace", &self.controller_namespace),
            ("controller_pod", &self.controller_pod),
        ]
    }

    /// False when `--exclude-socket-metrics` names it.
    pub fn exports(&self, name: &str) -> bool {
        let short = name.strip_prefix(NGINX_PREFIX).unwrap_or(name);
        !self.exclude.iter().any(|excluded| excluded == name || excluded == short)
    }
}
