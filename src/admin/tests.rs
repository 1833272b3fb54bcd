//! The port over real loopback sockets, with configuration faked.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::drain::{DrainPlan, DrainTrigger};
use crate::telemetry::metrics::{MetricsConfig, Orphaned};

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers with its own name.
struct Named;

impl Inspect for Named {
    fn generation(&self) -> Result<Value, Refused> {
        Ok(json!({ "generation": 7 }))
    }
    fn routes(&self) -> Result<Value, Refused> {
        Ok(json!("routes"))
    }
    fn diagnostics(&self) -> Result<Value, Refused> {
        Ok(json!("diagnostics"))
    }
    fn backends(&self) -> Result<Value, Refused> {
        Ok(json!("backends"))
    }
    fn certs(&self) -> Result<Value, Refused> {
        Err(Refused::NoTable)
    }
    fn explain(&self, query: &ExplainQuery) -> Result<Value, Refused> {
        Ok(json!({ "url": query.url, "method": query.method, "headers": query.headers }))
    }
}

struct Fixture {
    admin: Admin,
    health: Health,
    drain: DrainTrigger,
    metrics: Metrics,
}

fn config() -> AdminConfig {
    AdminConfig { health_path: "/healthz".to_owned(), metrics: true, debug_endpoints: false }
}

