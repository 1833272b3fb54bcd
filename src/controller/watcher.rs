//! One feed, followed for ever: listed, then watched from where the list ended, resumed after a break, listed again when
//! the server has forgotten that place.
//!
//! Not `kube::runtime::watcher`: that one cannot tell where a streamed list begins again after a break (objects deleted
//! meanwhile would stay), asks again without a pause when a server closes each watch at once, asks for ever when the
//! server answers 410 by status, and hides bookmarks.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::io::Lines;
use futures_util::{AsyncBufRead, AsyncBufReadExt, StreamExt};
use http::Request;
use kube::Client;
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::api::causes;
use super::archive::Archive;
use super::backoff::{Backoff, chance};
use super::events::Reporter;
use super::feed::{Feed, Reach};
use super::link::Link;
use super::nodes::Nodes;
use super::observed::{Observed, observe};
use super::query::Query;
use super::status::Board;
use crate::control::{Change, FeedId};
use crate::manifest::Decoded;
use crate::model::{Kind, ObjectRef};

/// How long the server keeps a watch open. Short: a connection whose other end is gone without a word (what stands before
/// several API servers changed its mind) says nothing for ever, and resuming costs next to nothing.
const WATCH: Duration = Duration::from_secs(45);
/// A watch is dead when nothing came for so long: the server ends it after [`WATCH`].
const SILENCE: Duration = Duration::from_secs(55);
/// How long a list may take, or one page of it.
const LISTING: Duration = Duration::from_secs(60);
/// Objects of one page.
const PAGE: u32 = 500;
/// A watch that ends sooner without a word was no success.
const SOON: Duration = Duration::from_secs(1);
/// Annotation of the bookmark that ends a streamed list.
const LIST_END: &str = "k8s.io/initial-events-end";

/// Takes changes.
pub(super) type Sink = Arc<dyn Fn(Change) + Send + Sync>;

/// Who else wants to know of Ingresses, or of nodes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reports {
    pub(super) board: Board,
    pub(super) reporter: Reporter,
    pub(super) archive: Archive,
    pub(super) nodes: Nodes,
}

type EventLines = Lines<Pin<Box<dyn AsyncBufRead + Send>>>;

/// Follows one feed.
pub(super) struct Watcher {
    client: Client,
    feed: Feed,
    id: FeedId,
    sink: Sink,
    link: Link,
    reports: Reports,
    /// Whether to ask for the list as a stream; false once the server showed that it cannot.
    streaming: bool,
    /// The feed was listed, or declared empty.
    listed: bool,
    /// The control plane was told that classes may not be read.
    hidden: bool,
    /// Grows when the feed is to be listed anew, whatever is known of it.
    again: watch::Receiver<u64>,
}

/// Why a round ended before its time.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Client(#[from] kube::Error),
    #[error("the stream broke: {0}")]
    Read(#[from] std::io::Error),
    #[error("the server says {code}: {message}")]
    Told { code: u16, message: String },
    #[error("the server sent what is no event: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("no answer in time")]
    Silence,
    #[error("the list has no resourceVersion")]
    NoVersion,
    #[error("the server does not stream lists")]
    NoStreaming,
}

#[derive(Deserialize)]
struct List {
    metadata: ListMeta,
    #[serde(default)]
    items: Option<Vec<Json>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    object: Json,
}

enum Event {
    Set(Box<Observed>),
    Gone(Box<Observed>),
    Mark { version: String, list_end: bool },
    Told { code: u16, message: String },
}

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// The feed was listed, and is watched next.
    Listed,
    /// A watch ended that said something.
    Heard,
    /// A watch ended that said nothing.
    Silent,
}

// === impl Watcher ===

impl Watcher {
    pub(super) fn new(
        client: Client,
        feed: Feed,
        id: FeedId,
        sink: Sink,
        link: Link,
        reports: Reports,
        again: watch::Receiver<u64>,
    ) -> Self {
        Self { client, feed, id, sink, link, reports, streaming: true, listed: false, hidden: false, again }
    }

    /// Follows the feed until dropped.
    pub(super) async fn run(self) {
        self.run_from(Backoff::default()).await;
    }

