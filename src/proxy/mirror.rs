//! Copies of requests for `mirror-target`: sent beside the request, their answers read and forgotten.
//!
//! Nobody waits for a copy and nothing of it is told to the client. Copies are bounded in number and in time.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http_body::Body;

use super::body;
use super::forward::{Way, framing, granted, head_for_backend};
use super::worker::Worker;
use crate::message::RequestBody;
use crate::policy::backend_protocol::HttpVersion;
use crate::policy::backend_tls::BackendTls;
use crate::policy::mirror::Mirror;
use crate::policy::request_headers::{Outgoing, Purpose};
use crate::policy::template::Facts;
use crate::policy::timeout::Timeouts;
use crate::route::decide::Forward;
use crate::route::{EndpointAddress, EndpointSet};
use crate::upstream::{Content, Peer, Protocol, Reuse, UpstreamRequest, UpstreamTimes};
use crate::wire::{Fields, Framing};

/// Copies under way in one worker.
const COPIES: usize = 256;
/// A copy that takes longer is given up.
const LONGEST: Duration = Duration::from_secs(60);
/// Bytes of an answer that are read so that its connection can be used again.
const ANSWER: u64 = 1 << 20;

struct Copy {
    mirror: Mirror,
    method: Method,
    target: Vec<u8>,
    fields: Fields,
    framing: Framing,
    body: RequestBody,
    timeouts: Timeouts,
}

/// Counts a copy until it is dropped.
struct Running(Rc<Worker>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.mirrors.set(self.0.mirrors.get().saturating_sub(1));
    }
}

/// Sends a copy of the request where its location asks for one.
pub(super) fn send(way: &Way<'_>, forward: &Forward<'_>, body: &RequestBody) {
    let Some(mirror) = &way.location.policies.mirror else { return };
    let worker = &way.exchange.worker;
    let Some(copy) = copy(way, forward, mirror, body).filter(|_| worker.mirrors.get() < COPIES) else {
        tracing::debug!(target = %mirror.host, "a copy of a request is not sent");
        return;
    };
    worker.mirrors.set(worker.mirrors.get() + 1);
    let running = Running(Rc::clone(worker));
    tokio::task::spawn_local(async move {
        if tokio::time::timeout(LONGEST, copy.run(&running.0)).await.is_err() {
            tracing::debug!("a copy of a request took too long");
        }
    });
}

/// `None` for a body that cannot be read twice: of gRPC, which may flow in both directions at once.
///
/// The copy carries what the backend gets, with a `Host` of its own: what the proxy says about the client, what access
/// checks granted, and nothing that the client claims about itself.
fn copy(way: &Way<'_>, forward: &Forward<'_>, mirror: &Mirror, body: &RequestBody) -> Option<Copy> {
    let backend = way.location.backend()?;
    let facts = Facts { view: way.view, route: way.facts(backend) };
    let copied = if mirror.body { body::replay(body)? } else { RequestBody::Empty };
    let mut fields = head_for_backend(
        way,
        &Outgoing {
            view: way.view,
            route: facts.route,
            policies: &way.location.policies,
            globals: way.globals(),
            hop: way.hop,
            trusted: way.trusted,
            forwarded_prefix: forward.forwarded_prefix.as_deref(),
            purpose: Purpose::Forward,
        },
    );
    granted(way, &mut fields);
    for name in ["connection", "upgrade", "te"] {
        fields.remove(name);
    }
    fields.set("Host", mirror.authority.expand(&facts).as_bytes()).ok()?;
    Some(Copy {
        mirror: mirror.clone(),
        method: if way.view.method == Method::CONNECT { Method::GET } else { way.view.method.clone() },
        target: mirror.target(&facts)?,
        fields,
        framing: framing(&copied, mirror.body && way.framed),
        body: copied,
        timeouts: way.location.policies.timeout,
    })
}

impl Copy {
    async fn run(self, worker: &Worker) {
        let mirror = &self.mirror;
        let endpoint = match mirror.host.parse::<IpAddr>() {
            Ok(address) => EndpointAddress::Socket(SocketAddr::new(address, mirror.port)),
            Err(_) => EndpointAddress::Name(Arc::clone(&mirror.host), mirror.port),
        };
        let set = Arc::new(EndpointSet { ready: vec![endpoint], empty_because: "" });
        let set = worker.upstreams.endpoints(&set).await;
        let Some(EndpointAddress::Socket(address)) = set.ready.first() else { return };
        let tls = if mirror.tls {
            let made = worker.upstreams.tls(&BackendTls::default(), None, &mirror.host, Protocol::Http1);
            let Ok(tls) = made else { return };
            Some(tls)
        } else {
            None
        };
        let peer = Peer { address: *address, protocol: Protocol::Http1, kept: None, tls };
        let request = UpstreamRequest {
            method: &self.method,
            target: &self.target,
            fields: &self.fields,
            framing: self.framing,
            version: HttpVersion::Http11,
            upgrade: false,
            trailers: false,
            head_bytes: None,
            among_many: false,
        };
        let times = Rc::new(UpstreamTimes::starting(Instant::now()));
        let sent =
            worker.upstreams.exchange(&peer, &request, self.body, &self.timeouts, Reuse::Allow, &times);
        match Box::pin(sent).await {
            Ok(answer) => {
                if let Content::Body(mut body) = answer.content {
                    let mut left = ANSWER;
                    let mut body = std::pin::Pin::new(&mut body);
                    while let Some(Ok(frame)) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await
                    {
                        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                        let Some(rest) = left.checked_sub(size) else { return };
                        left = rest;
                    }
                }
            }
            Err(failed) => tracing::debug!(error = %failed.error, "a copy of a request failed"),
        }
    }
}
