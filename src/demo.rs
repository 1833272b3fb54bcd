//! `narthex demo`: the main job with nothing else installed. Example manifests in a directory, echo backends on
//! loopback, certificates from an authority of its own, and the commands to try.
//!
//! This module makes a `standalone` configuration and what it needs; it serves nothing itself. `app` runs the proxy
//! over it, so that what one tries here is what one gets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::config::{ADMIN_ADDRESS, Config, Source};
use crate::model::ObjectKey;

mod backend;
mod certificate;
mod directory;
mod introduction;
mod websocket;

use backend::Backends;
use directory::Directory;

/// Namespace of everything in the example.
const NAMESPACE: &str = "demo";
/// ConfigMap with the global settings of the example.
const SETTINGS: &str = "settings";
/// Port for HTTP, if it is free.
const HTTP_PORT: u16 = 8080;
/// Port for HTTPS, if it is free.
const HTTPS_PORT: u16 = 8443;

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The example cannot be written.
    #[error("cannot write the example to {}", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The backends cannot be started.
    #[error("cannot start the backends of the example")]
    Backends(#[source] io::Error),
    /// There is no free port.
    #[error("no free port on loopback")]
    Ports(#[source] io::Error),
    /// A certificate cannot be made.
    #[error("cannot make a certificate for the example")]
    Certificate(#[from] rcgen::Error),
}

/// What lives as long as the demo runs: its backends, and its directory unless it was named by the user.
#[derive(Debug)]
pub struct Demo {
    directory: Directory,
    _backends: Backends,
}

/// Writes the example, starts its backends and turns `config` into one that serves it. Ports that were not given are
/// 8080 and 8443 on loopback, or free ones.
///
/// # Errors
/// [`DemoError`]; nothing is left behind then.
pub fn prepare(mut config: Config) -> Result<(Config, Demo), DemoError> {
    let wanted = match &config.source {
        Source::Demo(directory) => directory.clone(),
        Source::Directory(directory) => Some(directory.clone()),
        // Not a demo at all; a new directory does no harm.
        Source::Cluster(_) => None,
    };
    config.http = listen(config.http, config.given.http, HTTP_PORT)?;
    config.https = listen(config.https, config.given.https, HTTPS_PORT)?;
    config.admin = listen(config.admin, config.given.admin, ADMIN_ADDRESS.port())?;
    let backends = Backends::start().map_err(DemoError::Backends)?;
    let directory = Directory::open(wanted)?;
    directory.fill(&backends, config.https.port())?;
    config.source = Source::Directory(directory.path().to_owned());
    config.options.config_map.get_or_insert_with(|| ObjectKey::new(NAMESPACE, SETTINGS));
    Ok((config, Demo { directory, _backends: backends }))
}

/// `address` if a flag gave it, else `port` on loopback, or a free one.
fn listen(address: SocketAddr, given: bool, port: u16) -> Result<SocketAddr, DemoError> {
    if given {
        return Ok(address);
    }
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(loopback(port))
        .or_else(|_taken| TcpListener::bind(loopback(0)))
        .and_then(|listener| listener.local_addr())
        .map_err(DemoError::Ports)
}

impl Demo {
    /// Where the manifests lie.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What to try, as printed once the proxy serves.
    pub fn introduction(&self, http: SocketAddr, https: SocketAddr, admin: SocketAddr) -> String {
        introduction::text(self.directory(), http.port(), https.port(), admin)
    }
}

#[cfg(test)]
mod tests;
