//! `auth-url`: scheme and server are known before any request comes, path and query may hold variables (B-20).

use std::net::IpAddr;
use std::sync::Arc;

use crate::policy::template::{Facts, Part, Template};
use crate::variable::{Fixed, Variable};

/// Longest text (`B.3`).
const MAX_URL: usize = 2048;

/// A parsed `auth-url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthUrl {
    /// `https`.
    pub secure: bool,
    host: Host,
    port: u16,
    target: Template,
    text: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Fixed(Arc<str>),
    /// Text around `$host`.
    OfRequest(Template),
}

/// Where one question goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// DNS name or address, without brackets.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// Path and query, ready to be sent.
    pub target: Vec<u8>,
}

impl AuthUrl {
    /// Reads an absolute http or https URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_URL {
            return Err(format!("is longer than {MAX_URL} bytes"));
        }
        let odd = |byte: &u8| !(0x21..0x7f).contains(byte) || b"\"'\\<>^`|;#".contains(byte);
        if let Some(byte) = text.bytes().find(odd) {
            return Err(format!("{:?} may not stand in it", char::from(byte)));
        }
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err("must start with http:// or https:// and a host".into()),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = authority_parts(authority)?;
        let target = match target.as_bytes().first() {
            Some(b'/') => target.to_owned(),
            Some(_) => format!("/{target}"),
            None => "/".to_owned(),
        };
        Ok(Self {
            secure,
            host: self::host(host)?,
            port: port.unwrap_or(if secure { 443 } else { 80 }),
            target: Template::parse(&target).map_err(|error| error.to_string())?,
            text: text.into(),
        })
    }

    /// The text it was made from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Scheme, server and path as written; a query may hold what is nobody's business (H-2).
    pub fn without_query(&self) -> &str {
        self.text.split('?').next().unwrap_or_default()
    }

    /// Where the question about a request goes. `None` when the server is to be named by the request, and the request
    /// names no host that is configured (`configured`) or none that DNS could know.
    pub fn destination(&self, facts: &Facts<'_>, configured: bool) -> Option<Destination> {
        let host = match &self.host {
            Host::Fixed(host) => Arc::clone(host),
            Host::OfRequest(template) => {
                let host = template.expand(facts).to_ascii_lowercase();
                if !configured || !is_name(&host) {
                    return None;
                }
                Arc::from(host)
            }
        };
        Some(Destination { host, port: self.port, target: sendable(self.target.expand(facts).as_bytes()) })
    }
}

/// Host and port.
fn authority_parts(authority: &str) -> Result<(&str, Option<u16>), String> {
    if authority.contains('@') {
        return Err("may not hold a user name".into());
    }
    let bracketed = authority.strip_prefix('[').map(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some(Some((host, ""))) => (host, None),
        Some(Some((host, rest))) => (host, Some(rest.strip_prefix(':').ok_or("has a faulty host")?)),
        Some(None) => return Err("has a faulty host".into()),
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(port.parse().ok().filter(|port| *port > 0).ok_or("has a faulty port")?),
    };
    if host.is_empty() {
        return Err("must start with http:// or https:// and a host".into());
    }
    Ok((host, port))
}

fn host(text: &str) -> Result<Host, String> {
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    let others =
        |part: &Part| matches!(part, Part::Variable(variable) if *variable != Variable::Fixed(Fixed::Host));
    if template.parts.iter().any(others) {
        return Err("may name its server by no variable but $host".into());
    }
    if template.constant().is_none() {
        return Ok(Host::OfRequest(template));
    }
    let name = text.to_ascii_lowercase();
    if is_name(&name) || name.parse::<IpAddr>().is_ok() {
        Ok(Host::Fixed(Arc::from(name)))
    } else {
        Err("has a faulty host".into())
    }
}

/// True for a DNS name or an IPv4 address in lower case.
fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

/// What expansion brought in and may not stand in a request line is percent-encoded.
fn sendable(target: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(target.len());
    for byte in target {
        if (0x21..0x7f).contains(byte) && *byte != b'#' {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{fields, view};
    use crate::policy::template::RouteFacts;

    /// `scheme host port target` for a request to `http://Host.Test:8080/a b?x=1`, or the fault.
    fn told(text: &str) -> String {
        let url = match AuthUrl::parse(text) {
            Ok(url) => url,
            Err(reason) => return reason,
        };
        let fields = fields(&[]);
        let view = view("/a%20b?x=1", &fields);
        let facts = Facts { view: &view, route: RouteFacts::default() };
        let scheme = if url.secure { "https" } else { "http" };
        let Some(to) = url.destination(&facts, true) else { return "nowhere".into() };
        format!("{scheme} {} {} {}", to.host, to.port, String::from_utf8_lossy(&to.target))
    }

    #[test]
    fn urls_are_taken_apart_and_their_variables_filled_in() {
        for (text, expect) in [
            ("http://auth.test/check", "http auth.test 80 /check"),
            ("https://Auth.test", "https auth.test 443 /"),
            ("http://auth.test:4180?x=1", "http auth.test 4180 /?x=1"),
            ("http://[::1]:81/c", "http ::1 81 /c"),
            ("http://10.0.0.1/c?u=$request_uri", "http 10.0.0.1 80 /c?u=/a%20b?x=1"),
            ("https://$host/oauth2/auth", "https host.test 443 /oauth2/auth"),
            ("http://auth.${host}:8/x", "http auth.host.test 8 /x"),
            ("http://auth.ns.svc.cluster.local:4180/$uri", "http auth.ns.svc.cluster.local 4180 //a%20b"),
        ] {
            assert_eq!(told(text), expect, "{text}");
        }
    }

    #[test]
    fn a_url_without_sound_scheme_and_server_is_refused() {
        for (text, expect) in [
            ("auth.test/check", "must start with http:// or https:// and a host"),
            ("ftp://auth.test", "must start with http:// or https:// and a host"),
            ("$scheme://auth.test", "must start with http:// or https:// and a host"),
            ("http://", "must start with http:// or https:// and a host"),
            ("http:///x", "must start with http:// or https:// and a host"),
            ("http://:80/", "must start with http:// or https:// and a host"),
            ("http://a:b@auth.test/", "may not hold a user name"),
            ("http://auth.test:0/", "has a faulty port"),
            ("http://auth.test:99999/", "has a faulty port"),
            ("http://[::1/", "has a faulty host"),
            ("http://au%74h.test/", "has a faulty host"),
            ("http://$http_x_where/", "may name its server by no variable but $host"),
            ("http://$arg_a.test/", "may name its server by no variable but $host"),
            ("http://auth.test/$document_root", "the variable $document_root is not known"),
            ("http://auth.test/;x", "';' may not stand in it"),
            ("http://auth.test/ x", "' ' may not stand in it"),
            ("http://auth.test/#x", "'#' may not stand in it"),
        ] {
            assert_eq!(told(text), expect, "{text}");
        }
        assert!(AuthUrl::parse(&format!("http://a/{}", "x".repeat(3000))).is_err());
    }

    #[test]
    fn only_a_configured_host_may_name_the_server() {
        let fields = fields(&[]);
        let view = view("/", &fields);
        let facts = Facts { view: &view, route: RouteFacts::default() };
        let url = AuthUrl::parse("http://$host/").unwrap();
        assert!(url.destination(&facts, true).is_some());
        assert_eq!(url.destination(&facts, false), None);
        assert!(AuthUrl::parse("http://fixed.test/").unwrap().destination(&facts, false).is_some());
    }
}
