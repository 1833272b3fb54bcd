//! What runs beside the workers: finished spans go out, OCSP answers come in, GeoIP databases are read.

use std::sync::Arc;
use std::time::Duration;

use super::{StartError, observe};
use crate::collector::{Collector, Environment};
use crate::config::Config;
use crate::control::Hook;
use crate::places::Places;
use crate::route::reach::Reach;
use crate::snapshot::Reader;
use crate::stapler::{self, Bell};
use crate::telemetry::Metrics;
use crate::telemetry::spans::Spans;

/// How long the last spans may take to go out.
const PATIENCE: Duration = Duration::from_secs(1);

/// What workers share with these threads, and the threads.
pub(super) struct Beside {
    pub(super) spans: Spans,
    pub(super) places: Places,
    bell: Bell,
    environment: Environment,
    collector: Option<Collector>,
}

impl Beside {
    /// Nothing runs yet.
    pub(super) fn new(config: &Config, metrics: &Metrics) -> Self {
        let spans = Spans::default();
        metrics.add_spans(&spans);
        Self {
            spans,
            places: Places::new(config.geoip_dir.clone()),
            bell: Bell::default(),
            environment: Environment::of_process(),
            collector: None,
        }
    }

    /// What follows publications.
    pub(super) fn hooks(&self) -> [Hook; 3] {
        [
            observe::spans_hook(self.spans.clone(), self.environment.collector()),
            observe::ocsp_hook(self.bell.clone()),
            observe::places_hook(self.places.clone()),
        ]
    }

    /// Starts the threads that wait for something to do.
    pub(super) fn start(&mut self, reader: &Reader, reach: &Arc<Reach>) -> Result<(), StartError> {
        stapler::start(reader.clone(), Arc::clone(reach), self.bell.clone())
            .map_err(|source| StartError::Thread { what: "the OCSP thread", source })?;
        let collector = Collector::start(self.spans.clone(), self.environment.clone())
            .map_err(|source| StartError::Thread { what: "the export of spans", source })?;
        self.collector = Some(collector);
        Ok(())
    }

    /// Ends the threads; the last spans go out.
    pub(super) fn close(&mut self) {
        self.bell.stop();
        if let Some(collector) = self.collector.take() {
            collector.close(PATIENCE);
        }
    }
}
