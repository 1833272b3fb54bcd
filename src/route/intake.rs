//! From the head of a request to the [`RequestView`] that decisions look at: one function for the data plane,
//! `explain` and the admin API, so all of them see the same host and the same path (`C-7`).

use std::borrow::Cow;
use std::net::SocketAddr;

use http::StatusCode;

use crate::policy::forwarded::{self, Connection};
use crate::policy::global::Globals;
use crate::reply::LocalReply;
use crate::request::normalize::normalize_parts;
use crate::request::{BadTarget, Host, NormPath, RequestView, normalize};
use crate::wire::{
    Reject, RequestHead, SplitTarget, Version, check_method, check_target, parse_authority, split_target,
};

/// Host, target and path of a request, judged.
#[derive(Debug)]
pub struct Intake<'r> {
    head: &'r RequestHead,
    target: Cow<'r, [u8]>,
    /// Bytes of the target before its query.
    before_query: usize,
    kept: bool,
    host: Host<'r>,
    path: NormPath<'r>,
}

impl<'r> Intake<'r> {
    /// Judges a head. Hop-by-hop fields may be gone already; `Host` must not.
    ///
    /// # Errors
    /// The answer for a request whose method, target, host or path breaks a rule (H1-12 to H1-14, H2-05 to H2-07, C-6).
    pub fn of(head: &'r RequestHead) -> Result<Self, LocalReply> {
        let split = match head.version {
            Version::Http2 => http2_target(head)?,
            Version::Http10 | Version::Http11 => split_target(&head.target).map_err(refused)?,
        };
        let host = match head.version {
            Version::Http2 => http2_host(head)?,
            Version::Http10 | Version::Http11 => http1_host(head, &split)?,
        };
        let (target, kept) = (split.origin, split.authority_text.is_none());
        let before_query = crate::request::split_target(&target).0.len();
        let path = match &target {
            Cow::Borrowed(target) => normalize(target).map_err(bad_path)?,
            Cow::Owned(target) => normalize(target).map_err(bad_path)?.into_owned(),
        };
        Ok(Self { head, target, before_query, kept, host, path })
    }

    /// [`Intake::of`] for a head that the driver of its connection let through by the same rules: what was judged of
    /// target and host is not judged again.
    ///
    /// # Errors
    /// As [`Intake::of`].
    pub fn of_judged(head: &'r RequestHead) -> Result<Self, LocalReply> {
        // Absolute targets, and HTTP/1.0 without a host.
        let text = head.authority.as_deref().or_else(|| head.fields.get_str("host"));
        let Some(text) = text.filter(|_| head.target.first() == Some(&b'/')) else { return Self::of(head) };
        debug_assert!(parse_authority(text.as_bytes()).is_ok(), "a driver let {text:?} through");
        debug_assert!(check_target(&head.target).is_ok(), "a driver let a broken target through");
        let end = match text.as_bytes() {
            [b'[', ..] => text.find(']').map(|bracket| bracket + 1),
            _ => memchr::memchr(b':', text.as_bytes()),
        };
        let name = end.and_then(|end| text.get(..end)).unwrap_or(text);
        let host = Host { raw: Cow::Borrowed(text), name: looked_up(name.strip_suffix('.').unwrap_or(name)) };
        let (before, query) = crate::request::split_target(&head.target);
        let path = normalize_parts(before, query).map_err(bad_path)?;
        let target = Cow::Borrowed(&*head.target);
        Ok(Self { head, target, before_query: before.len(), kept: true, host, path })
    }

    /// The host is the authority of the head, `:authority` or else `Host`, as it stands there.
    pub const fn is_authority_kept(&self) -> bool {
        self.kept
    }

