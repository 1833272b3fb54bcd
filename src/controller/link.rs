//! What is known of the connection to the API server: which feeds follow it now, and whether it answers at all. While it
//! does not, the last table serves; the age of what we know grows, which the metrics tell.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::Client;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::control::FeedId;
use crate::telemetry::Metrics;

/// How often the server is asked whether it is there.
const BEAT: Duration = Duration::from_secs(5);
/// How often while it is not.
const LOST_BEAT: Duration = Duration::from_millis(500);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long while it is lost: a server that is about to start may take a connection and leave it lying.
const LOST_PATIENCE: Duration = Duration::from_secs(2);

/// Shared by all feeds. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Link {
    up: Arc<Mutex<BTreeSet<FeedId>>>,
    feeds: usize,
    /// Grows each time the server answers again: connections from before may be dead without knowing.
    returns: watch::Sender<u64>,
    /// A feed found nobody there.
    suspicion: Arc<Notify>,
    ever: Arc<AtomicBool>,
}

impl Link {
    pub(super) fn new(feeds: usize) -> Self {
        Self {
            up: Arc::default(),
            feeds,
            returns: watch::Sender::new(0),
            suspicion: Arc::default(),
            ever: Arc::default(),
        }
    }

    /// The same server for feeds that do not count: objects that are followed by name come and go.
    pub(super) fn aside(&self) -> Self {
        Self { up: Arc::default(), ..self.clone() }
    }

    /// A feed follows.
    pub(super) fn up(&self, feed: FeedId) {
        self.ever.store(true, Ordering::Relaxed);
        self.up.lock().unwrap_or_else(PoisonError::into_inner).insert(feed);
    }

    /// A feed follows no more.
    pub(super) fn down(&self, feed: FeedId) {
        self.up.lock().unwrap_or_else(PoisonError::into_inner).remove(&feed);
    }

    /// True while every feed follows.
    pub(super) fn is_whole(&self) -> bool {
        self.up.lock().unwrap_or_else(PoisonError::into_inner).len() == self.feeds
    }

    /// A feed found nobody there: to be looked at now, not with the next beat.
    pub(super) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// True once any feed followed.
    pub(super) fn was_ever_up(&self) -> bool {
        self.ever.load(Ordering::Relaxed)
    }

    /// The server answers again.
    pub(super) fn announce_return(&self) {
        self.returns.send_modify(|count| *count += 1);
    }

    /// Tells each return of the server.
    pub(super) fn returns(&self) -> watch::Receiver<u64> {
        self.returns.subscribe()
    }

    /// Asks the server again and again, for ever.
    pub(super) async fn beat(self, client: Client, metrics: Metrics) {
        let mut lost_since: Option<Instant> = None;
        loop {
            if lost_since.is_some() {
                sleep(LOST_BEAT).await;
            } else {
                tokio::select! {
                    () = sleep(BEAT) => {}
                    () = self.suspicion.notified() => {}
                }
            }
            let patience = if lost_since.is_some() { LOST_PATIENCE } else { PATIENCE };
            let answer = timeout(patience, client.apiserver_version()).await;
            // An answer that refuses is an answer.
            let there = matches!(answer, Ok(Ok(_) | Err(kube::Error::Api(_) | kube::Error::SerdeError(_))));
            match (there, lost_since) {
                (true, Some(since)) => {
                    tracing::info!(lost_seconds = since.elapsed().as_secs(), "the API server answers again");
                    lost_since = None;
                    self.announce_return();
                }
                (false, None) => {
                    tracing::warn!("the API server does not answer, the last table stays");
                    lost_since = Some(Instant::now());
                }
                (true, None) | (false, Some(_)) => {}
            }
            if there && self.is_whole() {
                metrics.control().confirmed(Instant::now());
            } else {
                metrics.control().disconnected();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_whole_while_every_feed_follows() {
        let link = Link::new(2);
        assert!(!link.is_whole());
        link.up(0);
        link.up(0);
        assert!(!link.is_whole());
        link.up(1);
        assert!(link.is_whole());
        link.down(0);
        assert!(!link.is_whole());
    }
}
