//! ConfigMap text to [`Globals`], one key at a time: a value that cannot be read leaves its key at the default.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;

use super::auth::GlobalAuthDraft;
use super::hsts_keys::Hsts;
use super::log_format::{self, Unknown};
use super::report::{Otherwise, Report};
use super::values::{
    Sound, addresses, allowed, cidrs, field_name, field_names, http_version, large_buffers, limit_key,
    load_balance, log_level, minutes, path, positive, processes, redirect_code, refusal, risk, tests, words,
};
use super::{Globals, KEYS, LogEscape, Referenced, UNKNOWN_VARIABLE};
use super::{tls, tracing};
use crate::diagnostic::Diagnostic;
use crate::model::{ConfigMap, Meta, ObjectKey};
use crate::policy::annotation::{
    is_protected_field, parse_bool, parse_count, parse_duration, parse_on_off, parse_size,
};
use crate::policy::host_ownership::{AllowList, HostOwnership};
use crate::policy::snippet::GlobalSnippets;
use crate::policy::template::Template;
use crate::policy::{
    backend_tls, body, cipher_list, compression, custom_errors, hsts, pending, response_rewrite, retry,
    timeout,
};
use crate::wire::fields::is_field_value;

impl Globals {
    /// Reads the controller's ConfigMap. `referenced` holds the ConfigMaps that it may name (`proxy-set-headers`,
    /// `add-headers`).
    pub fn parse(config_map: &ConfigMap, referenced: &Referenced) -> (Self, Vec<Diagnostic>) {
        Self::parse_keeping(config_map, referenced, &BTreeMap::new())
    }

    /// As [`Globals::parse`]; where the text of a key cannot be read, that of `kept` counts before the default does.
    pub fn parse_keeping(
        config_map: &ConfigMap,
        referenced: &Referenced,
        kept: &BTreeMap<String, String>,
    ) -> (Self, Vec<Diagnostic>) {
        let (globals, report) = Self::report(config_map, referenced, kept);
        (globals, report.found)
    }

