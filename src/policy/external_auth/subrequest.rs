//! The fields of a question to the authentication service, as ingress-nginx's internal location sets them
//! (`surface.md` 7.4): the client's, with ours in front. A body is never sent.

use super::ExternalAuth;
use crate::policy::forwarded::address_text;
use crate::policy::request_headers::is_claim;
use crate::policy::template::{Facts, RouteFacts};
use crate::request::RequestView;
use crate::wire::Fields;

/// What a question is made of.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    /// The request that is asked about.
    pub view: &'q RequestView<'q>,
    /// Its route.
    pub route: RouteFacts<'q>,
    /// The sender's word about the client counts.
    pub trusted: bool,
    /// Host of the service, without port.
    pub host: &'q str,
    /// `ssl-client-*`, where the host asks for client certificates.
    pub certificate: &'q [(Box<str>, Option<Vec<u8>>)],
}

/// Fields that would make the service speak about something else than the request: left out where answers are kept, as
/// nginx does with `proxy_cache`.
const CONDITIONAL: [&str; 6] =
    ["if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"];
/// Names that are ours or are never sent.
const OURS: [&str; 11] = [
    "host",
    "content-length",
    "x-forwarded-proto",
    "x-forwarded-for",
    "x-request-id",
    "x-original-url",
    "x-original-method",
    "x-sent-from",
    "x-real-ip",
    "x-auth-request-redirect",
    "transfer-encoding",
];

impl ExternalAuth {
    /// The fields. Values that cannot be sent are left out.
    pub fn question(&self, question: &Question<'_>) -> Fields {
        let view = question.view;
        let facts = Facts { view, route: question.route };
        let mut fields = Fields::with_capacity(view.fields.text_len() + 512);
        let mut own = |name: &str, value: &[u8]| {
            if !value.is_empty() {
                let _unsendable = fields.append(name, value.trim_ascii());
            }
        };
        own("Host", question.host.as_bytes());
        own("X-Request-ID", question.route.request_id.as_bytes());
        if self.method.is_some() {
            own("X-Original-URI", view.target);
            own("X-Scheme", view.forwarded.scheme.as_bytes());
        }
        let mut url = format!("{}://{}", view.scheme.as_str(), view.host.raw).into_bytes();
        url.extend_from_slice(view.target);
        own("X-Original-URL", &url);
        own("X-Original-Method", view.method.as_str().as_bytes());
        own("X-Sent-From", b"nginx-ingress-controller");
        own("X-Real-IP", address_text(view.forwarded.client).as_bytes());
        own("X-Forwarded-For", view.forwarded.chain.as_bytes());
        match &self.request_redirect {
            Some(template) => own("X-Auth-Request-Redirect", template.expand(&facts).as_bytes()),
            None => own("X-Auth-Request-Redirect", view.target),
        }
        if let Some(trace) = question.route.trace {
            own("traceparent", trace.traceparent().as_bytes());
            own("tracestate", &trace.state);
        }
        for (name, value) in question.certificate {
            own(name, value.as_deref().unwrap_or_default());
        }
        for (name, value) in view.fields.iter() {
            if self.passes(name, question) {
                let _full = fields.push_parsed(name, value);
            }
        }
        for (name, template) in self.set_headers.iter() {
            let value = template.expand(&facts);
            if value.is_empty() || fields.set(name, value.trim().as_bytes()).is_err() {
                fields.remove(name);
            }
        }
        fields
    }

