//! Who the client is and how it came: trust in `X-Forwarded-*`, real-IP walk, PROXY protocol (`HF-4`, `HF-5`).

use std::net::SocketAddr;

use crate::request::Scheme;

/// What the connection itself says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The TCP peer.
    pub peer: SocketAddr,
    /// Port of the listener the client reached.
    pub listen_port: u16,
    /// Scheme of the connection.
    pub scheme: Scheme,
    /// Source and destination of an accepted PROXY header.
    pub proxy: Option<ProxyFacts>,
}

/// An accepted PROXY protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyFacts {
    /// Client as the balancer in front saw it.
    pub source: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}
