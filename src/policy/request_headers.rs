//! The head a backend sees, from the client's (`routing.md` 8, `security.md` C.5): [`sanitise`] takes away what no policy
//! may see, [`apply`] builds the backend's fields in nginx's order. Framing is written by `upstream`, never here.

use std::borrow::Cow;

use http::Method;
use smallvec::SmallVec;

use super::RoutePolicies;
use super::forwarded::address_text;
use super::global::Globals;
use super::template::{Facts, RouteFacts};
use crate::request::RequestView;
use crate::wire::fields::{FieldError, FieldLine, Looks, NameSet, OwnName, is_field_value, is_token, tokens};
use crate::wire::{Fields, RequestHead, Version};

/// What [`sanitise`] took out and still matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hop {
    /// Protocol of an upgrade that may be attempted (`U-1`), as the client wrote it.
    pub upgrade: Option<Box<str>>,
    /// The client takes trailers (`TE: trailers`).
    pub trailers: bool,
}

/// Takes out of a request head what ends at this hop and what no policy may look at (`C.5` steps 2 to 4): names with
/// underscores or odd characters, nominated names, hop-by-hop fields, `Proxy`, `Proxy-Authorization`, `Expect`. Several
/// `Cookie` lines become one.
pub fn sanitise(head: &mut RequestHead, has_body: bool, globals: &Globals) -> Hop {
    if !head.fields.may_hold(&HOP_BY_HOP) && !head.fields.may_be_unusual() {
        join_cookies(&mut head.fields);
        return Hop::default();
    }
    let nominated = nominated(&head.fields);
    let hop = Hop { upgrade: upgrade(head, has_body, &nominated), trailers: takes_trailers(&head.fields) };
    let keep_odd = !globals.ignore_invalid_headers;
    // To nginx a name with an underscore is an invalid one like others.
    let keep_underscores = globals.enable_underscores_in_headers || keep_odd;
    let fields = &mut head.fields;
    if fields.may_hold(&HOP_BY_HOP) || fields.may_be_unusual() || !nominated.is_empty() {
        fields.retain_lines(|line| {
            (keep_underscores || !line.has_underscore())
                && (keep_odd || !line.is_odd())
                && !line.is_one_of(&HOP_BY_HOP)
                && !nominated.iter().any(|nominated| nominated.eq_ignore_ascii_case(line.name()))
        });
    }
    join_cookies(&mut head.fields);
    hop
}

/// Names that `Connection` nominates, less those that frame or route the message (`C.5` step 3).
fn nominated(fields: &Fields) -> Vec<Box<str>> {
    fields
        .get_all("connection")
        // What nearly every client says; `Keep-Alive` goes anyway.
        .filter(|line| !line.eq_ignore_ascii_case(b"keep-alive"))
        .flat_map(tokens)
        .filter(|name| {
            !["host", "content-length", "transfer-encoding"].iter().any(|own| own.eq_ignore_ascii_case(name))
        })
        .map(Into::into)
        .collect()
}

/// Fields that end at this hop (RFC 9110 section 7.6.1), and those that are never passed on.
const HOP_BY_HOP: NameSet = NameSet::new(&[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "proxy",
    "proxy-authorization",
    "expect",
]);

/// The protocol of an upgrade that may be attempted: HTTP/1.1, no body, nominated, one protocol that is not another
/// HTTP; `websocket` by GET, others by GET or POST.
fn upgrade(head: &RequestHead, has_body: bool, nominated: &[Box<str>]) -> Option<Box<str>> {
    let protocol = head.fields.get_only("upgrade").ok()??;
    let protocol = std::str::from_utf8(protocol).ok()?.trim();
    let (name, _) = protocol.split_once('/').unwrap_or((protocol, ""));
    let one = protocol.split('/').count() <= 2 && protocol.split('/').all(|part| is_token(part.as_bytes()));
    // `h2` is no name for Upgrade (RFC 7540 section 11.3), and backends that take it for `h2c` are not led there.
    let http = ["h2c", "h2", "http"].iter().any(|version| name.eq_ignore_ascii_case(version));
    let method = head.method == Method::GET
        || (head.method == Method::POST && !name.eq_ignore_ascii_case("websocket"));
    let asked = nominated.iter().any(|name| name.eq_ignore_ascii_case("upgrade"));
    (head.version == Version::Http11 && !has_body && one && !http && method && asked).then(|| protocol.into())
}

