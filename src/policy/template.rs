//! Text with nginx variables (`$scheme`, `${http_x}`), parsed once and expanded per request: hash keys, fields,
//! redirects, addresses of other services. The names are those of `crate::variable`; unknown ones, and those that have
//! no value yet where the text is used, are refused when parsed.

use std::borrow::Cow;
use std::time::Duration;

use super::basic_auth::credentials;
use super::tracing::context::TraceContext;
use crate::request::RequestView;
use crate::variable::{Fixed, Known, Variable, escape_uri};
use crate::wire::Version;

/// One piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text.
    Literal(Box<str>),
    /// A variable.
    Variable(Variable),
}

/// Which variables a text may hold.
#[derive(Clone, Copy)]
pub struct Scope<'s> {
    /// The latest moment from which on a variable may be known.
    pub until: Known,
    /// `$1` to `$9` stand for groups.
    pub groups: bool,
    /// Names that the configuration defines itself.
    pub own: &'s dyn Fn(&str) -> bool,
}

impl Scope<'static> {
    /// Variables of a request under way, and none of anybody's own.
    pub const REQUEST: Self = Self { until: Known::Route, groups: false, own: &|_| false };
}

/// Values that stand before those of the request: variables of a configuration's own, groups of expressions, a path
/// that was rewritten, the answer.
pub trait Overlay {
    /// The value; `None` where the request's own counts.
    fn value(&self, variable: &Variable) -> Option<Cow<'_, [u8]>>;
}

/// Nothing stands before the request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bare;

impl Overlay for Bare {
    fn value(&self, _: &Variable) -> Option<Cow<'_, [u8]>> {
        None
    }
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub(crate) text: Box<str>,
    pub(crate) parts: Box<[Part]>,
}

/// What a template may know beyond the request.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteFacts<'r> {
    /// Id of this request.
    pub request_id: &'r str,
    /// Namespace of the Ingress.
    pub namespace: &'r str,
    /// Name of the Ingress.
    pub ingress: &'r str,
    /// Service of the matched rule.
    pub service: &'r str,
    /// Its port as written.
    pub service_port: &'r str,
    /// Path of the matched rule.
    pub location_path: &'r str,
    /// `<namespace>-<service>-<port>`.
    pub upstream_name: &'r str,
    /// Name of the virtual host.
    pub server_name: &'r str,
    /// Where addresses are, where that is known.
    pub places: Option<&'r dyn Places>,
    /// Its span, where requests are traced.
    pub trace: Option<&'r TraceContext>,
    /// Since 1970; zero where nobody asks.
    pub now: Duration,
    /// What else is known of the request so far.
    pub rest: Option<&'r dyn Rest>,
}

/// What is known of a request beyond its head and its route: its connection, the time, what its log line would show.
pub trait Rest {
    /// The value so far; `None` where there is none yet.
    fn value(&self, fixed: Fixed) -> Option<Vec<u8>>;

    /// `Upgrade` of a request that may be upgraded: the field ends at the proxy, so those of the request lack it.
    fn upgrade(&self) -> Option<&str>;
}

impl std::fmt::Debug for dyn Rest + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rest")
    }
}

/// Where addresses are (`$geoip2_*`).
pub trait Places: std::fmt::Debug {
    /// Value of the variable `$geoip2_<name>` for a client; `None` where nothing is known.
    fn value(&self, name: &str, client: std::net::IpAddr) -> Option<String>;
}

/// A request and the route it took: what a template is expanded with.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'r> {
    /// The request.
    pub view: &'r RequestView<'r>,
    /// The route.
    pub route: RouteFacts<'r>,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A variable that does not exist here.
    #[error("the variable ${0} is not known")]
    Unknown(String),
    /// `$` without a name, or `${` without `}`.
    #[error("a $ is not followed by a variable")]
    Broken,
    /// A variable that has no value where the text is used.
    #[error("the variable ${0} has no value here")]
    TooEarly(String),
    /// Over 4 KiB.
    #[error("the text is too long")]
    TooLong,
}

/// Bytes of text of one template.
const MAX_TEXT: usize = 4096;

