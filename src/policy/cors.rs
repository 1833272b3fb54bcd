//! `enable-cors` and `cors-*`: cross-origin answers as ingress-nginx gives them (Fetch standard, "CORS protocol").
//!
//! Two differences, both documented: a listed origin is compared whole (nginx's expression has no start), and
//! `Vary: Origin` tells caches that the answer depends on the origin. Not here: writing the fields into an answer's
//! head is `apply`, called by `proxy::service`; the 204 of a preflight is a local reply.

use std::sync::Arc;

use http::Method;

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec};
use crate::diagnostic::Severity;
use crate::wire::Fields;
use crate::wire::fields::is_token;

const LOCATION: Scope = Scope::Location;
const ORIGINS: Fidelity =
    Fidelity::Equivalent("an origin is compared whole, and Vary: Origin is added where a list is given");

const ENABLE: Spec = Spec::new("enable-cors", LOCATION, Risk::Low)
    .values("false", "true")
    .doc("Answer preflights and add Access-Control fields to every answer.");
const ORIGIN: Spec = Spec::new("cors-allow-origin", LOCATION, Risk::Medium)
    .fidelity(ORIGINS)
    .values("*", "https://app.example, https://*.app.example:8443")
    .doc("Origins that may read answers; `*` stands for one label.");
const METHODS: Spec = Spec::new("cors-allow-methods", LOCATION, Risk::Medium)
    .values("GET, PUT, POST, DELETE, PATCH, OPTIONS", "GET, PUT")
    .doc("Value of Access-Control-Allow-Methods.");
const HEADERS: Spec = Spec::new("cors-allow-headers", LOCATION, Risk::Medium)
    .values(DEFAULT_HEADERS, "X-User, Content-Type")
    .doc("Value of Access-Control-Allow-Headers.");
const CREDENTIALS: Spec = Spec::new("cors-allow-credentials", LOCATION, Risk::Low)
    .values("true", "false")
    .doc("Send Access-Control-Allow-Credentials.");
const EXPOSE: Spec = Spec::new("cors-expose-headers", LOCATION, Risk::Medium)
    .values("none", "X-User")
    .doc("Value of Access-Control-Expose-Headers.");
const MAX_AGE: Spec = Spec::new("cors-max-age", LOCATION, Risk::Low)
    .values("1728000", "600")
    .doc("Seconds that a preflight's answer may be kept.");

const DEFAULT_METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const DEFAULT_HEADERS: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization";

/// Annotations of this family.
pub const SPECS: &[Spec] = &[ENABLE, ORIGIN, METHODS, HEADERS, CREDENTIALS, EXPOSE, MAX_AGE];

/// What cross-origin pages may do with a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    origins: Origins,
    /// All fields but the origin, in nginx's order.
    fields: Arc<[(&'static str, Box<str>)]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origins {
    /// `*` is sent, whatever the origin.
    Any,
    /// The origin is echoed where it is one of these.
    Listed(Arc<[Origin]>),
}

/// One entry of `cors-allow-origin`, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Whole(Box<str>),
    /// Text before and after one label.
    Label(Box<str>, Box<str>),
}

impl Cors {
    /// Reads the family. Entries that are no origins are left out; a list of nothing else admits nobody, as with
    /// ingress-nginx, or counts as absent where even its characters are wrong.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let enabled = reader.bool(&ENABLE).or(false);
        let (origins, fault) = reader.read_lines(&ORIGIN, parse_origins).or((Origins::Any, None));
        if let Some(reason) = fault {
            let hint = "correct it; the other origins count";
            reader.report(ORIGIN.name, Severity::Warning, "InvalidAnnotation", reason, hint);
        }
        let methods = reader.text(&METHODS, "a list of methods", is_list_char);
        let headers = reader.text(&HEADERS, "a list of field names", is_list_char);
        let credentials = reader.bool(&CREDENTIALS).or(true);
        let expose = reader.text(&EXPOSE, "a list of field names", |byte| is_list_char(byte) || byte == b'*');
        let max_age = reader.int(&MAX_AGE).or(1_728_000);
        let mut fields: Vec<(&'static str, Box<str>)> = Vec::with_capacity(5);
        if credentials {
            fields.push(("Access-Control-Allow-Credentials", "true".into()));
        }
        fields.push(("Access-Control-Allow-Methods", (*methods.or(Arc::from(DEFAULT_METHODS))).into()));
        fields.push(("Access-Control-Allow-Headers", (*headers.or(Arc::from(DEFAULT_HEADERS))).into()));
        if let Some(expose) = expose.ok() {
            fields.push(("Access-Control-Expose-Headers", (*expose).into()));
        }
        fields.push(("Access-Control-Max-Age", max_age.to_string().into()));
        enabled.then(|| Self { origins, fields: fields.into() })
    }

