//! `session-cookie-*`: the sticky cookie, byte-compatible with ingress-nginx so that sessions survive the change.

use std::fmt::Write;
use std::sync::Arc;

use md5::{Digest, Md5};

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec, is_basic, is_url_char};
use crate::diagnostic::Severity;
use crate::request::Scheme;
use crate::wire::fields::is_token;

const NAME: Spec = Spec::new("session-cookie-name", Scope::Upstream, Risk::Medium)
    .values(DEFAULT_NAME, "route")
    .doc("Name of the sticky cookie.");
const PATH: Spec = Spec::new("session-cookie-path", Scope::Upstream, Risk::Medium)
    .values("the path of the rule", "/")
    .doc("`Path` of the sticky cookie. Set it where paths are expressions.");
const DOMAIN: Spec = Spec::new("session-cookie-domain", Scope::Upstream, Risk::Medium)
    .values("none", "app.example")
    .doc("`Domain` of the sticky cookie.");
const SAME_SITE: Spec = Spec::new("session-cookie-samesite", Scope::Upstream, Risk::Low)
    .values("none", "Lax")
    .doc("`SameSite` of the sticky cookie: None, Lax or Strict, sent as written.");
const CONDITIONAL: Spec = Spec::new("session-cookie-conditional-samesite-none", Scope::Upstream, Risk::Low)
    .values("false", "true")
    .doc("Leave `SameSite=None` out for browsers that do not understand it.");
const SECURE: Spec = Spec::new("session-cookie-secure", Scope::Upstream, Risk::Low)
    .values("on TLS connections", "true")
    .doc("`Secure` on the sticky cookie also where TLS ended before this proxy.");
const EXPIRES: Spec = Spec::new("session-cookie-expires", Scope::Upstream, Risk::Medium)
    .values("none", "172800")
    .doc("Seconds until the sticky cookie expires (`Expires`).");
const MAX_AGE: Spec = Spec::new("session-cookie-max-age", Scope::Upstream, Risk::Medium)
    .values("none", "172800")
    .doc("Seconds until the sticky cookie expires (`Max-Age`).");
const CHANGE: Spec = Spec::new("session-cookie-change-on-failure", Scope::Upstream, Risk::Low)
    .fidelity(Fidelity::Exact)
    .values("false", "true")
    .doc("After a failed try choose another endpoint and send a new cookie.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[NAME, PATH, DOMAIN, SAME_SITE, CONDITIONAL, SECURE, EXPIRES, MAX_AGE, CHANGE];

/// What the cookie looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCookie {
    /// `session-cookie-name`.
    pub name: Arc<str>,
    /// `session-cookie-path`; `None` means the path of the Ingress rule.
    pub path: Option<Arc<str>>,
    /// `session-cookie-domain`.
    pub domain: Option<Arc<str>>,
    /// `session-cookie-samesite`, as written.
    pub same_site: Option<Arc<str>>,
    /// `session-cookie-conditional-samesite-none`.
    pub conditional_none: bool,
    /// `session-cookie-secure`: `Secure` also on clear-text connections.
    pub secure: bool,
    /// `session-cookie-expires`, seconds.
    pub expires: Option<i64>,
    /// `session-cookie-max-age`, seconds.
    pub max_age: Option<i64>,
    /// `session-cookie-change-on-failure`.
    pub change_on_failure: bool,
}

/// Name of the cookie where none is given.
pub const DEFAULT_NAME: &str = "INGRESSCOOKIE";

impl Default for SessionCookie {
    fn default() -> Self {
        Self {
            name: Arc::from(DEFAULT_NAME),
            path: None,
            domain: None,
            same_site: None,
            conditional_none: false,
            secure: false,
            expires: None,
            max_age: None,
            change_on_failure: false,
        }
    }
}

