//! What the declarative directives of one block say, typed: fields, access, bodies, TLS. What happens in order (`set`,
//! `if`, `return`, `rewrite`) is `script`'s.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use ipnet::IpNet;

use crate::policy::RoutePolicies;
use crate::policy::backend_protocol::HttpVersion;
use crate::policy::cipher_list::Suite;
use crate::policy::compression::{Coder, Compression};
use crate::policy::response_rewrite::{self, FlagRule};
use crate::policy::retry::RetryOn;
use crate::policy::satisfy::Satisfy;
use crate::policy::template::Template;
use crate::policy::tracing::Tracing;

/// One block's directives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// `add_header`.
    pub add_header: Vec<AddHeader>,
    /// `more_set_headers`, `more_clear_headers`, in order.
    pub answer_fields: Vec<FieldEdit>,
    /// `more_set_input_headers`, `more_clear_input_headers`, in order.
    pub request_fields: Vec<FieldEdit>,
    /// `proxy_set_header`, `grpc_set_header`.
    pub set_header: Vec<(Box<str>, Template)>,
    /// `proxy_hide_header`, lower case.
    pub hide: Vec<Box<str>>,
    /// `proxy_pass_header`, lower case.
    pub pass: Vec<Box<str>>,
    /// `allow`, `deny`, in order.
    pub access: Vec<Rule>,
    /// `limit_except`: methods, and the rules for all others; the last one counts.
    pub except: Option<Except>,
    /// `limit_rate`: bytes a second.
    pub rate: Option<Template>,
    /// `limit_rate_after`: bytes.
    pub rate_after: Option<Template>,
    /// `auth_request_set`: evaluated with the answer of the authentication service.
    pub auth_set: Vec<(Box<str>, Template)>,
    /// `auth_request off`: no external authentication.
    pub auth_off: bool,
    /// `expires`.
    pub expires: Option<Expires>,
    /// `sub_filter`: text to find, and its replacement.
    pub substitutions: Vec<(Template, Template)>,
    /// `sub_filter_once`.
    pub substitute_once: Option<bool>,
    /// `sub_filter_types`.
    pub substitute_types: Option<Arc<[Box<str>]>>,
    /// `charset`; `off` for none.
    pub charset: Option<Box<str>>,
    /// `charset_types`, lower case.
    pub charset_types: Option<Arc<[Box<str>]>>,
    /// `gzip` and its like.
    pub gzip: Gzip,
    /// `error_page`, in order.
    pub error_pages: Vec<ErrorPage>,
    /// `internal`.
    pub internal: bool,
    /// `absolute_redirect`.
    pub absolute_redirect: Option<bool>,
    /// `set_real_ip_from`.
    pub real_ip_from: Vec<IpNet>,
    /// `real_ip_header`, lower case.
    pub real_ip_header: Option<Arc<str>>,
    /// `real_ip_recursive`.
    pub real_ip_recursive: Option<bool>,
    /// `default_type`.
    pub default_type: Option<Box<str>>,
    /// `proxy_method`.
    pub method: Option<Template>,
    /// `proxy_ssl_server_name`.
    pub ssl_server_name: Option<bool>,
    /// `proxy_ssl_name`.
    pub ssl_name: Option<SslName>,
    /// `proxy_ssl_verify`.
    pub ssl_verify: Option<bool>,
    /// `proxy_ssl_protocols`: TLS 1.2, TLS 1.3.
    pub ssl_protocols: Option<(bool, bool)>,
    /// `proxy_ssl_ciphers`.
    pub ssl_ciphers: Option<Arc<[Suite]>>,
    /// Values of the location that directives of a location replace.
    pub replaced: Replaced,
}

