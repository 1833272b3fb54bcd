//! `auth-url` and what goes with it, for one Ingress or for all (`global-auth-*`): another server is asked about each
//! request before a backend is. Its 2xx admits, 401 and 403 refuse, anything else is a failure (500).
//!
//! Where ingress-nginx loses the protection over a faulty detail beside a sound `auth-url`, the routes are shut here.
//! Asking, remembering answers and signing in are `proxy::filter`'s; what is sent and what an answer means is here.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec, Value, is_protected_field};
use super::global::{GlobalAuth, Globals};
use super::template::Template;
use crate::diagnostic::Severity;
use crate::wire::fields::is_field_value;

pub mod answer;
pub mod lifetime;
pub mod signin;
pub mod subrequest;
pub mod url;

pub use answer::{Heard, Said};
pub use lifetime::Lifetimes;
pub use signin::SignIn;
pub use url::AuthUrl;

const LOCATION: Scope = Scope::Location;
const KEEPALIVE: Fidelity =
    Fidelity::Equivalent("counts with auth-keepalive, also with HTTP/2 on, where ingress-nginx keeps none");

const URL: Spec = Spec::new("auth-url", LOCATION, Risk::High)
    .fail_closed()
    .fidelity(Fidelity::Equivalent(
        "of the variables only $host may name the server; connections are kept; several cookies of the service reach the client",
    ))
    .values("none; ConfigMap global-auth-url", "https://auth.example/check")
    .doc("Ask this URL about each request: 2xx admits it, 401 and 403 refuse it, anything else answers 500.");
const METHOD: Spec = Spec::new("auth-method", LOCATION, Risk::Low)
    .values("GET", "HEAD")
    .doc("Method of the question. Beside auth-url a faulty value shuts the routes.");
const SIGNIN: Spec = Spec::new("auth-signin", LOCATION, Risk::High)
    .values("none", "https://auth.example/start?rd=$escaped_request_uri")
    .doc("Where 401 sends clients (302), with the page they wanted as a parameter. Beside auth-url a faulty value shuts the routes.");
const SIGNIN_PARAM: Spec = Spec::new("auth-signin-redirect-param", LOCATION, Risk::Medium)
    .values("rd", "rd")
    .doc("Name of that parameter. Beside auth-url a faulty value shuts the routes.");
const RESPONSE_HEADERS: Spec = Spec::new("auth-response-headers", LOCATION, Risk::Medium)
    .values("none", "X-Auth-Request-User, X-Auth-Request-Email")
    .doc("Fields of the service's answer that the backend gets in place of the client's; what the answer lacks is taken away. Beside auth-url a faulty value shuts the routes.");
const SET_HEADERS: Spec = Spec::new("auth-proxy-set-headers", LOCATION, Risk::Medium)
    .values("none", "default/auth-headers")
    .doc("ConfigMap with further fields of the question; values may hold variables. Beside auth-url a faulty value shuts the routes.");
const REQUEST_REDIRECT: Spec =
    Spec::new("auth-request-redirect", LOCATION, Risk::Medium).values("the request's target", "/start").doc(
        "Value of X-Auth-Request-Redirect of the question. Beside auth-url a faulty value shuts the routes.",
    );
const ALWAYS_COOKIE: Spec = Spec::new("auth-always-set-cookie", LOCATION, Risk::Low)
    .values("false", "true")
    .doc("Pass cookies of the service on with any status, not only with those of success and redirect. Beside auth-url a faulty value shuts the routes.");
const CACHE_KEY: Spec = Spec::new("auth-cache-key", LOCATION, Risk::Medium)
    .values("none: every request is asked about", "$remote_user$http_authorization")
    .doc("Remember answers under this text (and host, path and auth-url); requests with the same key wait for one question. Beside auth-url a faulty value shuts the routes.");
const CACHE_DURATION: Spec = Spec::new("auth-cache-duration", LOCATION, Risk::Medium)
    .values("200 202 401 5m", "200 202 10m, 401 5m")
    .doc("For how long, by status. Beside auth-url a faulty value shuts the routes.");
