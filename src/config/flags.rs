//! The flags as written: one struct per group, absent flags are `None`. Meaning is given by `config`.
//!
//! Names and forms are those of ingress-nginx: `--name=value` and `--name value`, booleans with an optional value
//! after `=` in any form that Go's `strconv.ParseBool` takes, the last of repeated flags counts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::selector::Selector;
use super::{LogFormat, MassRemovalGuard, PassiveHealth, TrustForwarded};
use crate::compile::PathSemantics;
use crate::model::ObjectKey;

/// Everything that `standalone` takes besides its directory.
#[derive(Debug, Clone, Args)]
pub struct Flags {
    #[command(flatten)]
    pub(super) listen: ListenFlags,
    #[command(flatten)]
    pub(super) objects: ObjectFlags,
    #[command(flatten)]
    pub(super) metrics: MetricsFlags,
    #[command(flatten)]
    pub(super) operation: OperationFlags,
}

/// Where the process listens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Listeners")]
pub(super) struct ListenFlags {
    /// Address for HTTP [default: 0.0.0.0:80 and [::]:80]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub(super) http_addr: Option<SocketAddr>,
    /// Address for HTTPS [default: 0.0.0.0:443 and [::]:443]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub(super) https_addr: Option<SocketAddr>,
    /// Address for health, metrics and the read-only API [default: 127.0.0.1:10254]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub(super) admin_addr: Option<SocketAddr>,
    /// Port of --http-addr
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) http_port: Option<u16>,
    /// Port of --https-addr
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) https_port: Option<u16>,
    /// Port of --admin-addr
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) healthz_port: Option<u16>,
    /// Host of --admin-addr
    #[arg(long, value_name = "ADDR", value_parser = host_or_all)]
    pub(super) healthz_host: Option<std::net::IpAddr>,
    /// Path of the health check on the admin port
    #[arg(long, value_name = "PATH", default_value = "/healthz", value_parser = absolute_path)]
    pub(super) health_check_path: String,
    /// Pass TLS through to backends whose Ingress asks for it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    pub(super) enable_ssl_passthrough: bool,
    /// Port that ingress-nginx uses inside itself for --enable-ssl-passthrough
    #[arg(long, value_name = "PORT", default_value_t = 442)]
    pub(super) ssl_passthrough_proxy_port: u16,
    /// Begin connections that are passed through with a PROXY header, version 1
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    pub(super) ssl_passthrough_proxy_protocol: bool,
    /// Address of the validating admission webhook
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub(super) validating_webhook: Option<SocketAddr>,
    /// Certificate of the webhook, PEM
    #[arg(long, value_name = "FILE", requires = "validating_webhook")]
    pub(super) validating_webhook_certificate: Option<PathBuf>,
    /// Key of the webhook, PEM
    #[arg(long, value_name = "FILE", requires = "validating_webhook")]
    pub(super) validating_webhook_key: Option<PathBuf>,
    /// Make the certificate of the webhook, and tell this ValidatingWebhookConfiguration who signed it
    #[arg(long, value_name = "NAME", requires = "validating_webhook")]
    pub(super) validating_webhook_configuration: Option<String>,
    /// Secret of the certificate that is made [default: POD_NAMESPACE and the name of the configuration]
    #[arg(long, value_name = "NS/NAME", value_parser = optional_key, requires = "validating_webhook_configuration")]
    pub(super) validating_webhook_secret: Option<OptionalKey>,
}

