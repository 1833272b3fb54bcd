//! The port of the webhook: HTTPS, one path, POST only, bounded in every way (`spec H-4`). A thread and a runtime of its
//! own: traffic does not notice it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::judge::Judge;
use super::review::{self, Review, Subject};
use super::verdict::Verdict;
use crate::cert::Serving;
use crate::control::{Hook, Settings, Sources};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::AdmissionFacts;

/// Largest review, bytes: an Ingress of the size that the API server takes stands twice in a review of a change.
const LARGEST: usize = (9 << 20) - 1;
/// Most bytes that are read of a larger one, so that its sender hears why: one that is cut off while it writes may not.
const MOST_READ: usize = 64 << 20;
/// Reviews at once, each in memory; more wait.
const AT_ONCE: usize = 8;
/// Connections at once.
const CONNECTIONS: usize = 64;
/// How long a review may take to arrive and to be answered.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long the world must be quiet before it is looked at ahead of a question.
const QUIET: Duration = Duration::from_millis(200);

/// Takes what is served to the webhook, as it changes.
#[derive(Debug)]
pub struct Intake(watch::Sender<Option<Arc<Sources>>>);

/// The running webhook; it ends when this is dropped.
#[derive(Debug)]
pub struct Webhook {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What every review is judged with.
struct Bench {
    judge: RefCell<Judge>,
    sources: watch::Receiver<Option<Arc<Sources>>>,
    free: Semaphore,
    metrics: Metrics,
}

// === impl Intake ===

impl Intake {
    /// Nothing is known yet: reviews wait a moment, then hear so.
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Follows what is served.
    pub fn hook(&self) -> Hook {
        let sender = self.0.clone();
        Box::new(move |_snapshot, report| {
            sender.send_replace(Some(Arc::clone(&report.sources)));
        })
    }
}

impl Default for Intake {
    fn default() -> Self {
        Self::new()
    }
}

/// Serves a listening, non-blocking socket on a thread of its own.
///
/// # Errors
/// When there is no thread or runtime to be had.
pub fn start(
    listener: TcpListener,
    serving: &Serving,
    settings: Settings,
    intake: &Intake,
    metrics: Metrics,
) -> io::Result<Webhook> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sources = intake.0.subscribe();
    let tls = TlsAcceptor::from(serving.server_config());
    let (stop, stopped) = oneshot::channel();
    let run = move || {
        let judge = RefCell::new(Judge::new(settings));
        let bench = Rc::new(Bench { judge, sources, free: Semaphore::new(AT_ONCE), metrics });
        let local = LocalSet::new();
        local.block_on(&runtime, async move {
            tokio::task::spawn_local(look_ahead(Rc::clone(&bench)));
            tokio::select! {
                () = accept(listener, tls, bench) => {}
                _ = stopped => {}
            }
        });
    };
    let thread = thread::Builder::new().name("admission".into()).spawn(run)?;
    Ok(Webhook { stop: Some(stop), thread: Some(thread) })
}

impl Drop for Webhook {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported when it happened.
            drop(thread.join());
        }
    }
}

/// Compiles what is served before anybody asks: the first question then costs as little as the next.
async fn look_ahead(bench: Rc<Bench>) {
    let mut sources = bench.sources.clone();
    while sources.changed().await.is_ok() {
        sleep(QUIET).await;
        let now = sources.borrow_and_update().clone();
        if let Some(now) = now {
            bench.judge.borrow_mut().follow(&now);
        }
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, bench: Rc<Bench>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the webhook port is lost"),
    };
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _peer)) => {
                let (tls, bench) = (tls.clone(), Rc::clone(&bench));
                tokio::task::spawn_local(async move {
                    connection(stream, tls, bench).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the webhook port cannot accept");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, bench: Rc<Bench>) {
    let stream = match timeout(PATIENCE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a client of the webhook does not shake hands"),
        Err(_elapsed) => return,
    };
    let service = service_fn(move |request| {
        let bench = Rc::clone(&bench);
        async move { Ok::<_, Infallible>(respond(request, &bench).await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60)).max_buf_size(64 << 10);
    // The API server keeps connections; one that breaks concerns nobody.
    drop(server.serve_connection(TokioIo::new(stream), service).await);
}

async fn respond(request: Request<Incoming>, bench: &Bench) -> Response<Full<Bytes>> {
    // Whatever the path: that of older charts is another, and what is asked stands in the review.
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "POST an AdmissionReview\n");
    }
    let in_turn = async {
        let _permit = bench.free.acquire().await;
        judge(request, bench).await
    };
    match timeout(PATIENCE, in_turn).await {
        Ok(response) => response,
        Err(_elapsed) => text(StatusCode::SERVICE_UNAVAILABLE, "too slow\n"),
    }
}

async fn judge(request: Request<Incoming>, bench: &Bench) -> Response<Full<Bytes>> {
    let body = match gather(request.into_body()).await {
        Ok(Some(body)) => body,
        Ok(None) => return text(StatusCode::PAYLOAD_TOO_LARGE, "a review has less than 9 MiB\n"),
        Err(_broken) => return text(StatusCode::BAD_REQUEST, "the body broke off\n"),
    };
    let began = Instant::now();
    let Review { uid, subject } = match review::read(&body) {
        Ok(review) => review,
        Err(reason) => return text(StatusCode::BAD_REQUEST, reason),
    };
    let mut sources = bench.sources.clone();
    let Ok(sources) = sources.wait_for(Option::is_some).await.map(|now| now.clone()) else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "nothing is known yet\n");
    };
    let Some(sources) = sources else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "nothing is known yet\n");
    };
    let verdict = match subject {
        Subject::Nothing => Verdict::Allow { warnings: Vec::new() },
        Subject::Unreadable(message) => Verdict::Refuse { message, warnings: Vec::new() },
        Subject::Ingress(ingress, found) => {
            let verdict = bench.judge.borrow_mut().judge(&ingress, found, &sources);
            let allowed = matches!(verdict, Verdict::Allow { .. });
            let time = began.elapsed();
            let facts = AdmissionFacts {
                tested: 1,
                tested_time: time,
                compiled: sources.world.ingresses.len(),
                compiled_time: time,
                size: body.len(),
                roundtrip: time,
            };
            let key = &ingress.meta.key;
            let known = sources.world.ingresses.contains_key(key);
            bench.metrics.control().admission(&key.namespace, &key.name, known, allowed, facts);
            verdict
        }
    };
    let mut response = text(StatusCode::OK, review::answer(&uid, &verdict));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// The whole body; `None` when it is too large.
async fn gather(mut body: Incoming) -> Result<Option<Bytes>, hyper::Error> {
    let (mut whole, mut length) = (BytesMut::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= LARGEST {
            whole.extend_from_slice(&data);
        } else if length <= MOST_READ {
            whole = BytesMut::new();
        } else {
            break;
        }
    }
    Ok((length <= LARGEST).then(|| whole.freeze()))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
