//! The binary in a process of its own, over a directory of manifests.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{case, client};

/// How often a start is tried again whose ports were taken by somebody else meanwhile.
const ATTEMPTS: usize = 4;
/// How long a debug build on a busy machine may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// Listening ports.
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) https: u16,
    admin: u16,
}

impl Ports {
    /// Ports for a test of the judge.
    pub(crate) fn numbered(http: u16, https: u16) -> Self {
        Self { http, https, admin: 0 }
    }
}

/// A running process; killed when dropped.
pub(crate) struct Started {
    pub(crate) ports: Ports,
    child: Child,
    directory: TempDir,
}

impl Started {
    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself; that is seen elsewhere.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts the proxy of a case and waits until it is ready.
pub(crate) async fn start(case: &Value) -> Result<Started, String> {
    let objects = case::objects(case).await;
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        let mut started = spawn(&objects).map_err(|error| format!("cannot start: {error}"))?;
        match ready(&mut started).await {
            Ok(()) => return Ok(started),
            Err(reason) => last = format!("{reason}\n{}", started.log()),
        }
        if !last.contains("in use") {
            break;
        }
    }
    Err(last)
}

fn spawn(objects: &case::Objects) -> io::Result<Started> {
    let directory = tempfile::tempdir()?;
    let manifests = directory.path().join("manifests");
    fs::create_dir(&manifests)?;
    // JSON is YAML, and needs no second writer.
    let text: Vec<String> = objects.documents.iter().map(|document| format!("{document:#}\n")).collect();
    fs::write(manifests.join("all.yaml"), text.join("---\n"))?;
    let ports = free_ports()?;
    let log = File::create(directory.path().join("log"))?;
    let child = Command::new(env!("CARGO_BIN_EXE_narthex"))
        .arg("standalone")
        .arg("--manifests")
        .arg(&manifests)
        .arg(format!("--http-addr=127.0.0.1:{}", ports.http))
        .arg(format!("--https-addr=127.0.0.1:{}", ports.https))
        .arg(format!("--admin-addr=127.0.0.1:{}", ports.admin))
        .args(&objects.flags)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(Started { ports, child, directory })
}

fn free_ports() -> io::Result<Ports> {
    let mut listeners = Vec::new();
    let mut port = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr().map(|address: SocketAddr| address.port());
        listeners.push(listener);
        port
    };
    Ok(Ports { http: port()?, https: port()?, admin: port()? })
}

async fn ready(started: &mut Started) -> Result<(), String> {
    let probe = json!({"method": "GET", "host": "localhost", "path": "/readyz"});
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let ended: Option<ExitStatus> = started.child.try_wait().map_err(|error| error.to_string())?;
        if let Some(status) = ended {
            return Err(format!("ended with {status} before it was ready"));
        }
        let answer = client::ask(&probe, started.ports.admin).await;
        if answer.is_ok_and(|answer| answer.status == 200) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("not ready in time".into())
}