/// Which objects count and what they mean.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Objects")]
pub(super) struct ObjectFlags {
    /// ConfigMap with global settings
    #[arg(long, value_name = "NS/NAME", value_parser = optional_key)]
    pub(super) configmap: Option<OptionalKey>,
    /// ConfigMap with TCP services
    #[arg(long, value_name = "NS/NAME", value_parser = optional_key)]
    pub(super) tcp_services_configmap: Option<OptionalKey>,
    /// ConfigMap with UDP services
    #[arg(long, value_name = "NS/NAME", value_parser = optional_key)]
    pub(super) udp_services_configmap: Option<OptionalKey>,
    /// Secret with the certificate for hosts that have none
    #[arg(long, value_name = "NS/NAME", value_parser = optional_key)]
    pub(super) default_ssl_certificate: Option<OptionalKey>,
    /// Service for requests that match no rule; its first port is used
    #[arg(long, value_name = "NS/NAME", value_parser = optional_key)]
    pub(super) default_backend_service: Option<OptionalKey>,
    /// Value of the annotation kubernetes.io/ingress.class that is served
    #[arg(long, value_name = "NAME", default_value = "nginx")]
    pub(super) ingress_class: String,
    /// spec.controller of the IngressClass objects that are served
    #[arg(long, value_name = "NAME", default_value = "k8s.io/ingress-nginx")]
    pub(super) controller_class: String,
    /// Serve IngressClass objects named as --ingress-class, whatever their controller
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    pub(super) ingress_class_by_name: bool,
    /// Serve Ingresses without a class [default: true when no IngressClass is declared]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool, value_name = "BOOL")]
    pub(super) watch_ingress_without_class: Option<bool>,
    /// Serve Ingresses of this namespace only
    #[arg(long, value_name = "NAMESPACE", default_value = "", hide_default_value = true)]
    pub(super) watch_namespace: String,
    /// Serve Ingresses of namespaces with these labels only
    #[arg(long, value_name = "SELECTOR", value_parser = Selector::parse)]
    pub(super) watch_namespace_selector: Option<Selector>,
    /// Prefix of annotation names
    #[arg(long, value_name = "PREFIX", default_value = "nginx.ingress.kubernetes.io")]
    pub(super) annotations_prefix: String,
    /// Judge annotation values before they are used
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    pub(super) enable_annotation_validation: bool,
    /// Ignore Ingresses with spec.defaultBackend
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    pub(super) disable_catch_all: bool,
    /// Refuse Services of type ExternalName
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    pub(super) disable_svc_external_name: bool,
    /// Prefer endpoints of the own zone
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    pub(super) enable_topology_aware_routing: bool,
    /// Meaning of paths: as ingress-nginx has it, or as the Kubernetes documentation says
    #[arg(long, value_name = "nginx|kubernetes", default_value = "nginx", value_parser = path_semantics)]
    pub(super) path_semantics: PathSemantics,
    /// Address ranges that backends may lie in although they are refused by default [default: 127.0.0.0/8,::1/128]
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',', value_parser = cidr)]
    pub(super) allow_upstream_cidr: Option<Vec<IpNet>>,
}

/// What is counted and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Metrics")]
pub(super) struct MetricsFlags {
    /// Serve /metrics on the admin port
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    pub(super) enable_metrics: bool,
    /// Label request metrics with the host
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    pub(super) metrics_per_host: bool,
    /// Count requests for hosts that no Ingress names, with host `_`
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    pub(super) metrics_per_undefined_host: bool,
    /// Label with 2xx instead of 200
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    pub(super) report_status_classes: bool,
    /// Bucket limits of durations, seconds
    #[arg(long, value_name = "N[,N]", value_delimiter = ',', value_parser = bucket)]
    pub(super) time_buckets: Option<Vec<f64>>,
    /// Bucket limits of message sizes, bytes
    #[arg(long, value_name = "N[,N]", value_delimiter = ',', value_parser = bucket)]
    pub(super) length_buckets: Option<Vec<f64>>,
    /// Bucket limits of bytes sent
    #[arg(long, value_name = "N[,N]", value_delimiter = ',', value_parser = bucket)]
    pub(super) size_buckets: Option<Vec<f64>>,
    /// Request metrics to leave out, with or without the prefix nginx_ingress_controller_
    #[arg(long, value_name = "NAME[,NAME]", value_delimiter = ',')]
    pub(super) exclude_socket_metrics: Option<Vec<String>>,
}