fn takes_trailers(fields: &Fields) -> bool {
    fields
        .get_all("te")
        .flat_map(|line| line.split(|byte| *byte == b','))
        .filter_map(|coding| coding.split(|byte| *byte == b';').next())
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn join_cookies(fields: &mut Fields) {
    if fields.get_all("cookie").nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = fields.get_all("cookie").collect();
    let joined = all.join(&b"; "[..]);
    if fields.set("Cookie", &joined).is_err() {
        // A joined value of sound lines is sound unless it is too long for the section.
        fields.remove("cookie");
    }
}

/// Why a head is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The request goes to its backend.
    Forward,
    /// The Service has no endpoints, so the Service of `default-backend` is asked the same.
    DefaultBackend,
    /// An answer with this status is replaced by a page of the error backend.
    ErrorPage(u16),
}

/// Everything a backend's head is made of.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'o> {
    /// The request.
    pub view: &'o RequestView<'o>,
    /// The route; `request_id` is the client's or a fresh one, empty for none.
    pub route: RouteFacts<'o>,
    /// Policies of the location.
    pub policies: &'o RoutePolicies,
    /// The ConfigMap.
    pub globals: &'o Globals,
    /// What [`sanitise`] found.
    pub hop: &'o Hop,
    /// The sender's word about the client counts (`forwarded::Connection::is_trusted`).
    pub trusted: bool,
    /// `rewrite::Rewritten::forwarded_prefix`.
    pub forwarded_prefix: Option<&'o str>,
    /// Why.
    pub purpose: Purpose,
}

/// A head for a backend.
#[derive(Debug, Clone)]
pub struct BackendHead {
    /// Fields in order, without framing.
    pub fields: Fields,
    /// Fields left out because their expanded value could not be sent (`B-7`).
    pub rejected: u32,
}

/// The client's request id, where it sent a usable one.
pub fn request_id(fields: &Fields) -> Option<&str> {
    fields.get_str("x-request-id").filter(|id| !id.is_empty())
}

/// Fields of ours by name, in nginx's order (`routing.md` 8).
mod own {
    use crate::wire::fields::OwnName;

    pub(super) const HOST: OwnName = OwnName::new("Host: ");
    pub(super) const UPGRADE: OwnName = OwnName::new("Upgrade: ");
    pub(super) const CONNECTION: OwnName = OwnName::new("Connection: ");
    pub(super) const TE: OwnName = OwnName::new("TE: ");
    pub(super) const REQUEST_ID: OwnName = OwnName::new("X-Request-ID: ");
    pub(super) const REAL_IP: OwnName = OwnName::new("X-Real-IP: ");
    pub(super) const FORWARDED_FOR: OwnName = OwnName::new("X-Forwarded-For: ");
    pub(super) const FORWARDED_HOST: OwnName = OwnName::new("X-Forwarded-Host: ");
    pub(super) const FORWARDED_PORT: OwnName = OwnName::new("X-Forwarded-Port: ");
    pub(super) const FORWARDED_PROTO: OwnName = OwnName::new("X-Forwarded-Proto: ");
    pub(super) const FORWARDED_SCHEME: OwnName = OwnName::new("X-Forwarded-Scheme: ");
    pub(super) const SCHEME: OwnName = OwnName::new("X-Scheme: ");
    pub(super) const ORIGINAL_URI: OwnName = OwnName::new("X-Original-URI: ");
    pub(super) const ORIGINAL_FORWARDED_FOR: OwnName = OwnName::new("X-Original-Forwarded-For: ");
    pub(super) const ORIGINAL_FORWARDED_HOST: OwnName = OwnName::new("X-Original-Forwarded-Host: ");
    pub(super) const FORWARDED_PREFIX: OwnName = OwnName::new("X-Forwarded-Prefix: ");
    pub(super) const TRACEPARENT: OwnName = OwnName::new("traceparent: ");
    pub(super) const TRACESTATE: OwnName = OwnName::new("tracestate: ");
    pub(super) const CODE: OwnName = OwnName::new("X-Code: ");
    pub(super) const FORMAT: OwnName = OwnName::new("X-Format: ");
    pub(super) const NAMESPACE: OwnName = OwnName::new("X-Namespace: ");
    pub(super) const INGRESS_NAME: OwnName = OwnName::new("X-Ingress-Name: ");
    pub(super) const SERVICE_NAME: OwnName = OwnName::new("X-Service-Name: ");
    pub(super) const SERVICE_PORT: OwnName = OwnName::new("X-Service-Port: ");
}

