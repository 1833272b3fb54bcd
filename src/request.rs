//! One request as decisions see it: built once, read by routing and every policy.
//!
//! There is one view of the path ([`NormPath`]) and one of the host ([`Host`]); functions that decide take these
//! types, so no decision can look at other bytes than routing did (`C-7`).

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::Method;

use crate::variable::Handshake;
use crate::wire::{Fields, Version};

pub mod normalize;

pub use normalize::{BadTarget, NormPath, decoded, normalize, split_target};

/// Scheme of the downstream connection itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS that ends here.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The authority a request names: `Host`, the authority of an absolute-form target, or `:authority`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<'r> {
    /// As sent, port and case included; empty for HTTP/1.0 without Host.
    pub raw: Cow<'r, str>,
    /// Lower case, without port and without one trailing dot: what routing compares.
    pub name: Cow<'r, str>,
}

/// What is known about the client and the way it came, after PROXY protocol and trusted forwarded fields
/// (`policy::forwarded`). These are nginx's `$remote_addr`, `$pass_access_scheme`, `$pass_port`,
/// `$best_http_host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded<'r> {
    /// Address of the client.
    pub client: IpAddr,
    /// Address that the client has where nobody who may tell another does.
    pub source: IpAddr,
    /// Source of the connection's PROXY header, whoever sent that.
    pub proxied: Option<IpAddr>,
    /// Scheme to report and to judge redirects by; raw text of a trusted `X-Forwarded-Proto` where one counts.
    pub scheme: Cow<'r, str>,
    /// Port to report.
    pub port: Cow<'r, str>,
    /// Host to report: `Host` or the first element of a trusted `X-Forwarded-Host`. Raw text.
    pub host: Cow<'r, str>,
    /// Value for `X-Forwarded-For` to the backend.
    pub chain: Cow<'r, str>,
    /// [`Self::chain`] is the address of the client and nothing else.
    pub alone: bool,
}

/// One request, all facts in place.
#[derive(Debug, Clone)]
pub struct RequestView<'r> {
    /// Method.
    pub method: &'r Method,
    /// Version.
    pub version: Version,
    /// Scheme of the connection.
    pub scheme: Scheme,
    /// Host.
    pub host: Host<'r>,
    /// Path and query as sent (absolute-form reduced to them), never decoded: what an unrewritten request sends on.
    pub target: &'r [u8],
    /// Normalised path: what matching and policies look at.
    pub path: NormPath<'r>,
    /// Raw query without `?`; `None` when there is no `?`.
    pub query: Option<&'r [u8]>,
    /// Fields after removal of hop-by-hop, nominated and underscore names (`C.5` steps 1 to 4).
    pub fields: &'r Fields,
    /// The TCP peer.
    pub peer: SocketAddr,
    /// Port of the listener the client reached.
    pub listen_port: u16,
    /// Client, scheme, port and host after trust was judged.
    pub forwarded: Forwarded<'r>,
    /// One random number per request, drawn at the edge: canary weights use it, so deciding stays pure.
    pub roll: u32,
    /// Its TLS connection, for variables.
    pub handshake: Option<&'r dyn Handshake>,
}

impl RequestView<'_> {
    /// Value of the first cookie called `name` over all `Cookie` lines, whatever the case of the name: nginx's
    /// `$cookie_<name>`.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }

    /// Value of the last cookie called exactly `name`, as the sticky balancer of ingress-nginx reads it: a cookie for a
    /// longer path comes first (RFC 6265 section 5.4), so the one with the widest path counts.
    pub fn last_cookie(&self, name: &str) -> Option<&str> {
        self.cookies().filter(|(key, _)| *key == name).last().map(|(_, value)| value)
    }

    fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .get_all("cookie")
            .filter_map(|line| std::str::from_utf8(line).ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .map(|(key, value)| (key.trim_end(), value.trim()))
    }
}