    /// The normalised path.
    pub fn path(&self) -> &NormPath<'r> {
        &self.path
    }

    /// The host.
    pub fn host(&self) -> &Host<'r> {
        &self.host
    }

    /// Everything about the request. `roll` is one random number.
    pub fn view<'v>(&'v self, connection: &Connection, globals: &Globals, roll: u32) -> RequestView<'v> {
        RequestView {
            method: &self.head.method,
            version: self.head.version,
            scheme: connection.scheme,
            host: self.host.clone(),
            target: &self.target,
            path: self.path.clone(),
            query: self.target.get(self.before_query..).and_then(|rest| rest.get(1..)),
            fields: &self.head.fields,
            peer: SocketAddr::new(connection.peer.ip(), connection.peer.port()),
            listen_port: connection.listen_port,
            forwarded: forwarded::resolve(&self.head.fields, connection, &self.host, globals),
            roll,
            handshake: None,
        }
    }
}

/// Extended CONNECT (RFC 8441) is judged as the GET it stands for. The rest of an HTTP/2 head is judged by its driver.
fn http2_target(head: &RequestHead) -> Result<SplitTarget<'_>, LocalReply> {
    if head.protocol.is_none() {
        check_method(head.method.as_str().as_bytes()).map_err(refused)?;
    }
    check_target(&head.target).map_err(refused)?;
    Ok(SplitTarget { authority: None, authority_text: None, origin: Cow::Borrowed(&head.target) })
}

fn http1_host<'r>(head: &'r RequestHead, split: &SplitTarget<'r>) -> Result<Host<'r>, LocalReply> {
    if let Some(text) = split.authority_text {
        return host(text);
    }
    let Ok(field) = head.fields.get_only("host") else { return Err(bad_host("more than one Host")) };
    match field.map(std::str::from_utf8) {
        Some(Ok(text)) => host(text),
        Some(Err(_)) => Err(bad_host("the host holds bytes above ASCII")),
        None if head.version == Version::Http10 => {
            Ok(Host { raw: Cow::Borrowed(""), name: Cow::Borrowed("") })
        }
        None => Err(bad_host("no Host")),
    }
}

/// RFC 9113 section 8.3.1: `:authority`, else `host`; both must agree (H2-05).
fn http2_host(head: &RequestHead) -> Result<Host<'_>, LocalReply> {
    let Ok(field) = head.fields.get_only("host") else { return Err(bad_host("more than one host")) };
    let field = field
        .map(std::str::from_utf8)
        .transpose()
        .map_err(|_| bad_host("the host holds bytes above ASCII"))?;
    match (head.authority.as_deref(), field) {
        (None, None) => Err(bad_host("neither :authority nor host")),
        (Some(text), None) | (None, Some(text)) => host(text),
        (Some(authority), Some(field)) => {
            let (one, two) = (host(authority)?, host(field)?);
            if one.name == two.name { Ok(one) } else { Err(bad_host("host differs from :authority")) }
        }
    }
}

fn host(text: &str) -> Result<Host<'_>, LocalReply> {
    let authority = parse_authority(text.as_bytes()).map_err(refused)?;
    Ok(Host { raw: Cow::Borrowed(text), name: looked_up(authority.lookup_host()) })
}