impl SessionCookie {
    /// Reads the family.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let seconds = |text: &str| {
            let canonical = text == "0" || !text.trim_start_matches('-').starts_with('0');
            let number = super::annotation::parse_int(text)?;
            if canonical { Ok(number) } else { Err("is no number of seconds".to_owned()) }
        };
        let name = reader.read(&NAME, |text| {
            if is_token(text.as_bytes()) { Ok(Arc::from(text)) } else { Err("is no cookie name".into()) }
        });
        let path = reader.read(&PATH, |text| match text.bytes().find(|byte| !is_url_char(*byte)) {
            None if text.starts_with('/') => Ok(Arc::from(text)),
            _ => Err("must be a path of letters, digits and -._~/:,?&=".into()),
        });
        let same_site = reader.read(&SAME_SITE, |text| match text.to_ascii_lowercase().as_str() {
            "none" | "lax" | "strict" => Ok(Arc::from(text)),
            _ => Err("must be None, Lax or Strict".into()),
        });
        Self {
            name: name.ok().unwrap_or_else(|| Arc::from(DEFAULT_NAME)),
            path: path.ok(),
            domain: reader.text(&DOMAIN, "a domain", is_basic).ok(),
            same_site: same_site.ok(),
            conditional_none: reader.bool(&CONDITIONAL).or(false),
            secure: reader.bool(&SECURE).or(false),
            expires: reader.read(&EXPIRES, seconds).ok(),
            max_age: reader.read(&MAX_AGE, seconds).ok(),
            change_on_failure: reader.bool(&CHANGE).or(false),
        }
    }

    /// The path of the cookie is that of the rule unless one is set, and an expression is no path: browsers would never
    /// send the cookie back (vector `affinity-regex-without-cookie-path-warns`).
    pub fn warn_without_path(&self, reader: &mut Reader<'_>) {
        if self.path.is_none() {
            reader.report(
                PATH.name,
                Severity::Warning,
                "CookiePathMissing",
                "session-cookie-path should be set when use-regex is true: no browser sends a cookie back whose path is an \
                 expression",
                "write session-cookie-path: /",
            );
        }
    }

    /// Value of a `Set-Cookie` line. `rule_path` stands in where no path is set; `now` is seconds since 1970.
    pub fn set_cookie(&self, value: &str, sent: &Sent<'_>) -> String {
        let mut out = format!("{}={value}", self.name);
        // Writing to a String cannot fail.
        if let Some(expires) = self.expires {
            let _ = write!(out, "; Expires={}", cookie_time(sent.now.saturating_add(expires)));
        }
        if let Some(max_age) = self.max_age {
            let _ = write!(out, "; Max-Age={max_age}");
        }
        if let Some(domain) = &self.domain {
            let _ = write!(out, "; Domain={domain}");
        }
        let _ = write!(out, "; Path={}", self.path.as_deref().unwrap_or(sent.rule_path));
        if self.secure || sent.scheme == Scheme::Https {
            out.push_str("; Secure");
        }
        out.push_str("; HttpOnly");
        if let Some(same_site) = &self.same_site {
            let dropped = self.conditional_none && &**same_site == "None" && misreads_none(sent.user_agent);
            if !dropped {
                let _ = write!(out, "; SameSite={same_site}");
            }
        }
        out
    }
}

/// The answer a cookie is sent with.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'r> {
    /// Path of the matched rule as the Ingress wrote it.
    pub rule_path: &'r str,
    /// Scheme of the connection.
    pub scheme: Scheme,
    /// `User-Agent` of the request; empty for none.
    pub user_agent: &'r str,
    /// Seconds since 1970.
    pub now: i64,
}

/// The second part of a cookie's value: `md5hex(md5hex(backend) + backend)`, `backend` being
/// `<namespace>-<service>-<port>`. It ties a cookie to its backend.
pub fn backend_tag(backend: &str) -> String {
    let first = md5_hex(&[backend.as_bytes()]);
    md5_hex(&[first.as_bytes(), backend.as_bytes()])
}

/// A whole value: `key|tag`.
pub fn value(key: &str, tag: &str) -> String {
    format!("{key}|{tag}")
}

/// The key of a cookie's value, whichever backend gave it out: backends that share a cookie (one name and path) each
/// choose by it, and none of them replaces it. Values of old versions are a key alone.
pub fn key(value: &str) -> Option<&str> {
    value.split('|').next().filter(|key| !key.is_empty())
}

/// True when the backend with this tag gave the value out.
pub fn is_of(value: &str, tag: &str) -> bool {
    value.split('|').nth(1) == Some(tag)
}

/// MD5 of the parts in lower-case hex.
pub fn md5_hex(parts: &[&[u8]]) -> String {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().iter().fold(String::with_capacity(32), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// `Thu, 18-Nov-10 11:27:35 GMT`, as nginx writes cookie times: the year has four digits from 2038 on.
pub fn cookie_time(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0).min(253_402_300_799);
    let date = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    // httpdate's text is `Thu, 18 Nov 2010 11:27:35 GMT`: fixed places.
    let date = httpdate::fmt_http_date(date);
    let part = |range: std::ops::Range<usize>| date.get(range).unwrap_or_default();
    let year = if part(12..16) > "2037" { part(12..16) } else { part(14..16) };
    format!("{}-{}-{year} {} GMT", part(0..7), part(8..11), part(17..25))
}

/// Browsers that take `SameSite=None` for `Strict` or refuse the cookie: Chrome 4x to 6x, iOS 12, Safari on macOS 10.14.
/// The words are those that ingress-nginx looks for.
fn misreads_none(user_agent: &str) -> bool {
    let has = |text: &str| user_agent.contains(text);
    let chrome = ["Chrome/4", "Chrome/5", "Chrome/6"].iter().any(|version| has(version));
    let ios = has("CPU iPhone OS 12") || has("iPad; CPU OS 12");
    let safari = has("Macintosh") && has("Intel Mac OS X 10_14") && has("Safari") && !has("Chrome");
    chrome || ios || safari
}

#[cfg(test)]
mod tests;
