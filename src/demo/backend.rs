//! The applications behind the example: each answers with its name and what it received, on a loopback port of its
//! own, all on one thread.

use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::{NAMESPACE, websocket};

/// Service names. `shop-v2` is the canary, `slow` takes its time, `chat` echoes WebSocket messages.
const NAMES: &[&str] = &["shop-v1", "shop-v2", "api", "items", "chat", "tenants", "slow"];
/// How much of a body is echoed.
const ECHOED_BYTES: usize = 64 * 1024;
/// The longest that `slow` sleeps, seconds.
const LONGEST_SLEEP: u64 = 30;
/// Where the browser gets the page of the WebSocket example.
const CHAT_PAGE: &str = include_str!("chat.html");

/// Running backends; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Backends {
    addresses: Vec<(&'static str, SocketAddr)>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Backends {
    /// Binds a free port for each name and serves them on a thread.
    pub(super) fn start() -> io::Result<Self> {
        let mut addresses = Vec::with_capacity(NAMES.len());
        let mut listeners = Vec::with_capacity(NAMES.len());
        for name in NAMES {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            addresses.push((*name, listener.local_addr()?));
            listeners.push((*name, listener));
        }
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serve = move || {
            let local = LocalSet::new();
            local.block_on(&runtime, async {
                for (name, listener) in listeners {
                    tokio::task::spawn_local(accept(name, listener));
                }
                // Either way of ending means the same.
                let _dropped = stopped.await;
            });
        };
        let thread = std::thread::Builder::new().name("demo-backends".into()).spawn(serve)?;
        Ok(Self { addresses, stop: Some(stop), thread: Some(thread) })
    }

    /// Address of a backend.
    #[cfg(test)]
    pub(super) fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.iter().find(|(known, _)| *known == name).map(|(_, address)| *address)
    }

    /// Service and EndpointSlice of each, as YAML: how any process on this machine becomes a backend.
    pub(super) fn manifests(&self) -> String {
        let mut text = String::from("# Written anew at each start of the demo: the ports change.\n");
        for (name, address) in &self.addresses {
            // A String takes everything.
            let _always = write!(
                text,
                "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {NAMESPACE}\nspec:\n  \
                 ports:\n  - port: 80\n    targetPort: {port}\n---\napiVersion: discovery.k8s.io/v1\nkind: \
                 EndpointSlice\nmetadata:\n  name: {name}-local\n  namespace: {NAMESPACE}\n  labels:\n    \
                 kubernetes.io/service-name: {name}\naddressType: IPv4\nendpoints:\n- addresses: [{ip}]\n  \
                 conditions: {{ready: true}}\nports:\n- port: {port}\n  protocol: TCP\n",
                ip = address.ip(),
                port = address.port()
            );
        }
        text
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _reported = thread.join();
        }
    }
}

async fn accept(name: &'static str, listener: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely; there may be some again soon.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = service_fn(move |request| answer(name, request));
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
        tokio::task::spawn_local(async move {
            // The proxy may end a connection at any time.
            let _ended = connection.await;
        });
    }
}

async fn answer(
    name: &'static str,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if name == "slow" {
        tokio::time::sleep(sleep_of(request.uri().query().unwrap_or_default())).await;
    }
    if name == "chat" {
        return Ok(websocket::accept(&mut request).unwrap_or_else(|| page(CHAT_PAGE)));
    }
    let mut text =
        format!("{name} received:\n\n{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (key, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        // A String takes everything.
        let _always = writeln!(text, "{key}: {value}");
    }
    if let Ok(body) = Limited::new(request.into_body(), ECHOED_BYTES).collect().await {
        let body = body.to_bytes();
        if !body.is_empty() {
            text.push('\n');
            text.push_str(&String::from_utf8_lossy(&body));
            text.push('\n');
        }
    }
    let mut response = Response::new(Full::new(text.into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("x-served-by", HeaderValue::from_static(name));
    Ok(response)
}

/// `seconds=N` of a query; nothing where it says nothing.
fn sleep_of(query: &str) -> Duration {
    let seconds = query.split('&').find_map(|pair| pair.strip_prefix("seconds="));
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(0).min(LONGEST_SLEEP))
}

fn page(html: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(html.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}