/// Fields that every location of ingress-nginx sets by itself in a request for its backend.
const OF_LOCATIONS: [&str; 11] = [
    "host",
    "x-request-id",
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-scheme",
    "x-original-forwarded-for",
    "x-original-forwarded-host",
];

/// Names that [`standard`] replaces whatever is asked of it, and the writer's.
const STANDARD: NameSet = {
    const NAMES: [&str; 14] = of_locations_and(["upgrade", "connection", "content-length"]);
    NameSet::new(&NAMES)
};

/// [`OF_LOCATIONS`], and these.
pub(super) const fn of_locations_and<const MORE: usize, const ALL: usize>(
    more: [&'static str; MORE],
) -> [&'static str; ALL] {
    let mut names = [""; ALL];
    let mut at = 0;
    while at < ALL {
        names[at] = if at < OF_LOCATIONS.len() { OF_LOCATIONS[at] } else { more[at - OF_LOCATIONS.len()] };
        at += 1;
    }
    names
}

/// Names that the head of a request for an error page replaces, beside those of [`error_facts`].
const ERROR_PAGE: NameSet =
    NameSet::new(&["x-forwarded-for", "host", "x-original-uri", "connection", "upgrade", "content-length"]);

/// Builds the head: ours first, in nginx's order, then the client's fields that ours do not replace.
pub fn apply(outgoing: &Outgoing<'_>) -> BackendHead {
    let is_page = matches!(outgoing.purpose, Purpose::ErrorPage(_));
    let mut head = Builder {
        fields: Fields::with_capacity(outgoing.view.fields.written_len() + 512),
        replaced: if is_page { &ERROR_PAGE } else { &STANDARD },
        others: SmallVec::new(),
        looks: Looks::default(),
        rejected: 0,
    };
    match outgoing.purpose {
        Purpose::Forward => standard(outgoing, &mut head),
        Purpose::DefaultBackend => {
            standard(outgoing, &mut head);
            error_facts(outgoing, 503, &mut head);
        }
        Purpose::ErrorPage(status) => {
            error_facts(outgoing, status, &mut head);
            head.own(&own::FORWARDED_FOR, &address_text(outgoing.view.forwarded.client));
            head.own(&own::HOST, &outgoing.view.forwarded.host);
            if outgoing.view.forwarded.host.is_empty() {
                head.pass(&own::HOST, b"");
            }
            head.own_bytes(&own::ORIGINAL_URI, outgoing.view.target);
        }
    }
    for line in outgoing.view.fields.lines() {
        if !head.replaces(line) && (outgoing.trusted || !is_claim_line(line)) {
            // It stands in a section already, so its bytes were judged.
            let appended = head.fields.push_line(line);
            head.count(appended);
        }
    }
    if outgoing.purpose == Purpose::Forward {
        set_headers(outgoing, &mut head);
    }
    BackendHead { fields: head.fields, rejected: head.rejected }
}

/// nginx's own list (`routing.md` 8), in its order.
fn standard(outgoing: &Outgoing<'_>, head: &mut Builder) {
    let Outgoing { view, policies, globals, hop, .. } = *outgoing;
    let told = &view.forwarded;
    let told_host = judged(&told.host);
    match &policies.upstream_vhost {
        Some(template) => {
            let host = template.expand(&outgoing.facts());
            host_line(&host, judged(&host), head);
        }
        None => host_line(&told.host, told_host, head),
    }
    let upgrade = hop.upgrade.as_deref().unwrap_or_default();
    head.own(&own::UPGRADE, upgrade);
    let connection = match policies.connection_header {
        Some(fixed) => fixed.as_str(),
        None if !upgrade.is_empty() => "upgrade",
        // RFC 9112 section 9.3: whoever keeps no connections says so.
        None if globals.upstream_keepalive.connections == 0 && !policies.protocol.is_grpc() => "close",
        None => "",
    };
    head.sound(&own::CONNECTION, connection);
    if policies.protocol.is_grpc() {
        head.replace(&own::TE).sound(&own::TE, "trailers");
    }
    head.sound(&own::REQUEST_ID, outgoing.route.request_id);
    if told.alone {
        head.sound(&own::REAL_IP, &told.chain);
        head.sound(&own::FORWARDED_FOR, &told.chain);
    } else {
        head.sound(&own::REAL_IP, &address_text(told.client));
        head.own(&own::FORWARDED_FOR, &told.chain);
    }
    head.add(&own::FORWARDED_HOST, told_host);
    head.sound(&own::FORWARDED_PORT, &told.port);
    head.sound(&own::FORWARDED_PROTO, &told.scheme);
    head.sound(&own::FORWARDED_SCHEME, &told.scheme);
    head.sound(&own::SCHEME, &told.scheme);
    if globals.proxy_add_original_uri_header {
        head.replace(&own::ORIGINAL_URI).own_bytes(&own::ORIGINAL_URI, view.target);
    }
    head.own_bytes(&own::ORIGINAL_FORWARDED_FOR, &joined(view.fields, &globals.forwarded_for_header));
    head.own_bytes(&own::ORIGINAL_FORWARDED_HOST, &joined(view.fields, &globals.forwarded_host_header));
    if let Some(prefix) = outgoing.forwarded_prefix {
        head.replace(&own::FORWARDED_PREFIX).own(&own::FORWARDED_PREFIX, prefix);
    }
    if let Some(trace) = outgoing.route.trace {
        head.replace(&own::TRACEPARENT).own(&own::TRACEPARENT, trace.traceparent());
        head.replace(&own::TRACESTATE).own_bytes(&own::TRACESTATE, &trace.state);
    }
}

fn host_line(host: &str, value: Result<&str, FieldError>, head: &mut Builder) {
    head.add(&own::HOST, value);
    if host.is_empty() {
        // HTTP/1.0 without Host: HTTP/1.1 wants the field all the same, empty (RFC 9112 section 3.2).
        head.pass(&own::HOST, b"");
    }
}

/// `value` as a field carries it.
fn judged(value: &str) -> Result<&str, FieldError> {
    let value = value.trim_ascii();
    if is_field_value(value.as_bytes()) { Ok(value) } else { Err(FieldError::Value) }
}

/// The values of all lines called `name` as one list.
fn joined<'f>(fields: &'f Fields, name: &'f str) -> Cow<'f, [u8]> {
    let mut lines = fields.get_all(name);
    match (lines.next(), lines.next()) {
        (None, _) => Cow::Borrowed(&[]),
        (Some(only), None) => Cow::Borrowed(only),
        (Some(_), Some(_)) => Cow::Owned(fields.get_all(name).collect::<Vec<_>>().join(&b", "[..])),
    }
}

/// What an error backend is told (`surface.md` 7.11).
fn error_facts(outgoing: &Outgoing<'_>, status: u16, head: &mut Builder) {
    let route = &outgoing.route;
    head.replace(&own::CODE).own(&own::CODE, &status.to_string());
    head.replace(&own::FORMAT)
        .own_bytes(&own::FORMAT, outgoing.view.fields.get("accept").unwrap_or_default());
    for (name, value) in [
        (&own::NAMESPACE, route.namespace),
        (&own::INGRESS_NAME, route.ingress),
        (&own::SERVICE_NAME, route.service),
        (&own::SERVICE_PORT, route.service_port),
        (&own::REQUEST_ID, route.request_id),
    ] {
        head.replace(name).own(name, value);
    }
}

/// `proxy-set-headers`: replaces ours too; an empty value takes the field away.
fn set_headers(outgoing: &Outgoing<'_>, head: &mut Builder) {
    for (name, template) in outgoing.globals.proxy_set_headers.iter() {
        let value = template.expand(&outgoing.facts());
        if value.is_empty() {
            head.fields.remove(name);
        } else if head.fields.set(name, value.trim().as_bytes()).is_err() {
            head.rejected += 1;
        }
    }
}

/// Fields by which a client could pretend to be a proxy in front; only trusted peers may send them (`HF-4`).
pub(super) fn is_claim(name: &str) -> bool {
    CLAIMS.contains(name) || is_certificate_claim(name.as_bytes())
}

/// [`is_claim`] of a line in a section, of which more is known.
fn is_claim_line(line: FieldLine<'_>) -> bool {
    line.is_one_of(&CLAIMS) || is_certificate_claim(line.name_bytes())
}

const CLAIMS: NameSet = NameSet::new(&[
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-original-forwarded-for",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
]);

/// `ssl-client-*`: what the certificate of a client says.
fn is_certificate_claim(name: &[u8]) -> bool {
    matches!(name, [b's' | b'S', b's' | b'S', ..])
        && name.get(..11).is_some_and(|start| start.eq_ignore_ascii_case(b"ssl-client-"))
}

impl<'o> Outgoing<'o> {
    fn facts(&self) -> Facts<'o> {
        Facts { view: self.view, route: self.route }
    }
}