impl Template {
    /// Parses text with variables of the request.
    ///
    /// # Errors
    /// [`TemplateError`] for unknown variables, broken `$` and size.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_in(text, &Scope::REQUEST)
    }

    /// Parses text with the variables of a scope.
    ///
    /// # Errors
    /// As [`Template::parse`].
    pub fn parse_in(text: &str, scope: &Scope<'_>) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEXT {
            return Err(TemplateError::TooLong);
        }
        let mut parts = Vec::new();
        let mut pieces = text.split('$');
        literal(&mut parts, pieces.next().unwrap_or_default());
        for piece in pieces {
            let (name, rest) = match piece.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or(TemplateError::Broken)?,
                None if scope.groups && piece.starts_with(|first: char| matches!(first, '1'..='9')) => {
                    piece.split_at(1)
                }
                None => {
                    let end = |byte: u8| !byte.is_ascii_alphanumeric() && byte != b'_';
                    piece.split_at(piece.bytes().position(end).unwrap_or(piece.len()))
                }
            };
            if name.is_empty() {
                return Err(TemplateError::Broken);
            }
            parts.push(Part::Variable(variable(name, scope)?));
            literal(&mut parts, rest);
        }
        Ok(Self { text: text.into(), parts: parts.into() })
    }

    /// Text that is taken as it stands.
    pub fn plain(text: &str) -> Self {
        let mut parts = Vec::new();
        literal(&mut parts, text);
        Self { text: text.into(), parts: parts.into() }
    }

    /// The variables in it, in order.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(variable),
            Part::Literal(_) => None,
        })
    }

    /// The text it was made from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text if it holds no variable.
    pub fn constant(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Fills in the variables. Absent ones are empty; bytes that are no UTF-8 are replaced.
    pub fn expand(&self, facts: &Facts<'_>) -> String {
        let out = self.bytes(facts, &Bare);
        String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Fills in the variables, `overlay` first, then the request. Absent ones are empty.
    pub fn bytes(&self, facts: &Facts<'_>, overlay: &dyn Overlay) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len() + 32);
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => match overlay.value(variable) {
                    Some(value) => out.extend_from_slice(&value),
                    None => write(variable, facts, &mut out),
                },
            }
        }
        out
    }
}

impl Template {
    /// Fills in the variables by `value` alone.
    pub fn fill(&self, mut value: impl FnMut(&Variable) -> Vec<u8>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len() + 32);
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => out.extend_from_slice(&value(variable)),
            }
        }
        out
    }
}

fn literal(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Literal(text.into()));
    }
}

fn variable(name: &str, scope: &Scope<'_>) -> Result<Variable, TemplateError> {
    if let &[digit @ b'1'..=b'9'] = name.as_bytes()
        && scope.groups
    {
        return Ok(Variable::Group(digit - b'0'));
    }
    if (scope.own)(name) {
        return Ok(Variable::Own(name.into()));
    }
    match Variable::parse(name) {
        Some(variable) if variable.known() <= scope.until => Ok(variable),
        Some(_) => Err(TemplateError::TooEarly(name.to_owned())),
        None => Err(TemplateError::Unknown(name.to_owned())),
    }
}

/// Appends the value of a variable; nothing for what is absent.
pub(super) fn write(variable: &Variable, facts: &Facts<'_>, out: &mut Vec<u8>) {
    let view = facts.view;
    match variable {
        Variable::Fixed(fixed) => write_fixed(*fixed, facts, out),
        Variable::Argument(name) => {
            out.extend_from_slice(argument(view.query.unwrap_or_default(), name));
        }
        Variable::Cookie(name) => out.extend_from_slice(view.cookie(name).unwrap_or_default().as_bytes()),
        Variable::RequestField(name) => {
            let separator: &[u8] = if &**name == "cookie" { b"; " } else { b", " };
            let start = out.len();
            for (line, value) in view.fields.get_all(name).enumerate() {
                out.extend_from_slice(if line > 0 { separator } else { b"" });
                out.extend_from_slice(value);
            }
            // HTTP/2 names the host in `:authority`; nginx shows it as `Host`.
            if out.len() == start && &**name == "host" {
                out.extend_from_slice(view.host.raw.as_bytes());
            }
        }
        // Parsers refuse them where nothing stands before the request.
        Variable::ResponseField(_)
        | Variable::UpstreamField(_)
        | Variable::UpstreamCookie(_)
        | Variable::Group(_)
        | Variable::Own(_) => {}
        Variable::Place(name) => {
            let place = facts.route.places.and_then(|places| places.value(name, view.forwarded.client));
            out.extend_from_slice(place.unwrap_or_default().as_bytes());
        }
    }
}