/// Values that annotations and the ConfigMap set too. They stand in every location of the old template, so they count
/// there and are not inherited.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replaced {
    /// `satisfy`.
    pub satisfy: Option<Satisfy>,
    /// `client_max_body_size`; inner `None` for no limit.
    pub body_max: Option<Option<u64>>,
    /// `client_body_buffer_size`.
    pub body_memory: Option<u64>,
    /// `proxy_connect_timeout`.
    pub connect: Option<Duration>,
    /// `proxy_send_timeout`.
    pub send: Option<Duration>,
    /// `proxy_read_timeout`.
    pub read: Option<Duration>,
    /// `proxy_request_buffering`.
    pub request_buffering: Option<bool>,
    /// `proxy_buffer_size`.
    pub buffer_size: Option<u32>,
    /// `proxy_intercept_errors`.
    pub intercept: Option<bool>,
    /// `access_log off`.
    pub access_log_off: bool,
    /// `limit_req_status`.
    pub limit_req_status: Option<StatusCode>,
    /// `limit_conn_status`.
    pub limit_conn_status: Option<StatusCode>,
    /// `proxy_redirect`.
    pub redirect: Option<Vec<response_rewrite::Rule>>,
    /// `proxy_cookie_domain`.
    pub cookie_domain: Option<Vec<response_rewrite::Rule>>,
    /// `proxy_cookie_path`.
    pub cookie_path: Option<Vec<response_rewrite::Rule>>,
    /// `proxy_cookie_flags`.
    pub cookie_flags: Vec<FlagRule>,
    /// `proxy_next_upstream`, and whether `non_idempotent` is among it.
    pub retry_on: Option<(RetryOn, bool)>,
    /// `proxy_next_upstream_tries`.
    pub retry_tries: Option<u32>,
    /// `proxy_next_upstream_timeout`; inner `None` for no limit.
    pub retry_timeout: Option<Option<Duration>>,
    /// `proxy_http_version`.
    pub http_version: Option<HttpVersion>,
    /// `proxy_buffering`.
    pub buffering: Option<bool>,
    /// `proxy_buffers`: bytes of all of them.
    pub buffers: Option<u64>,
    /// `proxy_max_temp_file_size`.
    pub temp_file: Option<u64>,
    /// `proxy_ignore_headers`.
    pub ignored: Ignored,
    /// `opentelemetry`.
    pub traced: Option<bool>,
    /// `opentelemetry_trust_incoming_spans`.
    pub trusts_spans: Option<bool>,
    /// `opentelemetry_operation_name`.
    pub span_name: Option<Template>,
}

/// `gzip` and its like, as far as they are said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gzip {
    /// `gzip`. `off` holds for all codings: what a user means by it is that the answer stays as it is.
    pub on: Option<bool>,
    /// `gzip_comp_level`.
    pub level: Option<u32>,
    /// `gzip_min_length`.
    pub min_length: Option<u64>,
    /// `gzip_types`, lower case.
    pub types: Option<Arc<[Box<str>]>>,
    /// `gzip_vary`.
    pub vary: Option<bool>,
    /// `gzip_proxied`: anything but `off`.
    pub proxied: Option<bool>,
}

/// Fields of a backend that speak to the proxy and are not heeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ignored {
    /// `X-Accel-Limit-Rate`.
    pub rate: bool,
    /// `X-Accel-Buffering`.
    pub buffering: bool,
}

/// `error_page`.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorPage {
    /// Answers with these are replaced.
    pub statuses: Vec<StatusCode>,
    /// Status of what stands in their place.
    pub answer: PageStatus,
    /// URL, path, or `@name`.
    pub target: Template,
}

/// Status of an error page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageStatus {
    /// That of the answer it replaces.
    Errors,
    /// Its own (`=`).
    Own,
    /// This one (`=200`).
    Fixed(StatusCode),
}

/// `add_header`.
#[derive(Debug, Clone, PartialEq)]
pub struct AddHeader {
    /// Name.
    pub name: Box<str>,
    /// Value; empty adds nothing.
    pub value: Template,
    /// All statuses, and not only those of [`is_good`].
    pub always: bool,
}

/// One directive of the headers-more module.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldEdit {
    /// Fields, and the values they get: an empty one takes the field away.
    pub fields: Vec<(Box<str>, Template)>,
    /// `-s`: statuses it is bound to; empty for all.
    pub statuses: Vec<u16>,
    /// `-t`: content types it is bound to, lower case; empty for all.
    pub types: Vec<Box<str>>,
    /// `-r`: only where there is such a field.
    pub replace_only: bool,
}

/// `allow` or `deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Admits or refuses.
    pub allow: bool,
    /// Whom; `None` for all.
    pub net: Option<IpNet>,
}

/// `limit_except`.
#[derive(Debug, Clone, PartialEq)]
pub struct Except {
    /// Methods that the block does not concern; HEAD goes with GET.
    pub methods: Vec<Box<str>>,
    /// `allow` and `deny` for the others.
    pub access: Vec<Rule>,
}