const KEEPALIVE_CONNECTIONS: Spec = Spec::new("auth-keepalive", LOCATION, Risk::Low)
    .fidelity(Fidelity::Equivalent(
        "counts also with HTTP/2 on, where ingress-nginx keeps none; without it connections are kept too, by upstream-keepalive-* of the ConfigMap",
    ))
    .values("0", "10")
    .doc("Connections to an address of the service that each worker keeps.");
const KEEPALIVE_SHARE: Spec = Spec::new("auth-keepalive-share-vars", LOCATION, Risk::Low)
    .fidelity(Fidelity::Equivalent("questions know the variables of their requests always"))
    .values("false", "true")
    .doc("Share variables with the question.");
const KEEPALIVE_REQUESTS: Spec = Spec::new("auth-keepalive-requests", LOCATION, Risk::Low)
    .fidelity(KEEPALIVE)
    .values("1000", "1000")
    .doc("Questions over one connection.");
const KEEPALIVE_TIMEOUT: Spec = Spec::new("auth-keepalive-timeout", LOCATION, Risk::Low)
    .fidelity(KEEPALIVE)
    .values("60", "60")
    .doc("Seconds a connection may idle.");
const ENABLE_GLOBAL: Spec = Spec::new("enable-global-auth", LOCATION, Risk::Low)
    .values("true", "false")
    .doc("False leaves the routes out of the ConfigMap's global-auth-url.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[
    URL,
    METHOD,
    SIGNIN,
    SIGNIN_PARAM,
    RESPONSE_HEADERS,
    SET_HEADERS,
    REQUEST_REDIRECT,
    ALWAYS_COOKIE,
    CACHE_KEY,
    CACHE_DURATION,
    KEEPALIVE_CONNECTIONS,
    KEEPALIVE_SHARE,
    KEEPALIVE_REQUESTS,
    KEEPALIVE_TIMEOUT,
    ENABLE_GLOBAL,
];

/// Names that one list may hold.
const MAX_NAMES: usize = 64;

/// Whom to ask about requests, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAuth {
    /// Who is asked.
    pub url: AuthUrl,
    /// `auth-method`; `None` asks by GET and sends fewer fields.
    pub method: Option<Method>,
    /// Where 401 leads.
    pub signin: Option<SignIn>,
    /// `auth-response-headers`.
    pub response_headers: Arc<[Box<str>]>,
    /// `auth-proxy-set-headers`.
    pub set_headers: Arc<[(Box<str>, Template)]>,
    /// `auth-request-redirect`.
    pub request_redirect: Option<Template>,
    /// `auth-always-set-cookie`.
    pub always_set_cookie: bool,
    /// `auth-cache-key` and how long answers count.
    pub cache: Option<Cache>,
    /// `auth-keepalive` and what goes with it; `None` for the ConfigMap's.
    pub keepalive: Option<Keepalive>,
}

/// Which connections to the service are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// `auth-keepalive`: idle ones of each worker to one address.
    pub connections: u32,
    /// `auth-keepalive-requests`: questions over one.
    pub requests: u32,
    /// `auth-keepalive-timeout`: longest idle time.
    pub timeout: Duration,
}

/// Which answers are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// `auth-cache-key`.
    pub key: Template,
    /// `auth-cache-duration`.
    pub lifetimes: Lifetimes,
}

impl ExternalAuth {
    /// Asks by GET, and nothing more.
    pub fn of(url: AuthUrl) -> Self {
        Self {
            url,
            method: None,
            signin: None,
            response_headers: Arc::from([]),
            set_headers: Arc::from([]),
            request_redirect: None,
            always_set_cookie: false,
            cache: None,
            keepalive: None,
        }
    }

    /// Method of the question.
    pub fn asked_by(&self) -> &Method {
        self.method.as_ref().unwrap_or(&Method::GET)
    }

