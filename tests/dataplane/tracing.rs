//! Spans end to end: what backends are told, what a collector gets, what the log shows.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;

use crate::support::backend::Backend;
use crate::support::client::Raw;
use crate::support::manifests::{annotated, config_map, ingress, service};
use crate::support::{TestProxy, eventually};

/// The messages of OTLP that matter here, field numbers as in `opentelemetry-proto`.
mod otlp {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Request {
        #[prost(message, repeated, tag = "1")]
        pub(super) resource_spans: Vec<ResourceSpans>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub(super) resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub(super) scope_spans: Vec<ScopeSpans>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub(super) attributes: Vec<KeyValue>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        pub(super) spans: Vec<Span>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) span_id: Vec<u8>,
        #[prost(string, tag = "3")]
        pub(super) trace_state: String,
        #[prost(bytes = "vec", tag = "4")]
        pub(super) parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")]
        pub(super) name: String,
        #[prost(int32, tag = "6")]
        pub(super) kind: i32,
        #[prost(fixed64, tag = "7")]
        pub(super) start: u64,
        #[prost(fixed64, tag = "8")]
        pub(super) end: u64,
        #[prost(message, repeated, tag = "9")]
        pub(super) attributes: Vec<KeyValue>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct KeyValue {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<AnyValue>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct AnyValue {
        #[prost(oneof = "Value", tags = "1, 3")]
        pub(super) value: Option<Value>,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Value {
        #[prost(string, tag = "1")]
        Text(String),
        #[prost(int64, tag = "3")]
        Number(i64),
    }
}

/// A collector: a gRPC server that decodes what it gets.
struct Collector {
    port: u16,
    got: Arc<Mutex<Vec<otlp::Request>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let got: Arc<Mutex<Vec<otlp::Request>>> = Arc::default();
        let log = Arc::clone(&got);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let log = Arc::clone(&log);
                    tokio::spawn(async move {
                        let serve = hyper::service::service_fn(|request| export(request, Arc::clone(&log)));
                        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ended = server.serve_connection(TokioIo::new(stream), serve).await;
                    });
                }
            });
        });
        Self { port, got }
    }

    fn spans(&self) -> Vec<otlp::Span> {
        let got = self.got.lock().unwrap();
        let all = got.iter().flat_map(|request| &request.resource_spans).flat_map(|one| &one.scope_spans);
        all.flat_map(|scope| scope.spans.clone()).collect()
    }
}

type Trailing = std::pin::Pin<
    Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Send>,
>;