/// `expires`.
#[derive(Debug, Clone, PartialEq)]
pub enum Expires {
    /// Leave the answer alone.
    Off,
    /// 1970, and `no-cache`.
    Epoch,
    /// 2037, and ten years.
    Max,
    /// Seconds from now; negative ones are `no-cache`.
    After(i64),
    /// `@`: this many seconds after midnight (UTC), today or tomorrow.
    Daily(i64),
    /// Text with a variable, read as one of the above.
    Text(Template),
}

/// `proxy_ssl_name`: only what a configuration names may become one, never any text of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SslName {
    /// This.
    Fixed(Arc<str>),
    /// `$host`: the name of the virtual host that took the request, where it is no pattern.
    Host,
}

/// Statuses on which `add_header` without `always` and `expires` act.
pub const fn is_good(status: u16) -> bool {
    matches!(status, 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308)
}

impl Expires {
    /// Reads the value.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "off" => Self::Off,
            "epoch" => Self::Epoch,
            "max" => Self::Max,
            text if text.starts_with('@') => {
                let time = seconds(text.strip_prefix('@').unwrap_or_default())?;
                if time > 86_400 {
                    return Err(format!("{text:?} is no time of a day"));
                }
                Self::Daily(time)
            }
            text => {
                let (sign, digits) = match text.strip_prefix('-') {
                    Some(digits) => (-1, digits),
                    None => (1, text.strip_prefix('+').unwrap_or(text)),
                };
                Self::After(sign * seconds(digits)?)
            }
        })
    }
}

/// nginx's time in seconds: `90`, `15m`, `1h 30m`, `7d`, `1M`, `1y`.
pub(super) fn seconds(text: &str) -> Result<i64, String> {
    let error = || format!("{text:?} is no time: write seconds, or numbers with s, m, h, d, w, M or y");
    let mut total: i64 = 0;
    let mut digits = String::new();
    let mut any = false;
    for letter in text.chars().filter(|letter| *letter != ' ') {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let unit: i64 = match letter {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            'M' => 2_592_000,
            'y' => 31_536_000,
            _ => return Err(error()),
        };
        let number: i64 = digits.parse().map_err(|_| error())?;
        total = number.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(error)?;
        digits.clear();
        any = true;
    }
    if !digits.is_empty() {
        let number: i64 = digits.parse().map_err(|_| error())?;
        total = total.checked_add(number).ok_or_else(error)?;
        any = true;
    }
    if any && total < 10_000_000_000 { Ok(total) } else { Err(error()) }
}

impl Gzip {
    /// What an inner block says counts over this.
    pub(super) fn take(&mut self, inner: &Self) {
        self.on = inner.on.or(self.on);
        self.level = inner.level.or(self.level);
        self.min_length = inner.min_length.or(self.min_length);
        self.types = inner.types.clone().or_else(|| self.types.take());
        self.vary = inner.vary.or(self.vary);
        self.proxied = inner.proxied.or(self.proxied);
    }

    /// These over the ConfigMap's. Without `use-gzip` the old template writes no directive of gzip, so that nginx's own
    /// defaults hold for what is not said.
    pub(super) fn over(&self, globals: &Compression) -> Compression {
        let mut new = globals.clone();
        if self.on == Some(false) {
            (new.gzip_on, new.brotli_on, new.zstd_on) = (false, false, false);
            return new;
        }
        if !globals.gzip_on {
            new.gzip = Coder { level: 1, min_length: 20, types: Arc::default() };
            (new.gzip_vary, new.gzip_proxied, new.gzip_disable) = (false, false, None);
        }
        new.gzip_on = self.on.unwrap_or(globals.gzip_on);
        put(&mut new.gzip.level, self.level);
        put(&mut new.gzip.min_length, self.min_length);
        put(&mut new.gzip.types, self.types.clone());
        put(&mut new.gzip_vary, self.vary);
        put(&mut new.gzip_proxied, self.proxied);
        new
    }
}