    /// Reads the family over the ConfigMap's `global-auth-*`. `None` also when the routes were shut.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Option<Arc<Self>> {
        let out = reader.bool(&ENABLE_GLOBAL).ok() == Some(false);
        let url = reader.read(&URL, AuthUrl::parse);
        let own = Draft::read(reader, matches!(url, Value::Present(_)));
        match (url, &globals.global_auth) {
            (Value::Present(url), _) => own.map(|draft| Arc::new(draft.finish(url))),
            (Value::Invalid, _) => None,
            (Value::Absent, _) if out => None,
            (Value::Absent, GlobalAuth::Off) => None,
            (Value::Absent, GlobalAuth::Broken) => {
                reader.deny("GlobalAuthUnavailable");
                None
            }
            (Value::Absent, GlobalAuth::On(auth)) => Some(Arc::clone(auth)),
        }
    }
}

/// The details, whichever way they were written.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) method: Option<Method>,
    pub(super) signin: Option<Template>,
    pub(super) signin_param: Option<Box<str>>,
    pub(super) response_headers: Arc<[Box<str>]>,
    pub(super) set_headers: Arc<[(Box<str>, Template)]>,
    pub(super) request_redirect: Option<Template>,
    pub(super) always_set_cookie: bool,
    pub(super) cache_key: Option<Template>,
    pub(super) lifetimes: Option<Lifetimes>,
    pub(super) keepalive: Option<Keepalive>,
}

impl Draft {
    /// Details of one Ingress; `None` when one of them is faulty and the routes, if guarded, were shut.
    fn read(reader: &mut Reader<'_>, guarded: bool) -> Option<Self> {
        let keepalive = keepalive(reader);
        let _without_effect = reader.bool(&KEEPALIVE_SHARE);
        let mut faults = Faults { guarded, found: false };
        let mut draft = Self {
            method: faults.note(reader.read(&METHOD, method), reader, &METHOD),
            signin: faults.note(reader.read(&SIGNIN, signin::parse), reader, &SIGNIN),
            signin_param: faults.note(reader.read(&SIGNIN_PARAM, signin::parameter), reader, &SIGNIN_PARAM),
            response_headers: faults
                .note(reader.read_lines(&RESPONSE_HEADERS, names), reader, &RESPONSE_HEADERS)
                .unwrap_or_default(),
            set_headers: Arc::default(),
            request_redirect: faults.note(
                reader.read(&REQUEST_REDIRECT, redirect),
                reader,
                &REQUEST_REDIRECT,
            ),
            always_set_cookie: faults
                .note(reader.bool(&ALWAYS_COOKIE), reader, &ALWAYS_COOKIE)
                .unwrap_or_default(),
            cache_key: faults.note(reader.read(&CACHE_KEY, cache_key), reader, &CACHE_KEY),
            lifetimes: faults.note(
                reader.read_lines(&CACHE_DURATION, Lifetimes::parse),
                reader,
                &CACHE_DURATION,
            ),
            keepalive,
        };
        let reference = reader.reference(&SET_HEADERS);
        if let Some(key) = faults.note(reference, reader, &SET_HEADERS) {
            match reader.config_map(&key) {
                Some(fields) => {
                    let fields = fields.data.iter().map(|(name, value)| field(name, value));
                    match fields.collect::<Result<Vec<_>, String>>() {
                        Ok(fields) => draft.set_headers = fields.into(),
                        Err(reason) => faults.add(reader, &SET_HEADERS, &reason),
                    }
                }
                None => faults.add(
                    reader,
                    &SET_HEADERS,
                    "names a ConfigMap that does not exist or cannot be read",
                ),
            }
        }
        (!faults.found).then_some(draft)
    }

    pub(super) fn finish(self, url: AuthUrl) -> ExternalAuth {
        let param = self.signin_param.as_deref().unwrap_or("rd");
        ExternalAuth {
            url,
            method: self.method,
            signin: self.signin.map(|url| SignIn::new(url, param)),
            response_headers: self.response_headers,
            set_headers: self.set_headers,
            request_redirect: self.request_redirect,
            always_set_cookie: self.always_set_cookie,
            cache: self.cache_key.map(|key| Cache { key, lifetimes: self.lifetimes.unwrap_or_default() }),
            keepalive: self.keepalive,
        }
    }
}

