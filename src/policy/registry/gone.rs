//! Names that existed once, or that people believe in (`surface.md` 1.4): annotations and keys of the ConfigMap that do
//! nothing, and what to write instead. `gate` and the reader of the ConfigMap tell it; `docs/annotations.md` lists it.

use crate::diagnostic::Severity;

/// One name, or all that begin so where it ends in `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// Name without prefix.
    pub name: &'static str,
    /// What to do.
    pub hint: &'static str,
}

const fn gone(name: &'static str, hint: &'static str) -> Gone {
    Gone { name, hint }
}

const WAF: &str = "it was removed from ingress-nginx; there is no web application firewall here";
const INFLUX: &str = "it was removed from ingress-nginx; use the Prometheus metrics";
const TRACING: &str = "it was removed from ingress-nginx; use the opentelemetry annotations and keys";
const LIMIT: &str = "use limit-rps or limit-rpm";

/// Annotations. A name before a start that covers it.
pub const ANNOTATIONS: &[Gone] = &[
    gone("add-base-url", "it was removed from ingress-nginx; let the application know its base URL"),
    gone("base-url-scheme", "it was removed from ingress-nginx"),
    gone("client-header-buffer-size", "set the ConfigMap key large-client-header-buffers"),
    gone("client-max-body-size", "use proxy-body-size"),
    gone("datadog-*", TRACING),
    gone("enable-influxdb", INFLUX),
    gone("enable-opentracing", "use enable-opentelemetry"),
    gone("enable-websockets", "WebSocket always works; remove the annotation"),
    gone("grpc-backend", "use backend-protocol: GRPC"),
    gone("gzip", "set the ConfigMap key use-gzip"),
    gone("hsts", "set the ConfigMap keys hsts, hsts-max-age, hsts-include-subdomains, hsts-preload"),
    gone("influxdb-*", INFLUX),
    gone("jaeger-*", TRACING),
    gone("large-client-header-buffers", "set the ConfigMap key large-client-header-buffers"),
    gone("lua-resty-waf", WAF),
    gone("lua-resty-waf-*", WAF),
    gone("mirror-uri", "use mirror-target"),
    gone("opentracing-operation-name", "use opentelemetry-operation-name"),
    gone("opentracing-trust-incoming-span", "use opentelemetry-trust-incoming-span"),
    gone("opentracing-*", TRACING),
    gone("rate-limit", LIMIT),
    gone("rate-limit-rps", "use limit-rps"),
    gone("rate-limit-*", LIMIT),
    gone("secure-backends", "use backend-protocol: HTTPS"),
    gone("secure-verify-ca-secret", "use proxy-ssl-secret and proxy-ssl-verify"),
    gone("server-snippets", "it never existed; the name is server-snippet"),
    gone("session-cookie-hash", "it was removed from ingress-nginx; remove the annotation"),
    gone("websocket-services", "WebSocket always works; remove the annotation"),
    gone("zipkin-*", TRACING),
];

/// Keys of the ConfigMap.
pub const KEYS: &[Gone] = &[
    gone("datadog-*", TRACING),
    gone("enable-opentracing", "use enable-opentelemetry"),
    gone("global-rate-limit-memcached-*", "it was removed from ingress-nginx; limits count for each replica"),
    gone("jaeger-*", TRACING),
    gone("opentracing-*", TRACING),
    gone("zipkin-*", TRACING),
];

/// The line about a name.
pub fn find(list: &'static [Gone], name: &str) -> Option<&'static Gone> {
    list.iter().find(|gone| match gone.name.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => gone.name == name,
    })
}

/// How loudly it is told: what changes nothing for anybody is no warning.
pub fn severity(name: &str) -> Severity {
    if name == "session-cookie-hash" { Severity::Info } else { Severity::Warning }
}

/// The part of `docs/annotations.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "\n## Names that do nothing\n\nThey were removed from ingress-nginx, or never existed there. Each gives the \
         finding `UnknownAnnotation` with this hint, and has no effect.\n\n| annotation | hint |\n|---|---|\n",
    );
    for gone in ANNOTATIONS {
        out.push_str(&format!("| `{}` | {} |\n", gone.name, gone.hint));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_its_own_goes_before_a_start() {
        let hint = |name| find(ANNOTATIONS, name).map(|gone| gone.name);
        assert_eq!(hint("opentracing-operation-name"), Some("opentracing-operation-name"));
        assert_eq!(hint("opentracing-x"), Some("opentracing-*"));
        assert_eq!(hint("lua-resty-waf-mode"), Some("lua-resty-waf-*"));
        assert_eq!(hint("rate-limiting"), None);
        assert_eq!(find(KEYS, "global-rate-limit-memcached-host").map(|gone| gone.hint), Some(KEYS[2].hint));
    }
}