/// A host without port and dot as routing compares it.
fn looked_up(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn refused(reject: Reject) -> LocalReply {
    LocalReply::BadRequest { status: reject.status, rule: reject.rule, reason: reject.reason }
}

const fn bad_host(reason: &'static str) -> LocalReply {
    LocalReply::BadRequest { status: StatusCode::BAD_REQUEST, rule: "H1-14", reason }
}

const fn bad_path(bad: BadTarget) -> LocalReply {
    let reason = match bad {
        BadTarget::NoSlash => "the path does not start with a slash",
        BadTarget::AboveRoot => "the path climbs above the root",
        BadTarget::Percent => "the path holds a broken percent triple",
        BadTarget::Byte => "the path holds a byte that is not allowed",
    };
    LocalReply::BadRequest { status: StatusCode::BAD_REQUEST, rule: "C-6", reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Fields;
    use http::Method;

    fn head(version: Version, target: &str, authority: Option<&str>, hosts: &[&str]) -> RequestHead {
        let mut fields = Fields::new();
        for host in hosts {
            fields.append("Host", host.as_bytes()).unwrap();
        }
        RequestHead {
            method: Method::GET,
            target: target.as_bytes().to_vec(),
            version,
            authority: authority.map(str::to_owned),
            protocol: None,
            fields,
        }
    }

    /// `Ok((raw host, name, origin target, path))` or the status.
    fn judged(head: &RequestHead) -> Result<(String, String, String, String), u16> {
        let intake = Intake::of(head).map_err(|reply| reply.status().as_u16())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let host = intake.host();
        Ok((
            host.raw.to_string(),
            host.name.to_string(),
            text(&intake.target),
            text(intake.path().as_bytes()),
        ))
    }

    fn ok(raw: &str, name: &str, target: &str, path: &str) -> Result<(String, String, String, String), u16> {
        Ok((raw.into(), name.into(), target.into(), path.into()))
    }

    #[test]
    fn hosts_are_lower_cased_and_lose_port_and_dot_for_lookup_only() {
        let seen = judged(&head(Version::Http11, "/a/../b?q", None, &["H.Test.:8080"]));
        assert_eq!(seen, ok("H.Test.:8080", "h.test", "/a/../b?q", "/b"));
    }

    #[test]
    fn an_absolute_target_names_the_host() {
        let seen = judged(&head(Version::Http11, "http://A.test:1/p?q", None, &["other.test"]));
        assert_eq!(seen, ok("A.test:1", "a.test", "/p?q", "/p"));
        let seen = judged(&head(Version::Http11, "http://a.test?q", None, &["other.test"]));
        assert_eq!(seen, ok("a.test", "a.test", "/?q", "/"));
    }

    #[test]
    fn http_1_0_may_come_without_host_and_1_1_may_not() {
        assert_eq!(judged(&head(Version::Http10, "/", None, &[])), ok("", "", "/", "/"));
        assert_eq!(judged(&head(Version::Http11, "/", None, &[])), Err(400));
        assert_eq!(judged(&head(Version::Http11, "/", None, &["a.test", "a.test"])), Err(400));
    }

    #[test]
    fn http_2_takes_the_authority_and_a_host_that_agrees() {
        let ours = ok("A.test", "a.test", "/", "/");
        assert_eq!(judged(&head(Version::Http2, "/", Some("A.test"), &[])), ours);
        assert_eq!(judged(&head(Version::Http2, "/", Some("A.test"), &["a.test:443"])), ours);
        assert_eq!(judged(&head(Version::Http2, "/", None, &["A.test"])), ours);
        assert_eq!(judged(&head(Version::Http2, "/", Some("a.test"), &["b.test"])), Err(400));
        assert_eq!(judged(&head(Version::Http2, "/", None, &[])), Err(400));
        assert_eq!(judged(&head(Version::Http2, "http://a.test/", Some("a.test"), &[])), Err(400));
    }

    #[test]
    fn what_a_driver_judged_is_not_judged_otherwise() {
        let hosts = ["a.test", "A.Test.:8080", "a.test:", "[::1]", "[2001:DB8::1]:443", "127.0.0.1:80", "x"];
        let targets = ["/", "/a/../b?q=%zz", "/../x", "/%41//b", "http://B.test:1/p?q", "http://b.test"];
        let all = hosts.iter().flat_map(|host| targets.iter().map(move |target| (*host, *target)));
        for (host, target) in all {
            let mut heads = vec![head(Version::Http11, target, None, &[host])];
            if target.starts_with('/') {
                heads.push(head(Version::Http2, target, Some(host), &[]));
                heads.push(head(Version::Http2, target, Some(host), &[host]));
                heads.push(head(Version::Http2, target, None, &[host]));
            }
            for head in heads {
                let shown = |intake: Result<Intake<'_>, LocalReply>| format!("{intake:?}");
                assert_eq!(shown(Intake::of_judged(&head)), shown(Intake::of(&head)), "{head:?}");
            }
        }
        let old = head(Version::Http10, "/", None, &[]);
        assert!(Intake::of_judged(&old).is_ok());
    }

    #[test]
    fn broken_paths_are_refused() {
        for target in ["/../x", "/%00", "/%zz", "/a\\b", "/#f", "x"] {
            assert_eq!(judged(&head(Version::Http11, target, None, &["a.test"])), Err(400), "{target}");
        }
    }
}