/// Faulty details; beside a sound `auth-url` they shut the routes.
struct Faults {
    guarded: bool,
    found: bool,
}

impl Faults {
    fn note<T>(&mut self, value: Value<T>, reader: &mut Reader<'_>, spec: &Spec) -> Option<T> {
        if matches!(value, Value::Invalid) {
            self.add(reader, spec, "is faulty");
        }
        value.ok()
    }

    fn add(&mut self, reader: &mut Reader<'_>, spec: &Spec, reason: &str) {
        self.found = true;
        if self.guarded {
            reader.deny("AuthUnavailable");
            let hint = "correct it; until then the routes of this Ingress answer 503";
            reader.report(spec.name, Severity::Error, "AuthUnavailable", reason, hint);
        }
    }
}

/// `auth-keepalive` and its details, which mean nothing without it. As with ingress-nginx nothing is kept where one of
/// them is not above 0.
fn keepalive(reader: &mut Reader<'_>) -> Option<Keepalive> {
    let mut number = |spec, default| reader.int(spec).ok().unwrap_or(default);
    let connections = number(&KEEPALIVE_CONNECTIONS, 0);
    let (requests, seconds) = (number(&KEEPALIVE_REQUESTS, 1000), number(&KEEPALIVE_TIMEOUT, 60));
    if connections <= 0 {
        return None;
    }
    let none = requests <= 0 || seconds <= 0;
    Some(Keepalive {
        connections: if none { 0 } else { u32::try_from(connections).unwrap_or(u32::MAX) },
        requests: u32::try_from(requests).unwrap_or(if none { 0 } else { u32::MAX }),
        timeout: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
    })
}

/// `auth-method`.
pub(super) fn method(text: &str) -> Result<Method, String> {
    match text {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => {
            Method::from_bytes(text.as_bytes()).map_err(|_| "is no method".into())
        }
        _ => Err("must be GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS".into()),
    }
}

/// `auth-response-headers`: names, comma separated.
pub(super) fn names(text: &str) -> Result<Arc<[Box<str>]>, String> {
    let names: Vec<&str> = text.split([',', '\n']).map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.len() > MAX_NAMES {
        return Err(format!("lists more than {MAX_NAMES} names"));
    }
    if let Some(name) = names.iter().find(|name| is_protected_field(name) || name.len() > 128) {
        return Err(format!("{name:?} is no field that may be set"));
    }
    Ok(names.into_iter().map(Into::into).collect())
}

/// `auth-request-redirect`: printable text with variables.
pub(super) fn redirect(text: &str) -> Result<Template, String> {
    if let Some(byte) = text.bytes().find(|byte| !(0x21..0x7f).contains(byte)) {
        return Err(format!("{:?} may not stand in it", char::from(byte)));
    }
    Template::parse(text).map_err(|error| error.to_string())
}

/// `auth-cache-key`.
pub(super) fn cache_key(text: &str) -> Result<Template, String> {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'$' | b'{' | b'}' | b':');
    if let Some(byte) = text.bytes().find(|byte| !allowed(*byte)) {
        return Err(format!("{:?} may not stand in a key", char::from(byte)));
    }
    Template::parse(text).map_err(|error| error.to_string())
}

/// One entry of the ConfigMap of `auth-proxy-set-headers`. `Host` may be set: the service is not a backend.
pub(super) fn field(name: &str, value: &str) -> Result<(Box<str>, Template), String> {
    let value = value.trim();
    let may = name.eq_ignore_ascii_case("host") || !is_protected_field(name);
    if !may || name.len() > 128 || value.len() > 4096 || !is_field_value(value.as_bytes()) {
        return Err(format!("{name:?} of the ConfigMap is no field that may be set"));
    }
    let template = Template::parse(value).map_err(|error| format!("{name:?} of the ConfigMap: {error}"))?;
    Ok((name.into(), template))
}

#[cfg(test)]
mod tests;