/// How the process runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Operation")]
pub(super) struct OperationFlags {
    /// Worker threads [default: ConfigMap worker-processes, else the CPUs that are granted]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) workers: Option<u16>,
    /// Memory that the process may use, such as 512Mi [default: what the control group grants, else the machine's]
    #[arg(long, value_name = "SIZE", value_parser = quantity)]
    pub(super) memory_limit: Option<u64>,
    /// DNS servers for names of backends [default: those of the system]
    #[arg(long, value_name = "ADDR:PORT[,ADDR:PORT]", value_delimiter = ',', value_parser = resolver)]
    pub(super) dns_resolver: Option<Vec<SocketAddr>>,
    /// Directory of GeoIP databases (*.mmdb), for `use-geoip2`
    #[arg(long, value_name = "DIR", default_value = "/etc/ingress-controller/geoip")]
    pub(super) geoip_dir: PathBuf,
    /// Form of what is logged to stderr
    #[arg(long, value_name = "text|json", default_value = "text", value_enum)]
    pub(super) log_format: LogFormat,
    /// How much is logged: 0 to 2 information, 3 and 4 debug, 5 and more everything
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    pub(super) verbosity: u8,
    /// How long new connections are still served after SIGTERM, seconds
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub(super) shutdown_grace_period: Duration,
    /// How long the process stays after the last connection ended, seconds [default: 0]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) post_shutdown_grace_period: Option<Duration>,
    /// Answer the JSON API on every address, not on loopback only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    pub(super) enable_debug_endpoints: bool,
    /// Whom to believe X-Forwarded-*: proxies of proxy-real-ip-cidr, or anybody as ingress-nginx does
    #[arg(long, value_name = "trusted|any", default_value = "trusted", value_enum)]
    pub(super) compat_trust_forwarded: TrustForwarded,
    /// Skip endpoints for a moment after they failed
    #[arg(long, value_name = "on|off", default_value = "on", value_enum)]
    pub(super) passive_health: PassiveHealth,
    /// Keep hosts for a second look when most are gone at once [default: on with controller, off with a directory]
    #[arg(long, value_name = "on|off", value_enum)]
    pub(super) mass_removal_guard: Option<MassRemovalGuard>,
}

/// A key, or the empty text that means none (the chart renders `--tcp-services-configmap=` without a value).
#[derive(Debug, Clone)]
pub(super) struct OptionalKey(pub(super) Option<ObjectKey>);

pub(super) fn optional_key(text: &str) -> Result<OptionalKey, String> {
    if text.is_empty() {
        return Ok(OptionalKey(None));
    }
    ObjectKey::parse(text)
        .map(|key| OptionalKey(Some(key)))
        .ok_or_else(|| "write it as namespace/name".into())
}

/// What Go's `strconv.ParseBool` takes.
pub(super) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false".into()),
    }
}

/// `ADDR:PORT`, or Go's `:PORT` for every address.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|_| "the port is no number from 0 to 65535")?;
        return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    text.parse().map_err(|_| "write it as ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080".into())
}

fn host_or_all(text: &str) -> Result<std::net::IpAddr, String> {
    if text.is_empty() {
        return Ok(Ipv4Addr::UNSPECIFIED.into());
    }
    text.parse().map_err(|_| "is no IP address".into())
}

fn absolute_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("a path starts with /".into()) }
}

fn path_semantics(text: &str) -> Result<PathSemantics, String> {
    match text {
        "nginx" => Ok(PathSemantics::Nginx),
        "kubernetes" => Ok(PathSemantics::Kubernetes),
        _ => Err("write nginx or kubernetes".into()),
    }
}

fn cidr(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| "is no address range such as 10.0.0.0/8".into())
}

/// Bytes, or a number with a suffix as Kubernetes writes quantities of memory.
fn quantity(text: &str) -> Result<u64, String> {
    let error = || "write a size such as 512Mi".to_owned();
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return Err(error()),
    };
    let number: u64 = digits.parse().map_err(|_| error())?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(error)
}

fn bucket(text: &str) -> Result<f64, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|limit: &f64| limit.is_finite() && *limit > 0.0)
        .ok_or_else(|| "a bucket limit is a number above 0".into())
}

/// An address with or without a port; DNS is on port 53.
fn resolver(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    text.parse::<SocketAddr>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(|address| SocketAddr::from((address, 53))))
        .map_err(|_| "write it as ADDRESS:PORT".into())
}

/// Whole seconds, or a duration of Go (`1m30s`): ingress-nginx has flags of both kinds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let plain = || text.parse::<u32>().ok().map(|number| Duration::from_secs(number.into()));
    plain().or_else(|| go_duration(text)).ok_or_else(|| "write a number of seconds, or such as 1m30s".into())
}

/// Numbers with units, one after the other, as Go's `ParseDuration` takes them.
fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u128); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let mut rest = text;
    let mut nanoseconds = 0_u128;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, unit) = rest.split_at(end);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let end = unit.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(unit.len());
        let (unit, next) = unit.split_at(end);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let sound = |digits: &str| digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && part.is_empty()) || !sound(whole) || !sound(part) {
            return None;
        }
        let value = |digits: &str| digits.parse::<u128>().unwrap_or(0);
        let places = u32::try_from(part.len()).ok()?;
        nanoseconds += value(whole) * size + value(part) * size / 10_u128.pow(places);
        rest = next;
    }
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).ok()?;
    let nanos = u32::try_from(nanoseconds % 1_000_000_000).ok()?;
    (!text.is_empty()).then(|| Duration::new(seconds, nanos))
}
