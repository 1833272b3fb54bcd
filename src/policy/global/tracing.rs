//! `enable-opentelemetry`, `opentelemetry-*`, `otel-*`, `otlp-*`: defaults of traced locations, what is recorded, and
//! where spans are sent.

use std::sync::Arc;
use std::time::Duration;

use super::parse::put;
use super::values::positive;
use crate::policy::annotation::{parse_bool, parse_count};
use crate::policy::template::Template;

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// This share of them, from 0 to 1.
    Ratio(f64),
}

/// Everything the ConfigMap says about tracing.
#[derive(Debug, Clone, PartialEq)]
pub struct TracingDefaults {
    /// `enable-opentelemetry`.
    pub on: bool,
    /// `opentelemetry-trust-incoming-span`.
    pub trust: bool,
    /// `opentelemetry-operation-name`.
    pub name: Option<Template>,
    /// `otel-sampler`, with `otel-sampler-ratio`.
    pub sampler: Sampler,
    /// `otel-sampler-ratio`.
    pub ratio: f64,
    /// `otel-sampler-parent-based`.
    pub parent_based: bool,
    /// `otlp-collector-host`; empty for none.
    pub host: Arc<str>,
    /// `otlp-collector-port`.
    pub port: u16,
    /// `otel-service-name`.
    pub service: Arc<str>,
    /// `otel-max-queuesize`: spans that may wait.
    pub queue: u32,
    /// `otel-schedule-delay-millis`: time between two exports.
    pub delay: Duration,
    /// `otel-max-export-batch-size`: spans of one export.
    pub batch: u32,
}

impl Default for TracingDefaults {
    fn default() -> Self {
        Self {
            on: false,
            trust: true,
            name: None,
            sampler: Sampler::AlwaysOn,
            ratio: 0.01,
            parent_based: true,
            host: Arc::from(""),
            port: 4317,
            service: Arc::from("nginx"),
            queue: 2048,
            delay: Duration::from_millis(5000),
            batch: 512,
        }
    }
}

impl TracingDefaults {
    /// Sets one key; `None` for a key of somebody else.
    pub(in crate::policy) fn set(&mut self, key: &str, text: &str) -> Option<Result<(), String>> {
        Some(match key {
            "enable-opentelemetry" => put(&mut self.on, parse_bool(text)),
            "opentelemetry-trust-incoming-span" => put(&mut self.trust, parse_bool(text)),
            "opentelemetry-operation-name" => {
                put(&mut self.name, Template::parse(text).map(Some).map_err(|error| error.to_string()))
            }
            "otel-sampler" => self.sampler(text),
            "otel-sampler-ratio" => ratio(text).map(|ratio| {
                self.ratio = ratio;
                if matches!(self.sampler, Sampler::Ratio(_)) {
                    self.sampler = Sampler::Ratio(ratio);
                }
            }),
            "otel-sampler-parent-based" => put(&mut self.parent_based, parse_bool(text)),
            "otlp-collector-host" => put(&mut self.host, host(text)),
            "otlp-collector-port" => put(&mut self.port, port(text)),
            "otel-service-name" => put(&mut self.service, service(text)),
            "otel-max-queuesize" => put(&mut self.queue, positive(text).map(|count| count.min(1 << 20))),
            "otel-schedule-delay-millis" => {
                let delay = parse_count(text).map(|millis| Duration::from_millis(millis.max(1).into()));
                put(&mut self.delay, delay)
            }
            "otel-max-export-batch-size" => put(&mut self.batch, positive(text)),
            _ => return None,
        })
    }

    fn sampler(&mut self, text: &str) -> Result<(), String> {
        self.sampler = match text {
            "AlwaysOn" => Sampler::AlwaysOn,
            "AlwaysOff" => Sampler::AlwaysOff,
            "TraceIdRatioBased" => Sampler::Ratio(self.ratio),
            _ => return Err("must be AlwaysOn, AlwaysOff or TraceIdRatioBased".into()),
        };
        Ok(())
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let sound = |ratio: &f64| (0.0..=1.0).contains(ratio);
    text.parse().ok().filter(sound).ok_or_else(|| "must be a number from 0 to 1".into())
}

/// A name or an address, without port.
pub(super) fn host(text: &str) -> Result<Arc<str>, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if bare.parse::<std::net::IpAddr>().is_ok() || bare.bytes().all(name) {
        Ok(Arc::from(bare))
    } else {
        Err("must be a name or an address, without scheme and port".into())
    }
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| "must be a port".into())
}

fn service(text: &str) -> Result<Arc<str>, String> {
    if text.chars().any(char::is_control) || text.len() > 256 {
        return Err("must be a name of one line".into());
    }
    Ok(Arc::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[(&str, &str)]) -> Result<TracingDefaults, String> {
        let mut defaults = TracingDefaults::default();
        for (key, text) in data {
            defaults.set(key, text).expect("a key of tracing")?;
        }
        Ok(defaults)
    }

    #[test]
    fn each_key_has_its_form() {
        for (key, text, sound) in [
            ("enable-opentelemetry", "true", true),
            ("enable-opentelemetry", "yes", false),
            ("opentelemetry-trust-incoming-span", "false", true),
            ("opentelemetry-operation-name", "HTTP $request_method $service_name $uri", true),
            ("opentelemetry-operation-name", "$nothing", false),
            ("otel-sampler", "AlwaysOff", true),
            ("otel-sampler", "Sometimes", false),
            ("otel-sampler-ratio", "0.25", true),
            ("otel-sampler-ratio", "1.5", false),
            ("otel-sampler-ratio", "NaN", false),
            ("otel-sampler-parent-based", "false", true),
            ("otlp-collector-host", "otel-coll-collector.otel.svc", true),
            ("otlp-collector-host", "192.0.2.1", true),
            ("otlp-collector-host", "[2001:db8::1]", true),
            ("otlp-collector-host", "http://x", false),
            ("otlp-collector-host", "x:4317", false),
            ("otlp-collector-port", "4318", true),
            ("otlp-collector-port", "0", false),
            ("otlp-collector-port", "65536", false),
            ("otel-service-name", "ingress nginx", true),
            ("otel-service-name", "a\nb", false),
            ("otel-max-queuesize", "1", true),
            ("otel-max-queuesize", "0", false),
            ("otel-schedule-delay-millis", "0", true),
            ("otel-max-export-batch-size", "0", false),
        ] {
            assert_eq!(read(&[(key, text)]).is_ok(), sound, "{key} {text}");
        }
        assert!(TracingDefaults::default().set("proxy-body-size", "1").is_none());
    }

    #[test]
    fn the_ratio_counts_in_either_order_and_only_for_the_sampler_that_asks_for_it() {
        let ratio = ("otel-sampler-ratio", "0.5");
        let by_ratio = ("otel-sampler", "TraceIdRatioBased");
        for (data, expect) in [
            (vec![by_ratio, ratio], Sampler::Ratio(0.5)),
            (vec![ratio, by_ratio], Sampler::Ratio(0.5)),
            (vec![by_ratio], Sampler::Ratio(0.01)),
            (vec![ratio], Sampler::AlwaysOn),
        ] {
            assert_eq!(read(&data).map(|read| read.sampler), Ok(expect), "{data:?}");
        }
    }
}
