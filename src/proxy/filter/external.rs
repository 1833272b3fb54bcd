//! Asking an authentication service about a request (`auth-url`), and remembering what it said where the location
//! wants that. What is asked and what an answer means is `policy::external_auth`'s.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body::Body;

use super::Granted;
use crate::message::{RequestBody, ResponseBody};
use crate::policy::backend_tls::BackendTls;
use crate::policy::external_auth::subrequest::Question;
use crate::policy::external_auth::url::Destination;
use crate::policy::external_auth::{Cache, ExternalAuth, Heard};
use crate::policy::satisfy::Verdict;
use crate::policy::snippet::{Seen, heads};
use crate::policy::template::Facts;
use crate::proxy::forward::Way;
use crate::reply::LocalReply;
use crate::route::{EndpointAddress, EndpointSet};
use crate::upstream::{Answer, Content, Failed, Peer, Protocol, Reuse, UpstreamRequest, UpstreamTimes};
use crate::wire::{Fields, Framing, ResponseHead};

mod answers;

pub use answers::Answers;
use answers::{Identity, Place};

/// Addresses of the service that are tried.
const TRIES: usize = 3;
/// Bytes of an answer's body that are read to keep its connection (B-20).
const DRAINED: u64 = 1024 * 1024;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Asks, or remembers having asked.
pub(super) async fn judge(way: &Way<'_>, auth: &ExternalAuth, granted: &mut Granted) -> Verdict {
    let heard = match &auth.cache {
        // Variables are set from each answer's own head, and that is not remembered.
        Some(cache) if !way.run.sets_from_auth() => remembered(way, auth, cache).await,
        _ => ask(way, auth).await.map(|(heard, _)| Arc::new(heard)),
    };
    let heard = match heard {
        Ok(heard) => heard,
        Err(reason) => {
            tracing::warn!(
                url = auth.url.without_query(),
                reason,
                "the authentication service cannot be asked"
            );
            return Verdict::Refuse(LocalReply::AuthFailed { reason });
        }
    };
    granted.fields.extend(heard.fields.iter().cloned());
    granted.cookies.extend(heard.cookies.iter().cloned());
    granted.cookies_always = auth.always_set_cookie;
    heard.refusal().map_or(Verdict::Admit, Verdict::Refuse)
}