struct Builder {
    fields: Fields,
    /// Names that replace the client's.
    replaced: &'static NameSet,
    /// More of them, by what this request is.
    others: SmallVec<[&'static OwnName; 4]>,
    /// What those look like.
    looks: Looks,
    rejected: u32,
}

impl Builder {
    /// A field of ours; an empty value is not sent.
    fn own(&mut self, name: &OwnName, value: &str) {
        self.add(name, judged(value));
    }

    /// [`Builder::own`] for a value that may be no text.
    fn own_bytes(&mut self, name: &OwnName, value: &[u8]) {
        let value = value.trim_ascii();
        if !value.is_empty() {
            self.pass(name, value);
        }
    }

    /// [`Builder::own`] for a value that we made, or that was judged where it came in.
    fn sound(&mut self, name: &OwnName, value: &str) {
        self.add(name, Ok(value));
    }

    /// [`Builder::own`] for a value that is [`judged`].
    fn add(&mut self, name: &OwnName, value: Result<&str, FieldError>) {
        match value {
            Ok("") => {}
            Ok(value) => {
                let appended = self.fields.append_sound(name, value);
                self.count(appended);
            }
            Err(_) => self.rejected += 1,
        }
    }

    /// The client's lines of that name do not pass.
    fn replace(&mut self, name: &'static OwnName) -> &mut Self {
        self.others.push(name);
        self.looks.add(name);
        self
    }

    fn pass(&mut self, name: &OwnName, value: &[u8]) {
        let appended = self.fields.append_own(name, value);
        self.count(appended);
    }

    fn count(&mut self, appended: Result<(), FieldError>) {
        if appended.is_err() {
            self.rejected += 1;
        }
    }

    fn replaces(&self, line: FieldLine<'_>) -> bool {
        line.is_one_of(self.replaced)
            || (line.may_look(self.looks)
                && self.others.iter().any(|own| own.name().eq_ignore_ascii_case(line.name())))
    }
}

#[cfg(test)]
mod tests;
