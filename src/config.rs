//! What the flags mean, resolved once: no `Option` without a meaning, nothing changes after start.
//!
//! Static settings only. What ConfigMaps say is `policy::global`, what objects say is `compile`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use crate::compile::Options;
use crate::model::ObjectKey;

mod cluster;
mod flags;
mod selector;
mod unused;

pub use cluster::{Access, AddressSource, Cluster, ClusterFlags, Election, SecretScope, Status};
pub use flags::Flags;
pub use selector::Selector;

use unused::ApiServer;

/// Default of `--http-addr`.
pub const HTTP_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80);
/// Default of `--https-addr`.
pub const HTTPS_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 443);
/// Default of `--admin-addr`: loopback, so that nothing is open by accident (`spec H-1`).
pub const ADMIN_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10254);

/// Default of `--http-addr` in `demo`: loopback, and no privilege needed.
pub const DEMO_HTTP_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Default of `--https-addr` in `demo`.
pub const DEMO_HTTPS_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

/// Everything that is decided at start.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where objects come from.
    pub source: Source,
    /// `--http-addr`.
    pub http: SocketAddr,
    /// `--https-addr`.
    pub https: SocketAddr,
    /// `--admin-addr`.
    pub admin: SocketAddr,
    /// Which of these addresses the user chose; the others may be replaced by free ones in `demo`.
    pub given: Given,
    /// `--health-check-path`.
    pub health_path: String,
    /// Flags that change what objects mean; handed to `compile` as they are.
    pub options: Options,
    /// `--watch-ingress-without-class` as given; `None` lets the objects decide (true when no IngressClass is
    /// declared). `options.without_class` holds the answer for each compilation.
    pub without_class: Option<bool>,
    /// `--watch-namespace-selector`.
    pub namespace_selector: Option<Selector>,
    /// `--enable-topology-aware-routing`.
    pub topology_aware: bool,
    /// `--ssl-passthrough-proxy-protocol`.
    pub passthrough_proxy_protocol: bool,
    /// `--validating-webhook` with its pair.
    pub webhook: Option<Webhook>,
    /// `--workers`; `None` leaves it to the ConfigMap, else to the CPUs.
    pub workers: Option<NonZeroUsize>,
    /// `--memory-limit`, bytes.
    pub memory_limit: Option<u64>,
    /// `--dns-resolver`; empty for the system's.
    pub dns: Vec<SocketAddr>,
    /// `--geoip-dir`.
    pub geoip_dir: PathBuf,
    /// What is logged, and how.
    pub logging: Logging,
    /// What is counted.
    pub metrics: Metrics,
    /// `--shutdown-grace-period`.
    pub shutdown_grace: Duration,
    /// `--post-shutdown-grace-period`.
    pub post_shutdown_grace: Duration,
    /// `--enable-debug-endpoints`.
    pub debug_endpoints: bool,
    /// `--passive-health`.
    pub passive_health: PassiveHealth,
    /// `--mass-removal-guard`; by itself on for a cluster. A file that vanished was deleted by somebody.
    pub mass_removal_guard: bool,
    /// To be logged once logging works.
    pub notices: Vec<Notice>,
}

/// Where objects come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The built-in example, in this directory or a temporary one.
    Demo(Option<PathBuf>),
    /// Files below this directory.
    Directory(PathBuf),
    /// An API server.
    Cluster(Box<Cluster>),
}

/// Addresses that were chosen by a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// `--http-addr` or `--http-port`.
    pub http: bool,
    /// `--https-addr` or `--https-port`.
    pub https: bool,
    /// `--admin-addr` or `--healthz-port`.
    pub admin: bool,
    /// `--http-addr`: that address and no other.
    pub http_address: bool,
    /// `--https-addr`.
    pub https_address: bool,
}

/// The validating webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// `--validating-webhook`.
    pub address: SocketAddr,
    /// Where its certificate comes from.
    pub certificate: WebhookCertificate,
}

/// Where the certificate of the webhook comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookCertificate {
    /// Files that somebody else keeps, cert-manager for one.
    Files {
        /// `--validating-webhook-certificate`.
        certificate: PathBuf,
        /// `--validating-webhook-key`.
        key: PathBuf,
    },
    /// Made by this controller.
    Own {
        /// `--validating-webhook-configuration`: the object that is told the authority.
        configuration: String,
        /// `--validating-webhook-secret`: where all replicas find it.
        secret: ObjectKey,
    },
}

