//! Every key of the ConfigMap: name, default, and what setting it does here. `docs/configmap.md` is made from this.

/// What setting a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It counts.
    Applied,
    /// It only means something to nginx; accepted.
    NoMeaning,
    /// It is known and not honoured, for this reason; setting it is a warning.
    Refused(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Name.
    pub name: &'static str,
    /// Default as text.
    pub default: &'static str,
    /// What it does.
    pub effect: Effect,
    /// For people.
    pub doc: &'static str,
}

const fn on(name: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { name, default, effect: Effect::Applied, doc }
}

const fn no(name: &'static str, default: &'static str) -> Key {
    Key { name, default, effect: Effect::NoMeaning, doc: "Only nginx needs this." }
}

const fn refused(name: &'static str, default: &'static str, why: &'static str, doc: &'static str) -> Key {
    Key { name, default, effect: Effect::Refused(why), doc }
}

const NO_FIREWALL: &str = "there is no web application firewall";

/// All keys in alphabetical order.
pub const KEYS: &[Key] = &[
    no("access-log-params", ""),
    on("access-log-path", "/var/log/nginx/access.log", "Where the access log goes."),
    on("add-headers", "", "ConfigMap (namespace/name) of response fields for all clients."),
    on(
        "allow-backend-server-header",
        "false",
        "Pass the Server field of backends, where server-tokens is on (as in ingress-nginx).",
    ),
    on("allow-cross-namespace-resources", "false", "Let annotations name objects of other namespaces."),
    on("allow-snippet-annotations", "false", "Let snippet annotations count."),
    on(
        "annotation-value-word-blocklist",
        "",
        "An Ingress with one of these words in an annotation answers 503.",
    ),
    on("annotations-risk-level", "High", "An Ingress with a riskier annotation answers 503."),
    no("app-root", ""),
    on(
        "bind-address",
        "",
        "Addresses to listen on, instead of those of --http-addr and --https-addr; a family of which none is named stays as it was.",
    ),
    on("block-cidrs", "", "Networks whose clients get 403 everywhere."),
    on("block-referers", "", "Referers that get 403."),
    on("block-user-agents", "", "User agents (text, `~expression` or `~*expression`) that get 403."),
    on("brotli-level", "4", "Compression level, 0 to 11; above 6 it counts as 6."),
    on("brotli-min-length", "20", "Smallest response compressed."),
    on("brotli-types", "", "Types compressed."),
    on("client-body-buffer-size", "8k", "Bytes of a request body held in memory."),
    on(
        "client-body-min-rate",
        "0",
        "Bytes per second that a client must send of a body, over the time it is waited for and after the first ten seconds; 408 below; 0 for none.",
    ),
    on("client-body-timeout", "60", "Seconds between two reads of a request body."),
    no("client-header-buffer-size", "1k"),
    on("client-header-timeout", "60", "Seconds for a request head."),
    on("compute-full-forwarded-for", "false", "Append to X-Forwarded-For instead of replacing it."),
    on("custom-http-errors", "", "Statuses (300 to 599) replaced by a page of the default backend."),
    no("debug-connections", ""),
    no("default-type", "text/html"),
    on("denylist-source-range", "", "Clients of these networks get 403; an annotation replaces the list."),
    on("disable-access-log", "false", "Write no access log."),
    on("disable-http-access-log", "false", "Write no access log of HTTP."),
    on("disable-ipv6", "false", "Do not listen on IPv6."),
    on("disable-ipv6-dns", "false", "Connect to IPv4 addresses of names (ExternalName, auth-url) only."),
    on("disable-proxy-intercept-errors", "false", "Leave the answers of backends alone."),
    on("disable-stream-access-log", "false", "Write no log of TCP and UDP services."),
    on("enable-access-log-for-default-backend", "false", "Log requests of the default backend."),
    no("enable-aio-write", "true"),
    on(
        "enable-auth-access-log",
        "false",
        "Write questions to authentication services to the access log, too.",
    ),
    on("enable-brotli", "false", "Compress responses with Brotli."),
    refused("enable-modsecurity", "false", NO_FIREWALL, "Web application firewall."),
    no("enable-multi-accept", "true"),
    on(
        "enable-ocsp",
        "false",
        "Staple answers of the OCSP responders that certificates name (tls.crt must hold the issuer, too).",
    ),
    on("enable-opentelemetry", "false", "Make a span of each request (docs/tracing.md)."),
    refused("enable-owasp-modsecurity-crs", "false", NO_FIREWALL, "Web application firewall rules."),
    on("enable-real-ip", "false", "Take only the client address from forwarded-for-header."),
    no("enable-serial-reloads", "false"),
    on(
        "enable-syslog",
        "false",
        "Send access and error logs to syslog-host (UDP, RFC 3164) instead of their files.",
    ),
    on("enable-underscores-in-headers", "false", "Keep fields with underscores in their names."),
    on("enable-zstd", "false", "Compress responses with Zstandard (ours: ingress-nginx has none)."),
    on(
        "error-log-level",
        "notice",
        "Above notice no rewrites are written (enable-rewrite-log). How much else the error log tells is `--v`'s.",
    ),
    on("error-log-path", "/var/log/nginx/error.log", "Where the error log goes."),
    on("force-ssl-redirect", "false", "Send all http requests to https."),
    on("forwarded-for-header", "X-Forwarded-For", "Field that names the client."),
    no("forwarded-for-proxy-protocol-header", "X-Forwarded-For-Proxy-Protocol"),
    on("forwarded-host-header", "X-Forwarded-Host", "Field passed on as X-Original-Forwarded-Host."),
    on("generate-request-id", "true", "Make an X-Request-ID where the client sent none."),
    on(
        "geoip2-autoreload-in-minutes",
        "0",
        "How often the databases of use-geoip2 are looked at again; 0 for never.",
    ),
    on("global-allowed-response-headers", "", "Names that custom-headers may set."),
    on("global-auth-always-set-cookie", "false", "As auth-always-set-cookie, for global-auth-url."),
    on("global-auth-cache-duration", "", "As auth-cache-duration, for global-auth-url."),
    on("global-auth-cache-key", "", "As auth-cache-key, for global-auth-url."),
    on("global-auth-method", "", "As auth-method, for global-auth-url."),
    on("global-auth-request-redirect", "", "As auth-request-redirect, for global-auth-url."),
    on("global-auth-response-headers", "", "As auth-response-headers, for global-auth-url."),
    on("global-auth-signin", "", "As auth-signin, for global-auth-url."),
    on("global-auth-signin-redirect-param", "rd", "As auth-signin-redirect-param, for global-auth-url."),
    on("global-auth-snippet", "", "As auth-snippet, for global-auth-url."),
    on(
        "global-auth-url",
        "",
        "External authentication of every route without auth-url of its own that does not say enable-global-auth false.",
    ),
    on("global-rate-limit-status-code", "429", "Status of global-rate-limit."),
    no("grpc-buffer-size-kb", "0"),
    on("gzip-disable", "", "User agents (an expression, or `msie6`) that get no gzip."),
    on("gzip-level", "1", "Compression level."),
    on("gzip-min-length", "256", "Smallest response compressed."),
    on("gzip-types", "", "Types compressed."),
    on("hide-headers", "", "Response fields of backends that clients do not see."),
    on(
        "host-allow-list",
        "",
        "With host-ownership allow-list, the hosts of each namespace, one namespace a line: `team-a: a.example *.a.example`.",
    ),
    on(
        "host-ownership",
        "open",
        "Who may add paths to a host: `open`, every namespace; `first-namespace`, only the one that has had it longest; `allow-list`, those that host-allow-list names.",
    ),
    on("hsts", "true", "Send Strict-Transport-Security on TLS responses."),
    on("hsts-include-subdomains", "true", "Include subdomains in Strict-Transport-Security."),
    on("hsts-max-age", "31536000", "Seconds of Strict-Transport-Security."),
    on("hsts-preload", "false", "Say preload in Strict-Transport-Security."),
    on("http-access-log-path", "", "Where the access log of HTTP goes; wins over access-log-path."),
    on("http-redirect-code", "308", "Status of redirects to https and between www twins."),
    on("http-snippet", "", "Directives of nginx for all hosts, `map` among them (docs/snippets.md)."),
    on("http2-max-concurrent-streams", "128", "Open streams of one HTTP/2 connection."),
    on("http2-max-continuations", "8", "CONTINUATION frames of one header block before the connection ends."),
    no("http2-max-field-size", ""),
    no("http2-max-header-size", ""),
    on(
        "http2-max-idle-frames",
        "1000",
        "HTTP/2 frames that ask for nothing, in ten seconds and beyond ten for each useful one, before the connection ends.",
    ),
    on(
        "http2-max-provoked-resets",
        "256",
        "Unsettled stream errors that an HTTP/2 client may provoke before the connection ends.",
    ),
    no("http2-max-requests", "0"),
    on(
        "http2-max-resets",
        "100",
        "HTTP/2 streams that a client opens and resets in ten seconds, when they are more than half, before the connection ends.",
    ),
    on(
        "ignore-invalid-headers",
        "true",
        "Drop fields with unusual characters in their names, underscores included.",
    ),
    on("keep-alive", "75", "Seconds an idle client connection stays open; 0 closes after each answer."),
    on("keep-alive-requests", "1000", "Requests over one client connection."),
    on("keep-alive-time", "1h", "Greatest age of a client connection."),
    on(
        "large-client-header-buffers",
        "4 8k",
        "Number and size of head buffers: one line may be one buffer long, the head all of them.",
    ),
    on("limit-conn-status-code", "503", "Status of limit-connections."),
    on("limit-conn-zone-variable", "$binary_remote_addr", "Key of the request limits."),
    on("limit-rate", "0", "Kilobytes of one answer per second; 0 for no limit."),
    on("limit-rate-after", "0", "Kilobytes before limit-rate counts."),
    on("limit-req-status-code", "503", "Status of limit-rps and limit-rpm."),
    on("load-balance", "round_robin", "`round_robin` or `ewma`."),
    on("location-snippet", "", "Directives of nginx for every location (docs/snippets.md)."),
    on("log-format-escape-json", "false", "Escape values of the access log for JSON."),
    on("log-format-escape-none", "false", "Do not escape values of the access log."),
    on("log-format-stream", super::DEFAULT_STREAM_LOG_FORMAT, "Format of the log of TCP and UDP services."),
    on("log-format-upstream", "see docs", "Format of the access log."),
    no("lua-shared-dicts", ""),
    no("main-snippet", ""),
    no("map-hash-bucket-size", "64"),
    on(
        "max-body-memory",
        "25%",
        "Memory that buffered bodies may hold together, as a size or a part of the memory limit; beyond it requests with a body get 503.",
    ),
    on(
        "max-connections-per-client",
        "0",
        "Connections of one client address (IPv6: of one /64 network) over all workers; 0 for any number.",
    ),
    on("max-headers", "200", "Fields of a request head."),
    on(
        "max-inflight-requests",
        "32768",
        "Requests under way in the process, shared out to the workers; beyond it 503.",
    ),
    on(
        "max-ssl-handshakes",
        "8192",
        "TLS handshakes at once on one worker; a newcomer waits up to a second, then the oldest that has lasted longer makes room.",
    ),
    on("max-worker-connections", "16384", "Connections per worker."),
    no("max-worker-open-files", "0"),
    refused("modsecurity-snippet", "", NO_FIREWALL, "Web application firewall rules."),
    on("nginx-status-ipv4-whitelist", "127.0.0.1", "Clients that may read /nginx_status."),
    on("nginx-status-ipv6-whitelist", "::1", "Clients that may read /nginx_status."),
    on("no-auth-locations", "/.well-known/acme-challenge", "Path prefixes free of authentication."),
    on(
        "no-tls-redirect-locations",
        "/.well-known/acme-challenge",
        "Path prefixes that are not redirected to https.",
    ),
    no("opentelemetry-config", "/etc/ingress-controller/telemetry/opentelemetry.toml"),
    on(
        "opentelemetry-operation-name",
        "",
        "Name of spans, with variables; the path of the rule where not set.",
    ),
    on("opentelemetry-trust-incoming-span", "true", "Go on with the trace that the client names."),
    on("otel-max-export-batch-size", "512", "Spans sent at once."),
    on("otel-max-queuesize", "2048", "Spans that may wait; more are dropped and counted."),
    on(
        "otel-sampler",
        "AlwaysOn",
        "`AlwaysOn`, `AlwaysOff` or `TraceIdRatioBased`: which new traces are recorded.",
    ),
    on(
        "otel-sampler-parent-based",
        "true",
        "Record what the client's trace says is recorded, whatever the sampler.",
    ),
    on("otel-sampler-ratio", "0.01", "Share of traces that TraceIdRatioBased records."),
    on("otel-schedule-delay-millis", "5000", "Milliseconds between two exports."),
    on("otel-service-name", "nginx", "`service.name` of the spans."),
    on("otlp-collector-host", "", "Host of the collector (OTLP over gRPC); without one nothing is sent."),
    on("otlp-collector-port", "4317", "Port of the collector."),
    on("preserve-trailing-slash", "false", "Keep the trailing slash in redirects to https."),
    on("proxy-add-original-uri-header", "false", "Send X-Original-URI to backends."),
    on("proxy-body-size", "1m", "Largest request body (413 above); 0 for no limit."),
    on("proxy-buffer-size", "", "Largest response head; heads up to 64 KiB pass when unset."),
    on(
        "proxy-buffering",
        "off",
        "Read answers ahead of slow clients, at most 1 MiB each and within max-body-memory.",
    ),
    on("proxy-buffers-number", "4", "Buffers of proxy-buffer-size (4k) that proxy-buffering may fill."),
    no("proxy-busy-buffers-size", ""),
    on("proxy-connect-timeout", "5", "Seconds until a backend connection stands."),
    on("proxy-cookie-domain", "off", "Rewrite `Domain` of `Set-Cookie`."),
    on("proxy-cookie-path", "off", "Rewrite `Path` of `Set-Cookie`."),
    no("proxy-headers-hash-bucket-size", "64"),
    no("proxy-headers-hash-max-size", "512"),
    on("proxy-http-version", "1.1", "HTTP version towards backends."),
    on(
        "proxy-max-temp-file-size",
        "1024m",
        "What proxy-buffering may hold beyond its buffers; it stays in memory, at most 1 MiB.",
    ),
    on("proxy-next-upstream", "error timeout", "Failures after which another endpoint is asked."),
    on(
        "proxy-next-upstream-timeout",
        "0",
        "Seconds after which no further endpoint is asked; 0 for no limit.",
    ),
    on("proxy-next-upstream-tries", "3", "Endpoints asked in all; 0 for no limit."),
    on("proxy-protocol-header-timeout", "5s", "Time for the PROXY header."),
    on("proxy-read-timeout", "60", "Seconds between two reads from a backend."),
    on("proxy-real-ip-cidr", "0.0.0.0/0", "Peers whose word about the client counts."),
    on("proxy-redirect-from", "off", "Rewrite `Location` of backends."),
    on("proxy-redirect-to", "off", "Rewrite `Location` of backends."),
    on("proxy-request-buffering", "on", "Read the whole request body before a backend is asked."),
    on("proxy-send-timeout", "60", "Seconds between two writes to a backend."),
    on(
        "proxy-set-headers",
        "",
        "ConfigMap (namespace/name) of request fields for all backends; values may hold variables.",
    ),
    no("proxy-ssl-location-only", "false"),
    on("proxy-stream-next-upstream", "true", "Ask another endpoint when a TCP connection fails."),
    on("proxy-stream-next-upstream-timeout", "600s", "Time for that; 0 for no limit."),
    on("proxy-stream-next-upstream-tries", "3", "Endpoints asked in all; 0 for no limit."),
    on("proxy-stream-responses", "1", "Datagrams that end a UDP session."),
    on("proxy-stream-timeout", "600s", "Idle time of TCP and UDP sessions."),
    on("relative-redirects", "false", "Write redirects made here without scheme and host."),
    on("retry-non-idempotent", "false", "Also send POST, LOCK and PATCH twice."),
    no("reuse-port", "true"),
    on("send-timeout", "60", "Seconds between two writes to a client that takes nothing of its answer."),
    no("server-name-hash-bucket-size", ""),
    no("server-name-hash-max-size", "1024"),
    on("server-snippet", "", "Directives of nginx for every host (docs/snippets.md)."),
    on("server-tokens", "false", "Send a Server field."),
    on("service-upstream", "false", "Use cluster addresses instead of endpoints."),
    on("skip-access-log-urls", "", "Request targets (text or `~expression`) that are not logged."),
    no("ssl-buffer-size", "4k"),
    on(
        "ssl-ciphers",
        concat!(
            "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:",
            "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:",
            "DHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256",
        ),
        "TLS 1.2 ciphers, as a list of OpenSSL; the six suites of ECDHE with AES-GCM or CHACHA20 are spoken.",
    ),
    no("ssl-dh-param", ""),
    refused(
        "ssl-early-data",
        "false",
        "early data can be replayed by anybody who sees it; handshakes stay at one round trip",
        "TLS 1.3 early data.",
    ),
    no("ssl-ecdh-curve", "auto"),
    on("ssl-handshake-timeout", "10", "Seconds for a TLS handshake."),
    on("ssl-protocols", "TLSv1.2 TLSv1.3", "TLS versions."),
    on("ssl-redirect", "true", "Send http requests to https where the host has a certificate."),
    on("ssl-reject-handshake", "false", "Refuse handshakes for unknown server names."),
    on("ssl-session-cache", "true", "Let TLS sessions resume."),
    no("ssl-session-cache-size", "10m"),
    on(
        "ssl-session-ticket-key",
        "",
        "Keys of session tickets: base64 of 48 or 80 bytes each, the first seals; replicas with the same keys open each other's tickets, and former keys open theirs.",
    ),
    on("ssl-session-tickets", "false", "Let TLS sessions resume by tickets."),
    on("ssl-session-timeout", "10m", "How long TLS sessions can resume."),
    on(
        "stream-access-log-path",
        "",
        "Where the log of TCP and UDP services goes; the access log where not set.",
    ),
    on(
        "stream-snippet",
        "",
        "Directives of nginx for streams: `server` and `upstream` blocks open TCP and UDP ports (docs/snippets.md).",
    ),
    on(
        "strict-validate-path-type",
        "true",
        "Exact and Prefix paths hold only letters, digits and ._-/ (checked at admission).",
    ),
    on("syslog-host", "", "Name or address of the syslog server."),
    on("syslog-port", "514", "Its UDP port."),
    no("upstream-hash-by", ""),
    no("upstream-hash-by-subset", ""),
    no("upstream-hash-by-subset-size", ""),
    on("upstream-keepalive-connections", "320", "Idle backend connections per worker; 0 for none."),
    on("upstream-keepalive-requests", "10000", "Requests over one backend connection."),
    on("upstream-keepalive-time", "1h", "Greatest age of a backend connection."),
    on("upstream-keepalive-timeout", "60", "Seconds a backend connection may idle."),
    on(
        "use-forwarded-headers",
        "false",
        "Believe X-Forwarded-For, -Host, -Proto and -Port of peers in proxy-real-ip-cidr.",
    ),
    on("use-geoip2", "false", "Fill `$geoip2_*` from the databases (*.mmdb) in --geoip-dir."),
    on("use-gzip", "false", "Compress responses."),
    on("use-http2", "true", "Offer HTTP/2."),
    on("use-port-in-redirects", "false", "Write the listen port into redirects."),
    on("use-proxy-protocol", "false", "Connections start with a PROXY header."),
    no("variables-hash-bucket-size", "256"),
    no("variables-hash-max-size", "2048"),
    on(
        "whitelist-source-range",
        "",
        "Only clients of these networks are served; an annotation replaces the list.",
    ),
    no("worker-cpu-affinity", ""),
    on("worker-processes", "auto", "Workers; read at start only."),
    on("worker-shutdown-timeout", "240s", "How long requests may go on when the process stops."),
    on("zstd-level", "3", "Compression level, 1 to 9."),
    on("zstd-min-length", "256", "Smallest response compressed."),
    on("zstd-types", "", "Types compressed."),
];

/// `docs/configmap.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# ConfigMap keys\n\nMade from the table in `src/policy/global/keys.rs`; do not edit.\n\
         A key that is not listed here, a value that cannot be read and a key without effect each give a diagnostic; \
         a bad value affects its key only.\n\n| key | default | effect | meaning |\n|---|---|---|---|\n",
    );
    let mut refused_because = String::new();
    for key in KEYS {
        let effect = match key.effect {
            Effect::Applied => "applied",
            Effect::NoMeaning => "accepted, no meaning here",
            Effect::Refused(why) => {
                refused_because.clear();
                refused_because.push_str("refused: ");
                refused_because.push_str(why);
                &refused_because
            }
        };
        let default = if key.default.is_empty() { "none".to_owned() } else { format!("`{}`", key.default) };
        out.push_str(&format!(
            "| `{}` | {default} | {effect} | {} |\n",
            key.name,
            key.doc.replace('|', "\\|")
        ));
    }
    out
}
