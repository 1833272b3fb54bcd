//! Services below HTTP: which port leads to which backend, for TCP and UDP. Made by `compile/stream`, read by
//! `proxy/l4` and by whoever opens the ports.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Backend, EndpointSet};
use crate::policy::snippet::settings::Rule;

/// What a port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// As in names of backends: `tcp`, `udp`.
    pub const fn lower(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// As nginx's `$protocol` has it: `TCP`, `UDP`.
    pub const fn upper(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.upper())
    }
}

/// Whether connections of a side begin with a PROXY header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyHeaders {
    /// They do not.
    #[default]
    None,
    /// They do.
    Required,
}

/// One entry of `--tcp-services-configmap` or `--udp-services-configmap`, or a port of a `stream-snippet`.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamService {
    /// Where connections go; its name is `tcp-<namespace>-<service>-<port>` or `udp-…`, or that of the object with the
    /// snippet and the port that is open.
    pub backend: Arc<Backend>,
    /// What a `stream-snippet` says beside.
    pub snippet: Option<Arc<Snippet>>,
    /// Third part of the entry: clients send a PROXY header.
    pub accept: ProxyHeaders,
    /// Fourth part: backends get one, version 1.
    pub send: ProxyHeaders,
}

/// A port of a `stream-snippet`: it names its endpoints itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snippet {
    /// The one address on which the port is open; `None` for those of all ports.
    pub address: Option<IpAddr>,
    /// Where sessions go.
    pub endpoints: Arc<EndpointSet>,
    /// `proxy_timeout`.
    pub timeout: Option<Duration>,
    /// `proxy_connect_timeout`.
    pub connect_timeout: Option<Duration>,
    /// `proxy_responses`.
    pub responses: Option<u32>,
    /// `allow`, `deny`, in order; who is named by none is let in.
    pub access: Vec<Rule>,
}

impl StreamService {
    /// True where `deny` keeps a client out.
    pub fn refuses(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let rules = self.snippet.iter().flat_map(|snippet| &snippet.access);
        let first = rules.into_iter().find(|rule| rule.net.is_none_or(|net| net.contains(&client)));
        first.is_some_and(|rule| !rule.allow)
    }

    /// Idle time of a session, the ConfigMap's where none is said.
    pub fn timeout(&self, global: Duration) -> Duration {
        self.snippet.as_ref().and_then(|snippet| snippet.timeout).unwrap_or(global)
    }
}

/// All entries that can be served.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StreamTable(BTreeMap<(Transport, u16), Arc<StreamService>>);

impl StreamTable {
    /// A table of these.
    pub fn new(services: impl IntoIterator<Item = ((Transport, u16), Arc<StreamService>)>) -> Self {
        Self(services.into_iter().collect())
    }

    /// What a port leads to.
    pub fn service(&self, transport: Transport, port: u16) -> Option<&Arc<StreamService>> {
        self.0.get(&(transport, port))
    }

    /// Every port that is to be open, in order, with its address where it has one of its own.
    pub fn ports(&self) -> impl Iterator<Item = ((Transport, u16), Option<IpAddr>)> {
        let address = |service: &Arc<StreamService>| service.snippet.as_ref()?.address;
        self.0.iter().map(move |(port, service)| (*port, address(service)))
    }

    /// All services by port, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&(Transport, u16), &Arc<StreamService>)> {
        self.0.iter()
    }
}