/// Logging to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logging {
    /// `--log-format`.
    pub format: LogFormat,
    /// `--v`: 0 to 2 info, 3 and 4 debug, 5 and above trace.
    pub verbosity: u8,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// One object per line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// `--compat-trust-forwarded`; in force as `Options::trust_forwarded_any`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum TrustForwarded {
    /// Anybody's X-Forwarded-Proto, -Host and -Port count, as with nginx.
    Any,
    /// Only those of peers in `proxy-real-ip-cidr` count (`spec HF-5`).
    #[default]
    Trusted,
}

/// `--mass-removal-guard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MassRemovalGuard {
    /// What is gone is gone at once.
    Off,
    /// The loss of more than half of the hosts, and of more than 20, waits for a second look (`spec F-6`).
    On,
}

/// `--passive-health`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PassiveHealth {
    /// An endpoint is taken again at once.
    Off,
    /// An endpoint rests for a moment after it failed (`spec F-14`).
    #[default]
    On,
}

/// What is counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// `--enable-metrics`.
    pub enabled: bool,
    /// `--metrics-per-host`.
    pub per_host: bool,
    /// `--metrics-per-undefined-host`.
    pub per_undefined_host: bool,
    /// `--report-status-classes`.
    pub status_classes: bool,
    /// `--time-buckets`, seconds, ascending.
    pub time_buckets: Vec<f64>,
    /// `--length-buckets`, bytes, ascending.
    pub length_buckets: Vec<f64>,
    /// `--size-buckets`, bytes, ascending.
    pub size_buckets: Vec<f64>,
    /// `--exclude-socket-metrics` without the prefix.
    pub exclude: Vec<String>,
    /// Label `controller_namespace`: POD_NAMESPACE, else empty.
    pub controller_namespace: String,
    /// Label `controller_pod`: POD_NAME, else empty.
    pub controller_pod: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            enabled: true,
            per_host: true,
            per_undefined_host: false,
            status_classes: false,
            time_buckets: vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
            length_buckets: (1..=10).map(|step| f64::from(step * 10)).collect(),
            size_buckets: (1..=7).map(|power| 10_f64.powi(power)).collect(),
            exclude: Vec::new(),
            controller_namespace: String::new(),
            controller_pod: String::new(),
        }
    }
}

/// One line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Good to know.
    Info(String),
    /// Probably not what was meant.
    Warning(String),
}

