//! A request told in words (method, URL, fields) made into the view that the data plane would have of it: what
//! `narthex explain` and the admin API ask about. Pure; the parsers are those of the data plane.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::policy::forwarded::Connection;
use crate::request::Scheme;
use crate::route::explain::{Explanation, explain};
use crate::route::intake::Intake;
use crate::route::{EndpointMap, Table};
use crate::wire::{self, HeadLimits, Parse};

/// A request as a person tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// Method, upper case.
    pub method: String,
    /// `http://host[:port]/path?query`; `https` means TLS.
    pub url: String,
    /// Further fields, `name` and `value`. A `Host` among them replaces that of the URL.
    pub fields: Vec<(String, String)>,
    /// Who asks.
    pub client: IpAddr,
}

impl Inquiry {
    /// An inquiry without fields, from loopback.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self { method: method.into(), url: url.into(), fields: Vec::new(), client }
    }

    /// Reads `Name: value`, as `curl -H` takes it.
    pub fn field(text: &str) -> Option<(String, String)> {
        let (name, value) = text.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    }

    /// Explains what a table does with this request. Where the weight of a canary decides, both ways are told.
    ///
    /// # Errors
    /// A sentence saying why this is no request that the data plane would look at: it answers 400 or the like.
    pub fn explain(&self, table: &Table, endpoints: &EndpointMap) -> Result<Explanation, String> {
        let (scheme, authority, target) = self.split()?;
        let listen_port = match scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let head = match wire::parse_request_head(&self.head(authority, &target), &HeadLimits::default()) {
            Parse::Complete(parsed) => parsed.head,
            Parse::Reject(reject) => {
                return Err(format!(
                    "such a request is answered {}: {}",
                    reject.status.as_u16(),
                    reject.reason
                ));
            }
            Parse::Incomplete => return Err("this is no request".into()),
        };
        let intake = Intake::of(&head)
            .map_err(|reply| format!("such a request is answered {}", reply.status().as_u16()))?;
        let peer = SocketAddr::new(self.client, 0);
        let connection = Connection { peer, listen_port, scheme, proxy: None };
        let view = intake.view(&connection, &table.globals, 0);
        Ok(explain(table, endpoints, &view))
    }

    /// Scheme, authority and target of the URL.
    fn split(&self) -> Result<(Scheme, &str, String), String> {
        let (scheme, rest) = if let Some(rest) = self.url.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else if let Some(rest) = self.url.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else {
            return Err("a URL starts with http:// or https://".into());
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        // A fragment never leaves the client.
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok((scheme, authority, target))
    }

    /// The head as a client would write it.
    fn head(&self, authority: &str, target: &str) -> Vec<u8> {
        let mut head = format!("{} {target} HTTP/1.1\r\n", self.method);
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {authority}\r\n"));
        }
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}
