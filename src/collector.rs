//! Sends spans to an OpenTelemetry collector: OTLP over gRPC (`opentelemetry.proto.collector.trace.v1.TraceService`), from
//! a thread of its own.
//!
//! It takes what waits in `telemetry::spans` and never holds anything up: a collector that is slow, gone or wrong costs
//! spans, which are counted, and nothing else. Started by `app`.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Notify;

use crate::telemetry::spans::encode;
use crate::telemetry::spans::{Settings, Spans};

mod client;

use client::Client;

/// Time for one export (the default of OTLP exporters).
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of spans in one export, below what collectors take (4 MiB).
const MAX_BYTES: usize = 3 << 20;

/// What the process' environment says, as OpenTelemetry defines it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: stands before `otlp-collector-host` and `-port`.
    pub endpoint: String,
    /// `OTEL_RESOURCE_ATTRIBUTES`: more facts about this process, `key=value,...`.
    pub attributes: String,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        Self {
            endpoint: variable("OTEL_EXPORTER_OTLP_ENDPOINT"),
            attributes: variable("OTEL_RESOURCE_ATTRIBUTES"),
        }
    }

    /// What is wrong with an endpoint that is set and names no collector.
    pub fn complaint(&self) -> Option<&'static str> {
        if self.endpoint.is_empty() || self.collector().is_some() {
            return None;
        }
        Some(if self.endpoint.starts_with("https://") {
            "TLS to the collector is not known here: write http://host:port"
        } else {
            "it is no http://host:port"
        })
    }

    /// Host and port of the endpoint; `None` when it names none, or one that wants TLS.
    pub fn collector(&self) -> Option<(Arc<str>, u16)> {
        let rest = self.endpoint.strip_prefix("http://").unwrap_or(&self.endpoint);
        if rest.contains("://") {
            return None;
        }
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() => (host, port.parse().ok()?),
            _ => (authority, 4317),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty() && port != 0).then(|| (Arc::from(host), port))
    }

    /// Facts about this process, the name of the service first.
    fn resource(&self, service: &str) -> Vec<(String, String)> {
        let pairs = self.attributes.split(',').filter_map(|pair| pair.split_once('='));
        let others = pairs
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .filter(|(key, _)| !key.is_empty() && key != "service.name");
        std::iter::once(("service.name".to_owned(), service.to_owned())).chain(others).collect()
    }
}

/// The thread that sends.
#[derive(Debug)]
pub struct Collector {
    thread: Option<JoinHandle<()>>,
    stop: Arc<Notify>,
}

impl Collector {
    /// Starts the thread.
    ///
    /// # Errors
    /// When thread or runtime cannot be made.
    pub fn start(spans: Spans, environment: Environment) -> std::io::Result<Self> {
        if let Some(reason) = environment.complaint() {
            let endpoint = &environment.endpoint;
            tracing::warn!(%endpoint, reason, "OTEL_EXPORTER_OTLP_ENDPOINT is ignored: otlp-collector-host counts");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, wake) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let woken = Arc::clone(&wake);
        spans.on_wake(move || woken.notify_one());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("span-export".into())
            .spawn(move || runtime.block_on(run(&spans, &environment, &wake, &stopped)))?;
        Ok(Self { thread: Some(thread), stop })
    }

