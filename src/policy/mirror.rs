//! `mirror-target`, `mirror-request-body`, `mirror-host`: a copy of each request goes to another server, whose answer
//! nobody sees. Sending it is `proxy::mirror`'s.

use std::sync::Arc;

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec, is_basic};
use super::template::{Facts, Template};

const LOCATION: Scope = Scope::Location;

const TARGET: Spec = Spec::new("mirror-target", LOCATION, Risk::High)
    .fidelity(Fidelity::Equivalent(
        "no request waits for its copy; at most 256 copies are under way in a worker, further ones are dropped; no variables in the host",
    ))
    .values("none", "https://shadow.example$request_uri")
    .doc("URL that a copy of each request is sent to; its answer is ignored.");
const BODY: Spec = Spec::new("mirror-request-body", LOCATION, Risk::Low)
    .values("on", "off")
    .doc("Copy the body too. The whole body is then read before a backend is asked.");
const HOST: Spec = Spec::new("mirror-host", LOCATION, Risk::High)
    .values("the host of mirror-target", "shadow.example")
    .doc("`Host` of the copy.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[TARGET, BODY, HOST];

/// Where copies of requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The URL says `https`.
    pub tls: bool,
    /// Host to connect to: a name, an IPv4 address, or an IPv6 address without brackets.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// `Host` of the copy.
    pub authority: Template,
    /// The copy carries the body.
    pub body: bool,
    path: Path,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Path {
    /// The URL has none: the client's target.
    Client,
    /// A path without variables: the client's query follows.
    Fixed(Template),
    /// A path with variables: this and nothing else.
    Made(Template),
}

impl Mirror {
    /// Reads the family.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let target = reader.read(&TARGET, parse);
        let body = reader.on_off(&BODY).or(true);
        let host = reader.read(&HOST, parse_host).ok();
        let mut mirror = target.ok()?;
        mirror.body = body;
        if let Some(host) = host {
            mirror.authority = host;
        }
        Some(mirror)
    }

    /// Path and query of the copy; `None` when the expansion gives no sound target.
    pub fn target(&self, facts: &Facts<'_>) -> Option<Vec<u8>> {
        let target = match &self.path {
            Path::Client => facts.view.target.to_vec(),
            Path::Made(path) => path.expand(facts).into_bytes(),
            Path::Fixed(path) => {
                let mut target = path.expand(facts).into_bytes();
                if let Some(query) = facts.view.query.filter(|query| !query.is_empty()) {
                    target.push(if target.contains(&b'?') { b'&' } else { b'?' });
                    target.extend_from_slice(query);
                }
                target
            }
        };
        let sound = target.first() == Some(&b'/')
            && target.len() <= 16 * 1024
            && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
        sound.then_some(target)
    }
}

/// A host with variables.
fn parse_host(text: &str) -> Result<Template, String> {
    let allowed = |byte: u8| is_basic(byte) || matches!(byte, b'$' | b'{' | b'}');
    match text.bytes().find(|byte| !allowed(*byte)) {
        Some(byte) => Err(format!("{:?} may not stand in a host", char::from(byte))),
        None => Template::parse(text).map_err(|error| error.to_string()),
    }
}

fn parse(text: &str) -> Result<Mirror, String> {
    let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err("must start with http:// or https://".into()),
    };
    if text.len() > 2048 {
        return Err("is longer than 2048 bytes".into());
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '$']).unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().map_err(|_| "has a port that is no number")?)
        }
        _ => (authority, if tls { 443 } else { 80 }),
    };
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let is_v6 = name.parse::<std::net::Ipv6Addr>().is_ok();
    let is_name = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if port == 0 || !(is_name || is_v6) {
        return Err("has no sound host: write it without user name and variables".into());
    }
    let template = Template::parse(path).map_err(|error| error.to_string())?;
    let path = match path {
        "" => Path::Client,
        path if path.contains('$') => Path::Made(template),
        path if path.starts_with('/') => Path::Fixed(template),
        _ => return Err("has no path before its query".into()),
    };
    let authority = Template::parse(host).map_err(|error| error.to_string())?;
    Ok(Mirror { tls, host: name.into(), port, authority, body: true, path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{diagnostics, fields, read, view};
    use crate::policy::template::RouteFacts;

    fn check(target: &str, asked: &str, expect: Option<(&str, u16, bool, &str)>) {
        let mirror = read(&[("mirror-target", target)], Mirror::read);
        let none = fields(&[]);
        let view = view(asked, &none);
        let facts = Facts { view: &view, route: RouteFacts::default() };
        let found = mirror.map(|mirror| {
            let target = String::from_utf8(mirror.target(&facts).unwrap_or_default()).unwrap();
            (mirror.host.to_string(), mirror.port, mirror.tls, target)
        });
        assert_eq!(
            found,
            expect.map(|(host, port, tls, target)| (host.into(), port, tls, target.into())),
            "{target}"
        );
    }

    #[test]
    fn urls_are_taken_apart() {
        check("https://m.test$request_uri", "/a?b=c", Some(("m.test", 443, true, "/a?b=c")));
        check("http://m.test:81/copy", "/a?b=c", Some(("m.test", 81, false, "/copy?b=c")));
        check("http://m.test/copy", "/a", Some(("m.test", 80, false, "/copy")));
        check("http://[::1]:8080", "/a?b", Some(("::1", 8080, false, "/a?b")));
        check("http://m.test/$host/x", "/a", Some(("m.test", 80, false, "/host.test/x")));
    }

    #[test]
    fn what_is_no_url_mirrors_nothing() {
        for bad in [
            "m.test",
            "ftp://m.test/",
            "http:///x",
            "http://$host/",
            "http://u@m.test/",
            "http://m.test:x/",
            "http://m.test:0/",
            "http://m.test/$nothing",
            "http://m.test?x",
        ] {
            check(bad, "/", None);
            assert_eq!(diagnostics(&[("mirror-target", bad)], Mirror::read), ["InvalidAnnotation"], "{bad}");
        }
    }

    #[test]
    fn details_stand_beside_a_target_only() {
        assert_eq!(read(&[("mirror-host", "x.test"), ("mirror-request-body", "off")], Mirror::read), None);
        let all =
            [("mirror-target", "http://m.test/"), ("mirror-host", "x.test"), ("mirror-request-body", "off")];
        let mirror = read(&all, Mirror::read).unwrap();
        assert_eq!((mirror.authority.as_str(), mirror.body), ("x.test", false));
        let host = |annotations: &[(&str, &str)]| read(annotations, Mirror::read).unwrap().authority;
        assert_eq!(host(&all[..1]).as_str(), "m.test");
        assert_eq!(host(&[all[0], ("mirror-host", "copy.$host")]).constant(), None);
        assert_eq!(host(&[all[0], ("mirror-host", "a b")]).as_str(), "m.test");
    }
}
