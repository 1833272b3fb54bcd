//! What clients may cost (`security.md` section D): each limit under its attack, seen from the client, from its
//! neighbours and in the metrics.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::client::{Raw, get};
use crate::support::frames::{DATA, END_HEADERS, Frames, HEADERS, RST_STREAM, frame, literals};
use crate::support::manifests::{annotated, config_map, simple};
use crate::support::{TestProxy, eventually};

/// A proxy with one worker over `backend` and these keys of the ConfigMap.
fn limited(backend: &Backend, keys: &[(&str, &str)], flags: &[&str]) -> TestProxy {
    let mut keys = keys.to_vec();
    keys.push(("disable-access-log", "true"));
    let mut all = vec!["--configmap=default/config", "--workers=1"];
    all.extend(flags);
    TestProxy::start(&(simple(backend.address()) + &config_map(&keys)), &all)
}

/// Value of the first sample whose line begins so; 0 without one.
fn metric(proxy: &TestProxy, begin: &str) -> f64 {
    let text = get(proxy.admin(), "localhost", "/metrics").text();
    let line = text.lines().find(|line| line.starts_with(begin));
    line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

fn refused(proxy: &TestProxy, reason: &str) -> f64 {
    metric(proxy, &format!("narthex_connections_refused_total{{reason=\"{reason}\"}}"))
}

/// A connection that has had one answer and idles.
fn idle(proxy: &TestProxy) -> Raw {
    let mut raw = Raw::connect(proxy.http());
    raw.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(raw.answer().status, 200);
    raw
}

/// A backend that keeps every answer back until it is released; says when a request came.
struct Stuck {
    backend: Backend,
    arrived: mpsc::Receiver<()>,
    open: Arc<AtomicBool>,
}

impl Stuck {
    fn new() -> Self {
        let (tell, arrived) = mpsc::channel();
        let tell = Mutex::new(tell);
        let open = Arc::new(AtomicBool::new(false));
        let gate = Arc::clone(&open);
        let backend = Backend::answering(move |_| {
            let _ = tell.lock().unwrap().send(());
            let begin = Instant::now();
            while !gate.load(Ordering::Relaxed) && begin.elapsed() < Duration::from_secs(15) {
                std::thread::sleep(Duration::from_millis(5));
            }
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
        });
        Self { backend, arrived, open }
    }

    /// A request under way.
    fn occupy(&self, proxy: &TestProxy) -> Raw {
        self.occupy_at(proxy.http())
    }

    fn occupy_at(&self, address: SocketAddr) -> Raw {
        let mut raw = Raw::connect(address);
        raw.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        self.arrived.recv_timeout(Duration::from_secs(10)).unwrap();
        raw
    }

    fn release(&self) {
        self.open.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_bound_of_memory_is_shown_and_follows_the_limits() {
    let backend = Backend::echo("b");
    let proxy = limited(&backend, &[("max-body-memory", "64m"), ("max-inflight-requests", "100")], &[]);
    let bound = metric(&proxy, "narthex_memory_bound_bytes");
    assert!(bound > f64::from(64 << 20), "{bound}");
    assert!(metric(&proxy, "narthex_memory_limit_bytes") > 0.0);
    let larger = limited(&backend, &[("max-body-memory", "128m"), ("max-inflight-requests", "100")], &[]);
    // The resident size of the test process is part of both and grows.
    let more = metric(&larger, "narthex_memory_bound_bytes");
    assert!(more > bound + f64::from(32 << 20), "{more} {bound}");
}

#[test]
fn bodies_beyond_their_budget_get_503_and_everything_else_is_served() {
    let backend = Backend::echo("b");
    let proxy = limited(&backend, &[("max-body-memory", "150k")], &[]);
    let mut held: Vec<Raw> = (0..2)
        .map(|_| {
            let mut raw = Raw::connect(proxy.http());
            raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 60000\r\n\r\n").send([b'x'; 30_000]);
            raw
        })
        .collect();
    eventually("the budget is used up", || {
        metric(&proxy, "narthex_buffered_body_bytes") >= f64::from(150 << 10)
    });
    let mut refused = Raw::connect(proxy.http());
    refused.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 4\r\n\r\nbody");
    let answer = refused.answer();
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert_eq!(get(proxy.http(), "h.test", "/").status, 200);
    for raw in &mut held {
        raw.send([b'x'; 30_000]);
        let answer = raw.answer();
        assert_eq!((answer.status, answer.body.len()), (200, 60_000));
    }
    drop(held);
    eventually("the budget is free again", || metric(&proxy, "narthex_buffered_body_bytes") == 0.0);
    refused.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(refused.answer().status, 200);
}

#[test]
fn windows_of_http_2_bodies_count_until_their_streams_end() {
    let stuck = Stuck::new();
    let proxy =
        limited(&stuck.backend, &[("max-body-memory", "1m"), ("proxy-request-buffering", "off")], &[]);
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "h.test")];
    let mut client = Frames::connect(proxy.http());
    for stream in [1, 3, 5] {
        client.send(&frame(HEADERS, END_HEADERS, stream, &literals(&fields)));
        client.send(&frame(DATA, 0, stream, b"x"));
    }
    eventually("three windows", || metric(&proxy, "narthex_buffered_body_bytes") >= f64::from(3 << 16));
    for stream in [1, 3, 5] {
        client.send(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    eventually("no window", || metric(&proxy, "narthex_buffered_body_bytes") == 0.0);
}

/// An HTTP/2 server whose answers never end; it sends as much as windows allow.
fn endless_answers() -> SocketAddr {
    struct Endless;
    impl http_body::Body for Endless {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
            std::task::Poll::Ready(Some(Ok(http_body::Frame::data(bytes::Bytes::from_static(
                &[b'x'; 16_384],
            )))))
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let answer = |_| async { Ok::<_, std::convert::Infallible>(http::Response::new(Endless)) };
                let io = hyper_util::rt::TokioIo::new(stream);
                let executor = hyper_util::rt::TokioExecutor::new();
                let server = hyper::server::conn::http2::Builder::new(executor)
                    .serve_connection(io, hyper::service::service_fn(answer));
                tokio::spawn(server);
            }
        });
    });
    address
}