    /// Sends what still waits and ends; gives up after `patience`.
    pub fn close(mut self, patience: Duration) {
        self.stop.notify_one();
        let Some(thread) = self.thread.take() else { return };
        let end = std::time::Instant::now() + patience;
        while !thread.is_finished() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

async fn run(spans: &Spans, environment: &Environment, wake: &Notify, stop: &Notify) {
    let mut sender = Sender::default();
    loop {
        let settings = spans.settings();
        let active = settings.as_ref().is_some_and(|settings| settings.collector.is_some());
        let delay = match &settings {
            Some(settings) if active => settings.delay,
            // Nothing comes until the settings change, and that wakes.
            _ => Duration::from_secs(3600),
        };
        let stopping = tokio::select! {
            () = tokio::time::sleep(delay) => false,
            () = wake.notified() => false,
            () = stop.notified() => true,
        };
        if let Some(settings) = spans.settings() {
            export(spans, environment, &settings, &mut sender).await;
        }
        if stopping {
            return;
        }
    }
}

/// The connection in use, and whether the last export went well.
#[derive(Default)]
struct Sender {
    client: Option<Client>,
    failing: bool,
}

async fn export(spans: &Spans, environment: &Environment, settings: &Settings, sender: &mut Sender) {
    let waiting = spans.take();
    let Some(collector) = &settings.collector else { return };
    let resource = environment.resource(&settings.service);
    let scope = ("nginx", env!("CARGO_PKG_VERSION"));
    for batch in batches(&waiting, settings.batch) {
        let message = encode::request(&resource, scope, batch);
        let outcome = tokio::time::timeout(TIMEOUT, sender.send(collector, message)).await;
        match outcome.unwrap_or_else(|_| Err("the collector does not answer".into())) {
            Ok(()) => {
                spans.exported(batch.len());
                if sender.failing {
                    tracing::info!("the collector takes spans again");
                }
                sender.failing = false;
            }
            Err(error) => {
                spans.failed(batch.len());
                sender.client = None;
                if !sender.failing {
                    let (host, port) = collector;
                    tracing::warn!(%error, collector = %format!("{host}:{port}"), "spans cannot be sent");
                }
                sender.failing = true;
            }
        }
    }
}

/// Parts of at most `most` spans and [`MAX_BYTES`].
fn batches(spans: &[Vec<u8>], most: usize) -> Vec<&[Vec<u8>]> {
    let mut all = Vec::new();
    let mut rest = spans;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |span: &&Vec<u8>| {
            bytes += span.len();
            bytes <= MAX_BYTES
        };
        let count = rest.iter().take(most.max(1)).take_while(fits).count().max(1);
        let (batch, later) = rest.split_at(count.min(rest.len()));
        all.push(batch);
        rest = later;
    }
    all
}

impl Sender {
    /// One export, over the connection in use or a new one. A connection that the collector closed meanwhile is no
    /// failure: it is made anew, once.
    async fn send(&mut self, collector: &(Arc<str>, u16), message: Vec<u8>) -> Result<(), String> {
        let message = client::framed(message);
        if let Some(client) = self.client.as_mut().filter(|client| client.is_for(collector)) {
            match client.export(message.clone()).await {
                Err(client::Failure::Connection(_)) => self.client = None,
                Err(client::Failure::Refused(reason)) => return Err(reason),
                Ok(()) => return Ok(()),
            }
        }
        let client = self.client.insert(Client::connect(collector).await?);
        client.export(message).await.map_err(|failure| match failure {
            client::Failure::Connection(reason) | client::Failure::Refused(reason) => reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_of_the_environment_is_read_as_exporters_do() {
        for (text, expect) in [
            ("http://collector:4317", Some(("collector", 4317))),
            ("http://collector", Some(("collector", 4317))),
            ("collector:55680/", Some(("collector", 55680))),
            ("http://[::1]:4317/v1", Some(("::1", 4317))),
            ("https://collector:4317", None),
            ("http://collector:0", None),
            ("http://collector:none", None),
            ("", None),
        ] {
            let environment = Environment { endpoint: text.into(), ..Environment::default() };
            let read = environment.collector();
            assert_eq!(read.as_ref().map(|(host, port)| (&**host, *port)), expect, "{text}");
            let wrong = expect.is_none() && !text.is_empty();
            assert_eq!(environment.complaint().is_some(), wrong, "{text}");
        }
    }

    #[test]
    fn the_name_of_the_service_stands_before_other_facts() {
        let attributes = "k8s.pod.name = p-1,service.name=other,broken, a=b=c".into();
        let environment = Environment { attributes, ..Environment::default() };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expect = [pair("service.name", "nginx"), pair("k8s.pod.name", "p-1"), pair("a", "b=c")];
        assert_eq!(environment.resource("nginx"), expect);
    }

    #[test]
    fn batches_are_bounded_by_number_and_size() {
        let spans = vec![vec![0; 1 << 20]; 5];
        let sizes = |most| batches(&spans, most).iter().map(|batch| batch.len()).collect::<Vec<_>>();
        assert_eq!((sizes(512), sizes(2), sizes(0)), (vec![3, 2], vec![2, 2, 1], vec![1; 5]));
        let huge = vec![vec![0; 4 << 20]];
        assert_eq!(batches(&huge, 10).len(), 1);
        assert!(batches(&[], 10).is_empty());
    }
}