/// Settings that come from the environment of the process, handed in so that nothing below reads it.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `POD_NAMESPACE`.
    pub pod_namespace: String,
    /// `POD_NAME`.
    pub pod_name: String,
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`.
    pub api_server: Option<SocketAddr>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let host = variable("KUBERNETES_SERVICE_HOST").parse().ok();
        let port = variable("KUBERNETES_SERVICE_PORT").parse().ok();
        Self {
            pod_namespace: variable("POD_NAMESPACE"),
            pod_name: variable("POD_NAME"),
            api_server: host.zip(port).map(|(host, port): (IpAddr, u16)| (host, port).into()),
        }
    }
}

/// Adds the flags of ingress-nginx that change nothing to a command that takes [`Flags`].
pub fn accept_unused(command: Command) -> Command {
    unused::accept(command)
}

impl Config {
    /// What no flag at all gives.
    ///
    /// # Errors
    /// Never in practice: defaults do not contradict each other.
    pub fn without_flags(source: Source) -> Result<Self, String> {
        let command = accept_unused(Flags::augment_args(Command::new("narthex")));
        let matches = command.try_get_matches_from(["narthex"]).map_err(|error| error.to_string())?;
        let flags = Flags::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        Self::resolve(source, flags, &matches, Environment::default())
    }

    /// Resolves flags; `matches` tells which of the flags without a meaning were given.
    ///
    /// # Errors
    /// A sentence about flags that contradict each other.
    pub fn resolve(
        source: Source,
        flags: Flags,
        matches: &ArgMatches,
        environment: Environment,
    ) -> Result<Self, String> {
        let (server, admin_ip, upstream): (_, IpAddr, fn() -> Vec<_>) = match source {
            Source::Demo(_) | Source::Directory(_) => (ApiServer::None, ADMIN_ADDRESS.ip(), loopback),
            // Probes come from the node; backends on loopback do not exist.
            Source::Cluster(_) => (ApiServer::Some, Ipv4Addr::UNSPECIFIED.into(), Vec::new),
        };
        let mut notices: Vec<Notice> = unused::given(matches, server).into_iter().map(Notice::Info).collect();
        notices.extend(without_effect(&source, &flags.objects));
        let listen = flags.listen;
        let given = Given {
            http: listen.http_addr.is_some() || listen.http_port.is_some(),
            https: listen.https_addr.is_some() || listen.https_port.is_some(),
            admin: listen.admin_addr.is_some() || listen.healthz_port.is_some(),
            http_address: listen.http_addr.is_some(),
            https_address: listen.https_addr.is_some(),
        };
        let (http_default, https_default) = match source {
            Source::Demo(_) => (DEMO_HTTP_ADDRESS, DEMO_HTTPS_ADDRESS),
            Source::Directory(_) | Source::Cluster(_) => (HTTP_ADDRESS, HTTPS_ADDRESS),
        };
        let http = with_port("http", listen.http_addr, listen.http_port, http_default, &mut notices);
        let https = with_port("https", listen.https_addr, listen.https_port, https_default, &mut notices);
        let admin_default = SocketAddr::new(listen.healthz_host.unwrap_or(admin_ip), ADMIN_ADDRESS.port());
        let admin = with_port("healthz", listen.admin_addr, listen.healthz_port, admin_default, &mut notices);
        let webhook = webhook(&listen, &environment, &source)?;
        let objects = flags.objects;
        if !objects.watch_namespace.is_empty() && objects.watch_namespace_selector.is_some() {
            return Err("--watch-namespace and --watch-namespace-selector exclude each other".into());
        }
        let operation = flags.operation;
        let key = |given: Option<flags::OptionalKey>| given.and_then(|key| key.0);
        let options = Options {
            controller_class: objects.controller_class,
            ingress_class: objects.ingress_class,
            class_by_name: objects.ingress_class_by_name,
            without_class: objects.watch_ingress_without_class.unwrap_or(false),
            annotations_prefix: objects.annotations_prefix.trim_end_matches('/').to_owned(),
            disable_catch_all: objects.disable_catch_all,
            disable_external_name: objects.disable_svc_external_name,
            validate_annotations: objects.enable_annotation_validation,
            namespace: objects.watch_namespace,
            config_map: key(objects.configmap),
            default_backend: key(objects.default_backend_service),
            default_certificate: key(objects.default_ssl_certificate),
            tcp_services: key(objects.tcp_services_configmap),
            udp_services: key(objects.udp_services_configmap),
            ssl_passthrough: listen.enable_ssl_passthrough,
            health_check_path: listen.health_check_path.clone(),
            path_semantics: objects.path_semantics,
            http_port: http.port(),
            https_port: https.port(),
            trust_forwarded_any: operation.compat_trust_forwarded == TrustForwarded::Any,
            allow_upstream: objects.allow_upstream_cidr.unwrap_or_else(upstream),
            guarded_addresses: environment.api_server.into_iter().collect(),
            kept_keys: std::collections::BTreeMap::new(),
            own_addresses: [http, https, admin]
                .into_iter()
                .chain(webhook.as_ref().map(|hook| hook.address))
                .collect(),
        };
        let mass_removal_guard = match operation.mass_removal_guard {
            Some(given) => given == MassRemovalGuard::On,
            None => matches!(source, Source::Cluster(_)),
        };
        Ok(Self {
            source,
            http,
            https,
            admin,
            given,
            health_path: listen.health_check_path,
            options,
            without_class: objects.watch_ingress_without_class,
            namespace_selector: objects.watch_namespace_selector,
            topology_aware: objects.enable_topology_aware_routing,
            passthrough_proxy_protocol: listen.ssl_passthrough_proxy_protocol,
            webhook,
            workers: operation.workers.and_then(|workers| NonZeroUsize::new(usize::from(workers))),
            memory_limit: operation.memory_limit,
            dns: operation.dns_resolver.unwrap_or_default(),
            geoip_dir: operation.geoip_dir,
            logging: Logging { format: operation.log_format, verbosity: operation.verbosity },
            metrics: metrics(flags.metrics, environment)?,
            shutdown_grace: operation.shutdown_grace_period,
            post_shutdown_grace: operation.post_shutdown_grace_period.unwrap_or_default(),
            debug_endpoints: operation.enable_debug_endpoints,
            passive_health: operation.passive_health,
            mass_removal_guard,
            notices,
        })
    }
}

/// The webhook and its certificate, from files or made here.
fn webhook(
    listen: &flags::ListenFlags,
    environment: &Environment,
    source: &Source,
) -> Result<Option<Webhook>, String> {
    let Some(address) = listen.validating_webhook else { return Ok(None) };
    let files = (&listen.validating_webhook_certificate, &listen.validating_webhook_key);
    let certificate = match (files, &listen.validating_webhook_configuration) {
        ((Some(certificate), Some(key)), None) => {
            WebhookCertificate::Files { certificate: certificate.clone(), key: key.clone() }
        }
        ((None, None), Some(configuration)) if matches!(source, Source::Cluster(_)) => {
            let namespace = Some(&environment.pod_namespace).filter(|name| !name.is_empty());
            let namespace = namespace.map_or("default", String::as_str);
            let named = listen.validating_webhook_secret.as_ref().and_then(|key| key.0.clone());
            let secret = named.unwrap_or_else(|| ObjectKey::new(namespace, configuration.as_str()));
            WebhookCertificate::Own { configuration: configuration.clone(), secret }
        }
        _ => {
            return Err("--validating-webhook needs --validating-webhook-certificate and \
                        --validating-webhook-key, or, in a cluster, --validating-webhook-configuration"
                .into());
        }
    };
    Ok(Some(Webhook { address, certificate }))
}

/// Flags that need a cluster and change nothing without one; said at start.
fn without_effect(source: &Source, objects: &flags::ObjectFlags) -> Option<Notice> {
    let alone = !matches!(source, Source::Cluster(_));
    (alone && objects.enable_topology_aware_routing).then(|| {
        Notice::Warning(
            "--enable-topology-aware-routing changes nothing without a cluster: no node has a zone".into(),
        )
    })
}

/// Ranges that hold backends of a standalone proxy by default (`spec B-22`).
pub fn loopback() -> Vec<ipnet::IpNet> {
    let v4 = ipnet::Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8).map(Into::into);
    let v6 = ipnet::Ipv6Net::new(std::net::Ipv6Addr::LOCALHOST, 128).map(Into::into);
    v4.into_iter().chain(v6).collect()
}

/// An address flag and its port flag: the port flag replaces the port of the default, never that of a given address.
fn with_port(
    name: &str,
    given: Option<SocketAddr>,
    port: Option<u16>,
    default: SocketAddr,
    notices: &mut Vec<Notice>,
) -> SocketAddr {
    match (given, port) {
        (None, None) => default,
        (None, Some(port)) => SocketAddr::new(default.ip(), port),
        (Some(address), None) => address,
        (Some(address), Some(port)) => {
            if address.port() != port {
                let flag = if name == "healthz" { "admin" } else { name };
                notices.push(Notice::Warning(format!(
                    "--{name}-port={port} changes nothing: --{flag}-addr={address} says otherwise and counts"
                )));
            }
            address
        }
    }
}

fn metrics(flags: flags::MetricsFlags, environment: Environment) -> Result<Metrics, String> {
    if flags.metrics_per_undefined_host && !flags.metrics_per_host {
        return Err("--metrics-per-undefined-host needs --metrics-per-host".into());
    }
    let default = Metrics::default();
    let sorted = |given: Option<Vec<f64>>, default: Vec<f64>| {
        let mut buckets = given.unwrap_or(default);
        buckets.sort_by(f64::total_cmp);
        buckets.dedup();
        buckets
    };
    let exclude = flags.exclude_socket_metrics.unwrap_or_default();
    let exclude = exclude
        .iter()
        .map(|name| name.trim().trim_start_matches("nginx_ingress_controller_").to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    Ok(Metrics {
        enabled: flags.enable_metrics,
        per_host: flags.metrics_per_host,
        per_undefined_host: flags.metrics_per_undefined_host,
        status_classes: flags.report_status_classes,
        time_buckets: sorted(flags.time_buckets, default.time_buckets),
        length_buckets: sorted(flags.length_buckets, default.length_buckets),
        size_buckets: sorted(flags.size_buckets, default.size_buckets),
        exclude,
        controller_namespace: environment.pod_namespace,
        controller_pod: environment.pod_name,
    })
}

#[cfg(test)]
mod tests;
