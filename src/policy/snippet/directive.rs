//! The closed list of directives: where each may stand, how many arguments it takes, what it does here.
//! `docs/snippets.md` is made from it; `build` gives each its meaning.

/// Where a directive stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// `http-snippet`.
    Http,
    /// `server-snippet`.
    Server,
    /// `configuration-snippet`, `location-snippet`, or a `location` in a server.
    Location,
    /// An `if` in a server.
    ServerIf,
    /// An `if` in a location.
    LocationIf,
    /// `auth-snippet`: the request to the authentication service.
    Auth,
}

/// What a directive does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// As in nginx.
    Counts,
    /// It is accepted and changes nothing here; the text says why.
    Nothing(&'static str),
}

/// One directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directive {
    /// Name.
    pub name: &'static str,
    /// Where it may stand.
    pub contexts: &'static [Context],
    /// Least and greatest number of arguments.
    pub arguments: (usize, usize),
    /// What it does here.
    pub effect: Effect,
    /// For people.
    pub doc: &'static str,
}

use Context::{Auth, Http, Location, LocationIf, Server, ServerIf};

const ALL: &[Context] = &[Http, Server, Location, LocationIf];
const PLAIN: &[Context] = &[Http, Server, Location];
const REWRITE: &[Context] = &[Server, Location, ServerIf, LocationIf];
const PROXY: &[Context] = &[Http, Server, Location, Auth];
const MANY: usize = 64;

const fn on(
    name: &'static str,
    contexts: &'static [Context],
    arguments: (usize, usize),
    doc: &'static str,
) -> Directive {
    Directive { name, contexts, arguments, effect: Effect::Counts, doc }
}

const fn off(name: &'static str, why: &'static str) -> Directive {
    Directive { name, contexts: ALL, arguments: (0, MANY), effect: Effect::Nothing(why), doc: "" }
}

const CONNECTION: &str = "it belongs to a connection and not to a location: set the ConfigMap key";
const INTERNAL: &str = "it tunes nginx itself";
const COMPRESSION: &str = "compression is set by the ConfigMap";
const FILES: &str = "it is about files that nginx serves itself";
const CACHE: &str = "there is no cache";
const HANDSHAKE: &str = "it belongs to a handshake and not to a host: set the ConfigMap key";
const ZONE: &str =
    "it limits nothing by itself: use the annotations limit-rps, limit-rpm and limit-connections";
const TRACING: &str = "requests are traced as annotations and the ConfigMap say";
const RESOLVER: &str = "names are resolved as the system does";
const SPANS: &str = "spans have the attributes that docs/tracing.md names";
const SUBREQUEST: &str = "it is about logs of nginx";