    /// True for a request that is answered here: any OPTIONS of an admitted origin (as nginx, which does not ask for
    /// `Access-Control-Request-Method`).
    pub fn is_preflight(&self, method: &Method, origin: Option<&[u8]>) -> bool {
        method == Method::OPTIONS && self.admits(origin)
    }

    /// Writes the fields into an answer, over a backend's own.
    pub fn apply(&self, origin: Option<&[u8]>, fields: &mut Fields) {
        if matches!(self.origins, Origins::Listed(_)) {
            vary_by_origin(fields);
        }
        if !self.admits(origin) {
            return;
        }
        let shown = match self.origins {
            Origins::Any => b"*",
            Origins::Listed(_) => origin.unwrap_or_default(),
        };
        // Values were judged when they were read, the origin when it came; a full section keeps what it has.
        let _kept = fields.set("Access-Control-Allow-Origin", shown);
        for (name, value) in self.fields.iter() {
            let _kept = fields.set(name, value.as_bytes());
        }
    }

    fn admits(&self, origin: Option<&[u8]>) -> bool {
        match &self.origins {
            Origins::Any => true,
            Origins::Listed(listed) => {
                let origin = origin.and_then(|origin| std::str::from_utf8(origin).ok());
                origin.is_some_and(|origin| {
                    let origin = origin.to_ascii_lowercase();
                    listed.iter().any(|one| one.is(&origin))
                })
            }
        }
    }
}

impl Origin {
    fn is(&self, origin: &str) -> bool {
        match self {
            Self::Whole(text) => **text == *origin,
            Self::Label(before, after) => {
                let label = origin.strip_prefix(&**before).and_then(|rest| rest.strip_suffix(&**after));
                label.is_some_and(|label| {
                    !label.is_empty()
                        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                })
            }
        }
    }
}

fn vary_by_origin(fields: &mut Fields) {
    let told = fields
        .get_all("vary")
        .filter_map(|line| std::str::from_utf8(line).ok())
        .flat_map(|line| line.split(','))
        .any(|name| name.trim() == "*" || name.trim().eq_ignore_ascii_case("origin"));
    if !told {
        let _kept = fields.append("Vary", b"Origin");
    }
}

/// The origins among the entries, and what is wrong with the first other one.
fn parse_origins(text: &str) -> Result<(Origins, Option<String>), String> {
    let (mut listed, mut fault) = (Vec::new(), None);
    for item in text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty()) {
        if item == "*" {
            return Ok((Origins::Any, fault));
        }
        match parse_origin(&item.to_ascii_lowercase()) {
            Ok(origin) => listed.push(origin),
            Err(reason) => drop(fault.get_or_insert(reason)),
        }
    }
    match (listed.is_empty(), fault) {
        (true, None) => Err("names no origin".into()),
        (true, Some(fault)) if !is_like_origins(text) => Err(fault),
        (_, fault) => Ok((Origins::Listed(listed.into()), fault)),
    }
}

/// True for a list that ingress-nginx takes at first sight and finds no origin in later: names, with or without a scheme,
/// a wildcard or a port.
fn is_like_origins(text: &str) -> bool {
    let bare = text.replace("://", "").replace("*.", "");
    bare.split(':').enumerate().all(|(at, part)| {
        let port = at == 0 || part.starts_with(|first: char| first.is_ascii_digit());
        port && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-., \n".contains(&byte))
    })
}

/// `scheme://host[:port]`, where the first label of the host may be `*`, or `null`.
fn parse_origin(item: &str) -> Result<Origin, String> {
    if item == "null" {
        return Ok(Origin::Whole(item.into()));
    }
    let error = || format!("{item:?} is no origin: write scheme://host or scheme://host:port");
    let (scheme, authority) = item.split_once("://").ok_or_else(error)?;
    let host = authority.strip_prefix("*.").unwrap_or(authority);
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    let sound = |text: &str| !text.is_empty() && text.bytes().all(plain);
    if !is_token(scheme.as_bytes()) || !sound(host) {
        return Err(error());
    }
    Ok(match authority.strip_prefix('*') {
        Some(after) => Origin::Label(format!("{scheme}://").into(), after.into()),
        None => Origin::Whole(item.into()),
    })
}

