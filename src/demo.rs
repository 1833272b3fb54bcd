//! `narthex demo`: the main job with nothing else installed. Example manifests in a directory, echo backends on
//! loopback, certificates from an authority of its own, and the commands to try.
//!
//! This module makes a `standalone` configuration and what it needs; it serves nothing itself. `app` runs the proxy
//! over it, so that what one tries here is what one gets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::config::{Config, Source};
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

/// Writes the example, starts its backends and turns `config` into one that serves it. Addresses that no flag
/// chose get a free port where theirs is taken.
///
/// # Errors
/// [`DemoError`]; nothing is left behind then.
pub fn prepare(mut config: Config) -> Result<(Config, Demo), DemoError> {
    let wanted = match &config.source {
        Source::Demo(directory) => directory.clone(),
        Source::Directory(directory) => Some(directory.clone()),
    };
    config.http = listen(config.http, config.given.http)?;
    config.https = listen(config.https, config.given.https)?;
    config.admin = listen(config.admin, config.given.admin)?;
    let backends = Backends::start().map_err(DemoError::Backends)?;
    let directory = Directory::open(wanted)?;
    directory.fill(&backends, config.https.port())?;
    config.source = Source::Directory(directory.path().to_owned());
    config.options.config_map.get_or_insert_with(|| ObjectKey::new(NAMESPACE, SETTINGS));
    Ok((config, Demo { directory, _backends: backends }))
}

/// The address as it is when a flag chose it; else as it is while its port is free, and with a free one if not.
fn listen(wanted: SocketAddr, given: bool) -> Result<SocketAddr, DemoError> {
    if given {
        return Ok(wanted);
    }
    TcpListener::bind(wanted)
        .or_else(|_taken| TcpListener::bind(SocketAddr::new(wanted.ip(), 0)))
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