    /// Follows the feed, after failures that were counted before.
    async fn run_from(mut self, mut backoff: Backoff) {
        let mut absent = false;
        let mut place: Option<String> = None;
        let mut returns = self.link.returns();
        loop {
            let began = Instant::now();
            returns.mark_unchanged();
            if self.again.has_changed().unwrap_or(false) {
                self.again.mark_unchanged();
                place = None;
            }
            let wait = match self.round(&mut place).await {
                Ok(Round::Listed) => continue,
                Ok(Round::Heard) => {
                    backoff.succeed();
                    continue;
                }
                Ok(Round::Silent) if began.elapsed() >= SOON => continue,
                Ok(Round::Silent) => backoff.fail(chance()),
                Err(failure) => {
                    // Waits grew while nobody was there; a server that answers, be it with a refusal, is asked soon: one
                    // that has just started refuses for a moment.
                    if mem::replace(&mut absent, failure.is_absence()) && !absent {
                        backoff.succeed();
                    }
                    let wait = backoff.fail(chance());
                    self.failed(&failure, &mut place, wait);
                    wait
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                Ok(()) = self.again.changed() => place = None,
                // The server is there again: no reason to wait, now or after its first refusals.
                _ = returns.changed() => backoff.succeed(),
            }
        }
    }

    /// Lists when there is no place to resume from, then watches until the watch ends.
    async fn round(&mut self, place: &mut Option<String>) -> Result<Round, Failure> {
        let mut returns = self.link.returns();
        returns.mark_unchanged();
        let (mut lines, version) = match place.clone() {
            Some(version) => (self.watch(&version).await?, Some(version)),
            None if self.streaming => {
                let listed = timeout(LISTING, self.stream_list()).await;
                let (lines, version) = listed.map_err(|_| Failure::NoStreaming)??;
                (lines, Some(version))
            }
            None if self.feed.reach == Reach::Single => (self.read().await?, None),
            None => {
                *place = Some(self.page_list().await?);
                return Ok(Round::Listed);
            }
        };
        *place = version;
        self.link.up(self.id);
        self.follow(&mut lines, place, &mut returns).await
    }

    fn failed(&mut self, failure: &Failure, place: &mut Option<String>, wait: Duration) {
        let (kind, wait_ms) = (self.feed.kind.as_str(), wait.as_millis());
        match failure {
            Failure::NoStreaming => {
                tracing::debug!(kind, "this API server does not stream lists, asking for pages");
                self.streaming = false;
                return;
            }
            _ => self.link.down(self.id),
        }
        if failure.is_absence() {
            self.link.suspect();
        }
        match failure.code() {
            // 410 Gone: the server has forgotten the place.
            Some(410) => {
                tracing::info!(kind, "the API server has forgotten where we were, listing again");
                *place = None;
            }
            Some(401 | 403) => {
                let resource = self.feed.resource();
                if self.feed.reach == Reach::Single {
                    let (namespace, name) = (self.feed.namespace.as_deref(), self.feed.fields.as_str());
                    tracing::error!(
                        kind, resource, namespace, name, error = %failure,
                        "not allowed to get and watch what is referred to; grant `get` and `watch` by a role"
                    );
                } else {
                    tracing::error!(
                        kind, resource, error = %failure,
                        "not allowed to list and watch; grant `list` and `watch` by a role, or narrow with --watch-namespace"
                    );
                }
                self.go_without(failure.code() == Some(403));
            }
            _ => {
                let error = causes(failure);
                tracing::warn!(kind, error, wait_ms, "following the API server failed, trying again");
            }
        }
    }

    /// Classes are a matter of the cluster, and a controller for one namespace may lack the right to read them: it goes
    /// on with the annotation alone, whatever `spec.ingressClassName` says (`forbidden`; who has a token that is known no
    /// more may have the right). One object hurts only who names it. No other kind can be done without.
    fn go_without(&mut self, forbidden: bool) {
        if self.feed.reach == Reach::Single && !self.listed {
            self.list(Vec::new());
        }
        if self.feed.kind == Kind::IngressClass && !self.listed {
            tracing::warn!(
                "going on without IngressClasses: only the annotation kubernetes.io/ingress.class counts"
            );
            (self.sink)(Change::ClassesHidden(forbidden));
            self.list(Vec::new());
            self.hidden = forbidden;
        }
    }

    /// Takes what a watch says until it ends; `place` follows.
    async fn follow(
        &self,
        lines: &mut EventLines,
        place: &mut Option<String>,
        returns: &mut watch::Receiver<u64>,
    ) -> Result<Round, Failure> {
        let mut round = Round::Silent;
        let mut again = self.again.clone();
        loop {
            let next = tokio::select! {
                // The loop around sees it too, and lists.
                Ok(()) = again.changed() => return Ok(Round::Heard),
                next = next(lines, self.feed.kind) => next?,
                // The server was away: this connection may never tell. Resuming costs nothing.
                _ = returns.changed() => None,
            };
            let Some(event) = next else { return Ok(round) };
            round = Round::Heard;
            match event {
                Event::Set(observed) => {
                    *place = Some(observed.version.clone());
                    self.applied(*observed);
                }
                Event::Gone(observed) => {
                    *place = Some(observed.version.clone());
                    let reference = observed.reference;
                    self.reports.board.forget(&reference);
                    self.reports.nodes.forget(reference.kind, &reference.key);
                    self.reports.reporter.forget(&reference);
                    self.reports.archive.forget(&self.feed, &reference);
                    (self.sink)(Change::Deleted { feed: self.id, reference });
                }
                Event::Mark { version, .. } => *place = Some(version),
                Event::Told { code, message } => return Err(Failure::Told { code, message }),
            }
        }
    }

    fn applied(&self, observed: Observed) {
        let Observed { reference, decoded, addresses, json, .. } = observed;
        self.reports.board.note(&reference, addresses);
        self.reports.nodes.note(reference.kind, &reference.key, &json);
        self.reports.reporter.changed(&decoded);
        self.reports.archive.set(&self.feed, &reference, json);
        (self.sink)(Change::Applied { feed: self.id, reference, decoded });
    }

    /// Hands a whole list over.
    fn list(&mut self, mut all: Vec<Observed>) {
        self.listed = true;
        self.reports.nodes.list(self.feed.kind, all.iter().map(|one| (&one.reference.key, &one.json)));
        if self.reports.archive.is_on() {
            let kept = all.iter_mut().map(|one| (one.reference.clone(), one.json.take()));
            self.reports.archive.list(&self.feed, kept);
        }
        let objects: Vec<(ObjectRef, Decoded)> = all
            .into_iter()
            .map(|observed| {
                self.reports.board.note(&observed.reference, observed.addresses);
                self.reports.reporter.listed(&observed.decoded);
                (observed.reference, observed.decoded)
            })
            .collect();
        if self.feed.kind == Kind::Ingress {
            self.reports.board.keep(objects.iter().map(|(reference, _)| &reference.key));
        }
        if mem::take(&mut self.hidden) {
            (self.sink)(Change::ClassesHidden(false));
        }
        (self.sink)(Change::Listed { feed: self.id, objects });
    }

    /// Asks for the list as the beginning of a watch (KEP-3157): the server needs not hold it in memory as a whole.
    async fn stream_list(&mut self) -> Result<(EventLines, String), Failure> {
        let query = self.query().pair("watch", "true").pair("sendInitialEvents", "true");
        let query = query.pair("resourceVersionMatch", "NotOlderThan").pair("allowWatchBookmarks", "true");
        let query = query.pair("timeoutSeconds", WATCH.as_secs());
        let mut lines = match self.open(&query).await {
            // What an older server, or one without the feature, says to the parameters.
            Err(failure) if matches!(failure.code(), Some(400 | 422)) => return Err(Failure::NoStreaming),
            opened => opened?,
        };
        let mut all = Vec::new();
        loop {
            match next(&mut lines, self.feed.kind).await? {
                Some(Event::Set(observed)) => all.push(*observed),
                Some(Event::Mark { version, list_end: true }) => {
                    self.list(all);
                    return Ok((lines, version));
                }
                Some(Event::Mark { .. } | Event::Gone(_)) => {}
                Some(Event::Told { code: 400 | 422, .. }) => return Err(Failure::NoStreaming),
                Some(Event::Told { code, message }) => return Err(Failure::Told { code, message }),
                None => return Err(Failure::Silence),
            }
        }
    }

    /// Asks for the list page by page; gives the version of the whole.
    async fn page_list(&mut self) -> Result<String, Failure> {
        let (mut all, mut from) = (Vec::new(), String::new());
        loop {
            let mut query = self.query().pair("limit", PAGE);
            if !from.is_empty() {
                query = query.pair("continue", &from);
            }
            let request = query.get()?;
            let list: List =
                timeout(LISTING, self.client.request(request)).await.map_err(|_| Failure::Silence)??;
            let items = list.items.unwrap_or_default();
            all.extend(items.into_iter().filter_map(|item| observe(self.feed.kind, item)));
            if list.metadata.next.is_empty() {
                if list.metadata.resource_version.is_empty() {
                    return Err(Failure::NoVersion);
                }
                self.list(all);
                return Ok(list.metadata.resource_version);
            }
            from = list.metadata.next;
        }
    }

    /// Reads the one object there may be, without the right to list. The watch begins before, so that nothing is missed
    /// in between; it tells the object once more.
    async fn read(&mut self) -> Result<EventLines, Failure> {
        let lines = self.watch("").await?;
        let name = self.feed.fields.strip_prefix("metadata.name=").unwrap_or_default();
        let request = Query::new(&format!("{}/{name}", self.feed.path())).get()?;
        let answer = timeout(LISTING, self.client.request::<Json>(request)).await;
        let object = match answer.map_err(|_| Failure::Silence)? {
            Ok(json) => observe(self.feed.kind, json),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => return Err(error.into()),
        };
        self.list(object.into_iter().collect());
        Ok(lines)
    }

    async fn watch(&self, version: &str) -> Result<EventLines, Failure> {
        let query = self.query().pair("watch", "true").pair("allowWatchBookmarks", "true");
        self.open(&query.pair("timeoutSeconds", WATCH.as_secs()).pair_if("resourceVersion", version)).await
    }

    async fn open(&self, query: &Query) -> Result<EventLines, Failure> {
        let request: Request<Vec<u8>> = query.get()?;
        let stream =
            timeout(LISTING, self.client.request_stream(request)).await.map_err(|_| Failure::Silence)??;
        let boxed: Pin<Box<dyn AsyncBufRead + Send>> = Box::pin(stream);
        Ok(boxed.lines())
    }

    fn query(&self) -> Query {
        let query = Query::new(&self.feed.path());
        query.pair_if("fieldSelector", &self.feed.fields).pair_if("labelSelector", &self.feed.labels)
    }
}

/// The next event that means something here; `None` when the stream ended, as it does every few minutes.
async fn next(lines: &mut EventLines, kind: Kind) -> Result<Option<Event>, Failure> {
    loop {
        let Some(line) = timeout(SILENCE, lines.next()).await.map_err(|_| Failure::Silence)? else {
            return Ok(None);
        };
        let line = match serde_json::from_str::<Line>(&line?) {
            Ok(line) => line,
            // The connection was cut within an event.
            Err(error) if error.is_eof() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if let Some(event) = event(line, kind) {
            return Ok(Some(event));
        }
    }
}

fn event(line: Line, kind: Kind) -> Option<Event> {
    match line.kind.as_str() {
        "ADDED" | "MODIFIED" => observe(kind, line.object).map(|observed| Event::Set(Box::new(observed))),
        "DELETED" => observe(kind, line.object).map(|observed| Event::Gone(Box::new(observed))),
        "BOOKMARK" => {
            let meta = line.object.get("metadata")?;
            let version = meta.get("resourceVersion")?.as_str()?.to_owned();
            let end = meta.get("annotations").and_then(|all| all.get(LIST_END)).is_some();
            Some(Event::Mark { version, list_end: end })
        }
        "ERROR" => {
            let code = line.object.get("code").and_then(Json::as_u64).unwrap_or_default();
            let message = line.object.get("message").and_then(Json::as_str).unwrap_or_default();
            Some(Event::Told { code: u16::try_from(code).unwrap_or_default(), message: message.to_owned() })
        }
        // Of a newer server.
        _ => None,
    }
}

impl Failure {
    /// True when nobody answered, so that it may be worth asking whether anybody is there.
    fn is_absence(&self) -> bool {
        match self {
            Self::Client(error) => !matches!(error, kube::Error::Api(_) | kube::Error::SerdeError(_)),
            Self::Read(_) | Self::Silence => true,
            Self::Told { .. } | Self::Malformed(_) | Self::NoVersion | Self::NoStreaming => false,
        }
    }

    /// The HTTP status that the server gave, if any.
    fn code(&self) -> Option<u16> {
        match self {
            Self::Client(kube::Error::Api(status)) => Some(status.code),
            Self::Told { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl From<http::Error> for Failure {
    fn from(error: http::Error) -> Self {
        Self::Client(kube::Error::HttpError(error))
    }
}

#[cfg(test)]
mod tests;