fn is_list_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b',' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{diagnostics, fields, read};

    fn cors(annotations: &[(&str, &str)]) -> Cors {
        let mut all = vec![("enable-cors", "true")];
        all.extend_from_slice(annotations);
        read(&all, Cors::read).unwrap()
    }

    fn allowed(origins: &str, origin: &str) -> Option<String> {
        let mut answer = Fields::new();
        cors(&[("cors-allow-origin", origins)]).apply(Some(origin.as_bytes()), &mut answer);
        answer.get_str("access-control-allow-origin").map(str::to_owned)
    }

    fn check(origins: &str, origin: &str, admitted: bool) {
        assert_eq!(allowed(origins, origin).as_deref(), admitted.then_some(origin), "{origins} {origin}");
    }

    #[test]
    fn without_the_switch_nothing_is_added() {
        assert_eq!(read(&[("cors-allow-origin", "*")], Cors::read), None);
        assert_eq!(read(&[("enable-cors", "false")], Cors::read), None);
        assert_eq!(read(&[("enable-cors", "perhaps")], Cors::read), None);
    }

    #[test]
    fn the_defaults_are_those_of_ingress_nginx() {
        let mut answer = Fields::new();
        cors(&[]).apply(None, &mut answer);
        let lines: Vec<String> = answer
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
            .collect();
        assert_eq!(
            lines,
            [
                "Access-Control-Allow-Origin: *".to_owned(),
                "Access-Control-Allow-Credentials: true".to_owned(),
                format!("Access-Control-Allow-Methods: {DEFAULT_METHODS}"),
                format!("Access-Control-Allow-Headers: {DEFAULT_HEADERS}"),
                "Access-Control-Max-Age: 1728000".to_owned(),
            ]
        );
    }

    #[test]
    fn origins_are_compared_whole() {
        let list = "https://a.test:8080, http://*.b.test\nnull";
        check(list, "https://a.test:8080", true);
        check(list, "HTTPS://A.test:8080", true);
        check(list, "https://a.test", false);
        check(list, "https://axtest:8080", false);
        check(list, "http://x-1.b.test", true);
        check(list, "http://x.y.b.test", false);
        check(list, "http://b.test", false);
        check(list, "http://.b.test", false);
        check(list, "null", true);
        check(list, "https://evil.testhttps://a.test:8080", false);
        check(list, "", false);
    }

    #[test]
    fn entries_that_are_no_origins_are_left_out() {
        let list = "https://a.test, b.test,  ,https://c.test";
        check(list, "https://a.test", true);
        check(list, "https://c.test", true);
        check(list, "https://b.test", false);
        check(list, "https://d.test", false);
        assert_eq!(diagnostics(&[("cors-allow-origin", list)], Cors::read), ["InvalidAnnotation"]);
    }

    /// What `cors-allow-origin` admits is never wider than its text because of a slip of the pen.
    #[test]
    fn a_list_of_names_that_are_no_origins_admits_nobody() {
        for list in ["*.b.test", "a.test", "b.test:8080, c.test", "no origin", "http://*.*.b.test"] {
            check(list, "https://x.b.test", false);
            check(list, "http://x.b.test", false);
            assert_eq!(
                diagnostics(&[("cors-allow-origin", list)], Cors::read),
                ["InvalidAnnotation"],
                "{list}"
            );
        }
        for unreadable in ["https://*", "https://a.test/x", "https://a.test:*", "a;b"] {
            assert_eq!(allowed(unreadable, "https://x.test").as_deref(), Some("*"), "{unreadable}");
        }
    }

    #[test]
    fn any_options_of_an_admitted_origin_is_a_preflight() {
        let listed = cors(&[("cors-allow-origin", "https://a.test")]);
        assert!(listed.is_preflight(&Method::OPTIONS, Some(b"https://a.test")));
        assert!(!listed.is_preflight(&Method::OPTIONS, Some(b"https://b.test")));
        assert!(!listed.is_preflight(&Method::OPTIONS, None));
        assert!(!listed.is_preflight(&Method::GET, Some(b"https://a.test")));
        assert!(cors(&[]).is_preflight(&Method::OPTIONS, None));
    }

    #[test]
    fn a_backends_own_fields_are_replaced_and_caches_are_told() {
        let mut answer = fields(&[("access-control-allow-origin", "*"), ("Vary", "Accept-Encoding")]);
        let listed = cors(&[("cors-allow-origin", "https://a.test"), ("cors-expose-headers", "X-A")]);
        listed.apply(Some(b"https://a.test"), &mut answer);
        assert_eq!(answer.get_all("access-control-allow-origin").collect::<Vec<_>>(), [b"https://a.test"]);
        assert_eq!(answer.get("access-control-expose-headers"), Some(&b"X-A"[..]));
        assert_eq!(answer.get_all("vary").last(), Some(&b"Origin"[..]));
        listed.apply(Some(b"https://a.test"), &mut answer);
        assert_eq!(answer.get_all("vary").count(), 2);
    }

    #[test]
    fn values_that_cannot_be_read_are_reported_and_defaults_count() {
        for (name, value) in [
            ("cors-allow-origin", "a.test"),
            ("cors-allow-origin", "https://a.test/x"),
            ("cors-allow-origin", "https://*"),
            ("cors-allow-methods", "GET;PUT"),
            ("cors-max-age", "long"),
            ("cors-allow-credentials", "perhaps"),
        ] {
            assert_eq!(diagnostics(&[(name, value)], Cors::read), ["InvalidAnnotation"], "{name} {value}");
        }
    }
}
