//! Services below HTTP: which port leads to which backend, for TCP and UDP. Made by `compile/stream`, read by
//! `proxy/l4` and by whoever opens the ports.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Backend;

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

/// One entry of `--tcp-services-configmap` or `--udp-services-configmap`.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamService {
    /// Where connections go; its name is `tcp-<namespace>-<service>-<port>` or `udp-…`.
    pub backend: Arc<Backend>,
    /// Third part of the entry: clients send a PROXY header.
    pub accept: ProxyHeaders,
    /// Fourth part: backends get one, version 1.
    pub send: ProxyHeaders,
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

    /// Every port that is to be open, in order.
    pub fn ports(&self) -> impl Iterator<Item = (Transport, u16)> {
        self.0.keys().copied()
    }
}
