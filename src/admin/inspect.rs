//! What the API shows, as seen from HTTP: a question and a JSON value.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

/// Answers questions about the configuration in use. No answer holds key material or field values that a client sent.
pub trait Inspect: Send + Sync {
    /// `/api/v1/generation`.
    ///
    /// # Errors
    /// As long as there is no table; so for all of them.
    fn generation(&self) -> Result<Value, Refused>;
    /// `/api/v1/routes`.
    ///
    /// # Errors
    /// See [`Inspect::generation`].
    fn routes(&self) -> Result<Value, Refused>;
    /// `/api/v1/diagnostics`.
    ///
    /// # Errors
    /// See [`Inspect::generation`].
    fn diagnostics(&self) -> Result<Value, Refused>;
    /// `/api/v1/backends`.
    ///
    /// # Errors
    /// See [`Inspect::generation`].
    fn backends(&self) -> Result<Value, Refused>;
    /// `/api/v1/certs`.
    ///
    /// # Errors
    /// See [`Inspect::generation`].
    fn certs(&self) -> Result<Value, Refused>;
    /// `/api/v1/explain`.
    ///
    /// # Errors
    /// Also when the request asked about is none.
    fn explain(&self, query: &ExplainQuery) -> Result<Value, Refused>;
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Nothing is published yet.
    NoTable,
    /// The question makes no sense.
    BadQuery(String),
}

/// The request that `explain` is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainQuery {
    /// `method`, `GET` by default.
    pub method: String,
    /// `url`: absolute, `http://` or `https://`.
    pub url: String,
    /// `header`, any number: `Name: value`.
    pub headers: Vec<(String, String)>,
    /// `client`, loopback by default.
    pub client: IpAddr,
}

impl ExplainQuery {
    /// Reads a query string. Unknown names are errors: a misspelt one would answer another question.
    ///
    /// # Errors
    /// A sentence for the person who asks.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self {
            method: "GET".to_owned(),
            url: String::new(),
            headers: Vec::new(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value =
                decoded(value).ok_or_else(|| format!("the value of {name} is not percent-encoded UTF-8"))?;
            if value.chars().any(char::is_control) {
                return Err(format!("the value of {name} holds a control character"));
            }
            match name {
                "method" => parsed.method = value,
                "url" => parsed.url = value,
                "header" => {
                    let (name, value) = value.split_once(':').ok_or("a header is written as Name: value")?;
                    parsed.headers.push((name.trim().to_owned(), value.trim().to_owned()));
                }
                "client" => {
                    parsed.client =
                        value.parse().map_err(|_| format!("client {value:?} is no IP address"))?;
                }
                other => {
                    return Err(format!(
                        "unknown parameter {other:?}; known are method, url, header, client"
                    ));
                }
            }
        }
        if parsed.url.is_empty() {
            return Err(
                "url is missing: /api/v1/explain?method=GET&url=http://host/path&header=Name:%20value"
                    .to_owned(),
            );
        }
        if parsed.method.is_empty() || !parsed.method.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("method is no HTTP method".to_owned());
        }
        Ok(parsed)
    }
}

/// Percent-decoding with `+` for a space, as forms and curl write queries.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_method_url_headers_and_client() {
        let parsed = ExplainQuery::parse(
            "method=POST&url=https%3A%2F%2Ffoo.bar%2Fa%3Fb%3Dc&header=X-A:+1&header=Cookie%3A%20a=b:c&client=::1",
        );
        let expect = ExplainQuery {
            method: "POST".to_owned(),
            url: "https://foo.bar/a?b=c".to_owned(),
            headers: vec![("X-A".to_owned(), "1".to_owned()), ("Cookie".to_owned(), "a=b:c".to_owned())],
            client: "::1".parse().unwrap(),
        };
        assert_eq!(parsed, Ok(expect));
    }

    #[test]
    fn method_and_client_have_defaults() {
        let parsed = ExplainQuery::parse("url=http://a/").unwrap();
        assert_eq!((parsed.method.as_str(), parsed.client), ("GET", IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn questions_that_make_no_sense_are_refused() {
        for query in [
            "",
            "method=GET",
            "url=",
            "url=http://a/&methd=GET",
            "url=%zz",
            "url=%+1",
            "url=%",
            "url=%ff",
            "url=http://a/%0d%0aX:1",
            "url=http://a/&header=novalue",
            "url=http://a/&header=A:%0Ab",
            "url=http://a/&client=host",
            "url=http://a/&method=",
            "url=http://a/&method=GET%20/",
        ] {
            assert!(ExplainQuery::parse(query).is_err(), "{query}");
        }
    }
}
