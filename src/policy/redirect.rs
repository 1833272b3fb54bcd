//! `permanent-redirect`, `temporal-redirect`, their codes; `relative-redirects` and `use-port-in-redirects`.

use std::sync::Arc;

use http::StatusCode;

use super::annotation::{Reader, Risk, Scope, Spec, is_url_char};
use super::global::Globals;
use super::rewrite::encode;
use crate::reply::{LocalReply, RedirectCause};
use crate::request::{RequestView, Scheme};

const PERMANENT: Spec = Spec::new("permanent-redirect", Scope::Location, Risk::Medium)
    .values("none", "https://new.example/start")
    .doc("Every request is redirected to this URL or absolute path, of any scheme, to the letter, before access checks.");
const PERMANENT_CODE: Spec = Spec::new("permanent-redirect-code", Scope::Location, Risk::Low)
    .values("301", "308")
    .doc("Status of permanent-redirect, 300 to 308.");
const TEMPORAL: Spec = Spec::new("temporal-redirect", Scope::Location, Risk::Medium)
    .values("none", "https://other.example/")
    .doc("As permanent-redirect, with 302; wins over it.");
const TEMPORAL_CODE: Spec = Spec::new("temporal-redirect-code", Scope::Location, Risk::Low)
    .values("302", "307")
    .doc("Status of temporal-redirect, 300 to 307.");
const RELATIVE: Spec = Spec::new("relative-redirects", Scope::Location, Risk::Low)
    .values("ConfigMap relative-redirects (false)", "true")
    .doc("Redirects made here carry a path only.");
const USE_PORT: Spec = Spec::new("use-port-in-redirects", Scope::Location, Risk::Low)
    .values("ConfigMap use-port-in-redirects (false)", "true")
    .doc("Redirects made here carry the listen port.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[PERMANENT, PERMANENT_CODE, TEMPORAL, TEMPORAL_CODE, RELATIVE, USE_PORT];

/// Bytes of a redirect's URL (`B.3`).
const MAX_URL: usize = 2048;

/// A fixed redirect: request path and query are not appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Target: a URL, or a path that is made absolute unless redirects are relative; anything else is sent as written.
    pub url: Arc<str>,
    /// 300 to 308.
    pub status: StatusCode,
    /// Which annotation.
    pub cause: RedirectCause,
}

/// How our own redirects are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RedirectStyle {
    /// `relative-redirects`: `Location` without scheme and host.
    pub relative: bool,
    /// `use-port-in-redirects`.
    pub with_port: bool,
}

impl Redirect {
    /// Reads the four redirect annotations.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let temporal = reader.read(&TEMPORAL, |text| url(text, Relative::Refuse)).ok();
        let temporal_code = reader.read(&TEMPORAL_CODE, |text| code(text, 307)).or(StatusCode::FOUND);
        let permanent = reader.read(&PERMANENT, |text| url(text, Relative::Allow)).ok();
        let permanent_code =
            reader.read(&PERMANENT_CODE, |text| code(text, 308)).or(StatusCode::MOVED_PERMANENTLY);
        temporal.map(|url| Self { url, status: temporal_code, cause: RedirectCause::Temporal }).or_else(
            || permanent.map(|url| Self { url, status: permanent_code, cause: RedirectCause::Permanent }),
        )
    }

    /// The answer to every request of the route.
    pub fn reply(&self, style: RedirectStyle, view: &RequestView<'_>) -> LocalReply {
        let location =
            if self.url.starts_with('/') { style.local(view, &self.url) } else { (*self.url).to_owned() };
        LocalReply::Redirect { status: self.status, location, cause: self.cause }
    }
}

impl RedirectStyle {
    /// Reads the family over the ConfigMap's values.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Self {
        Self {
            relative: reader.bool(&RELATIVE).or(globals.relative_redirects),
            with_port: reader.bool(&USE_PORT).or(globals.use_port_in_redirects),
        }
    }

    /// `Location` for a path (with query) of the same host: scheme of the connection, host in lower case without port,
    /// the listen port only when asked for and unusual.
    pub fn local(self, view: &RequestView<'_>, path: &str) -> String {
        // HTTP/1.0 without Host: a path is all that can be said.
        if self.relative || view.host.name.is_empty() {
            return path.to_owned();
        }
        let usual = match view.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let (scheme, host) = (view.scheme.as_str(), &view.host.name);
        if self.with_port && view.listen_port != usual {
            format!("{scheme}://{host}:{}{path}", view.listen_port)
        } else {
            format!("{scheme}://{host}{path}")
        }
    }

    /// The redirect to a path that lacks its trailing slash (`routing.md` 4.3): `path` is the location's name.
    pub fn trailing_slash(self, view: &RequestView<'_>, path: &str) -> LocalReply {
        let query = view.query.filter(|query| !query.is_empty()).map(String::from_utf8_lossy);
        let mut encoded = Vec::with_capacity(path.len());
        encode(path.as_bytes(), &mut encoded);
        let path = String::from_utf8_lossy(&encoded);
        let path = query.map_or_else(|| path.clone().into_owned(), |query| format!("{path}?{query}"));
        LocalReply::Redirect {
            status: StatusCode::MOVED_PERMANENTLY,
            location: self.local(view, &path),
            cause: RedirectCause::TrailingSlash,
        }
    }
}

/// A target less one slash at its very end, query included.
pub(super) fn without_trailing_slash(target: &[u8]) -> &[u8] {
    target.strip_suffix(b"/").unwrap_or(target)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Relative {
    Allow,
    Refuse,
}

fn url(text: &str, relative: Relative) -> Result<Arc<str>, String> {
    if text.len() > MAX_URL {
        return Err(format!("is longer than {MAX_URL} bytes"));
    }
    if let Some(byte) = text.bytes().find(|byte| !is_url_char(*byte)) {
        return Err(format!(
            "{:?} may not stand in it: variables and escapes are not expanded",
            char::from(byte)
        ));
    }
    // Whatever it is, a permanent one is sent: links into applications (`app://start`), paths, other schemes.
    if relative == Relative::Allow {
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        let runs = ["javascript", "data", "vbscript"].iter().any(|bad| scheme.eq_ignore_ascii_case(bad));
        return if runs { Err("leads to no place but to a script".into()) } else { Ok(Arc::from(text)) };
    }
    let scheme = |scheme: &str| text.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme));
    let rest = scheme("https://").or_else(|| scheme("http://")).and_then(|start| text.get(start.len()..));
    match rest.map(|rest| rest.split(['/', '?']).next().unwrap_or_default()) {
        Some(authority) if !authority.is_empty() && !authority.starts_with(':') => Ok(Arc::from(text)),
        _ => Err("must start with http:// or https:// and a host".into()),
    }
}

fn code(text: &str, highest: u16) -> Result<StatusCode, String> {
    let code = text.parse().ok().filter(|code| text.len() == 3 && (300..=highest).contains(code));
    code.and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| format!("must lie between 300 and {highest}"))
}

#[cfg(test)]
mod tests;