impl Settings {
    /// Puts what directives of a location replace in place of the location's own values.
    pub fn replace(&self, route: &mut RoutePolicies) {
        let new = &self.replaced;
        put(&mut route.satisfy, new.satisfy);
        put(&mut route.body.max, new.body_max);
        put(&mut route.body.memory, new.body_memory);
        put(&mut route.timeout.connect, new.connect);
        put(&mut route.timeout.send, new.send);
        put(&mut route.timeout.read, new.read);
        put(&mut route.buffering.request, new.request_buffering);
        put(&mut route.buffering.header_bytes, new.buffer_size.map(Some));
        put(&mut route.errors.intercept, new.intercept);
        route.access_log &= !new.access_log_off;
        self.rewrite(route);
        if let Some((on, non_idempotent)) = new.retry_on {
            route.retry.on = on;
            route.retry.non_idempotent |= non_idempotent;
        }
        put(&mut route.retry.tries, new.retry_tries);
        put(&mut route.retry.timeout, new.retry_timeout);
        put(&mut route.http_version, new.http_version);
        route.buffering.buffer(new.buffering, new.buffers, new.temp_file);
        route.ignored.rate |= new.ignored.rate;
        route.ignored.buffering |= new.ignored.buffering;
        put(&mut route.redirect_style.relative, self.absolute_redirect.map(|absolute| !absolute));
        self.trace(route);
    }

    /// `opentelemetry`, with name and trust of the span.
    fn trace(&self, route: &mut RoutePolicies) {
        let new = &self.replaced;
        let on = new.traced.unwrap_or_else(|| route.tracing.is_some());
        if !on || (new.traced, new.trusts_spans, &new.span_name) == (None, None, &None) {
            route.tracing = route.tracing.take().filter(|_| on);
            return;
        }
        let was = route.tracing.as_deref();
        let trust = new.trusts_spans.or_else(|| was.map(|was| was.trust));
        let name = new.span_name.clone().or_else(|| was.and_then(|was| was.name.clone()));
        // nginx's module trusts what clients say unless it is told otherwise.
        route.tracing = Some(Arc::new(Tracing { trust: trust.unwrap_or(true), name }));
    }

    /// `proxy_redirect` and `proxy_cookie_*`.
    fn rewrite(&self, route: &mut RoutePolicies) {
        let new = &self.replaced;
        let mut rewrite = route.response_rewrite.take().unwrap_or_default();
        put(&mut rewrite.redirect, new.redirect.clone());
        put(&mut rewrite.cookie_domain, new.cookie_domain.clone());
        put(&mut rewrite.cookie_path, new.cookie_path.clone());
        rewrite.cookie_flags.extend(new.cookie_flags.iter().cloned());
        route.response_rewrite = rewrite.some();
    }
}

fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_nginx() {
        for (text, expect) in [
            ("90", Some(90)),
            ("15m", Some(900)),
            ("1h 30m", Some(5400)),
            ("1h30", Some(3630)),
            ("1M", Some(2_592_000)),
            ("0", Some(0)),
            ("", None),
            ("h", None),
            ("1x", None),
            ("99999999999999999999", None),
            ("9999999999999y", None),
        ] {
            assert_eq!(seconds(text).ok(), expect, "{text}");
        }
        assert_eq!(Expires::parse("-1"), Ok(Expires::After(-1)));
        assert_eq!(Expires::parse("max"), Ok(Expires::Max));
        assert!(Expires::parse("modified").is_err());
    }

    #[test]
    fn spans_are_switched_and_named_one_by_one() {
        let was = |trust| Some(Arc::new(Tracing { trust, name: Template::parse("was").ok() }));
        let check = |before: Option<Arc<Tracing>>, new: Replaced, expect: Option<(bool, &str)>| {
            let globals = crate::policy::global::Globals::default();
            let mut route = RoutePolicies { tracing: before, ..RoutePolicies::defaults(&globals) };
            Settings { replaced: new.clone(), ..Settings::default() }.replace(&mut route);
            let named =
                |tracing: &Arc<Tracing>| tracing.name.as_ref().map_or("", |name| name.as_str()).to_owned();
            let seen = route.tracing.as_ref().map(|tracing| (tracing.trust, named(tracing)));
            assert_eq!(seen, expect.map(|(trust, name)| (trust, name.to_owned())), "{new:?}");
        };
        let new = |traced, trusts_spans, name: Option<&str>| Replaced {
            traced,
            trusts_spans,
            span_name: name.and_then(|name| Template::parse(name).ok()),
            ..Replaced::default()
        };
        check(None, new(None, None, None), None);
        check(was(false), new(None, None, None), Some((false, "was")));
        check(was(true), new(Some(false), None, None), None);
        check(None, new(Some(true), None, None), Some((true, "")));
        check(was(false), new(Some(true), None, None), Some((false, "was")));
        check(was(true), new(None, Some(false), Some("new")), Some((false, "new")));
        check(None, new(None, Some(true), Some("new")), None);
    }
}