fn listening_on(address: IpAddr, config: AdminConfig) -> Fixture {
    let drain = DrainTrigger::new();
    let health = Health::new(drain.watcher());
    let metrics = Metrics::new(MetricsConfig::default());
    let listener = TcpListener::bind((address, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let sources = AdminSources { health: health.clone(), metrics: metrics.clone(), inspect: Arc::new(Named) };
    let admin = Admin::start(listener, config, sources).unwrap();
    Fixture { admin, health, drain, metrics }
}

fn fixture(config: AdminConfig) -> Fixture {
    listening_on(IpAddr::V4(Ipv4Addr::LOCALHOST), config)
}

impl Fixture {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.admin.address().port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Status, head and body of one exchange.
    fn ask(&self, method: &str, target: &str) -> (u16, String, String) {
        self.send(&format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"))
    }

    fn send(&self, request: &str) -> (u16, String, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    fn status(&self, target: &str) -> u16 {
        self.ask("GET", target).0
    }
}

#[test]
fn ready_means_bound_and_published_and_not_draining() {
    let fixture = fixture(config());
    let check = |healthz: u16, readyz: u16| {
        assert_eq!((fixture.status("/healthz"), fixture.status("/readyz")), (healthz, readyz));
        assert_eq!(fixture.status("/livez"), 200);
    };
    check(500, 503);
    fixture.health.listeners_bound();
    check(500, 503);
    fixture.health.table_published();
    check(200, 200);
    assert_eq!(fixture.ask("GET", "/healthz").2, "ok");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime
        .block_on(fixture.drain.run(DrainPlan { grace: Duration::ZERO, deadline: Duration::ZERO }, |_| ()));
    check(500, 503);
    assert_eq!(fixture.ask("GET", "/readyz").2, "shutting down");
}

/// The body of an answer in chunks (RFC 9112 section 7.1), none of which is large, and what follows it.
fn dechunked(mut rest: &str) -> (String, &str) {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        assert!(size < 64 * 1024, "{size}");
        body.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").unwrap();
        if size == 0 {
            return (body, rest);
        }
    }
}

#[test]
fn an_answer_of_many_writes_arrives_whole() {
    let fixture = fixture(config());
    let orphans = (0..20_000).map(|number| {
        let orphaned = Orphaned { no_service: number % 2 == 0, no_endpoint: None };
        (("default".into(), format!("ingress-{number}").into()), Some(orphaned))
    });
    fixture.metrics.control().change_orphans(orphans);
    // Twice on one connection: what is left of the first answer would stand before the second one.
    let twice = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_owned()
        + "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    let (status, head, rest) = fixture.send(&twice);
    assert_eq!(status, 200);
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let (first, rest) = dechunked(&rest);
    let (head, rest) = rest.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    let (second, rest) = dechunked(rest);
    assert_eq!(rest, "");
    for body in [first, second] {
        assert!(body.len() > 1 << 20, "{}", body.len());
        assert_eq!(body.matches("ingress=\"ingress-").count(), 20_000);
        assert!(body.contains("ingress=\"ingress-19999\",namespace=\"default\",type=\"no-service\"} 0\n"));
    }
}

#[test]
fn a_lost_control_loop_is_not_alive() {
    let fixture = fixture(config());
    fixture.health.listeners_bound();
    fixture.health.table_published();
    fixture.health.control_lost();
    for target in ["/livez", "/healthz"] {
        assert_eq!(fixture.status(target), 500, "{target}");
    }
}

#[test]
fn the_health_path_can_be_another_one_whatever_characters_it_holds() {
    for path in ["/ping", "/{what}", "/a/*b", "/healthz", "/metrics", "bad"] {
        let fixture = fixture(AdminConfig { health_path: path.to_owned(), ..config() });
        fixture.health.listeners_bound();
        fixture.health.table_published();
        if path.starts_with('/') {
            assert_eq!(fixture.status(path), 200, "{path}");
        }
        assert_eq!(fixture.status("/healthz"), 200);
        assert_eq!(fixture.status("/else"), 404);
    }
}

#[test]
fn head_is_answered_without_a_body_and_other_methods_are_refused() {
    let fixture = fixture(config());
    let (status, head, body) = fixture.ask("HEAD", "/metrics");
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        for target in ["/healthz", "/metrics", "/api/v1/routes", "/else"] {
            let (status, head, _) = fixture.ask(method, target);
            assert_eq!(status, 405, "{method} {target}");
            assert!(head.contains("allow: get, head"), "{head}");
        }
    }
}

#[test]
fn metrics_are_served_unless_switched_off() {
    let on = fixture(config());
    on.metrics.control().set_leader("ingress-nginx", true);
    let (status, _, body) = on.ask("GET", "/metrics");
    assert_eq!(status, 200);
    assert!(body.contains("nginx_ingress_controller_leader_election_status"), "{body}");
    let off = fixture(AdminConfig { metrics: false, ..config() });
    assert_eq!(off.status("/metrics"), 404);
}

#[test]
fn the_api_answers_json() {
    let fixture = fixture(config());
    for (target, status, expect) in [
        ("/api/v1/generation", 200, json!({ "generation": 7 })),
        ("/api/v1/routes", 200, json!("routes")),
        ("/api/v1/diagnostics", 200, json!("diagnostics")),
        ("/api/v1/backends", 200, json!("backends")),
        ("/api/v1/certs", 503, json!({ "error": "no routing table is published yet" })),
        (
            "/api/v1/explain?method=PUT&url=http%3A%2F%2Fa%2Fb%3Fc%3Dd&header=X-A%3A%201&header=B:2",
            200,
            json!({ "url": "http://a/b?c=d", "method": "PUT", "headers": [["X-A", "1"], ["B", "2"]] }),
        ),
    ] {
        let (seen, head, body) = fixture.ask("GET", target);
        assert_eq!(seen, status, "{target}");
        assert!(head.contains("content-type: application/json"), "{head}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expect, "{target}");
    }
    assert_eq!(fixture.status("/api/v1/explain"), 400);
    assert_eq!(fixture.status("/api/v1/secrets"), 404);
    assert_eq!(fixture.status("/api/v1/"), 404);
}

#[test]
fn what_is_configured_is_shown_under_own_names_only_and_to_no_page_of_others() {
    let fixture = fixture(config());
    fixture.health.listeners_bound();
    fixture.health.table_published();
    let status = |target: &str, lines: &str| {
        fixture.send(&format!("GET {target} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n")).0
    };
    for (lines, api, metrics) in [
        ("Host: localhost\r\n", 200, 200),
        ("Host: [::1]:10254\r\n", 200, 200),
        ("Host: rebound.test\r\n", 421, 200),
        ("Host: rebound.test:10254\r\nSec-Fetch-Site: same-origin\r\n", 421, 200),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", 403, 403),
        ("Host: localhost\r\nOrigin: http://evil.test\r\n", 403, 403),
    ] {
        let seen = (status("/api/v1/routes", lines), status("/metrics", lines));
        assert_eq!(seen, (api, metrics), "{lines:?}");
        for health in ["/healthz", "/livez", "/readyz"] {
            assert_eq!(status(health, lines), 200, "{lines:?}");
        }
    }
    assert_eq!(status("http://rebound.test/api/v1/routes", "Host: localhost\r\n"), 421);
}

#[test]
fn several_requests_share_a_connection() {
    let fixture = fixture(config());
    let mut stream = fixture.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&byte);
        }
    }
}

#[test]
fn a_connection_beyond_the_bound_waits_until_another_one_ends() {
    let fixture = fixture(config());
    let mut held: Vec<TcpStream> = (0..intake::CONNECTIONS).map(|_| fixture.connect()).collect();
    // Each of them was answered once, so all are accepted.
    for stream in &mut held {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    let mut late = fixture.connect();
    late.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    late.set_nonblocking(true).unwrap();
    let waiting = late.read(&mut [0; 1]).unwrap_err();
    assert_eq!(waiting.kind(), io::ErrorKind::WouldBlock);
    late.set_nonblocking(false).unwrap();
    held.pop();
    let mut answer = String::new();
    late.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_client_that_never_finishes_its_request_is_closed() {
    let fixture = fixture(config());
    let mut stream = fixture.connect();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: ").unwrap();
    let mut rest = Vec::new();
    // The read returns when the port closes; the stream's own timeout would be an error.
    let ended = stream.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn the_port_is_free_once_the_server_is_dropped() {
    let fixture = fixture(config());
    let address = fixture.admin.address();
    let open = fixture.connect();
    drop(fixture);
    drop(open);
    assert!(TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err());
}
