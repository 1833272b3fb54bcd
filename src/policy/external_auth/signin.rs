//! `auth-signin`: where a client goes whom nobody knows yet, and how the page it wanted is told there.

use http::StatusCode;

use crate::policy::redirect::RedirectStyle;
use crate::policy::template::{Facts, Template};
use crate::reply::{LocalReply, RedirectCause};
use crate::variable::escape_uri;
use crate::wire::fields::is_field_value;

/// Longest text (`B.3`).
const MAX_URL: usize = 2048;

/// A sign-in page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    url: Template,
    /// `?rd=` or `&rd=`; `None` when the URL has that parameter already.
    parameter: Option<Box<str>>,
}

/// Reads `auth-signin`: an http or https URL, or a path of the same host.
pub(in crate::policy) fn parse(text: &str) -> Result<Template, String> {
    if text.len() > MAX_URL {
        return Err(format!("is longer than {MAX_URL} bytes"));
    }
    let odd = |byte: &u8| !(0x21..0x7f).contains(byte) || b"\"'\\<>^`|;".contains(byte);
    if let Some(byte) = text.bytes().find(odd) {
        return Err(format!("{:?} may not stand in it", char::from(byte)));
    }
    let schemes = ["http://", "https://", "$scheme://", "$pass_access_scheme://"];
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    let sound = match rest {
        Some(rest) => !rest.starts_with(['/', '?', '#', ':']) && !rest.is_empty(),
        None => text.starts_with('/') && !text.starts_with("//"),
    };
    if !sound {
        return Err("must start with http:// or https:// and a host, or be a path".into());
    }
    Template::parse(text).map_err(|error| error.to_string())
}

/// Reads `auth-signin-redirect-param`.
pub(in crate::policy) fn parameter(text: &str) -> Result<Box<str>, String> {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if text.len() <= 128 && text.bytes().all(name) {
        Ok(text.into())
    } else {
        Err("is no name of a parameter".into())
    }
}

impl SignIn {
    /// A page that is told where to come back to by `parameter`.
    pub fn new(url: Template, parameter: &str) -> Self {
        let text = url.as_str().split('#').next().unwrap_or_default();
        let query = text.split_once('?').map_or("", |(_, query)| query);
        let pairs = || query.split('&').filter(|pair| !pair.is_empty());
        let told = pairs()
            .filter_map(|pair| pair.split_once('='))
            .any(|(name, value)| name == parameter && !value.is_empty());
        let parameter = match (told, pairs().next()) {
            (true, _) => None,
            (false, None) => Some(format!("?{parameter}=").into()),
            (false, Some(_)) => Some(format!("&{parameter}=").into()),
        };
        Self { url, parameter }
    }

    /// The redirect there. Scheme and host of the page are written as they are, its target is escaped (vector
    /// `auth-url-redirect-to-signin`). `None` when variables made it text that no field may hold.
    pub fn redirect(&self, facts: &Facts<'_>, style: RedirectStyle) -> Option<LocalReply> {
        let view = facts.view;
        let mut location = self.url.expand(facts);
        if let Some(parameter) = &self.parameter {
            let mut target = Vec::with_capacity(view.target.len() + 16);
            escape_uri(view.target, &mut target);
            let target = String::from_utf8_lossy(&target);
            location.push_str(&format!("{parameter}{}://{}{target}", view.forwarded.scheme, view.host.raw));
        }
        if location.starts_with('/') {
            location = style.local(view, &location);
        }
        is_field_value(location.as_bytes()).then_some(LocalReply::Redirect {
            status: StatusCode::FOUND,
            location,
            cause: RedirectCause::SignIn,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{fields, view};
    use crate::policy::template::RouteFacts;

    /// Where a request for `http://Host.Test:8080/?a=b&c=d` is sent.
    fn check(url: &str, parameter: &str, expect: &str) {
        let fields = fields(&[]);
        let view = view("/?a=b&c=d", &fields);
        let facts = Facts { view: &view, route: RouteFacts::default() };
        let signin = SignIn::new(parse(url).unwrap(), parameter);
        match signin.redirect(&facts, RedirectStyle::default()) {
            Some(LocalReply::Redirect { status, location, .. }) => {
                assert_eq!((status.as_u16(), location.as_str()), (302, expect), "{url}");
            }
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn the_wanted_page_is_told_unless_the_url_tells_it() {
        let page = "http://Host.Test:8080%2F%3Fa%3Db%26c%3Dd";
        check("http://$host/start", "rd", &format!("http://host.test/start?rd={page}"));
        check("http://a.test/s?x=1", "rd", &format!("http://a.test/s?x=1&rd={page}"));
        check("http://a.test/s?", "rd", &format!("http://a.test/s??rd={page}"));
        check("http://a.test/s?rd=/x", "rd", "http://a.test/s?rd=/x");
        check("http://a.test/s?rd=", "rd", &format!("http://a.test/s?rd=&rd={page}"));
        check("http://a.test/s?rd=/x", "orig", &format!("http://a.test/s?rd=/x&orig={page}"));
        check("https://a.test/s?rd=$escaped_request_uri", "rd", "https://a.test/s?rd=%2F%3Fa%3Db%26c%3Dd");
        check("/login", "rd", &format!("http://host.test/login?rd={page}"));
        check("$scheme://$host/s?rd=1", "rd", "http://host.test/s?rd=1");
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for bad in ["", "a.test", "//a.test", "javascript:x", "http://", "http:///x", "http://a b", "/x;y"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for bad in ["a b", "a&b", "a=", "é"] {
            assert!(parameter(bad).is_err(), "{bad}");
        }
        assert!(parameter("orig").is_ok());
    }
}