async fn export(
    request: http::Request<hyper::body::Incoming>,
    log: Arc<Mutex<Vec<otlp::Request>>>,
) -> Result<http::Response<StreamBody<Trailing>>, std::convert::Infallible> {
    assert_eq!(request.uri().path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let (frame, message) = body.split_at(5);
    assert_eq!(frame[0], 0);
    assert_eq!(u32::from_be_bytes(frame[1..].try_into().unwrap()) as usize, message.len());
    log.lock().unwrap().push(otlp::Request::decode(message).unwrap());
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames = [Ok(Frame::data(Bytes::from_static(&[0; 5]))), Ok(Frame::trailers(trailers))];
    let stream: Trailing = Box::pin(futures_util::stream::iter(frames));
    Ok(http::Response::builder()
        .header("content-type", "application/grpc")
        .body(StreamBody::new(stream))
        .unwrap())
}

fn attribute(span: &otlp::Span, key: &str) -> Option<otlp::Value> {
    let found = span.attributes.iter().find(|pair| pair.key == key)?;
    found.value.clone()?.value
}

fn text(span: &otlp::Span, key: &str) -> Option<String> {
    match attribute(span, key)? {
        otlp::Value::Text(text) => Some(text),
        otlp::Value::Number(number) => Some(number.to_string()),
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn proxy(manifests: &str, data: &[(&str, &str)]) -> TestProxy {
    let mut all = vec![("otel-schedule-delay-millis", "10")];
    if !data.iter().any(|(key, _)| *key == "access-log-path") {
        all.push(("disable-access-log", "true"));
    }
    all.extend_from_slice(data);
    TestProxy::start(&(manifests.to_owned() + &config_map(&all)), &["--configmap=default/config"])
}

/// Settings that trace everything and send it to the collector on `port`.
fn traced<'a>(port: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut data = vec![
        ("enable-opentelemetry", "true"),
        ("otlp-collector-host", "127.0.0.1"),
        ("otlp-collector-port", port),
    ];
    data.extend_from_slice(more);
    data
}

fn get(proxy: &TestProxy, target: &str, fields: &str) -> u16 {
    let request = format!("GET {target} HTTP/1.1\r\nHost: h.test\r\n{fields}\r\n");
    Raw::connect(proxy.http()).send(request).answer().status
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_span_reaches_the_collector_with_the_attributes_of_the_nginx_module() {
    let collector = Collector::start();
    let backend = Backend::echo("b");
    let port = collector.port.to_string();
    let data = traced(
        &port,
        &[
            ("otel-service-name", "edge"),
            ("opentelemetry-operation-name", "HTTP $request_method $service_name $uri"),
        ],
    );
    let proxy = proxy(&annotated(backend.address(), &[]), &data);
    let sent = format!("traceparent: {PARENT}\r\ntracestate: congo=t61\r\nUser-Agent: probe\r\n");
    assert_eq!(get(&proxy, "/a%20b?x=1", &sent), 200);
    eventually("a span arrives", || !collector.spans().is_empty());
    let span = collector.spans().remove(0);
    assert_eq!(hexadecimal(&span.trace_id), TRACE);
    assert_eq!(hexadecimal(&span.parent_span_id), "b7ad6b7169203331");
    assert_eq!((span.trace_state.as_str(), span.kind), ("congo=t61", 2));
    assert_eq!(span.name, "HTTP GET b /a b");
    assert!(span.start > 1_500_000_000_000_000_000 && span.start <= span.end);
    for (key, expect) in [
        ("http.method", "GET"),
        ("http.flavor", "1.1"),
        ("http.target", "/a%20b?x=1"),
        ("http.server_name", "h.test"),
        ("http.host", "h.test"),
        ("http.user_agent", "probe"),
        ("http.status_code", "200"),
        ("http.scheme", "http"),
        ("net.host.port", proxy.http().port().to_string().as_str()),
        ("net.peer.ip", "127.0.0.1"),
    ] {
        assert_eq!(text(&span, key).as_deref(), Some(expect), "{key}");
    }
    assert!(matches!(attribute(&span, "http.status_code"), Some(otlp::Value::Number(200))));
    let resource = collector.got.lock().unwrap()[0].resource_spans[0].resource.clone().unwrap();
    assert_eq!(resource.attributes[0].key, "service.name");
    // What the backend was told is the span that was sent.
    let told = backend.requests()[0].field("traceparent").unwrap().to_owned();
    assert_eq!(told, format!("00-{TRACE}-{}-01", hexadecimal(&span.span_id)));
    assert_eq!(backend.requests()[0].field("tracestate"), Some("congo=t61"));
    eventually("it is counted", || {
        let metrics = crate::support::client::get(proxy.admin(), "admin", "/metrics").text();
        metrics.contains("narthex_spans_total{outcome=\"exported\"} 1")
    });
}

/// P25: spans hold nothing that proves who somebody is, and no key of the one who is asked.
#[test]
fn no_span_holds_a_secret() {
    let collector = Collector::start();
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nSet-Cookie: session=CANARY1\r\nX-Auth-Token: CANARY2\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    let users = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: users, namespace: default}\ntype: Opaque\nstringData: {auth: \"CANARY3:{PLAIN}CANARY4\"}\n";
    let basic = [("auth-type", "basic"), ("auth-secret", "users")];
    let manifests = ingress("open", &[], &[("h.test", "/", "Prefix", "b")])
        + &ingress("shut", &basic, &[("h.test", "/shut", "Prefix", "b")])
        + &service("b", &[backend.address()])
        + users;
    let port = collector.port.to_string();
    let proxy = proxy(&manifests, &traced(&port, &[]));
    let fields = "Authorization: Basic CANARY5\r\nProxy-Authorization: CANARY6\r\nCookie: a=CANARY7\r\nX-Auth-Token: CANARY8\r\n";
    assert_eq!((get(&proxy, "/x", fields), get(&proxy, "/shut", fields)), (200, 401));
    // The user's name is not in the password file: what is wrong about it is told to nobody either.
    eventually("two spans arrive", || collector.spans().len() >= 2);
    let told = format!("{:?}", collector.got.lock().unwrap());
    let at = told.find("CANARY");
    assert!(at.is_none(), "{:?}", at.map(|at| &told[at.saturating_sub(200)..at + 10]));
}

#[test]
fn traces_begin_here_where_clients_are_not_trusted_and_pass_untouched_where_nothing_is_traced() {
    let backend = Backend::echo("b");
    let annotations = [("enable-opentelemetry", "true"), ("opentelemetry-trust-incoming-span", "false")];
    let rule = |host: &'static str| [(host, "/", "Prefix", "b")];
    let silenced = [("enable-opentelemetry", "true"), ("configuration-snippet", "opentelemetry off;")];
    let manifests = ingress("wary", &annotations, &rule("h.test"))
        + &ingress("plain", &[], &rule("off.test"))
        + &ingress("silenced", &silenced, &rule("snippet.test"))
        + &service("b", &[backend.address()]);
    let open = [("allow-snippet-annotations", "true"), ("annotations-risk-level", "Critical")];
    let proxy = proxy(&manifests, &open);
    let fields = format!("traceparent: {PARENT}\r\ntracestate: congo=t61\r\n");
    assert_eq!(get(&proxy, "/", &fields), 200);
    for host in ["off.test", "snippet.test"] {
        let off = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        assert_eq!(Raw::connect(proxy.http()).send(off).answer().status, 200);
    }
    let seen = backend.requests();
    let begun = seen[0].field("traceparent").unwrap();
    assert!(begun.len() == 55 && begun.ends_with("-01") && !begun.contains(TRACE), "{begun}");
    assert_eq!(seen[0].field("tracestate"), None, "the state belongs to the trace that was not gone on with");
    assert_eq!(seen[1].field("traceparent"), Some(PARENT));
    assert_eq!(seen[2].field("traceparent"), Some(PARENT));
}

#[test]
fn samplers_decide_what_is_recorded_and_say_so_to_the_backend() {
    let collector = Collector::start();
    let backend = Backend::echo("b");
    let port = collector.port.to_string();
    let data = traced(&port, &[("otel-sampler", "AlwaysOff")]);
    let proxy = proxy(&annotated(backend.address(), &[]), &data);
    assert_eq!(get(&proxy, "/first", ""), 200);
    // The word of the parent counts before the sampler.
    assert_eq!(get(&proxy, "/second", &format!("traceparent: {PARENT}\r\n")), 200);
    eventually("the recorded span arrives", || !collector.spans().is_empty());
    let names: Vec<_> = collector.spans().iter().map(|span| text(span, "http.target")).collect();
    assert_eq!(names, [Some("/second".to_owned())]);
    let told = backend.requests()[0].field("traceparent").unwrap().to_owned();
    assert!(told.ends_with("-00"), "{told}");
}

#[test]
fn a_collector_that_is_not_there_costs_spans_and_nothing_else() {
    let backend = Backend::echo("b");
    let port = crate::support::backend::refusing().port().to_string();
    let data = traced(&port, &[]);
    let proxy = proxy(&annotated(backend.address(), &[]), &data);
    assert_eq!(get(&proxy, "/", ""), 200);
    eventually("the loss is counted", || {
        let metrics = crate::support::client::get(proxy.admin(), "admin", "/metrics").text();
        metrics.contains("narthex_spans_total{outcome=\"failed\"} 1")
    });
    assert_eq!(get(&proxy, "/", ""), 200);
}

#[test]
fn ids_stand_in_headers_and_in_the_log() {
    let backend = Backend::echo("b");
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().display().to_string();
    let data = [
        ("access-log-path", path.as_str()),
        ("enable-opentelemetry", "true"),
        ("proxy-set-headers", "default/more"),
        (
            "log-format-upstream",
            "[$opentelemetry_trace_id] [$opentelemetry_span_id] [$opentelemetry_context_traceparent] [$opentelemetry_context_tracestate]",
        ),
    ];
    let more = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: more, namespace: default}\ndata: {X-Trace: \"$opentelemetry_trace_id\"}\n";
    let proxy = proxy(&(annotated(backend.address(), &[]) + more), &data);
    assert_eq!(get(&proxy, "/", &format!("traceparent: {PARENT}\r\n")), 200);
    let told = backend.requests().remove(0);
    assert_eq!(told.field("x-trace"), Some(TRACE));
    let parent = told.field("traceparent").unwrap().to_owned();
    let expect = format!("[{TRACE}] [{}] [{parent}] [-]\n", &parent[36..52]);
    eventually("the line is written", || std::fs::read_to_string(&path).unwrap().contains(&expect));
}
