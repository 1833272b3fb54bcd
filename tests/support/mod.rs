//! What end-to-end tests share: a running proxy over a directory of manifests, scripted backends, raw clients.
//!
//! Everything is on loopback and port 0; waiting is a bounded loop over a condition, never a fixed sleep.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this module")]

pub mod backend;
pub mod client;
pub mod frames;
pub mod manifests;
pub mod mmdb;
pub mod tls;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use narthex::app::{self, Running, StartError};

/// A proxy started in this process over manifests of its own; stopped when dropped.
pub struct TestProxy {
    directory: tempfile::TempDir,
    running: Option<Running>,
}

impl TestProxy {
    /// Starts with one manifest file and extra flags.
    pub fn start(manifests: &str, flags: &[&str]) -> Self {
        Self::try_start(manifests, flags).expect("the proxy starts")
    }

    /// The same, for what may not start.
    pub fn try_start(manifests: &str, flags: &[&str]) -> Result<Self, StartError> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("all.yaml"), manifests).expect("manifests written");
        let mut args = vec![
            "narthex".to_owned(),
            "standalone".to_owned(),
            format!("--manifests={}", directory.path().display()),
        ];
        let ports = ["--http-addr", "--https-addr", "--admin-addr"];
        let given = |port: &&str| flags.iter().any(|flag| flag.starts_with(port));
        args.extend(ports.iter().filter(|port| !given(port)).map(|port| format!("{port}=127.0.0.1:0")));
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        if !flags.iter().any(|flag| flag.starts_with("--configmap")) {
            // The access log is stdout, which here is the test report.
            let quiet = manifests::config_map(&[("disable-access-log", "true")]);
            std::fs::write(directory.path().join("config.yaml"), quiet).expect("manifests written");
            args.push("--configmap=default/config".to_owned());
        }
        let config = app::parse(args).expect("flags of the test are sound");
        let running = app::start(config)?;
        Ok(Self { directory, running: Some(running) })
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("running until dropped")
    }

    /// The clear-text listener.
    pub fn http(&self) -> SocketAddr {
        self.running().http()
    }

    /// The TLS listener.
    pub fn https(&self) -> SocketAddr {
        self.running().https()
    }

    /// The admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.running().admin()
    }

    /// Where the manifests lie.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces the manifests by rename and waits until a later generation is published.
    pub fn replace(&self, manifests: &str) {
        let before = self.generation();
        self.write(manifests);
        eventually("a new generation", || self.generation() > before);
    }

    /// Replaces the manifests, has them read at once (as SIGHUP does) and waits until they are published.
    pub fn swap(&self, manifests: &str) {
        let before = self.generation();
        self.write(manifests);
        self.running().reread();
        eventually("a new generation", || self.generation() > before);
    }

    /// Replaces the manifests by rename and does not wait.
    pub fn write(&self, manifests: &str) {
        let next = self.directory.path().join("next.tmp");
        std::fs::write(&next, manifests).expect("manifests written");
        std::fs::rename(&next, self.directory.path().join("all.yaml")).expect("manifests renamed");
    }

    /// Generation of the published snapshot.
    pub fn generation(&self) -> u64 {
        self.running().generation()
    }

    /// Opens log files again, as SIGUSR1 does.
    pub fn reopen_logs(&self) {
        self.running().reopen_logs();
    }

    /// Begins to drain, as SIGTERM does.
    pub fn terminate(&self) {
        self.running().terminate();
    }

    /// Waits until every worker ended; the test fails after ten seconds.
    pub fn join(mut self) {
        if let Some(running) = self.running.take() {
            assert!(running.join(Duration::from_secs(10)), "a worker did not end");
        }
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }
}

/// Waits up to ten seconds for a condition.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}
