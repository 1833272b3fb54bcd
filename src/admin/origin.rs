//! Who may be shown what is configured, judged by what a browser says of itself: a page of somebody else must not read
//! this port through the browser of a person who can reach it (DNS rebinding, and requests across origins).
//!
//! No authentication: whoever can send a head of their own choice can name any host. Health and metrics are not
//! asked for a name, since kubelets and scrapers use whatever name they know. `routes` calls it.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};

/// Fetch Metadata (W3C), section 2.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stranger {
    /// It was sent to a name that is not this machine's.
    Name,
    /// A page of another origin sent it.
    Page,
}

// === impl Stranger ===

impl Stranger {
    /// Status and text of the answer.
    pub(super) const fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::Name => (
                StatusCode::MISDIRECTED_REQUEST,
                "answers under an IP address, localhost or the name of a Service only\n",
            ),
            Self::Page => (StatusCode::FORBIDDEN, "does not answer pages of other origins\n"),
        }
    }
}

/// Refuses a request that names a host which somebody else may have made lead here. All names it gives must be ours:
/// that of the target and every `Host` line. One that gives none comes from no browser.
///
/// # Errors
/// [`Stranger::Name`].
pub(super) fn judge_name(uri: &Uri, fields: &HeaderMap) -> Result<(), Stranger> {
    let of_target = uri.authority().map(|authority| authority.as_str().as_bytes());
    let named =
        of_target.into_iter().chain(fields.get_all(header::HOST).iter().map(|value| value.as_bytes()));
    for name in named {
        if !std::str::from_utf8(name).is_ok_and(is_own) {
            return Err(Stranger::Name);
        }
    }
    Ok(())
}

/// Refuses what a page of another origin asks for. Following a link is none of that: the page does not see the answer.
///
/// # Errors
/// [`Stranger::Page`].
pub(super) fn judge_page(fields: &HeaderMap) -> Result<(), Stranger> {
    let is = |name: &HeaderName, wanted: &[&str]| {
        let mut values = fields.get_all(name).iter();
        values.all(|value| wanted.iter().any(|wanted| value.as_bytes() == wanted.as_bytes()))
    };
    let follows_link =
        fields.contains_key(MODE) && is(&MODE, &["navigate"]) && is(&DESTINATION, &["document"]);
    if !is(&SITE, &["same-origin", "none"]) && !follows_link {
        return Err(Stranger::Page);
    }
    // Browsers without Fetch Metadata tell where a page came from only when it is another origin than ours.
    let host = fields.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let same = |origin: &[u8]| {
        let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        authority.is_some_and(|authority| !host.is_empty() && authority.eq_ignore_ascii_case(host))
    };
    if fields.get_all(header::ORIGIN).iter().all(|origin| same(origin.as_bytes())) {
        return Ok(());
    }
    Err(Stranger::Page)
}

/// An address, which no name server can turn; a name that leads to this machine by definition (RFC 6761 section 6.3);
/// or the name of a Service, which only the cluster's name server gives.
fn is_own(authority: &str) -> bool {
    let Some(host) = host_of(authority) else { return false };
    if host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || [".localhost", ".svc", ".svc.cluster.local"].iter().any(|end| host.ends_with(end))
}

/// The host without port and brackets.
fn host_of(authority: &str) -> Option<&str> {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']')?;
        let sound = host.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port.strip_prefix(':')?));
        return sound.then_some(host);
    }
    match authority.split_once(':') {
        Some((host, port)) => is_port(port).then_some(host),
        None => Some(authority),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn only_names_that_nobody_else_can_make_lead_here_are_answered() {
        let check = |host: &str, own: bool| {
            let judged = judge_name(&Uri::from_static("/"), &fields(&[("host", host)]));
            assert_eq!(judged.is_ok(), own, "{host:?}");
        };
        for own in [
            "localhost",
            "LOCALHOST:10254",
            "localhost.",
            "a.localhost:1",
            "127.0.0.1",
            "127.0.0.1:10254",
            "[::1]",
            "[::1]:10254",
            "10.1.2.3:10254",
            "[fd00::1]:80",
            "metrics.ingress-nginx.svc:10254",
            "metrics.ingress-nginx.svc.cluster.local",
        ] {
            check(own, true);
        }
        for foreign in [
            "",
            "a",
            "evil.test",
            "evil.test:10254",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "127.0.0.1@evil.test",
            "evil.test#localhost",
            "evil.test:80:localhost",
            "notlocalhost",
            "svc",
            "x.svc.evil.test",
            "[::1",
            "[::1]evil.test",
            "[evil.test]",
            "2130706433",
        ] {
            check(foreign, false);
        }
        assert!(judge_name(&Uri::from_static("/"), &fields(&[])).is_ok());
        assert!(
            judge_name(&Uri::from_static("http://evil.test/"), &fields(&[("host", "localhost")])).is_err()
        );
        let two = fields(&[("host", "localhost"), ("host", "evil.test")]);
        assert!(judge_name(&Uri::from_static("/"), &two).is_err());
    }

    #[test]
    fn pages_of_other_origins_are_refused_and_people_are_not() {
        let check = |lines: &[(&'static str, &str)], passes: bool| {
            let with_host = [lines, &[("host", "localhost:1")]].concat();
            assert_eq!(judge_page(&fields(&with_host)).is_ok(), passes, "{lines:?}");
        };
        check(&[], true);
        check(&[("sec-fetch-site", "none")], true);
        check(&[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:1")], true);
        let link = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        check(&link, true);
        for (name, value) in [("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "iframe"), ("origin", "null")]
        {
            let mut other = link.to_vec();
            other.retain(|(kept, _)| *kept != name);
            other.push((name, value));
            check(&other, false);
        }
        for site in ["cross-site", "same-site", "junk", ""] {
            check(&[("sec-fetch-site", site)], false);
        }
        for origin in
            ["null", "http://evil.test", "http://localhost:2", "http://localhost", "localhost:1", ""]
        {
            check(&[("origin", origin)], false);
        }
        assert!(
            judge_page(&fields(&[("origin", "http://")])).is_err(),
            "without a host there is no same origin"
        );
    }
}