fn write_fixed(fixed: Fixed, facts: &Facts<'_>, out: &mut Vec<u8>) {
    let (view, route) = (facts.view, &facts.route);
    let mut text = |text: &str| out.extend_from_slice(text.as_bytes());
    match fixed {
        Fixed::Args => out.extend_from_slice(view.query.unwrap_or_default()),
        Fixed::BestHttpHost => text(&view.forwarded.host),
        Fixed::EscapedRequestUri => escape_uri(view.target, out),
        Fixed::Host => text(&view.host.name),
        Fixed::Http2 => text(http2(view)),
        Fixed::Https => text(if view.scheme.as_str() == "https" { "on" } else { "" }),
        Fixed::IngressName => text(route.ingress),
        Fixed::IsArgs => text(if view.query.is_some_and(|query| !query.is_empty()) { "?" } else { "" }),
        Fixed::LocationPath => text(route.location_path),
        Fixed::Msec => text(&format!("{}.{:03}", route.now.as_secs(), route.now.subsec_millis())),
        Fixed::Namespace => text(route.namespace),
        Fixed::PassAccessScheme => text(&view.forwarded.scheme),
        Fixed::PassPort => text(&view.forwarded.port),
        Fixed::ProxyAddXForwardedFor => {
            for line in view.fields.get_all("x-forwarded-for") {
                out.extend_from_slice(line);
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(view.forwarded.client.to_string().as_bytes());
        }
        Fixed::ProxyUpstreamName => text(route.upstream_name),
        Fixed::RealipRemoteAddr => text(&view.peer.ip().to_canonical().to_string()),
        Fixed::RealipRemotePort | Fixed::RemotePort => text(&view.peer.port().to_string()),
        // In keys, where the text of an address does as well as its bytes.
        Fixed::RemoteAddr | Fixed::BinaryRemoteAddr => text(&view.forwarded.client.to_string()),
        Fixed::RemoteUser => out.extend_from_slice(&user(view).unwrap_or_default()),
        Fixed::ReqId => text(route.request_id),
        Fixed::Request => {
            text(view.method.as_str());
            text(" ");
            out.extend_from_slice(view.target);
            out.push(b' ');
            out.extend_from_slice(view.version.as_str().as_bytes());
        }
        Fixed::RequestMethod => text(view.method.as_str()),
        Fixed::RequestUri => out.extend_from_slice(view.target),
        Fixed::Scheme => text(view.scheme.as_str()),
        Fixed::ServerName => text(route.server_name),
        Fixed::ServerPort => text(&view.listen_port.to_string()),
        Fixed::ServerProtocol => text(view.version.as_str()),
        Fixed::ServiceName => text(route.service),
        Fixed::ServicePort => text(route.service_port),
        Fixed::SpanId => text(route.trace.map_or("", TraceContext::span_id_text)),
        Fixed::TraceId => text(route.trace.map_or("", TraceContext::trace_id_text)),
        Fixed::TraceParent => text(route.trace.map_or("", TraceContext::traceparent)),
        Fixed::TraceState => out.extend_from_slice(route.trace.map_or(&[], |trace| &trace.state)),
        Fixed::Uri => out.extend_from_slice(view.path.as_bytes()),
        Fixed::SslAlpnProtocol
        | Fixed::SslCipher
        | Fixed::SslClientEnd
        | Fixed::SslClientEscapedCert
        | Fixed::SslClientFingerprint
        | Fixed::SslClientIssuer
        | Fixed::SslClientRemain
        | Fixed::SslClientSerial
        | Fixed::SslClientStart
        | Fixed::SslClientSubject
        | Fixed::SslClientVerify
        | Fixed::SslCurve
        | Fixed::SslProtocol
        | Fixed::SslServerName
        | Fixed::SslSessionReused => {
            let value = view.handshake.and_then(|handshake| handshake.value(fixed));
            out.extend_from_slice(&value.unwrap_or_default());
        }
        // Most parsers refuse them; snippets get what is known by then.
        later => {
            let value = route.rest.and_then(|rest| rest.value(later));
            out.extend_from_slice(&value.unwrap_or_default());
        }
    }
}

fn http2(view: &RequestView<'_>) -> &'static str {
    match (view.version, view.scheme.as_str()) {
        (Version::Http2, "https") => "h2",
        (Version::Http2, _) => "h2c",
        _ => "",
    }
}

/// The name in basic credentials.
fn user(view: &RequestView<'_>) -> Option<Vec<u8>> {
    credentials(view.fields.get("authorization")?).map(|found| found.user)
}

/// Raw value of the first query argument called `name`, ASCII case-insensitively as nginx does.
pub(crate) fn argument<'q>(query: &'q [u8], name: &str) -> &'q [u8] {
    query
        .split(|byte| *byte == b'&')
        .find_map(|pair| {
            let (key, value) = pair.split_at_checked(name.len())?;
            key.eq_ignore_ascii_case(name.as_bytes()).then(|| value.strip_prefix(b"=")).flatten()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{fields, view};

    fn check(text: &str, expect: &str) {
        let fields = fields(&[
            ("X-User", "ann"),
            ("Cookie", "a=1; sid=s7"),
            ("Content-Type", "text/plain"),
            ("X-Forwarded-For", "9.9.9.9"),
        ]);
        let view = view("/a%20b/c?x=1&Name=v+w&y", &fields);
        let route = RouteFacts { namespace: "ns", ingress: "ing", request_id: "r1", ..RouteFacts::default() };
        let expanded = Template::parse(text).unwrap().expand(&Facts { view: &view, route });
        assert_eq!(expanded, expect, "{text}");
    }

    #[test]
    fn variables_are_filled_in() {
        check("", "");
        check("plain", "plain");
        check("$scheme://$host$request_uri", "http://host.test/a%20b/c?x=1&Name=v+w&y");
        check("${http_x_user}/$cookie_sid-$arg_name", "ann/s7-v+w");
        check("$uri$is_args$args", "/a b/c?x=1&Name=v+w&y");
        check("$namespace.$ingress_name:$req_id", "ns.ing:r1");
        check("$content_type|$http_absent|$arg_y|$arg_absent", "text/plain|||");
        check("$proxy_add_x_forwarded_for", "9.9.9.9, 10.1.2.3");
        check("$best_http_host $pass_port $remote_addr $request_method", "Host.Test:8080 80 10.1.2.3 GET");
        check("[$remote_user] $msec $request", "[] 0.000 GET /a%20b/c?x=1&Name=v+w&y HTTP/1.1");
        check("$escaped_request_uri", "%2Fa%2520b%2Fc%3Fx%3D1%26Name%3Dv%2Bw%26y");
    }

    #[test]
    fn what_a_configuration_defines_stands_before_the_request() {
        struct Own;
        impl Overlay for Own {
            fn value(&self, variable: &Variable) -> Option<Cow<'_, [u8]>> {
                match variable {
                    Variable::Own(name) => Some(Cow::Borrowed(if &**name == "mine" { b"m" } else { b"" })),
                    Variable::Group(1) => Some(Cow::Borrowed(b"g")),
                    Variable::Fixed(Fixed::Uri) => Some(Cow::Borrowed(b"/new")),
                    _ => None,
                }
            }
        }
        let scope = Scope { until: Known::Route, groups: true, own: &|name| name == "mine" };
        let template = Template::parse_in("$mine${mine}x $10 $2 $uri $host", &scope).unwrap();
        let fields = fields(&[]);
        let view = view("/old", &fields);
        let facts = Facts { view: &view, route: RouteFacts::default() };
        assert_eq!(template.bytes(&facts, &Own), b"mmx g0  /new host.test");
        assert_eq!(template.variables().count(), 6);
        assert_eq!(Template::parse_in("$other", &scope).unwrap_err(), TemplateError::Unknown("other".into()));
    }

    #[test]
    fn unknown_and_broken_variables_are_refused() {
        let error = |text: &str| Template::parse(text).unwrap_err();
        assert_eq!(error("$document_root"), TemplateError::Unknown("document_root".into()));
        assert_eq!(error("a$"), TemplateError::Broken);
        assert_eq!(error("${host"), TemplateError::Broken);
        assert_eq!(error("$http_"), TemplateError::Unknown("http_".into()));
        assert_eq!(error("$1"), TemplateError::Unknown("1".into()));
        assert_eq!(error("$status"), TemplateError::TooEarly("status".into()));
        assert_eq!(error(&"x".repeat(5000)), TemplateError::TooLong);
    }
}