#[test]
fn what_a_backend_sent_over_http_2_to_a_client_that_takes_nothing_counts_until_it_goes() {
    let manifests = annotated(endless_answers(), &[("backend-protocol", "GRPC")]);
    let proxy = TestProxy::start(&manifests, &["--workers=1"]);
    let mut clients: Vec<Raw> = (0..2).map(|_| Raw::connect(proxy.http())).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    }
    eventually("two windows", || metric(&proxy, "narthex_buffered_body_bytes") >= f64::from(2 << 18));
    drop(clients);
    eventually("no window", || metric(&proxy, "narthex_buffered_body_bytes") == 0.0);
}

#[test]
fn clients_that_take_nothing_keep_no_answer_of_an_http_2_backend_from_others() {
    let manifests = annotated(endless_answers(), &[("backend-protocol", "GRPC")]);
    let proxy = TestProxy::start(&manifests, &["--workers=1"]);
    let asking = || {
        let mut client = Raw::connect(proxy.http());
        client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        client
    };
    let slow: Vec<Raw> = (0..20).map(|_| asking()).collect();
    eventually("twenty windows", || metric(&proxy, "narthex_buffered_body_bytes") >= f64::from(20 << 18));
    let mut other = asking();
    other.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut came, mut piece) = (0, vec![0; 64 * 1024]);
    while came < 1 << 20 {
        came += other.stream.read(&mut piece).expect("more of the answer");
    }
    drop(slow);
}

#[test]
fn a_body_that_drips_below_the_least_rate_is_answered_408() {
    let backend = Backend::echo("b");
    let proxy = limited(&backend, &[("client-body-min-rate", "256")], &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 1000\r\n\r\n");
    let mut client = Frames::connect(proxy.http());
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "h.test")];
    client.send(&frame(HEADERS, END_HEADERS, 1, &literals(&fields)));
    raw.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (begin, mut status) = (Instant::now(), None);
    while status.is_none() || !client.seen.status.contains_key(&1) {
        assert!(begin.elapsed() < Duration::from_secs(30), "the drip goes on");
        if status.is_none() {
            raw.send("x");
            status = raw.answer_to("GET").map(|answer| answer.status);
        }
        client.send(&frame(DATA, 0, 1, b"x"));
        client.read();
    }
    assert_eq!((status, client.seen.status.get(&1)), (Some(408), Some(&408)));
    assert!(backend.requests().is_empty());
}

#[test]
fn a_client_has_so_many_connections_and_no_more() {
    let backend = Backend::echo("b");
    let proxy = limited(&backend, &[("max-connections-per-client", "3")], &[]);
    let mut held: Vec<Raw> = (0..3).map(|_| idle(&proxy)).collect();
    let mut fourth = Raw::connect(proxy.http());
    assert!(fourth.is_closed());
    assert_eq!(refused(&proxy, "connections-per-client"), 1.0);
    held.pop();
    eventually("a free place", || {
        let mut raw = Raw::connect(proxy.http());
        raw.send("GET / HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n");
        raw.answer_to("GET").is_some_and(|answer| answer.status == 200)
    });
}

