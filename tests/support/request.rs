//! Requests for tests of the pure core.

#![allow(dead_code, reason = "every test takes what it needs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken fixture fails the test")]

use std::borrow::Cow;
use std::net::SocketAddr;

use http::Method;
use narthex::policy::forwarded::{self, Connection, ProxyFacts};
use narthex::policy::global::Globals;
use narthex::request::{Host, RequestView, Scheme, normalize, split_target};
use narthex::wire::{Fields, Version};

/// A request before it is a view.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) scheme: Scheme,
    pub(crate) host: String,
    pub(crate) target: String,
    pub(crate) fields: Fields,
    pub(crate) proxy: Option<ProxyFacts>,
    pub(crate) roll: u32,
}

impl Ask {
    pub(crate) fn get(host: &str, target: &str) -> Self {
        Self {
            method: Method::GET,
            version: Version::Http11,
            scheme: Scheme::Http,
            host: host.to_owned(),
            target: target.to_owned(),
            fields: Fields::new(),
            proxy: None,
            roll: 0,
        }
    }

    pub(crate) fn https(self) -> Self {
        Self { scheme: Scheme::Https, ..self }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.append(name, value.as_bytes()).expect("a sound field");
        self
    }

    /// The view, if the target has a normal form.
    pub(crate) fn view<'r>(&'r self, globals: &Globals) -> Option<RequestView<'r>> {
        let raw: &'r str = &self.host;
        let name = raw.split(':').next().unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let host = Host { raw: Cow::Borrowed(raw), name: Cow::Owned(name) };
        let listen_port = if self.scheme == Scheme::Https { 443 } else { 80 };
        let peer: SocketAddr = ([127, 0, 0, 1], 40000).into();
        let connection = Connection { peer, listen_port, scheme: self.scheme, proxy: self.proxy };
        let forwarded = forwarded::resolve(&self.fields, &connection, &host, globals);
        let target = self.target.as_bytes();
        Some(RequestView {
            method: &self.method,
            version: self.version,
            scheme: self.scheme,
            host,
            target,
            path: normalize(target).ok()?,
            query: split_target(target).1,
            fields: &self.fields,
            peer,
            listen_port,
            forwarded,
            roll: self.roll,
            handshake: None,
        })
    }
}
