//! The admin port among the rest: begun first, ready last.

use std::sync::Arc;

use super::StartError;
use crate::admin::{Admin, AdminConfig, AdminSources, Health, SnapshotView};
use crate::config::Config;
use crate::control::{Hook, Report};
use crate::drain::DrainTrigger;
use crate::listener::Port;
use crate::snapshot::{Reader, Snapshot};
use crate::telemetry::Metrics;

/// The admin port.
pub(super) struct Server {
    health: Health,
    view: SnapshotView,
    // Its thread ends when this is dropped.
    admin: Option<Admin>,
}

/// Serves the admin port; not ready until [`Server::ready`].
pub(super) fn start(
    port: Port,
    config: &Config,
    metrics: &Metrics,
    drain: &DrainTrigger,
) -> Result<Server, StartError> {
    let health = Health::new(drain.watcher());
    let view = SnapshotView::default();
    let sources =
        AdminSources { health: health.clone(), metrics: metrics.clone(), inspect: Arc::new(view.clone()) };
    let settings = AdminConfig {
        health_path: config.health_path.clone(),
        metrics: config.metrics.enabled,
        debug_endpoints: config.debug_endpoints,
    };
    let failed = |source| StartError::Thread { what: "the admin port", source };
    let mut admin = None;
    if let Some(listener) = port.listen(1)?.pop() {
        admin = Some(Admin::start(listener, settings, sources).map_err(failed)?);
    }
    Ok(Server { health, view, admin })
}

// === impl Server ===

impl Server {
    /// All ports are bound, the first table is published, workers run.
    pub(super) fn ready(&self, reader: Reader) {
        self.view.attach(reader);
        self.health.table_published();
        self.health.listeners_bound();
    }

    /// Lets the probes hear when the control loop is lost.
    pub(super) fn hook(&self) -> Hook {
        let guard = Guard(self.health.clone());
        Box::new(move |_: &Arc<Snapshot>, _: &Report| {
            let Guard(_owned_by_the_loop) = &guard;
        })
    }

    /// Closes the port.
    pub(super) fn stop(&mut self) {
        self.admin = None;
    }
}

/// Belongs to the control loop, which drops it when it ends: in peace, or by a panic that nothing contains (F-18).
struct Guard(Health);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.control_lost();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loop_that_panics_is_lost() {
        let drain = DrainTrigger::new();
        for panics in [false, true] {
            let health = Health::new(drain.watcher());
            let server = Server { health: health.clone(), view: SnapshotView::default(), admin: None };
            let hook = server.hook();
            let control = std::thread::spawn(move || {
                let _owned = hook;
                assert!(!panics, "on purpose");
            });
            assert_eq!(control.join().is_err(), panics);
            assert_eq!(health.is_alive(), !panics);
        }
    }
}