/// All of them, in alphabetical order.
pub const DIRECTIVES: &[Directive] = &[
    on("absolute_redirect", PLAIN, (1, 1), "`off`: redirects made here carry a path only."),
    on(
        "access_log",
        ALL,
        (1, MANY),
        "`off` in a location: its requests are not logged. Format and place are the ConfigMap's.",
    ),
    on(
        "add_header",
        ALL,
        (2, 3),
        "Adds a field to answers of a good status, or with `always` to all. Inherited only where a level has none of its own.",
    ),
    off("aio", INTERNAL),
    on(
        "allow",
        PLAIN,
        (1, 1),
        "Admits clients of a network, an address, or `all`; rules are asked in order.",
    ),
    on(
        "auth_basic",
        PLAIN,
        (1, 1),
        "Only `off`, which changes nothing: passwords are asked for by annotations only.",
    ),
    on("auth_request", PLAIN, (1, 1), "Only `off`: no external authentication here."),
    on("auth_request_set", PLAIN, (2, 2), "Sets a variable after external authentication."),
    on("break", REWRITE, (0, 0), "Ends the rewrite directives of this level."),
    off("brotli", COMPRESSION),
    off("brotli_buffers", INTERNAL),
    off("brotli_comp_level", COMPRESSION),
    off("brotli_min_length", COMPRESSION),
    off("brotli_static", FILES),
    off("brotli_types", COMPRESSION),
    off("brotli_window", COMPRESSION),
    on("charset", ALL, (1, 1), "Added to the content type of an answer that names none; `off` for none."),
    on("charset_types", PLAIN, (1, MANY), "Content types beside `text/html` that get it; `*` for all."),
    off("chunked_transfer_encoding", INTERNAL),
    on("client_body_buffer_size", PLAIN, (1, 1), "Bytes of a request body held in memory."),
    off("client_body_in_file_only", INTERNAL),
    off("client_body_in_single_buffer", INTERNAL),
    off("client_body_temp_path", INTERNAL),
    off("client_body_timeout", CONNECTION),
    off("client_header_buffer_size", CONNECTION),
    off("client_header_timeout", CONNECTION),
    on("client_max_body_size", PLAIN, (1, 1), "Largest request body; 0 for no limit."),
    off("connection_pool_size", INTERNAL),
    on("default_type", PLAIN, (1, 1), "Content type of answers that `return` gives."),
    on("deny", PLAIN, (1, 1), "Refuses clients of a network, an address, or `all`, with 403."),
    off("directio", INTERNAL),
    off("disable_symlinks", INTERNAL),
    off("error_log", SUBREQUEST),
    on(
        "error_page",
        ALL,
        (2, MANY),
        "What stands in the place of an answer of ours, or of a backend with `proxy_intercept_errors on`: a URL, a path of the host, a named location of a server-snippet; once for a request.",
    ),
    off("etag", FILES),
    on(
        "expires",
        ALL,
        (1, 2),
        "Sets `Expires` and `Cache-Control` on answers of a good status: a time, `epoch`, `max`, `off` or a variable.",
    ),
    off("fastcgi_hide_header", "FastCGI has its own annotations"),
    on(
        "geo",
        &[Http],
        (1, 2),
        "A variable that is looked up by an address, `$remote_addr` or another one: networks or `ranges`, `default`, `delete`.",
    ),
    on("grpc_buffer_size", PLAIN, (1, 1), "As proxy_buffer_size."),
    on("grpc_connect_timeout", PLAIN, (1, 1), "As proxy_connect_timeout."),
    on("grpc_hide_header", PLAIN, (1, 1), "As proxy_hide_header."),
    on("grpc_ignore_headers", PLAIN, (1, MANY), "As proxy_ignore_headers."),
    on("grpc_intercept_errors", PLAIN, (1, 1), "As proxy_intercept_errors."),
    on("grpc_next_upstream", PLAIN, (1, MANY), "As proxy_next_upstream."),
    on("grpc_next_upstream_timeout", PLAIN, (1, 1), "As proxy_next_upstream_timeout."),
    on("grpc_next_upstream_tries", PLAIN, (1, 1), "As proxy_next_upstream_tries."),
    on("grpc_pass_header", PLAIN, (1, 1), "As proxy_pass_header."),
    on("grpc_read_timeout", PLAIN, (1, 1), "As proxy_read_timeout."),
    on("grpc_send_timeout", PLAIN, (1, 1), "As proxy_send_timeout."),
    on("grpc_set_header", PROXY, (2, 2), "As proxy_set_header."),
    off("grpc_socket_keepalive", INTERNAL),
    on("grpc_ssl_ciphers", PLAIN, (1, 1), "TLS 1.2 ciphers towards the backend, as a list of OpenSSL."),
    on("grpc_ssl_name", PLAIN, (1, 1), "As proxy_ssl_name."),
    on("grpc_ssl_protocols", PLAIN, (1, 4), "As proxy_ssl_protocols."),
    on("grpc_ssl_server_name", PLAIN, (1, 1), "As proxy_ssl_server_name."),
    off("grpc_ssl_session_reuse", INTERNAL),
    on("grpc_ssl_verify", PLAIN, (1, 1), "As proxy_ssl_verify."),
    off("gunzip", FILES),
    on(
        "gzip",
        ALL,
        (1, 1),
        "Compresses answers as the following directives say, or not. Where use-gzip is on its values count for what is not said.",
    ),
    off("gzip_buffers", INTERNAL),
    on("gzip_comp_level", PLAIN, (1, 1), "Level of gzip, 1 to 9."),
    off("gzip_disable", COMPRESSION),
    off("gzip_http_version", COMPRESSION),
    on("gzip_min_length", PLAIN, (1, 1), "Bytes below which an answer of known length stays as it is."),
    on(
        "gzip_proxied",
        PLAIN,
        (1, MANY),
        "`off`: not for requests that come through a proxy (`Via`); anything else: for these, too.",
    ),
    off("gzip_static", FILES),
    on("gzip_types", PLAIN, (1, MANY), "Content types beside `text/html` that gzip compresses; `*` for all."),
    on("gzip_vary", PLAIN, (1, 1), "`Vary: Accept-Encoding` on answers that gzip may compress."),
    off("http2_body_preread_size", CONNECTION),
    off("http2_chunk_size", CONNECTION),
    off("http2_idle_timeout", CONNECTION),
    off("http2_max_concurrent_pushes", CONNECTION),
    off("http2_max_concurrent_streams", CONNECTION),
    off("http2_max_field_size", CONNECTION),
    off("http2_max_header_size", CONNECTION),
    off("http2_max_requests", CONNECTION),
    off("http2_push", "browsers took pushes away"),
    off("http2_push_preload", "browsers took pushes away"),
    off("http2_recv_buffer_size", CONNECTION),
    off("http2_recv_timeout", CONNECTION),
    on(
        "if",
        &[Server, Location],
        (1, MANY),
        "A block for requests that meet a condition: a variable, `=`, `!=`, `~`, `~*`, `!~`, `!~*`.",
    ),
    off("if_modified_since", FILES),
    off("ignore_invalid_headers", CONNECTION),
    on(
        "internal",
        &[Location],
        (0, 0),
        "Only rewrites and pages of `error_page` lead here; clients get 404.",
    ),
    off("keepalive_disable", CONNECTION),
    off("keepalive_requests", CONNECTION),
    off("keepalive_time", CONNECTION),
    off("keepalive_timeout", CONNECTION),
    off("large_client_header_buffers", CONNECTION),
    off("limit_conn_log_level", SUBREQUEST),
    on("limit_conn_status", PLAIN, (1, 1), "Status of answers over limit-connections."),
    off("limit_conn_zone", ZONE),
    on(
        "limit_except",
        &[Location],
        (1, MANY),
        "A block of `allow` and `deny` for all methods but those named.",
    ),
    on(
        "limit_rate",
        ALL,
        (1, 1),
        "Bytes of one answer per second, a variable too; 0 for no limit. `set $limit_rate` and `X-Accel-Limit-Rate` of a backend go before it.",
    ),
    on("limit_rate_after", ALL, (1, 1), "Bytes of an answer before limit_rate counts."),
    off("limit_req_log_level", SUBREQUEST),
    on("limit_req_status", PLAIN, (1, 1), "Status of answers over limit-rps and limit-rpm."),
    off("limit_req_zone", ZONE),
    off("lingering_close", CONNECTION),
    off("lingering_time", CONNECTION),
    off("lingering_timeout", CONNECTION),
    on(
        "location",
        &[Server, Location],
        (1, 2),
        "A block for paths: `=`, `^~`, `~`, `~*` or a start. Only answers of its own: nothing below it is proxied.",
    ),
    off("log_format", "the formats of logs are log-format-upstream and log-format-stream of the ConfigMap"),
    off("log_not_found", SUBREQUEST),
    off("log_subrequest", SUBREQUEST),
    on(
        "map",
        &[Http],
        (2, 2),
        "A variable whose value is looked up by another's: texts, expressions, `default`.",
    ),
    off("map_hash_bucket_size", INTERNAL),
    off("map_hash_max_size", INTERNAL),
    off("max_ranges", FILES),
    off("merge_slashes", CONNECTION),
    on("modsecurity", PLAIN, (1, 1), "`off` only: there is no ModSecurity to switch on."),
    on(
        "more_clear_headers",
        ALL,
        (1, MANY),
        "Takes fields off answers; a name may end in `*`. `-s` and `-t` bound it to statuses and content types.",
    ),
    on("more_clear_input_headers", PLAIN_IF, (1, MANY), "Takes fields off the request to the backend."),
    on(
        "more_set_headers",
        ALL,
        (1, MANY),
        "Sets fields of answers, all statuses; `-s` and `-t` bound it to statuses and content types.",
    ),
    on(
        "more_set_input_headers",
        PLAIN_IF,
        (1, MANY),
        "Sets fields of the request to the backend; `-r` only where there is one, `-t` by content type.",
    ),
    off("msie_padding", INTERNAL),
    off("msie_refresh", INTERNAL),
    off("open_file_cache", INTERNAL),
    off("open_file_cache_errors", INTERNAL),
    off("open_file_cache_min_uses", INTERNAL),
    off("open_file_cache_valid", INTERNAL),
    on(
        "opentelemetry",
        PLAIN,
        (1, 1),
        "`off`: no spans of this location; `on`: spans, as enable-opentelemetry.",
    ),
    off("opentelemetry_attribute", SPANS),
    off("opentelemetry_capture_headers", SPANS),
    off("opentelemetry_config", SPANS),
    off("opentelemetry_ignore_paths", SPANS),
    on("opentelemetry_operation_name", PLAIN, (1, 1), "Name of the span."),
    off("opentelemetry_propagate", "backends are always told of the trace"),
    off("opentelemetry_sensitive_header_names", SPANS),
    off("opentelemetry_sensitive_header_values", SPANS),
    on("opentelemetry_trust_incoming_spans", PLAIN, (1, 1), "Go on with the trace that the client names."),
    off("opentracing", TRACING),
    off("opentracing_location_operation_name", TRACING),
    off("opentracing_operation_name", TRACING),
    off("opentracing_propagate_context", TRACING),
    off("opentracing_tag", TRACING),
    off("opentracing_trust_incoming_span", TRACING),
    off("output_buffers", INTERNAL),
    on("override_charset", ALL, (1, 1), "Only `off`."),
    off("port_in_redirect", "use the annotation use-port-in-redirects"),
    off("postpone_output", INTERNAL),
    on("proxy_buffer_size", PLAIN, (1, 1), "Largest head of a response."),
    on(
        "proxy_buffering",
        PLAIN,
        (1, 1),
        "Read answers ahead of slow clients. `X-Accel-Buffering` of a backend goes before it.",
    ),
    on("proxy_buffers", PLAIN, (2, 2), "Number and size of the buffers of an answer that is read ahead."),
    off("proxy_busy_buffers_size", INTERNAL),
    off("proxy_cache", CACHE),
    off("proxy_cache_background_update", CACHE),
    off("proxy_cache_bypass", CACHE),
    off("proxy_cache_convert_head", CACHE),
    off("proxy_cache_key", CACHE),
    off("proxy_cache_lock", CACHE),
    off("proxy_cache_lock_age", CACHE),
    off("proxy_cache_lock_timeout", CACHE),
    off("proxy_cache_max_range_offset", CACHE),
    off("proxy_cache_methods", CACHE),
    off("proxy_cache_min_uses", CACHE),
    off("proxy_cache_path", CACHE),
    off("proxy_cache_revalidate", CACHE),
    off("proxy_cache_use_stale", CACHE),
    off("proxy_cache_valid", CACHE),
    on("proxy_connect_timeout", PLAIN, (1, 1), "Time until a backend connection stands."),
    on(
        "proxy_cookie_domain",
        PLAIN,
        (1, 2),
        "Replaces the `Domain` of cookies of the backend; several are tried in order. `off` for none.",
    ),
    on(
        "proxy_cookie_flags",
        PLAIN,
        (1, 5),
        "Sets or takes off `secure`, `httponly`, `samesite` of cookies of the backend.",
    ),
    on(
        "proxy_cookie_path",
        PLAIN,
        (1, 2),
        "Replaces the start of the `Path` of cookies of the backend; several are tried in order. `off` for none.",
    ),
    off("proxy_force_ranges", "ranges are the backend's"),
    off("proxy_headers_hash_bucket_size", INTERNAL),
    off("proxy_headers_hash_max_size", INTERNAL),
    on("proxy_hide_header", PLAIN, (1, 1), "A field of the backend that clients do not see."),
    on("proxy_http_version", PLAIN, (1, 1), "Version towards the backend: 1.0 or 1.1."),
    off("proxy_ignore_client_abort", "a request whose client is gone is given up"),
    on("proxy_ignore_headers", PLAIN, (1, MANY), "`X-Accel-*` of a backend that are not heeded."),
    on("proxy_intercept_errors", PLAIN, (1, 1), "Replace errors of the backend as custom-http-errors says."),
    on(
        "proxy_max_temp_file_size",
        PLAIN,
        (1, 1),
        "0: no more of an answer is read ahead than the buffers hold.",
    ),
    on("proxy_method", PLAIN, (1, 1), "Method towards the backend."),
    on("proxy_next_upstream", PLAIN, (1, MANY), "Failures after which another endpoint is asked."),
    on("proxy_next_upstream_timeout", PLAIN, (1, 1), "Time after which no further endpoint is asked."),
    on("proxy_next_upstream_tries", PLAIN, (1, 1), "Endpoints asked in all."),
    off("proxy_no_cache", CACHE),
    on(
        "proxy_pass_header",
        PLAIN,
        (1, 1),
        "A field of the backend that clients see although it is hidden by default.",
    ),
    on("proxy_pass_request_body", PLAIN, (1, 1), "Only `on`."),
    off("proxy_pass_request_headers", "only what clients send is passed"),
    on("proxy_read_timeout", PLAIN, (1, 1), "Time between two reads from a backend."),
    on(
        "proxy_redirect",
        PLAIN,
        (1, 2),
        "Replaces the start of `Location` and `Refresh` of the backend; several are tried in order. `off` for none.",
    ),
    on("proxy_request_buffering", PLAIN, (1, 1), "Read the whole request body before a backend is asked."),
    off("proxy_send_lowat", INTERNAL),
    on("proxy_send_timeout", PLAIN, (1, 1), "Time between two writes to a backend."),
    on(
        "proxy_set_header",
        PROXY,
        (2, 2),
        "Sets a field of the request to the backend; an empty value takes it away. Counts in a location only, as there every location sets fields of its own.",
    ),
    off("proxy_socket_keepalive", INTERNAL),
    on("proxy_ssl_ciphers", PLAIN, (1, 1), "TLS 1.2 ciphers towards the backend, as a list of OpenSSL."),
    on("proxy_ssl_name", PLAIN, (1, 1), "Name that a TLS backend must have, and its SNI: text, or $host."),
    on("proxy_ssl_protocols", PLAIN, (1, 4), "TLS versions towards the backend."),
    on("proxy_ssl_server_name", PLAIN, (1, 1), "Send SNI to a TLS backend."),
    off("proxy_ssl_session_reuse", INTERNAL),
    on(
        "proxy_ssl_verify",
        PLAIN,
        (1, 1),
        "Verify the certificate of a TLS backend, by the CA of proxy-ssl-secret.",
    ),
    off("proxy_ssl_verify_depth", "the chain builder has a fixed depth"),
    off("proxy_store", CACHE),
    off("proxy_temp_file_write_size", INTERNAL),
    off("proxy_temp_path", INTERNAL),
    off("read_ahead", INTERNAL),
    on(
        "real_ip_header",
        PLAIN,
        (1, 1),
        "The field that tells the client's address, or `proxy_protocol`. Of http and server it counts before conditions, of a location from address rules on.",
    ),
    on(
        "real_ip_recursive",
        PLAIN,
        (1, 1),
        "`on`: the last address of the list that is not trusted, and not the very last.",
    ),
    off("recursive_error_pages", "an answer is replaced once"),
    off("request_pool_size", INTERNAL),
    off("reset_timedout_connection", CONNECTION),
    off("resolver", RESOLVER),
    off("resolver_timeout", RESOLVER),
    on("return", REWRITE, (1, 2), "Answers: a status, a status and a text or URL, or a URL."),
    on(
        "rewrite",
        REWRITE,
        (2, 3),
        "Replaces the path by an expression: `last`, `break`, `redirect`, `permanent`.",
    ),
    off("rewrite_log", SUBREQUEST),
    on("satisfy", PLAIN, (1, 1), "`all` or `any` of addresses, passwords and external authentication."),
    off("send_lowat", INTERNAL),
    off("send_timeout", CONNECTION),
    off("sendfile", INTERNAL),
    off("sendfile_max_chunk", INTERNAL),
    off("server_name_in_redirect", "redirects name the host that was asked"),
    off("server_names_hash_bucket_size", INTERNAL),
    off("server_tokens", CONNECTION),
    on("set", REWRITE, (2, 2), "Sets a variable of one's own, or `$args`."),
    on("set_real_ip_from", PLAIN, (1, 1), "A network whose `real_ip_header` is believed."),
    on(
        "split_clients",
        &[Http],
        (2, 2),
        "A variable that is looked up by the hash of a text: the same text always gives the same value.",
    ),
    off("ssl_buffer_size", HANDSHAKE),
    off("ssl_conf_command", HANDSHAKE),
    off("ssl_dhparam", HANDSHAKE),
    off("ssl_early_data", HANDSHAKE),
    off("ssl_ecdh_curve", HANDSHAKE),
    off("ssl_prefer_server_ciphers", HANDSHAKE),
    off("ssl_session_cache", HANDSHAKE),
    off("ssl_session_ticket_key", HANDSHAKE),
    off("ssl_session_tickets", HANDSHAKE),
    off("ssl_session_timeout", HANDSHAKE),
    off("ssl_stapling", HANDSHAKE),
    off("ssl_stapling_responder", HANDSHAKE),
    off("ssl_stapling_verify", HANDSHAKE),
    on("sub_filter", PLAIN, (2, 2), "Replaces text in bodies that are not compressed."),
    off("sub_filter_last_modified", INTERNAL),
    on("sub_filter_once", PLAIN, (1, 1), "`off` replaces every occurrence and not the first only."),
    on(
        "sub_filter_types",
        PLAIN,
        (1, MANY),
        "Content types beside `text/html` whose bodies are searched; `*` for all.",
    ),
    off("subrequest_output_buffer_size", INTERNAL),
    off("tcp_nodelay", INTERNAL),
    off("tcp_nopush", INTERNAL),
    off("types_hash_bucket_size", INTERNAL),
    off("types_hash_max_size", INTERNAL),
    off("underscores_in_headers", CONNECTION),
    off("uninitialized_variable_warn", SUBREQUEST),
    off("variables_hash_bucket_size", INTERNAL),
    off("variables_hash_max_size", INTERNAL),
];

