//! What each request passes, piece by piece: its head parsed and written, its path made normal, the fields for a
//! backend, the frames of HTTP/2, the limiter, its line in the access log.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use divan::{Bencher, black_box};
use narthex::policy::request_limit::{Rate, RequestLimits, Unit, ZoneName};
use narthex::proxy::filter::limit::{Limits, address_key};
use narthex::request::normalize;
use narthex::telemetry::access_log::{Clock, DEFAULT_FORMAT, Escape, Format};
use narthex::telemetry::record::{HostLabel, NoFields, Record, RequestLine, RouteLabels, UpstreamTry};
use narthex::wire::http2_session::{Code, Event, Limits as SessionLimits, Session};
use narthex::wire::{
    Fields, FrameLimits, HeadLimits, Parse, ResponseContext, ResponseLimits, encode, parse_authority,
    parse_request_head, parse_response_head,
};

fn main() {
    divan::main();
}

const REQUEST: &[u8] = b"GET /api/v1/items/4711?page=2 HTTP/1.1\r\nHost: shop.example.test\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: text/html,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://shop.example.test/\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\nConnection: keep-alive\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
    Content-Length: 200\r\nLast-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\nConnection: keep-alive\r\nETag: \"6553f100-c8\"\r\n\
    Accept-Ranges: bytes\r\n\r\n";

#[divan::bench]
fn parse_request(bencher: Bencher<'_, '_>) {
    let limits = HeadLimits::default();
    bencher.bench_local(|| parse_request_head(black_box(REQUEST), &limits));
}

#[divan::bench]
fn parse_response(bencher: Bencher<'_, '_>) {
    let limits = ResponseLimits::default();
    bencher.bench_local(|| {
        parse_response_head(black_box(ANSWER), ResponseContext::of(&http::Method::GET), &limits)
    });
}

#[divan::bench(args = ["/", "/api/v1/items/4711", "/a/./b/../c//d%41", "/%E2%82%AC/%2e%2e/x"])]
fn normalise(path: &str) {
    let _ = black_box(normalize(black_box(path.as_bytes())));
}

#[divan::bench(args = ["shop.example.test", "shop.example.test:8443", "[2001:db8::1]:443"])]
fn authority(text: &str) {
    let _ = black_box(parse_authority(black_box(text.as_bytes())));
}

fn fields() -> Fields {
    let fields = match parse_request_head(REQUEST, &HeadLimits::default()) {
        Parse::Complete(parsed) => parsed.head.fields,
        Parse::Incomplete | Parse::Reject(_) => Fields::new(),
    };
    assert!(!fields.is_empty(), "a head without fields measures nothing");
    fields
}

#[divan::bench]
fn write_head(bencher: Bencher<'_, '_>) {
    let fields = fields();
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        encode::fields(&mut out, black_box(&fields));
        // What nobody reads need not be written.
        black_box(&mut out);
    });
}

/// One connection after its preface: HEADERS and WINDOW_UPDATE of 64 streams.
#[divan::bench]
fn count_frames(bencher: Bencher<'_, '_>) {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in (1..128_u32).step_by(2) {
        bytes.extend([0, 0, 11, 1, 5]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(b"\x82\x86\x84\x41\x06a.test");
        bytes.extend([0, 0, 4, 8, 0]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend([0, 0, 1, 0]);
    }
    let limits = SessionLimits {
        streams: 128,
        header_list: 32 * 1024,
        window: 64 * 1024,
        head: HeadLimits::default(),
        frames: FrameLimits::default(),
        provoked_resets: 256,
    };
    let fields = fields();
    let count = || {
        let (mut session, mut rest, mut requests) = (Session::new(limits), black_box(&bytes[..]), 0);
        while let Ok(Some(event)) = session.next(&mut rest, 0) {
            if let Event::Request { place, .. } = event {
                requests += 1;
                session.answer(place, 200, &fields, true);
                session.reset(place, Code::NO_ERROR);
            }
        }
        (requests, session.output.len())
    };
    assert_eq!(count().0, 64, "an error of the session would end the bench early");
    bencher.bench_local(count);
}

#[divan::bench(args = [1, 10_000])]
fn admit(bencher: Bencher<'_, '_>, clients: u32) {
    let limits = Limits::new();
    let rate = Rate { unit: Unit::Second, leak: 1_000_000_000, burst: 1_000_000_000 };
    let rule = RequestLimits {
        zone: ZoneName { namespace: "default".into(), name: "web".into(), uid: "1".into() },
        exempt: Arc::default(),
        connections: None,
        rates: [rate].into_iter().collect(),
    };
    let mut turn = 0;
    bencher.bench_local(|| {
        turn += 1;
        let client = address_key(IpAddr::V4(Ipv4Addr::from_bits(turn % clients)));
        limits.admit(&rule, black_box(&client), u64::from(turn))
    });
}

#[divan::bench]
fn log_line(bencher: Bencher<'_, '_>) {
    let (format, _) = Format::compile(DEFAULT_FORMAT, Escape::Default, |_| false);
    let mut clock = Clock::system();
    let mut line = Vec::with_capacity(1024);
    let tries = [UpstreamTry {
        address: Some(SocketAddr::from(([10, 0, 0, 7], 8080))),
        status: Some(200),
        connect_time: Some(Duration::ZERO),
        header_time: Some(Duration::from_millis(3)),
        response_time: Some(Duration::from_millis(4)),
        response_length: 200,
        bytes_sent: 90,
        bytes_received: 300,
        starts_group: false,
    }];
    let record = record(&tries);
    bencher.bench_local(|| {
        line.clear();
        format.render(black_box(&record), &mut clock, &mut line);
        black_box(&mut line);
    });
}

fn record(tries: &[UpstreamTry]) -> Record<'_> {
    Record {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_136_214_245_678),
        client: IpAddr::from([192, 0, 2, 1]),
        peer: SocketAddr::from(([192, 0, 2, 9], 4711)),
        listener: SocketAddr::from(([192, 0, 2, 80], 443)),
        proxy_protocol: None,
        remote_user: None,
        line: RequestLine::Parsed {
            method: "GET",
            target: b"/api/v1/items/4711?page=2",
            protocol: "HTTP/1.1",
        },
        scheme: "https",
        host: "shop.example.test",
        best_host: "shop.example.test",
        forwarded: None,
        uri: b"/api/v1/items/4711",
        args: Some(b"page=2"),
        request_fields: &NoFields,
        response_fields: &NoFields,
        upstream_fields: &NoFields,
        handshake: None,
        completed: true,
        request_id: "0123456789abcdef0123456789abcdef",
        connection: 5,
        connection_requests: 3,
        request_length: 321,
        request_time: Duration::from_micros(12_999),
        status: 200,
        bytes_sent: 534,
        body_bytes_sent: 200,
        tls_protocol: Some("TLSv1.3"),
        tls_cipher: Some("TLS_AES_256_GCM_SHA384"),
        tls_server_name: Some("shop.example.test"),
        upstream_name: "default-shop-80",
        alternative_upstream_name: "",
        own: None,
        tries,
        place: None,
        trace: None,
        route: RouteLabels {
            generation: 1,
            identity: 1,
            host: HostLabel::Configured("shop.example.test"),
            namespace: "default",
            ingress: "web",
            service: "shop",
            service_port: "80",
            path: "/",
        },
        local: None,
    }
}
