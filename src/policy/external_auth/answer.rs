//! What the authentication service's answer means (nginx `ngx_http_auth_request_module`).

use super::ExternalAuth;
use crate::reply::LocalReply;
use crate::wire::{Fields, ResponseHead};

/// Bytes of an answer's head above which it is no answer (B-20).
const MAX_HEAD: usize = 16 * 1024;
/// Cookies of one answer that are passed on.
const MAX_COOKIES: usize = 50;

/// What the service says about the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// 2xx.
    Admit,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// Anything else, with the status.
    Fail(u16),
}

/// An answer, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its meaning.
    pub said: Said,
    /// `auth-response-headers`: what the backend gets; `None` takes the client's field away.
    pub fields: Vec<(Box<str>, Option<Vec<u8>>)>,
    /// `Set-Cookie` lines.
    pub cookies: Vec<Vec<u8>>,
    /// `WWW-Authenticate` lines of 401.
    pub challenges: Vec<String>,
}

impl Heard {
    /// Bytes it takes, roughly.
    pub fn size(&self) -> usize {
        let fields =
            self.fields.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len) + 64);
        let challenges = self.challenges.iter().map(|line| line.len() + 32);
        256 + fields.sum::<usize>() + challenges.sum::<usize>()
    }

    /// The answer for a request that was not admitted.
    pub fn refusal(&self) -> Option<LocalReply> {
        match self.said {
            Said::Admit => None,
            Said::Unauthorized => Some(LocalReply::Unauthorized { challenges: self.challenges.clone() }),
            Said::Forbidden => Some(LocalReply::AuthForbidden),
            Said::Fail(_) => Some(LocalReply::AuthFailed { reason: "status" }),
        }
    }
}

impl ExternalAuth {
    /// Reads an answer's head.
    pub fn heard(&self, head: &ResponseHead) -> Heard {
        let fields = &head.fields;
        let said = match head.status.as_u16() {
            _ if fields.text_len() > MAX_HEAD => Said::Fail(head.status.as_u16()),
            200..300 => Said::Admit,
            401 => Said::Unauthorized,
            403 => Said::Forbidden,
            other => Said::Fail(other),
        };
        let challenges = fields.get_all("www-authenticate").filter(|_| said == Said::Unauthorized);
        Heard {
            said,
            fields: self
                .response_headers
                .iter()
                .map(|name| (name.clone(), joined(fields, name).filter(|_| said == Said::Admit)))
                .collect(),
            cookies: fields.get_all("set-cookie").take(MAX_COOKIES).map(<[u8]>::to_vec).collect(),
            challenges: challenges.map(|line| String::from_utf8_lossy(line).into_owned()).collect(),
        }
    }

    /// What the backend may not see of the client's fields when nobody was asked (`satisfy: any`).
    pub fn unheard(&self) -> impl Iterator<Item = (Box<str>, Option<Vec<u8>>)> {
        self.response_headers.iter().map(|name| (name.clone(), None))
    }
}

/// The lines of a field as one list, as nginx's `$upstream_http_name`; `None` where it is absent or empty.
fn joined(fields: &Fields, name: &str) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = fields.get_all(name).filter(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
}

/// True for statuses with which nginx's `add_header` writes fields: those that pass the service's cookies on.
pub fn carries_cookies(status: u16) -> bool {
    matches!(status, 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;

    use super::*;
    use crate::policy::annotation::sample::fields;
    use crate::policy::external_auth::AuthUrl;
    use crate::wire::Version;

    fn heard(status: u16, lines: &[(&str, &str)]) -> Heard {
        let mut auth = ExternalAuth::of(AuthUrl::parse("http://auth.test/").unwrap());
        auth.response_headers = Arc::from(["X-User".into(), "X-Mail".into()]);
        let status = StatusCode::from_u16(status).unwrap();
        auth.heard(&ResponseHead { status, reason: None, version: Version::Http11, fields: fields(lines) })
    }

    #[test]
    fn only_2xx_admits_and_only_401_and_403_are_passed_on() {
        for (status, said) in [
            (200, Said::Admit),
            (202, Said::Admit),
            (299, Said::Admit),
            (302, Said::Fail(302)),
            (304, Said::Fail(304)),
            (400, Said::Fail(400)),
            (401, Said::Unauthorized),
            (403, Said::Forbidden),
            (404, Said::Fail(404)),
            (500, Said::Fail(500)),
        ] {
            assert_eq!(heard(status, &[]).said, said, "{status}");
        }
        let huge = "x".repeat(20_000);
        assert_eq!(heard(200, &[("X-Huge", &huge)]).said, Said::Fail(200));
    }

    #[test]
    fn listed_fields_are_copied_and_missing_ones_taken_away() {
        let heard = heard(
            200,
            &[
                ("x-user", "ann"),
                ("X-User", "bob"),
                ("X-Other", "1"),
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2"),
            ],
        );
        let fields: Vec<_> = heard
            .fields
            .iter()
            .map(|(name, value)| (&**name, value.as_deref().map(String::from_utf8_lossy)))
            .collect();
        assert_eq!(fields, [("X-User", Some("ann, bob".into())), ("X-Mail", None)]);
        assert_eq!(heard.cookies, [b"a=1", b"b=2"]);
    }

    #[test]
    fn a_refusal_gives_the_backend_nothing_and_the_client_its_challenges() {
        let lines =
            [("WWW-Authenticate", "Bearer"), ("WWW-Authenticate", "Basic realm=\"x\""), ("X-User", "ann")];
        let refused = heard(401, &lines);
        assert!(refused.fields.iter().all(|(_, value)| value.is_none()));
        let expect =
            LocalReply::Unauthorized { challenges: vec!["Bearer".into(), "Basic realm=\"x\"".into()] };
        assert_eq!(refused.refusal(), Some(expect));
        assert_eq!(heard(403, &lines).challenges, [""; 0]);
        assert_eq!(heard(200, &lines).refusal(), None);
        assert_eq!(heard(503, &[]).refusal().map(|reply| reply.status().as_u16()), Some(500));
    }
}
