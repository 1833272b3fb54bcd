//! A reverse proxy as the examples of `hyper` and `hyper-util` suggest it: their server, their pooled client, one task
//! for each connection on a runtime with one worker thread. Routes and forwarded fields as with the other proxies that
//! are measured; no limits, policies, metrics or log.
//!
//! naive HTTP-PORT HTTPS-PORT BACKEND-PORT CERTIFICATE KEY

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<BoxBody<Bytes, hyper::Error>>;

static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// What is the same for all connections of a port.
struct Port {
    client: Client<HttpConnector, Incoming>,
    backend: u16,
    scheme: &'static str,
    number: u16,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [http, https, backend, certificate, key] = words.as_slice() else {
        return Err("naive HTTP-PORT HTTPS-PORT BACKEND-PORT CERTIFICATE KEY".into());
    };
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let mut tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // As with the other proxies no session is kept.
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(320).build(connector);
    let port = |scheme, number: &str| -> Result<Arc<Port>, Failure> {
        Ok(Arc::new(Port { client: client.clone(), backend: backend.parse()?, scheme, number: number.parse()? }))
    };
    let clear = listen(port("http", http)?, None);
    let secured = listen(port("https", https)?, Some(TlsAcceptor::from(Arc::new(tls))));
    tokio::try_join!(clear, secured)?;
    Ok(())
}

async fn listen(port: Arc<Port>, tls: Option<TlsAcceptor>) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number)).await?;
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (port, tls) = (Arc::clone(&port), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, port, peer).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, port, peer).await;
                    }
                }
            }
        });
    }
}

async fn serve<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: IO, port: Arc<Port>, peer: SocketAddr) {
    let service = service_fn(move |request| {
        let port = Arc::clone(&port);
        async move { Ok::<_, hyper::Error>(forward(request, &port, peer).await) }
    });
    // A client that goes away is no news.
    let _ended = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn forward(mut request: Request<Incoming>, port: &Port, peer: SocketAddr) -> Answer {
    let host = match request.headers().get(HOST) {
        Some(host) => host.clone(),
        None => match request.uri().authority().and_then(|name| HeaderValue::from_str(name.as_str()).ok()) {
            Some(host) => host,
            None => return local(StatusCode::BAD_REQUEST),
        },
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if host != "bench.example.test" || path.starts_with("/api/") || path.starts_with("/static/") {
        return local(StatusCode::NOT_FOUND);
    }
    let Ok(uri) = format!("http://127.0.0.1:{}{path}", port.backend).parse::<Uri>() else {
        return local(StatusCode::BAD_REQUEST);
    };
    let address = peer.ip().to_string();
    let number = port.number.to_string();
    let id = format!("{:032x}", REQUESTS.fetch_add(1, Ordering::Relaxed));
    let told = [
        ("x-request-id", id.as_str()),
        ("x-real-ip", &address),
        ("x-forwarded-for", &address),
        ("x-forwarded-port", &number),
        ("x-forwarded-proto", port.scheme),
        ("x-scheme", port.scheme),
    ];
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    let fields = request.headers_mut();
    for (name, value) in told {
        if let Ok(value) = HeaderValue::from_str(value) {
            fields.insert(name, value);
        }
    }
    fields.insert("x-forwarded-host", host.clone());
    fields.insert(HOST, host);
    match port.client.request(request).await {
        Ok(answer) => answer.map(BodyExt::boxed),
        Err(_) => local(StatusCode::BAD_GATEWAY),
    }
}

fn local(status: StatusCode) -> Answer {
    let body = Empty::new().map_err(|never| match never {}).boxed();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}