#[test]
fn idle_connections_make_room_for_new_ones_and_busy_ones_do_not() {
    let backend = Backend::echo("b");
    let proxy = limited(&backend, &[("max-worker-connections", "10")], &[]);
    assert_eq!(metric(&proxy, "narthex_connection_limit"), 10.0);
    let mut held: Vec<Raw> = (0..10).map(|_| idle(&proxy)).collect();
    // The eleventh waits until the oldest has idled long enough to go.
    let mut eleventh = idle(&proxy);
    assert!(held[0].is_closed(), "who idled longest went first");
    assert!(metric(&proxy, "narthex_idle_connections_shed_total") >= 1.0);
    eleventh.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(eleventh.answer().status, 200);

    let stuck = Stuck::new();
    let proxy = limited(&stuck.backend, &[("max-worker-connections", "4")], &[]);
    let mut busy: Vec<Raw> = (0..4).map(|_| stuck.occupy(&proxy)).collect();
    let mut waiting = Raw::connect(proxy.http());
    waiting.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    eventually("accepting rests", || metric(&proxy, "narthex_accept_resting") >= 1.0);
    assert_eq!(metric(&proxy, "narthex_connections "), 4.0);
    stuck.release();
    for raw in &mut busy {
        assert_eq!(raw.answer().status, 200, "nobody was cut");
    }
    drop(busy);
    assert_eq!(waiting.answer().status, 200);
}

/// A proxy that has no room but for what is under way, those who are, and one who waits at `there`.
fn crowded(stuck: &Stuck, keys: &[(&str, &str)], there: [u8; 4]) -> (TestProxy, [Raw; 2], Raw) {
    let keys = [&[("max-worker-connections", "2")][..], keys].concat();
    let proxy = limited(&stuck.backend, &keys, &[]);
    let there = SocketAddr::from((there, proxy.http().port()));
    let busy = [proxy.http(), there].map(|address| stuck.occupy_at(address));
    let mut waiting = Raw::connect(there);
    waiting.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    (proxy, busy, waiting)
}

/// The end of those under way, and then of who waited for their room.
fn served_in_turn(stuck: &Stuck, busy: [Raw; 2], mut waiting: Raw) {
    stuck.release();
    for mut raw in busy {
        assert_eq!(raw.answer().status, 200);
    }
    assert_eq!(waiting.answer().status, 200, "who waited is served");
    assert!(waiting.is_closed(), "and let go");
}

#[test]
fn who_waits_for_room_when_the_drain_begins_is_served_as_long_as_it_lasts() {
    let here = [127, 0, 0, 1];
    let stuck = Stuck::new();
    let (proxy, busy, waiting) = crowded(&stuck, &[], here);
    proxy.terminate();
    eventually("the listener closed", || TcpStream::connect(proxy.http()).is_err());
    served_in_turn(&stuck, busy, waiting);
    proxy.join();

    let stuck = Stuck::new();
    let (proxy, _busy, mut waiting) = crowded(&stuck, &[("worker-shutdown-timeout", "1s")], here);
    proxy.terminate();
    assert!(waiting.is_closed(), "nobody waits longer than the process");
    proxy.join();
}

#[test]
fn who_waits_for_room_at_an_address_that_is_closed_is_served_and_let_go() {
    let there = [127, 0, 0, 2];
    let stuck = Stuck::new();
    let (proxy, busy, waiting) = crowded(&stuck, &[("bind-address", "127.0.0.1,127.0.0.2")], there);
    let keys = [("bind-address", "127.0.0.1"), ("disable-access-log", "true")];
    proxy.swap(&(simple(stuck.backend.address()) + &config_map(&keys)));
    let there = SocketAddr::from((there, proxy.http().port()));
    eventually("the address closed", || TcpStream::connect(there).is_err());
    served_in_turn(&stuck, busy, waiting);
}