    /// Keys whose text cannot be read, so that their last good one should count. Not those that shut what they guard
    /// instead.
    pub fn unread(config_map: &ConfigMap, referenced: &Referenced) -> Vec<&'static str> {
        Self::report(config_map, referenced, &BTreeMap::new()).1.unread
    }

    fn report<'c>(
        config_map: &'c ConfigMap,
        referenced: &Referenced,
        kept: &BTreeMap<String, String>,
    ) -> (Self, Report<'c>) {
        let mut globals = Self::default();
        let mut report = Report { config_map, found: Vec::new(), unread: Vec::new() };
        let mut auth = GlobalAuthDraft::default();
        let mut hsts = Hsts { on: true, max_age: 31_536_000, include_subdomains: true, preload: false };
        for (key, raw) in &config_map.data {
            let Some(known) = KEYS.iter().find(|known| known.name == key) else {
                report.unknown(key);
                continue;
            };
            // As ingress-nginx reads it: a switch without a word is off.
            let text = match raw.trim() {
                "" if matches!(known.default, "true" | "false") => "false",
                text => text,
            };
            if text.is_empty() || !report.effective(known, text) {
                continue;
            }
            let mut read = |text: &str, report: &mut Report<'_>| match known.name {
                "add-headers" | "proxy-set-headers" => globals.set_fields(key, text, referenced, report),
                key if key.starts_with("hsts") => hsts.set(key, text),
                key if key.starts_with("global-auth-") && key != "global-auth-snippet" => auth.set(key, text),
                key => globals.set(key, text).unwrap_or_else(|| Err("is not read".into())),
            };
            if let Err(reason) = read(text, &mut report) {
                let last = kept.get(key).filter(|_| Otherwise::of(known).keeps_the_last());
                let last = last.filter(|last| read(last.trim(), &mut report).is_ok());
                report.invalid(known, raw, reason, last.map(String::as_str));
            }
        }
        if pending::blocks(&config_map.data) {
            globals.firewall = Some("NotSupported");
            report.firewall();
        }
        let lists = globals.host_allow_list != AllowList::default();
        if lists && !matches!(globals.host_ownership, HostOwnership::AllowList(_)) {
            let reason =
                "has no effect without host-ownership: allow-list, so every namespace may have every host";
            report.add(
                "NoEffect",
                "host-allow-list",
                "",
                reason.into(),
                "set host-ownership: allow-list".into(),
            );
        }
        let (snippets, notes) = GlobalSnippets::read(&config_map.data);
        for Unknown { key, variable, reason, hint } in log_format::unknown(&config_map.data, &snippets) {
            report.add(UNKNOWN_VARIABLE, key, &variable, reason, hint);
        }
        globals.snippets = Arc::new(snippets);
        report.snippets(notes);
        globals.global_auth = auth.finish();
        if globals.syslog.on && globals.syslog.server().is_none() {
            let reason = "names no server: logs go to their files".to_owned();
            report.add("InvalidConfigMapValue", "enable-syslog", "true", reason, "set syslog-host".into());
        }
        let value = || Arc::from(hsts::value(hsts.max_age, hsts.include_subdomains, hsts.preload));
        globals.hsts = hsts.on.then(value);
        (globals, report)
    }

    /// As [`Globals::parse`] for data that stands in no object.
    pub fn parse_data(data: &BTreeMap<String, String>) -> (Self, Vec<Diagnostic>) {
        let meta = Meta::named(ObjectKey::new("ingress-nginx", "ingress-nginx-controller"));
        Self::parse(&ConfigMap { meta, data: data.clone() }, &Referenced::new())
    }

    /// Sets one key; `None` for a key that no arm knows.
    #[expect(clippy::too_many_lines, reason = "one line per key: the list is the documentation")]
    pub(super) fn set(&mut self, key: &str, text: &str) -> Option<Result<(), String>> {
        Some(match key {
            "allow-backend-server-header" => put(&mut self.allow_backend_server_header, parse_bool(text)),
            "allow-cross-namespace-resources" => {
                put(&mut self.allow_cross_namespace_resources, parse_bool(text))
            }
            "allow-snippet-annotations" => put(&mut self.allow_snippet_annotations, parse_bool(text)),
            "annotation-value-word-blocklist" => {
                put(&mut self.annotation_value_word_blocklist, Ok(words(text)))
            }
            "annotations-risk-level" => put(&mut self.annotations_risk_level, risk(text)),
            // Keys come in alphabetical order, so the particular ones win.
            "access-log-path" => path(text).map(|path| {
                self.stream_access_log_path = Arc::clone(&path);
                self.access_log_path = path;
            }),
            "http-access-log-path" => put(&mut self.access_log_path, path(text)),
            "stream-access-log-path" => put(&mut self.stream_access_log_path, path(text)),
            "bind-address" => put_sound(&mut self.bind_address, addresses(text)),
            "block-cidrs" => put_sound(&mut self.block_cidrs, cidrs(text)),
            "block-referers" => put_sound(&mut self.block_referers, tests(text)),
            "block-user-agents" => put_sound(&mut self.block_user_agents, tests(text)),
            "brotli-level" => put(&mut self.compression.brotli.level, compression::level(text, 0, 11)),
            "brotli-min-length" => put(&mut self.compression.brotli.min_length, parse_size(text)),
            "brotli-types" => put(&mut self.compression.brotli.types, compression::types(text)),
            "client-body-buffer-size" => put(&mut self.client_body_buffer_size, parse_size(text)),
            "client-body-timeout" => put(&mut self.client_body_timeout, timeout::parse(text)),
            "client-header-timeout" => put(&mut self.client_header_timeout, timeout::parse(text)),
            "compute-full-forwarded-for" => put(&mut self.compute_full_forwarded_for, parse_bool(text)),
            "custom-http-errors" => {
                put_sound(&mut self.custom_http_errors, custom_errors::sound_codes(text, 300))
            }
            "denylist-source-range" => put_sound(&mut self.denylist_source_range, cidrs(text)),
            "disable-access-log" => parse_bool(text).map(|off| {
                self.disable_access_log |= off;
                self.disable_stream_access_log |= off;
            }),
            "disable-http-access-log" => parse_bool(text).map(|off| self.disable_access_log |= off),
            "disable-stream-access-log" => parse_bool(text).map(|off| self.disable_stream_access_log |= off),
            "disable-ipv6" => put(&mut self.disable_ipv6, parse_bool(text)),
            "disable-proxy-intercept-errors" => {
                put(&mut self.disable_proxy_intercept_errors, parse_bool(text))
            }
            "enable-access-log-for-default-backend" => {
                put(&mut self.access_log_for_default_backend, parse_bool(text))
            }
            "disable-ipv6-dns" => put(&mut self.disable_ipv6_dns, parse_bool(text)),
            "enable-auth-access-log" => put(&mut self.auth_access_log, parse_bool(text)),
            "enable-brotli" => put(&mut self.compression.brotli_on, parse_bool(text)),
            "enable-ocsp" => put(&mut self.enable_ocsp, parse_bool(text)),
            "enable-real-ip" => put(&mut self.enable_real_ip, parse_bool(text)),
            "enable-underscores-in-headers" => put(&mut self.enable_underscores_in_headers, parse_bool(text)),
            "error-log-level" => put(&mut self.error_log_level, log_level(text)),
            "error-log-path" => put(&mut self.error_log_path, path(text)),
            "force-ssl-redirect" => put(&mut self.force_ssl_redirect, parse_bool(text)),
            "forwarded-for-header" => put(&mut self.forwarded_for_header, field_name(text)),
            "forwarded-host-header" => put(&mut self.forwarded_host_header, field_name(text)),
            "generate-request-id" => put(&mut self.generate_request_id, parse_bool(text)),
            "global-allowed-response-headers" => put(&mut self.allowed_response_headers, Ok(words(text))),
            "global-rate-limit-status-code" => put(&mut self.global_rate_limit_status, refusal(text)),
            "gzip-disable" => put(&mut self.compression.gzip_disable, compression::disable(text)),
            "gzip-level" => put(&mut self.compression.gzip.level, compression::level(text, 1, 9)),
            "gzip-min-length" => put(&mut self.compression.gzip.min_length, parse_size(text)),
            "gzip-types" => put(&mut self.compression.gzip.types, compression::types(text)),
            "hide-headers" => put(&mut self.hide_headers, field_names(text)),
            "host-allow-list" => {
                AllowList::parse(text).map(|list| self.host_allow_list = list).map_err(|(sound, reason)| {
                    self.host_allow_list = sound;
                    reason
                })
            }
            // After the list, in alphabetical order.
            "host-ownership" => HostOwnership::parse(text, &self.host_allow_list)
                .map(|ownership| self.host_ownership = ownership)
                .map_err(|(closed, reason)| {
                    self.host_ownership = closed;
                    reason
                }),
            // Read together, once the switch is known.
            "global-auth-snippet"
            | "http-snippet"
            | "location-snippet"
            | "server-snippet"
            | "stream-snippet" => Ok(()),
            "http-redirect-code" => put(&mut self.http_redirect_code, redirect_code(text)),
            "http2-max-concurrent-streams" => put(&mut self.http2_max_concurrent_streams, positive(text)),
            "ignore-invalid-headers" => put(&mut self.ignore_invalid_headers, parse_bool(text)),
            "keep-alive" => put(&mut self.keep_alive, parse_duration(text).map(retry::limit)),
            "keep-alive-requests" => put(&mut self.keep_alive_requests, positive(text)),
            "large-client-header-buffers" => large_buffers(text).map(|(count, bytes)| {
                self.large_header_count = count;
                self.large_header_bytes = bytes;
            }),
            "limit-conn-status-code" => put(&mut self.limit_conn_status, refusal(text)),
            "limit-conn-zone-variable" => put(&mut self.limit_key, limit_key(text)),
            "limit-rate" => put(&mut self.limit_rate, parse_count(text)),
            "limit-rate-after" => put(&mut self.limit_rate_after, parse_count(text)),
            "limit-req-status-code" => put(&mut self.limit_req_status, refusal(text)),
            "load-balance" => put(&mut self.load_balance, load_balance(text)),
            "log-format-escape-json" => parse_bool(text).map(|on| {
                if on {
                    self.log_escape = LogEscape::Json;
                }
            }),
            "log-format-escape-none" => parse_bool(text).map(|on| {
                if on && self.log_escape == LogEscape::Default {
                    self.log_escape = LogEscape::None;
                }
            }),
            "log-format-stream" => put(&mut self.log_format_stream, Ok(Arc::from(text))),
            "log-format-upstream" => put(&mut self.log_format_upstream, Ok(Arc::from(text))),
            "max-worker-connections" => put(&mut self.max_worker_connections, positive(text)),
            "nginx-status-ipv4-whitelist" | "nginx-status-ipv6-whitelist" => {
                let v4 = key == "nginx-status-ipv4-whitelist";
                whole(cidrs(text)).map(|nets| {
                    let own = |net: &&IpNet| matches!(net, IpNet::V4(_)) == v4;
                    let kept =
                        self.status_allow.iter().filter(|net| !own(net)).chain(nets.iter().filter(own));
                    let mut all: Vec<IpNet> = kept.copied().collect();
                    all.sort_unstable();
                    self.status_allow = all.into();
                })
            }
            "no-auth-locations" => put(&mut self.no_auth_locations, Ok(words(text))),
            "no-tls-redirect-locations" => put(&mut self.no_tls_redirect_locations, Ok(words(text))),
            "preserve-trailing-slash" => put(&mut self.preserve_trailing_slash, parse_bool(text)),
            "proxy-add-original-uri-header" => put(&mut self.proxy_add_original_uri_header, parse_bool(text)),
            "proxy-body-size" => put(&mut self.proxy_body_size, parse_size(text).map(body::limit)),
            "proxy-buffer-size" => {
                let narrow = |size: u64| Some(u32::try_from(size).unwrap_or(u32::MAX));
                put(&mut self.proxy_buffer_size, parse_size(text).map(narrow))
            }
            "proxy-buffering" => put(&mut self.proxy_buffering, parse_on_off(text)),
            "proxy-buffers-number" => put(&mut self.proxy_buffers_number, positive(text)),
            "proxy-max-temp-file-size" => put(&mut self.proxy_max_temp_file_size, parse_size(text)),
            "proxy-connect-timeout" => put(&mut self.proxy_connect_timeout, timeout::parse(text)),
            "proxy-cookie-domain" => {
                put(&mut self.proxy_cookie_domain, response_rewrite::parse_cookie_domain(text))
            }
            "proxy-cookie-path" => {
                put(&mut self.proxy_cookie_path, response_rewrite::parse_cookie_path(text))
            }
            "proxy-http-version" => put(&mut self.proxy_http_version, http_version(text)),
            "proxy-next-upstream" => retry::parse_conditions(text).map(|(on, non_idempotent)| {
                self.proxy_next_upstream = on;
                self.retry_non_idempotent |= non_idempotent;
            }),
            "proxy-next-upstream-timeout" => {
                put(&mut self.proxy_next_upstream_timeout, parse_duration(text).map(retry::limit))
            }
            "proxy-next-upstream-tries" => put(&mut self.proxy_next_upstream_tries, parse_count(text)),
            "proxy-protocol-header-timeout" => {
                put(&mut self.proxy_protocol_header_timeout, timeout::parse(text))
            }
            "proxy-read-timeout" => put(&mut self.proxy_read_timeout, timeout::parse(text)),
            "proxy-real-ip-cidr" => put_sound(&mut self.proxy_real_ip_cidr, cidrs(text)),
            "proxy-redirect-from" => put(&mut self.proxy_redirect_from, Ok(Arc::from(text))),
            "proxy-redirect-to" => put(&mut self.proxy_redirect_to, Ok(Arc::from(text))),
            "proxy-request-buffering" => put(&mut self.proxy_request_buffering, parse_on_off(text)),
            "proxy-send-timeout" => put(&mut self.proxy_send_timeout, timeout::parse(text)),
            "proxy-stream-next-upstream" => put(&mut self.stream_next_upstream, parse_on_off(text)),
            "proxy-stream-next-upstream-timeout" => {
                put(&mut self.stream_next_upstream_timeout, parse_duration(text).map(retry::limit))
            }
            "proxy-stream-next-upstream-tries" => {
                put(&mut self.stream_next_upstream_tries, parse_count(text))
            }
            "proxy-stream-responses" => put(&mut self.stream_responses, parse_count(text)),
            "proxy-stream-timeout" => put(&mut self.stream_timeout, timeout::parse(text)),
            "relative-redirects" => put(&mut self.relative_redirects, parse_bool(text)),
            "retry-non-idempotent" => parse_bool(text).map(|on| self.retry_non_idempotent |= on),
            "server-tokens" => put(&mut self.server_tokens, parse_bool(text)),
            "service-upstream" => put(&mut self.service_upstream, parse_bool(text)),
            "skip-access-log-urls" => put_sound(&mut self.skip_access_log_urls, tests(text)),
            "ssl-ciphers" => put(&mut self.ssl_ciphers, cipher_list::parse(text).map(|list| list.suites)),
            "ssl-protocols" => backend_tls::protocols(text).map(|(tls12, tls13)| {
                self.tls12 = tls12;
                self.tls13 = tls13;
            }),
            "ssl-redirect" => put(&mut self.ssl_redirect, parse_bool(text)),
            "ssl-reject-handshake" => put(&mut self.ssl_reject_handshake, parse_bool(text)),
            "ssl-session-cache" => put(&mut self.ssl_session_cache, parse_bool(text)),
            "ssl-session-ticket-key" => put(&mut self.ssl_session_ticket_keys, tls::ticket_keys(text)),
            "ssl-session-tickets" => put(&mut self.ssl_session_tickets, parse_bool(text)),
            "ssl-session-timeout" => put(&mut self.ssl_session_timeout, timeout::parse(text)),
            "strict-validate-path-type" => put(&mut self.strict_validate_path_type, parse_bool(text)),
            "enable-syslog" => put(&mut self.syslog.on, parse_bool(text)),
            "syslog-host" => put(&mut self.syslog.host, tracing::host(text)),
            "syslog-port" => put(&mut self.syslog.port, tracing::port(text)),
            "upstream-keepalive-connections" => {
                put(&mut self.upstream_keepalive.connections, parse_count(text))
            }
            "upstream-keepalive-requests" => put(&mut self.upstream_keepalive.requests, positive(text)),
            "upstream-keepalive-time" => put(&mut self.upstream_keepalive.time, timeout::parse(text)),
            "upstream-keepalive-timeout" => put(&mut self.upstream_keepalive.timeout, timeout::parse(text)),
            "use-forwarded-headers" => put(&mut self.use_forwarded_headers, parse_bool(text)),
            "use-gzip" => put(&mut self.compression.gzip_on, parse_bool(text)),
            "use-http2" => put(&mut self.use_http2, parse_bool(text)),
            "use-port-in-redirects" => put(&mut self.use_port_in_redirects, parse_bool(text)),
            "use-proxy-protocol" => put(&mut self.use_proxy_protocol, parse_bool(text)),
            "whitelist-source-range" => put_sound(&mut self.allowlist_source_range, allowed(text)),
            "worker-processes" => put(&mut self.worker_processes, processes(text)),
            "worker-shutdown-timeout" => put(&mut self.worker_shutdown_timeout, timeout::parse(text)),
            "enable-zstd" => put(&mut self.compression.zstd_on, parse_bool(text)),
            "zstd-level" => put(&mut self.compression.zstd.level, compression::level(text, 1, 9)),
            "zstd-min-length" => put(&mut self.compression.zstd.min_length, parse_size(text)),
            "zstd-types" => put(&mut self.compression.zstd.types, compression::types(text)),
            "use-geoip2" => put(&mut self.geoip, parse_bool(text)),
            "geoip2-autoreload-in-minutes" => put(&mut self.geoip_reload, minutes(text)),
            key => return self.limits.set(key, text).or_else(|| self.tracing.set(key, text)),
        })
    }

    /// `add-headers`, `proxy-set-headers`: the value names a ConfigMap whose entries are fields. A bad entry is left
    /// out with its own finding.
    fn set_fields(
        &mut self,
        key: &str,
        text: &str,
        referenced: &Referenced,
        report: &mut Report<'_>,
    ) -> Result<(), String> {
        let named = ObjectKey::parse(text).ok_or("must name a ConfigMap as namespace/name")?;
        let fields =
            referenced.get(&named).ok_or_else(|| format!("names ConfigMap {named}, which does not exist"))?;
        let mut add = Vec::new();
        let mut set = Vec::new();
        for (name, value) in &fields.data {
            let value = value.trim();
            let sound = !is_protected_field(name) && name.len() <= 128 && is_field_value(value.as_bytes());
            if !sound || value.len() > 4096 {
                report.field(fields, name, "is no field that may be set");
                continue;
            }
            if key == "add-headers" {
                add.push((name.as_str().into(), value.into()));
                continue;
            }
            match Template::parse(value) {
                Ok(template) => set.push((name.as_str().into(), template)),
                Err(error) => report.field(fields, name, &error.to_string()),
            }
        }
        if key == "add-headers" {
            self.add_headers = add.into();
        } else {
            self.proxy_set_headers = set.into();
        }
        Ok(())
    }
}

pub(super) fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

/// Keeps the entries of a list that can be read; of the others one is told.
/// A list of which every entry has to be readable.
fn whole<T>((sound, fault): Sound<T>) -> Result<Arc<[T]>, String> {
    fault.map_or(Ok(sound), Err)
}

fn put_sound<T>(place: &mut Arc<[T]>, (sound, fault): Sound<T>) -> Result<(), String> {
    *place = sound;
    fault.map_or(Ok(()), Err)
}