const PLAIN_IF: &[Context] = &[Server, Location, LocationIf];

/// The directive of a name.
pub fn find(name: &str) -> Option<&'static Directive> {
    DIRECTIVES.binary_search_by_key(&name, |directive| directive.name).ok().and_then(|at| DIRECTIVES.get(at))
}

/// True for a directive that keeps requests out: a snippet that holds one is never left out, its routes are shut.
/// `return` does where its status is an error; that is judged with its arguments.
pub fn protects(name: &str) -> bool {
    const EXACT: [&str; 14] = [
        "client_max_body_size",
        "include",
        "more_clear_input_headers",
        "proxy_ssl_verify",
        "allow",
        "deny",
        "satisfy",
        "internal",
        "limit_except",
        "real_ip_header",
        "set_real_ip_from",
        "secure_link",
        "valid_referers",
        "geo",
    ];
    const STARTS: [&str; 8] = [
        "auth_",
        "limit_req",
        "limit_conn",
        "access_by_lua",
        "rewrite_by_lua",
        "modsecurity",
        "ssl_verify",
        "ssl_client",
    ];
    EXACT.contains(&name) || name.starts_with("Sec") || STARTS.iter().any(|start| name.starts_with(start))
}

impl Context {
    /// Its name in documents and findings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Http => "http",
            Server => "server",
            Location => "location",
            ServerIf => "if in server",
            LocationIf => "if in location",
            Auth => "auth",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_told() {
        assert!(DIRECTIVES.is_sorted_by(|one, next| one.name < next.name));
        for directive in DIRECTIVES {
            assert!(find(directive.name).is_some(), "{}", directive.name);
            let told = match directive.effect {
                Effect::Counts => directive.doc,
                Effect::Nothing(why) => why,
            };
            assert!(!told.is_empty(), "{}", directive.name);
        }
    }

    #[test]
    fn what_keeps_requests_out_is_known_though_it_is_not_in_the_list() {
        for name in ["deny", "auth_basic", "limit_req", "limit_except", "SecRule", "geo"] {
            assert!(protects(name), "{name}");
        }
        for name in ["add_header", "limit_rate", "proxy_pass", "more_set_headers", "rewrite"] {
            assert!(!protects(name), "{name}");
        }
    }
}