/// One question for all requests with the same key.
async fn remembered(way: &Way<'_>, auth: &ExternalAuth, cache: &Cache) -> Result<Arc<Heard>, &'static str> {
    let answers = &way.exchange.worker.auth_answers;
    let identity = identity(way, auth, cache);
    let mut waited = false;
    let ticket = loop {
        match answers.place(&identity, way.view.fields, Instant::now()) {
            Place::Known(heard) => return Ok(heard),
            Place::Ask(ticket) => break Some(ticket),
            // Who waited in vain asks alone: an answer that may not be kept is for one request only.
            Place::Wait(_) if waited => break None,
            Place::Wait(end) => {
                let _closed_at_the_end = end.acquire().await;
                waited = true;
            }
        }
    };
    let (heard, head) = ask(way, auth).await?;
    let heard = Arc::new(heard);
    let lasts = cache.lifetimes.of(head.status.as_u16(), &head.fields, way.exchange.worker.unix_now());
    if let Some(lasts) = lasts {
        answers.keep(&identity, &heard, &head.fields, way.view.fields, Instant::now() + lasts);
    }
    drop(ticket);
    Ok(heard)
}

/// nginx's key is host, location and text; ours also tells apart whose location it is and who is asked.
fn identity(way: &Way<'_>, auth: &ExternalAuth, cache: &Cache) -> Identity {
    let facts = Facts { view: way.view, route: way.own_facts() };
    let server = way.exchange.server().map_or("", |server| &server.name);
    let owner = way.location.owner.as_ref();
    Identity::of(&[
        server.as_bytes(),
        way.location.text().as_bytes(),
        owner.map_or("", |owner| &owner.namespace).as_bytes(),
        owner.map_or("", |owner| &owner.name).as_bytes(),
        auth.url.as_str().as_bytes(),
        auth.asked_by().as_str().as_bytes(),
        auth.response_headers.join(",").as_bytes(),
        cache.key.expand(&facts).as_bytes(),
    ])
}

/// Asks. `Err` is a word for why there is no answer.
async fn ask(way: &Way<'_>, auth: &ExternalAuth) -> Result<(Heard, ResponseHead), &'static str> {
    let route = way.own_facts();
    let facts = Facts { view: way.view, route };
    let configured = way.exchange.server().is_some_and(|server| &*server.name != "_");
    let Destination { host, port, target } = auth.url.destination(&facts, configured).ok_or("no_server")?;
    let certificate = way.exchange.standing().map_or(&[][..], |standing| &standing.fields);
    let question = Question { view: way.view, route, trusted: way.trusted, host: &host, certificate };
    let mut fields = auth.question(&question);
    if let Some(settings) = &way.location.policies.auth_snippet {
        heads::to_service(way.run, &way.stage(route), settings, &mut fields);
    }
    let addresses = addresses(way, &host, port).await;
    if addresses.is_empty() {
        return Err("no_address");
    }
    let upstreams = &way.exchange.worker.upstreams;
    let tls = if auth.url.secure {
        // As ingress-nginx: the name is sent, the certificate is not verified.
        let policy = BackendTls { server_name: true, ..BackendTls::default() };
        Some(upstreams.tls(&policy, None, &host, Protocol::Http1).map_err(|_| "tls")?)
    } else {
        None
    };
    let first = usize::try_from(way.exchange.worker.roll()).unwrap_or(0) % addresses.len();
    let mut reason = "no_address";
    for address in addresses.iter().cycle().skip(first).take(TRIES.min(addresses.len())) {
        let peer =
            Peer { address: *address, protocol: Protocol::Http1, kept: auth.keepalive, tls: tls.clone() };
        let asked = Instant::now();
        let outcome = once(way, auth, &peer, &target, &fields).await;
        let status = outcome.as_ref().ok().map(|answer| answer.head.status.as_u16());
        way.exchange.log_question(status, Some(*address), asked.elapsed());
        match outcome {
            Ok(answer) => {
                let Answer { head, content, .. } = answer;
                discard(content);
                let seen = Seen { status: head.status.as_u16(), fields: &head.fields, by_service: true };
                way.run.authenticated(&way.stage(route), seen);
                return Ok((auth.heard(&head), head));
            }
            Err(failed) => reason = failed.error.reason(),
        }
    }
    Err(reason)
}

/// One try, and one more on a fresh connection when a kept one turned out to be dead.
async fn once(
    way: &Way<'_>,
    auth: &ExternalAuth,
    peer: &Peer,
    target: &[u8],
    fields: &Fields,
) -> Result<Answer, Failed> {
    let policies = &way.location.policies;
    let request = UpstreamRequest {
        method: auth.asked_by(),
        target,
        fields,
        framing: Framing::None,
        version: policies.http_version,
        upgrade: false,
        trailers: false,
        head_bytes: None,
        among_many: false,
    };
    let upstreams = &way.exchange.worker.upstreams;
    let exchange = |reuse| {
        let times = Rc::new(UpstreamTimes::new());
        let request = &request;
        async move {
            upstreams.exchange(peer, request, RequestBody::Empty, &policies.timeout, reuse, &times).await
        }
    };
    match exchange(Reuse::Allow).await {
        // A question changes nothing, so it may be asked twice.
        Err(failed) if failed.allows_fresh_try(true) => exchange(Reuse::Fresh).await,
        outcome => outcome,
    }
}

/// Where the service listens: by its address, by our own table where the name is that of a Service we serve anyway,
/// else by DNS. Every address is judged as those of backends are (B-18).
async fn addresses(way: &Way<'_>, host: &Arc<str>, port: u16) -> Vec<SocketAddr> {
    let own = own_endpoints(way, host, port);
    let set = match (host.parse::<IpAddr>(), own) {
        (Ok(ip), _) => {
            let ready = vec![EndpointAddress::Socket(SocketAddr::new(ip, port))];
            Arc::new(EndpointSet { ready, empty_because: "" })
        }
        (Err(_), Some(own)) => own,
        (Err(_), None) => {
            let ready = vec![EndpointAddress::Name(Arc::clone(host), port)];
            Arc::new(EndpointSet { ready, empty_because: "" })
        }
    };
    let resolved = way.exchange.worker.upstreams.endpoints(&set).await;
    let sockets = resolved.ready.iter().filter_map(|endpoint| match endpoint {
        EndpointAddress::Socket(socket) => Some(*socket),
        EndpointAddress::Name(..) => None,
    });
    sockets.collect()
}

/// Endpoints of `service.namespace.svc[.cluster.local]` with this port, when a route leads to it and it has some.
fn own_endpoints(way: &Way<'_>, host: &str, port: u16) -> Option<Arc<EndpointSet>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let short = host.strip_suffix(".cluster.local").unwrap_or(host).strip_suffix(".svc")?;
    let (service, namespace) = short.split_once('.')?;
    let port = port.to_string();
    let table = &way.exchange.snapshot.table;
    let wanted = (namespace, service, port.as_str());
    let at = table.backends.binary_search_by(|backend| {
        let key = &backend.key;
        (&*key.namespace, &*key.service, &*key.port).cmp(&wanted)
    });
    let backend = table.backends.get(at.ok()?)?;
    let set = way.exchange.snapshot.endpoints.shared(backend.slot)?;
    (!set.ready.is_empty()).then(|| Arc::clone(set))
}

/// Reads what follows the head, so that the connection can be kept; nobody waits for it.
fn discard(content: Content) {
    let Content::Body(body @ ResponseBody::Stream(_)) = content else { return };
    tokio::task::spawn_local(async move {
        let mut body = pin!(body);
        let mut read = 0_u64;
        let drain = async {
            while let Some(Ok(frame)) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                read = read.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64));
                if read > DRAINED {
                    return;
                }
            }
        };
        let _given_up = tokio::time::timeout(DRAIN_TIME, drain).await;
    });
}
