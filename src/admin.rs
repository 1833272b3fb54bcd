//! The admin port: health, metrics, and what is configured. Plain HTTP, read-only, on a runtime of its own.
//!
//! It never touches a worker: a scrape or a slow reader costs no traffic (`H-1`). What it shows about configuration
//! comes through [`Inspect`], so that this module knows HTTP and nothing about routing.
//! The JSON shapes are in `docs/admin-api.md`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;

use crate::limit::priority::step_back;
use crate::telemetry::Metrics;

pub mod health;
pub mod inspect;
mod intake;
mod origin;
mod routes;
pub mod view;

pub use health::Health;
pub use inspect::{ExplainQuery, Inspect, Refused};
pub use view::SnapshotView;

/// What the flags say about the admin port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// `--health-check-path`; served besides `/healthz`.
    pub health_path: String,
    /// `--enable-metrics`.
    pub metrics: bool,
    /// `--enable-debug-endpoints`: `/api/v1/*` for others than loopback too.
    pub debug_endpoints: bool,
}

/// What the endpoints read.
#[derive(Clone)]
pub struct AdminSources {
    /// Ready, alive.
    pub health: Health,
    /// Numbers.
    pub metrics: Metrics,
    /// Configuration.
    pub inspect: Arc<dyn Inspect>,
}

/// The running admin port; it ends when this is dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Admin {
    /// Serves a bound, non-blocking listener on a thread of its own.
    ///
    /// # Errors
    /// When there is no thread or runtime to be had.
    pub fn start(listener: TcpListener, config: AdminConfig, sources: AdminSources) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || {
            step_back();
            runtime.block_on(serve(listener, config, sources, stopped));
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens; the port that was chosen where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported by the panic hook; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: TcpListener,
    config: AdminConfig,
    sources: AdminSources,
    stopped: oneshot::Receiver<()>,
) {
    let intake = match intake::Intake::new(listener) {
        Ok(intake) => intake,
        Err(error) => return tracing::error!(%error, "the admin port is lost"),
    };
    let service = routes::router(&config, sources).into_make_service_with_connect_info::<intake::Peer>();
    tokio::select! {
        ended = axum::serve(intake, service) => {
            if let Err(error) = ended {
                tracing::error!(%error, "the admin port is lost");
            }
        }
        // Dropping the server drops its connections: nothing there is worth waiting for.
        _ = stopped => {}
    }
}

#[cfg(test)]
mod tests;