    /// True for fields of the client that the service sees.
    fn passes(&self, name: &str, question: &Question<'_>) -> bool {
        let is = |other: &&str| name.eq_ignore_ascii_case(other);
        let ours = OURS.iter().any(is)
            || (self.method.is_some() && ["x-original-uri", "x-scheme"].iter().any(is))
            || question.certificate.iter().any(|(own, _)| name.eq_ignore_ascii_case(own))
            || (question.route.trace.is_some() && ["traceparent", "tracestate"].iter().any(is))
            || (self.cache.is_some() && CONDITIONAL.iter().any(is));
        !ours && (question.trusted || !is_claim(name))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;

    use super::*;
    use crate::policy::annotation::sample::{fields, view};
    use crate::policy::external_auth::{AuthUrl, field};
    use crate::policy::template::Template;

    const CLIENT: [(&str, &str); 8] = [
        ("Cookie", "sid=1"),
        ("Authorization", "Bearer x"),
        ("Content-Length", "12"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Original-URL", "http://spoofed/"),
        ("X-Forwarded-Host", "spoofed"),
        ("ssl-client-verify", "SUCCESS"),
        ("If-None-Match", "\"1\""),
    ];

    fn asked(auth: &ExternalAuth, trusted: bool) -> Vec<String> {
        let client = fields(&CLIENT);
        let view = view("/a?b=c", &client);
        let certificate: &[(Box<str>, Option<Vec<u8>>)] = &[];
        let route = RouteFacts { request_id: "r1", ..RouteFacts::default() };
        let question = Question { view: &view, route, trusted, host: "auth.test", certificate };
        let fields = auth.question(&question);
        fields.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect()
    }

    fn auth() -> ExternalAuth {
        ExternalAuth::of(AuthUrl::parse("http://auth.test:81/check").unwrap())
    }

    const PLAIN: [&str; 11] = [
        "Host: auth.test",
        "X-Request-ID: r1",
        "X-Original-URL: http://Host.Test:8080/a?b=c",
        "X-Original-Method: GET",
        "X-Sent-From: nginx-ingress-controller",
        "X-Real-IP: 10.1.2.3",
        "X-Forwarded-For: 10.1.2.3",
        "X-Auth-Request-Redirect: /a?b=c",
        "Cookie: sid=1",
        "Authorization: Bearer x",
        "If-None-Match: \"1\"",
    ];

    #[test]
    fn the_question_carries_the_client_s_fields_and_ours_and_no_claims() {
        assert_eq!(asked(&auth(), false), PLAIN);
        let trusted = asked(&auth(), true);
        assert!(trusted.contains(&"X-Forwarded-Host: spoofed".to_owned()), "{trusted:?}");
        assert!(!trusted.iter().any(|line| line.contains("gopher") || line.contains("http://spoofed")));
    }

    #[test]
    fn a_method_brings_two_more_fields_and_a_cache_takes_conditions_away() {
        let with = ExternalAuth {
            method: Some(Method::HEAD),
            cache: Some(crate::policy::external_auth::Cache {
                key: Template::parse("x").unwrap(),
                lifetimes: crate::policy::external_auth::Lifetimes::default(),
            }),
            ..auth()
        };
        let asked = asked(&with, false);
        assert!(asked.contains(&"X-Original-URI: /a?b=c".to_owned()), "{asked:?}");
        assert!(asked.contains(&"X-Scheme: http".to_owned()), "{asked:?}");
        assert!(!asked.iter().any(|line| line.starts_with("If-")), "{asked:?}");
    }

    #[test]
    fn fields_of_the_config_map_come_last_and_may_take_away() {
        let set = [("Cookie", ""), ("X-Sent-From", "us"), ("X-User", "$http_authorization")];
        let set: Vec<_> = set.iter().map(|(name, value)| field(name, value).unwrap()).collect();
        let with = ExternalAuth {
            set_headers: Arc::from(set),
            request_redirect: Some(Template::parse("https://$host/back").unwrap()),
            ..auth()
        };
        let asked = asked(&with, false);
        assert!(!asked.iter().any(|line| line.starts_with("Cookie")), "{asked:?}");
        for expect in
            ["X-Sent-From: us", "X-User: Bearer x", "X-Auth-Request-Redirect: https://host.test/back"]
        {
            assert!(asked.contains(&expect.to_owned()), "{asked:?}");
        }
    }
}