#[test]
fn handshakes_that_never_end_do_not_lock_others_out() {
    let backend = Backend::echo("b");
    let proxy = limited(&backend, &[("max-ssl-handshakes", "2")], &[]);
    let mut stalled: Vec<Raw> = (0..2)
        .map(|_| {
            let mut raw = Raw::connect(proxy.https());
            raw.send([22, 3, 1]);
            raw
        })
        .collect();
    eventually("two handshakes", || metric(&proxy, "narthex_tls_handshakes_in_progress") == 2.0);
    let answer = crate::tls::get_text(proxy.https(), "h.test");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(refused(&proxy, "handshakes") >= 1.0);
    assert!(stalled[0].is_closed(), "the oldest made room");
}

/// h2load with 2,000 new connections a second lost half of them while 512 handshakes were allowed; nginx lost none.
#[test]
fn a_burst_of_clients_that_answer_slowly_is_not_turned_away() {
    const CLIENTS: u16 = 600;
    let backend = Backend::echo("b");
    let proxy = limited(&backend, &[("ssl-handshake-timeout", "60")], &[]);
    let _stalled: Vec<Raw> = (0..CLIENTS)
        .map(|_| {
            let mut raw = Raw::connect(proxy.https());
            raw.send([22, 3, 1]);
            raw
        })
        .collect();
    let begun = || metric(&proxy, "narthex_tls_handshakes_in_progress");
    eventually("all handshakes", || begun() == f64::from(CLIENTS));
    let answer = crate::tls::get_text(proxy.https(), "h.test");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!((begun(), refused(&proxy, "handshakes")), (f64::from(CLIENTS), 0.0));
}

#[test]
fn a_handshake_has_its_time() {
    let backend = Backend::echo("b");
    let proxy = limited(&backend, &[("ssl-handshake-timeout", "1")], &[]);
    for bytes in [&b""[..], &[22], &[22, 3, 1, 2, 0, 1, 0]] {
        let mut raw = Raw::connect(proxy.https());
        raw.send(bytes);
        assert!(raw.is_closed(), "{bytes:?}");
    }
    eventually("none is left", || metric(&proxy, "narthex_tls_handshakes_in_progress") == 0.0);
}

#[test]
fn requests_beyond_the_number_under_way_get_503_at_once() {
    let stuck = Stuck::new();
    let proxy = limited(&stuck.backend, &[("max-inflight-requests", "2")], &[]);
    let mut busy: Vec<Raw> = (0..2).map(|_| stuck.occupy(&proxy)).collect();
    let answer = get(proxy.http(), "h.test", "/");
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert_eq!(get(proxy.http(), "unknown.test", "/").status, 404, "what needs no backend is answered");
    assert!(metric(&proxy, "narthex_local_replies_total{kind=\"overloaded\",rule=\"requests\"}") >= 1.0);
    stuck.release();
    for raw in &mut busy {
        assert_eq!(raw.answer().status, 200);
    }
    drop(busy);
    eventually("room again", || get(proxy.http(), "h.test", "/").status == 200);
}

#[test]
fn connections_are_closed_when_memory_is_used_up() {
    let backend = Backend::echo("b");
    let proxy = limited(&backend, &[], &["--memory-limit=1Mi"]);
    eventually("the limit is seen", || {
        let mut stream = TcpStream::connect(proxy.http()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)) && refused(&proxy, "memory") > 0.0
    });
    assert_eq!(get(proxy.admin(), "localhost", "/healthz").status, 200, "operators still see");
}

#[test]
fn the_number_of_fields_and_the_numbers_of_floods_are_settings() {
    let backend = Backend::echo("b");
    let proxy = limited(&backend, &[("max-headers", "5"), ("http2-max-idle-frames", "50")], &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send(format!("GET / HTTP/1.1\r\nHost: h.test\r\n{}\r\n", "X-A: b\r\n".repeat(5)));
    assert_eq!(raw.answer().status, 431);
    let mut client = Frames::connect(proxy.http());
    client.send(&frame(crate::support::frames::PING, 0, 0, &[0; 8]).repeat(60));
    client.until("the end", |client| client.closed || client.seen.goaway.is_some());
    eventually("it is counted", || refused(&proxy, "http2-idle-frames") == 1.0);
}

#[test]
fn a_client_that_takes_nothing_is_let_go_after_send_timeout() {
    let backend = Backend::answering(|_| {
        let body = vec![b'x'; 16 << 20];
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(), body].concat()
    });
    let proxy = limited(&backend, &[("send-timeout", "1")], &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    eventually("it is under way", || metric(&proxy, "narthex_active_requests ") == 1.0);
    eventually("it is over", || metric(&proxy, "narthex_active_requests ") == 0.0);
    let taken = raw.rest().len();
    assert!(taken < 16 << 20, "{taken}");
}
