//! A Kubernetes cluster as a source of objects: follows the API server, hands changes to `control`, and writes back, when
//! this process leads. Publishes nothing and serves nothing; `app` starts it. Not for files: those are `standalone`'s.
//!
//! One thread with a runtime of its own. When the API server is lost, the last table stays.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kube::Client;
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cert::Serving;
use crate::config::{self, AddressSource, Config, WebhookCertificate};
use crate::control::{self, Changes, Control, FeedId, Hook, Settings, Suspect, Suspicion};
use crate::snapshot::Reader;
use crate::telemetry::Metrics;

mod access;
mod api;
mod archive;
mod backoff;
mod election;
mod events;
#[cfg(test)]
mod fake;
mod feed;
mod link;
mod nodes;
mod observed;
mod query;
mod referenced;
mod status;
mod watcher;
mod webhook;
mod writer;

pub use access::AccessError;
pub use feed::{Feed, Reach, plan};

use archive::Archive;
use events::Reporter;
use link::Link;
use nodes::{Nodes, Wanted};
use referenced::Referenced;
use status::Board;
use watcher::{Reports, Sink, Watcher};
use webhook::CertificateKeeper;
use writer::Writer;

/// How long giving the lease back may take at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a controller cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// No way to the API server.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The first table cannot be made.
    #[error(transparent)]
    Control(#[from] control::StartError),
    /// No runtime.
    #[error("cannot start the runtime of the controller")]
    Runtime(#[source] io::Error),
}

/// The running connection to the cluster. Dropping it ends it.
#[derive(Debug)]
pub struct Following {
    leave: watch::Sender<bool>,
    end: watch::Sender<bool>,
    /// Written to once nothing is left to write back.
    left: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Follows a cluster: returns when everything was listed once and the first table is published, however long that takes.
/// `serving` gets the certificate of the webhook where that is made here.
///
/// # Errors
/// [`StartError`]. An API server that does not answer, or refuses, is none: it is asked again and again.
pub fn start(
    config: &Config,
    cluster: &config::Cluster,
    metrics: &Metrics,
    serving: Option<&Serving>,
    mut hooks: Vec<Hook>,
) -> Result<(Control, Reader, Following), StartError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
    let client = runtime.block_on(access::client(&cluster.access))?;
    let feeds = plan(config);
    let settings = Settings::of(config);
    let count = feeds.len();
    let archive = Archive::new(cluster.snapshot_dir.as_deref());
    let again: Arc<[watch::Sender<u64>]> = feeds.iter().map(|_| watch::Sender::new(0)).collect();
    let referenced = Referenced::new(&feeds, settings.clone());
    let suspect = suspect(archive.clone(), referenced.clone(), Arc::clone(&again));
    let wanted = Wanted {
        addresses: cluster
            .status
            .as_ref()
            .is_some_and(|status| matches!(status.source, AddressSource::Nodes { .. })),
        zone: config.topology_aware,
    };
    let parts = Parts {
        wanted,
        nodes: Nodes::default(),
        archive,
        again,
        client: client.clone(),
        link: Link::new(count),
        board: Board::beside(cluster.status.as_ref().and_then(|status| match &status.source {
            AddressSource::Service(service) => Some(service.clone()),
            AddressSource::Given(_) | AddressSource::Nodes { .. } => None,
        })),
        reporter: Reporter::new(client.clone(), cluster.sync_events),
        referenced,
        metrics: metrics.clone(),
        cluster: cluster.clone(),
        feeds,
        keeper: serving.and_then(|serving| keeper(config, serving, client)),
    };
    let (board, reporter) = (parts.board.clone(), parts.reporter.clone());
    hooks.push(Box::new(move |snapshot, report| {
        board.serve(&report.served);
        reporter.tell(&snapshot.diagnostics, &report.served);
    }));
    let begin = |changes| follow(runtime, parts, changes).map_err(control::StartError::Thread);
    let (control, reader, following) = control::start_stream(settings, hooks, count, suspect, begin)?;
    Ok((control, reader, following))
}

/// What the thread works with.
struct Parts {
    wanted: Wanted,
    nodes: Nodes,
    client: Client,
    link: Link,
    board: Board,
    reporter: Reporter,
    referenced: Referenced,
    metrics: Metrics,
    cluster: config::Cluster,
    feeds: Vec<Feed>,
    keeper: Option<CertificateKeeper>,
    archive: Archive,
    /// Makes each feed list anew.
    again: Arc<[watch::Sender<u64>]>,
}

/// What a suspicious list comes to: the archive rests while one is in doubt, and the feed is listed a second time.
fn suspect(archive: Archive, referenced: Referenced, again: Arc<[watch::Sender<u64>]>) -> Suspect {
    let held: Mutex<BTreeSet<FeedId>> = Mutex::default();
    Box::new(move |suspicion| {
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        match suspicion {
            Suspicion::Held(feed) => drop(held.insert(feed)),
            Suspicion::Settled(feed) => drop(held.remove(&feed)),
            Suspicion::Ask(feed) => {
                referenced.ask(feed);
                if let Some(again) = again.get(feed) {
                    again.send_modify(|count| *count += 1);
                }
            }
        }
        archive.hold(!held.is_empty());
    })
}

/// Where this controller is to make the certificate of its webhook.
fn keeper(config: &Config, serving: &Serving, client: Client) -> Option<CertificateKeeper> {
    match &config.webhook.as_ref()?.certificate {
        WebhookCertificate::Own { configuration, secret } => Some(CertificateKeeper {
            client,
            configuration: configuration.clone(),
            secret: secret.clone(),
            serving: serving.clone(),
        }),
        WebhookCertificate::Files { .. } => None,
    }
}

fn follow(runtime: Runtime, mut parts: Parts, changes: Changes) -> io::Result<Following> {
    let (leave, leaving) = watch::channel(false);
    let (end, mut ending) = watch::channel(false);
    let (leaver, left) = watch::channel(false);
    let run = move || {
        runtime.block_on(async move {
            let mut tasks = JoinSet::new();
            let plain: Sink = Arc::new(move |change| changes.send(change));
            let (referenced, onward) = (parts.referenced.clone(), Arc::clone(&plain));
            let sink: Sink = Arc::new(move |change| {
                referenced.see(&change);
                onward(change);
            });
            let archive = parts.archive.clone();
            let (feeds, link) = (parts.feeds.clone(), parts.link.clone());
            tasks.spawn(archive.clone().stand_in(feeds, link, Arc::clone(&sink)));
            tasks.spawn(archive.clone().run(parts.link.clone()));
            parts.nodes = Nodes::new(parts.wanted, parts.board.clone(), Arc::clone(&plain));
            let reports = |archive| Reports {
                board: parts.board.clone(),
                reporter: parts.reporter.clone(),
                archive,
                nodes: Nodes::default(),
            };
            let (client, link) = (parts.client.clone(), parts.link.clone());
            let config::Cluster { namespace, identity, .. } = parts.cluster.clone();
            let nodes = parts.nodes.clone();
            tasks.spawn(nodes.run(client, link, reports(Archive::default()), namespace, identity));
            let (client, link) = (parts.client.clone(), parts.link.clone());
            // Secrets are not kept, and the others lie outside what is.
            tasks.spawn(parts.referenced.clone().run(client, link, reports(Archive::default()), plain));
            let followed = parts.feeds.iter().cloned().enumerate();
            for (id, feed) in followed.filter(|(_, feed)| feed.reach != Reach::Referenced) {
                let reports = reports(archive.clone());
                let (sink, link) = (Arc::clone(&sink), parts.link.clone());
                let Some(again) = parts.again.get(id).map(watch::Sender::subscribe) else { continue };
                tasks.spawn(Watcher::new(parts.client.clone(), feed, id, sink, link, reports, again).run());
            }
            if let Some(keeper) = parts.keeper.take() {
                tasks.spawn(keeper.run());
            }
            tasks.spawn(parts.link.clone().beat(parts.client.clone(), parts.metrics.clone()));
            write_back(&parts, leaving).await;
            leaver.send_replace(true);
            // Endpoints are followed until the last connection is done.
            let _sender_gone = ending.wait_for(|end| *end).await;
        });
    };
    let thread = thread::Builder::new().name("cluster".into()).spawn(run)?;
    Ok(Following { leave, end, left, thread: Some(thread) })
}

/// Election, status and Events, until told to leave.
async fn write_back(parts: &Parts, leave: watch::Receiver<bool>) {
    let config::Cluster { namespace, identity, election, status, events, .. } = parts.cluster.clone();
    let (leads, led) = watch::channel(election.is_none() && events);
    let writer = status.map(|settings| {
        Writer::new(
            parts.client.clone(),
            settings,
            namespace.clone(),
            identity.clone(),
            parts.board.clone(),
            parts.nodes.clone(),
        )
    });
    let elected = async {
        if let Some(election) = election {
            let identity = if identity.is_empty() { election::made_up() } else { identity };
            let (client, metrics) = (parts.client.clone(), parts.metrics.clone());
            let mut candidacy = election::Candidacy { client, namespace, identity, election, leads, metrics };
            candidacy.run(leave.clone()).await;
        } else {
            let mut leave = leave.clone();
            let _sender_gone = leave.wait_for(|leave| *leave).await;
        }
    };
    let written = async {
        if let Some(writer) = writer {
            writer.run(led.clone(), leave.clone()).await;
        }
    };
    tokio::join!(elected, written, parts.reporter.clone().run(led.clone(), leave.clone()));
}

// === impl Following ===

impl Following {
    /// Ends what writes and gives the lease back (SIGTERM); objects are followed on. Returns at once.
    pub fn leave(&self) {
        self.leave.send_replace(true);
    }

    /// Waits until nothing is left to write back, or for a few seconds.
    pub fn wait_left(&self) {
        let end = Instant::now() + FAREWELL;
        while !*self.left.borrow() && Instant::now() < end && self.left.has_changed().is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.leave();
        self.wait_left();
        self.end.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            drop(thread.join());
        }
    }
}
