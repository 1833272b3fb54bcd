//! Lines byte for byte as nginx writes them, and what no client can do to them.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use jiff::tz::TimeZone;
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::escape::{FIELD_MAX, LINE_MAX};
use super::stream::StreamRecord;
use super::*;
use crate::telemetry::record::{
    FieldLookup, ForwardedLookup, HostLabel, LocalReason, NoFields, RequestLine, RouteLabels, UpstreamTry,
};

struct Lines(Vec<(&'static str, Vec<u8>)>);

impl FieldLookup for Lines {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.0.iter().filter(|(known, _)| *known == name).for_each(|(_, value)| visit(value));
    }
}

fn lines(lines: &[(&'static str, &str)]) -> Lines {
    Lines(lines.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())).collect())
}

fn millis(millis: u64) -> Option<Duration> {
    Some(Duration::from_millis(millis))
}

fn one_try(port: u16, status: u16, response_ms: u64, length: u64) -> UpstreamTry {
    UpstreamTry {
        address: Some(SocketAddr::from(([10, 0, 0, 7], port))),
        status: Some(status),
        connect_time: millis(1),
        header_time: millis(response_ms),
        response_time: millis(response_ms),
        response_length: length,
        bytes_sent: 90,
        bytes_received: length.saturating_add(100),
        starts_group: false,
    }
}

fn record<'a>() -> Record<'a> {
    Record {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_136_214_245_678),
        client: IpAddr::from([192, 0, 2, 1]),
        peer: SocketAddr::from(([192, 0, 2, 9], 4711)),
        listener: SocketAddr::from(([192, 0, 2, 80], 443)),
        proxy_protocol: None,
        remote_user: None,
        line: RequestLine::Parsed { method: "GET", target: b"/foo?a=1&b=2", protocol: "HTTP/1.1" },
        scheme: "https",
        host: "foo.bar",
        best_host: "foo.bar:443",
        forwarded: None,
        uri: b"/foo",
        args: Some(b"a=1&b=2"),
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
        bytes_sent: 1234,
        body_bytes_sent: 1000,
        tls_protocol: Some("TLSv1.3"),
        tls_cipher: Some("TLS_AES_256_GCM_SHA384"),
        tls_server_name: Some("foo.bar"),
        upstream_name: "default-echo-80",
        alternative_upstream_name: "",
        own: None,
        tries: &[],
        route: RouteLabels {
            generation: 0,
            identity: 1,
            host: HostLabel::Configured("foo.bar"),
            namespace: "default",
            ingress: "web",
            service: "echo",
            service_port: "80",
            path: "/foo",
        },
        place: None,
        trace: None,
        local: None,
    }
}

fn rendered(format: &Format, record: &Record<'_>) -> String {
    let mut buffer = b"before|".to_vec();
    format.render(record, &mut Clock::in_zone(TimeZone::UTC), &mut buffer);
    let line = buffer.strip_prefix(b"before|").expect("a format only appends");
    String::from_utf8(line.to_vec()).expect("a line is UTF-8 unless the operator's literals are not")
}

/// Renders `text` with nginx's default escaping.
fn check(text: &str, record: &Record<'_>, expect: &str) {
    let (format, problems) = Format::compile(text, Escape::Default, |_| false);
    assert_eq!(problems, [], "{text}");
    assert_eq!(rendered(&format, record), expect, "{text}");
}

const DEFAULT: &str = DEFAULT_FORMAT;

#[test]
fn the_default_format_is_the_one_of_ingress_nginx() {
    let fields = lines(&[("referer", "https://a/\"b\""), ("user-agent", "curl/8.0")]);
    let tries = [one_try(8080, 200, 12, 1000)];
    check(
        DEFAULT,
        &Record { request_fields: &fields, tries: &tries, ..record() },
        "192.0.2.1 - - [02/Jan/2006:15:04:05 +0000] \"GET /foo?a=1&b=2 HTTP/1.1\" 200 1000 \
         \"https://a/\\x22b\\x22\" \"curl/8.0\" 321 0.012 [default-echo-80] [] 10.0.0.7:8080 1000 0.012 200 \
         0123456789abcdef0123456789abcdef",
    );
}

#[test]
fn a_request_without_a_backend_shows_dashes() {
    check(
        DEFAULT,
        &Record {
            remote_user: Some(b"jo e"),
            line: RequestLine::Absent,
            upstream_name: "",
            status: 400,
            body_bytes_sent: 0,
            request_length: 0,
            request_time: Duration::ZERO,
            ..record()
        },
        "192.0.2.1 - jo e [02/Jan/2006:15:04:05 +0000] \"-\" 400 0 \"-\" \"-\" 0 0.000 [-] [] - - - - \
         0123456789abcdef0123456789abcdef",
    );
}

#[test]
fn a_head_that_was_refused_shows_nothing_for_a_backend_and_its_id() {
    let refused = Record {
        remote_user: None,
        line: RequestLine::Raw(b"\x16\x03"),
        upstream_name: "",
        uri: b"",
        status: 400,
        body_bytes_sent: 150,
        request_length: 0,
        request_time: Duration::ZERO,
        ..record()
    };
    check(
        "$request $status [$proxy_upstream_name] [$proxy_alternative_upstream_name] $req_id",
        &refused,
        "\\x16\\x03 400 [] [] 0123456789abcdef0123456789abcdef",
    );
}

#[test]
fn tries_are_lists_and_internal_redirects_are_groups() {
    let failed = UpstreamTry { connect_time: None, header_time: None, ..one_try(1, 502, 0, 0) };
    let unknown = UpstreamTry { address: None, status: None, response_time: None, ..failed };
    let page = UpstreamTry { starts_group: true, ..one_try(3, 200, 5, 42) };
    let tries = [failed, one_try(2, 404, 1_007, 9), page];
    let record = Record { tries: &tries, ..record() };
    check("$upstream_addr", &record, "10.0.0.7:1, 10.0.0.7:2 : 10.0.0.7:3");
    check("$upstream_status", &record, "502, 404 : 200");
    check("$upstream_response_length", &record, "0, 9 : 42");
    check("$upstream_bytes_sent", &record, "90, 90 : 90");
    check("$upstream_bytes_received", &record, "100, 109 : 142");
    check("$upstream_response_time", &record, "0.000, 1.007 : 0.005");
    check("$upstream_header_time", &record, "-, 1.007 : 0.005");
    check("$upstream_connect_time", &record, "-, 0.001 : 0.001");
    let gone = [unknown];
    let record = Record { tries: &gone, ..record };
    check("$upstream_addr|$upstream_status|$upstream_response_time", &record, "-|-|-");
    let sixth = [UpstreamTry { address: Some("[2001:db8::1]:80".parse().unwrap()), ..one_try(0, 200, 1, 1) }];
    check("$upstream_addr", &Record { tries: &sixth, ..record }, "[2001:db8::1]:80");
}

#[test]
fn every_variable_shows_its_value() {
    let request = lines(&[
        ("host", "foo.bar:443"),
        ("x-request-id", "abc"),
        ("cookie", "a=1; session=s1"),
        ("cookie", "b=2"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("content-type", "text/plain"),
    ]);
    let answer = lines(&[("x-answer", "yes")]);
    let raw = lines(&[("x-back", "one"), ("x-back", "two")]);
    let record = Record {
        request_fields: &request,
        response_fields: &answer,
        upstream_fields: &raw,
        proxy_protocol: Some(SocketAddr::from(([203, 0, 113, 5], 99))),
        alternative_upstream_name: "default-canary-80",
        client: "2001:db8::5".parse().unwrap(),
        ..record()
    };
    for (text, expect) in [
        ("$remote_addr $remote_port", "2001:db8::5 4711"),
        ("$the_real_ip $realip_remote_addr", "2001:db8::5 192.0.2.9"),
        ("$server_addr:$server_port $server_name", "192.0.2.80:443 foo.bar"),
        ("$time_iso8601 $msec", "2006-01-02T15:04:05+00:00 1136214245.678"),
        ("$request_method $request_uri $server_protocol", "GET /foo?a=1&b=2 HTTP/1.1"),
        ("$uri $document_uri $args $query_string $is_args", "/foo /foo a=1&b=2 a=1&b=2 ?"),
        ("$arg_b $arg_A $arg_c", "2 1 -"),
        ("$scheme $https $host $best_http_host", "https on foo.bar foo.bar:443"),
        ("$http_host", "foo.bar:443"),
        ("$bytes_sent $connection $connection_requests", "1234 5 3"),
        ("$namespace/$ingress_name $service_name:$service_port", "default/web echo:80"),
        ("$location_path $proxy_alternative_upstream_name", "/foo default-canary-80"),
        ("$proxy_protocol_addr $proxy_protocol_port", "203.0.113.5 99"),
        ("$ssl_protocol $ssl_cipher $ssl_server_name", "TLSv1.3 TLS_AES_256_GCM_SHA384 foo.bar"),
        ("$http_x_request_id $http_absent", "abc -"),
        ("$http_x_forwarded_for", "1.1.1.1, 2.2.2.2"),
        ("$content_type $content_length", "text/plain -"),
        ("$sent_http_x_answer $sent_http_absent", "yes -"),
        ("$geoip2_city_country_code $pipe", "- ."),
        ("$request_id", "0123456789abcdef0123456789abcdef"),
        ("$request_completion $http2.", "OK ."),
        ("$upstream_http_x_back $upstream_http_absent", "one, two -"),
    ] {
        check(text, &record, expect);
    }
    let (cookies, problems) =
        Format::compile("$cookie_session $cookie_none $http_cookie", Escape::Default, |_| false);
    assert_eq!(rendered(&cookies, &record), "s1 - a=1; session=s1; b=2");
    assert_eq!(problems.len(), 3, "credentials are shown and told: {problems:?}");
}

#[test]
fn what_nginx_shows_of_odd_lines_is_shown() {
    let line = |target: &'static [u8]| RequestLine::Parsed { method: "GET", target, protocol: "HTTP/1.1" };
    for (record, text, expect) in [
        (Record { args: Some(b""), line: line(b"/foo?"), ..record() }, "$args|$is_args", "-|"),
        // A rewrite took them away.
        (Record { args: Some(b""), ..record() }, "$args|$is_args", "|"),
        (Record { line: line(b"http://foo.bar/x?y"), ..record() }, "$request_uri", "/x?y"),
        (Record { line: line(b"http://foo.bar"), ..record() }, "$request_uri", "http://foo.bar"),
        (Record { line: RequestLine::Raw(b"GET /%zz HTTP/1.1"), ..record() }, "$request_method", "GET"),
        (Record { line: RequestLine::Raw(b"GET / HTP/1.1"), ..record() }, "$server_protocol", "-"),
        (Record { line: RequestLine::Raw(b"\x16\x03\x01"), ..record() }, "$request_method", "-"),
        (Record { host: "", route: RouteLabels::NONE, ..record() }, "$host", "_"),
        (Record { completed: false, ..record() }, "[$request_completion]", "[]"),
        (
            Record { client: IpAddr::from([10, 0, 34, 65]), ..record() },
            "$binary_remote_addr",
            "\\x0A\\x00\\x22A",
        ),
    ] {
        check(text, &record, expect);
    }
    let set = lines(&[("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2"), ("set-cookie", "b=3")]);
    let (cookie, problems) =
        Format::compile("$upstream_cookie_b $upstream_cookie_c", Escape::Default, |_| false);
    assert_eq!(rendered(&cookie, &Record { upstream_fields: &set, ..record() }), "2 -");
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(cookie.wants_upstream_fields() && !Format::default().wants_upstream_fields());
}

#[test]
fn missing_values_are_dashes_only_with_default_escaping() {
    for (escape, expect) in [(Escape::Default, "-|-|-"), (Escape::Json, "||"), (Escape::None, "||")] {
        let (format, _) = Format::compile("$remote_user|$upstream_addr|$http_x", escape, |_| false);
        assert_eq!(rendered(&format, &record()), expect, "{escape:?}");
    }
}

#[test]
fn an_unknown_variable_is_told_and_shows_as_missing() {
    let (format, problems) =
        Format::compile("$status $no_such $http_authorization", Escape::Default, |_| false);
    assert_eq!(
        problems,
        [
            Problem::Unknown { name: "no_such".to_owned() },
            Problem::Sensitive { name: "http_authorization".to_owned() }
        ]
    );
    assert_eq!(rendered(&format, &record()), "200 - -");
}

#[test]
fn a_status_that_was_never_decided_is_padded() {
    check("$status", &Record { status: 0, ..record() }, "000");
    check("$status", &Record { status: 499, ..record() }, "499");
}

#[test]
fn a_refused_request_line_is_shown_escaped() {
    check(
        "$request|$request_method",
        &Record { line: RequestLine::Raw(b"\x16\x03\x01\""), ..record() },
        r"\x16\x03\x01\x22|-",
    );
}

#[test]
fn long_values_are_cut_and_a_json_template_stays_json() {
    let long = "\"".repeat(100_000);
    let fields = lines(&[("a", &long), ("b", &long), ("c", &long), ("d", &long), ("e", &long)]);
    let record = Record { request_fields: &fields, ..record() };
    let template = r#"{"a":"$http_a","b":"$http_b","c":"$http_c","d":"$http_d","e":"$http_e","s":$status}"#;
    let (format, _) = Format::compile(template, Escape::Json, |_| false);
    let line = rendered(&format, &record);
    assert!(line.len() <= LINE_MAX, "{}", line.len());
    // `status` had no room left: a number outside quotes is the one thing that cannot be empty.
    let cut = line.replace("\"s\":}", "\"s\":0}");
    let value: serde_json::Value = serde_json::from_str(&cut).unwrap();
    assert_eq!(value["a"].as_str().map(str::len), Some(FIELD_MAX / 2));
    let (plain, _) = Format::compile("$http_a", Escape::None, |_| false);
    assert_eq!(rendered(&plain, &record).len(), FIELD_MAX);
}

#[test]
fn the_json_object_has_every_key_and_parses() {
    let fields = lines(&[("user-agent", "a\"\u{1}b"), ("referer", "r1")]);
    let tries = [
        UpstreamTry { connect_time: None, header_time: None, ..one_try(1, 502, 3, 0) },
        one_try(2, 200, 7, 5),
    ];
    let local = Some(LocalReason { kind: "redirect", rule: "ssl" });
    let record = Record { request_fields: &fields, tries: &tries, local, ..record() };
    let line = rendered(&Format::json(), &record);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    let expect = serde_json::json!({
        "time": "2006-01-02T15:04:05.678Z", "remote_addr": "192.0.2.1", "remote_user": null,
        "request_id": "0123456789abcdef0123456789abcdef", "method": "GET", "scheme": "https", "host": "foo.bar",
        "uri": "/foo?a=1&b=2", "protocol": "HTTP/1.1", "status": 200, "bytes_sent": 1234, "body_bytes_sent": 1000,
        "request_length": 321, "request_time": 0.012, "referer": "r1", "user_agent": "a\"\u{1}b",
        "namespace": "default", "ingress": "web", "service": "echo", "service_port": "80", "path": "/foo",
        "upstream": "default-echo-80", "alternative_upstream": null,
        "upstreams": [
            {"attempt": 1, "addr": "10.0.0.7:1", "status": 502, "response_length": 0, "connect_time": null,
             "header_time": null, "response_time": 0.003},
            {"attempt": 2, "addr": "10.0.0.7:2", "status": 200, "response_length": 5, "connect_time": 0.001,
             "header_time": 0.007, "response_time": 0.007},
        ],
        "reason": "redirect", "rule": "ssl", "tls_protocol": "TLSv1.3", "tls_cipher": "TLS_AES_256_GCM_SHA384",
    });
    assert_eq!(value, expect);
}

#[test]
fn the_json_object_says_when_it_was_cut_and_fits_a_line() {
    let long = vec![b'\x01'; 200_000];
    let fields = Lines(vec![("user-agent", long.clone()), ("referer", long.clone())]);
    let tries = [one_try(65_535, 200, u64::from(u32::MAX), u64::MAX); 20];
    let line = RequestLine::Parsed { method: "GET", target: &long, protocol: "HTTP/1.1" };
    let text = String::from_utf8_lossy(&long).into_owned();
    let record = Record {
        line,
        request_fields: &fields,
        tries: &tries,
        host: &text,
        remote_user: Some(&long),
        upstream_name: &text,
        ..record()
    };
    let line = rendered(&Format::json(), &record);
    assert!(line.len() <= LINE_MAX, "{}", line.len());
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["truncated"], true);
    assert_eq!(value["status"], 200);
}

#[test]
fn response_fields_are_wanted_only_by_formats_that_show_them() {
    assert!(!Format::default().wants_response_fields());
    assert!(!Format::json().wants_response_fields());
    assert!(Format::compile("$sent_http_x", Escape::Default, |_| false).0.wants_response_fields());
}

#[test]
fn what_a_backend_is_told_of_the_client_is_shown_as_snippets_show_it() {
    struct Told;
    impl ForwardedLookup for Told {
        fn port(&self) -> String {
            "8443".into()
        }
    }
    let text = "$proxy_add_x_forwarded_for|$pass_port|$pass_server_port|$escaped_request_uri";
    let fields = lines(&[("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "8.8.8.8")]);
    let told = Record { request_fields: &fields, forwarded: Some(&Told), ..record() };
    check(text, &told, "9.9.9.9, 8.8.8.8, 192.0.2.1|8443|8443|%2Ffoo%3Fa%3D1%26b%3D2");
    // A head that was refused never got as far as the configuration.
    check(text, &Record { uri: b"", line: RequestLine::Absent, ..record() }, "192.0.2.1|||");
}

#[test]
fn sessions_have_the_format_of_ingress_nginx() {
    let session = StreamRecord {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_136_214_245_678),
        client: IpAddr::from([192, 168, 0, 1]),
        client_port: 1234,
        number: 7,
        proxied: Some(IpAddr::from([192, 168, 0, 2])),
        listener: SocketAddr::from(([192, 0, 2, 80], 9000)),
        protocol: "TCP",
        status: 200,
        bytes_sent: 10,
        bytes_received: 20,
        session_time: Duration::from_millis(1_500),
        upstream: None,
        upstream_connect_time: None,
        upstream_name: "tcp-default-echo-80",
        server_name: Some("a\nb"),
    };
    for (text, expect) in [
        (stream::DEFAULT_STREAM_FORMAT, "[192.168.0.1] [02/Jan/2006:15:04:05 +0000] TCP 200 10 20 1.500"),
        ("$upstream_addr $proxy_upstream_name $ssl_preread_server_name", "- tcp-default-echo-80 a\\x0Ab"),
        ("$connection $proxy_protocol_addr", "7 192.168.0.2"),
        ("$remote_port $server_port $upstream_bytes_sent $upstream_connect_time", "1234 9000 20 -"),
    ] {
        let (format, problems) = StreamFormat::compile(text, Escape::Default);
        assert_eq!(problems, []);
        let mut buffer = Vec::new();
        format.render(&session, &mut Clock::in_zone(TimeZone::UTC), &mut buffer);
        assert_eq!(String::from_utf8(buffer).unwrap(), expect);
    }
    assert_eq!(
        StreamFormat::compile("$uri", Escape::Default).1,
        [Problem::Unknown { name: "uri".to_owned() }]
    );
}

#[test]
fn a_new_format_is_used_from_the_next_line_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::open(&Destination::File(path.clone()), 1).unwrap();
    assert!(path.exists(), "the file is created at start");
    let lane = log.lane();
    assert!(lane.write(&record()));
    assert!(!lane.wants_response_fields());
    let (format, _) = Format::compile("second $status$sent_http_x", Escape::None, |_| false);
    log.set_formats(Arc::new(format), Arc::default());
    assert!(lane.wants_response_fields());
    assert!(lane.write(&record()));
    assert!(log.close(Duration::from_secs(20)));
    let text = fs::read_to_string(path).unwrap();
    let second = text.lines().nth(1);
    assert!(text.starts_with("192.0.2.1 - - ["), "{text}");
    assert_eq!(second, Some("second 200"));
}

fn escapes() -> impl Strategy<Value = Escape> {
    prop_oneof![Just(Escape::Default), Just(Escape::Json), Just(Escape::None)]
}

proptest! {
    #[test]
    fn any_bytes_make_exactly_one_line(
        agent in prop::collection::vec(any::<u8>(), 0..200),
        target in prop::collection::vec(any::<u8>(), 0..200),
        user in prop::collection::vec(any::<u8>(), 0..50),
        escape in escapes(),
    ) {
        let fields = Lines(vec![("user-agent", agent.clone()), ("referer", agent)]);
        let line = RequestLine::Parsed { method: "GET", target: &target, protocol: "HTTP/1.1" };
        let record = Record { line, request_fields: &fields, remote_user: Some(&user), uri: &target, ..record() };
        let (format, _) = Format::compile(DEFAULT, escape, |_| false);
        let text = rendered(&format, &record);
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{2028}' || c == '\u{2029}'), "{text:?}");
        // Quotes of the client cannot close ours: with default escaping there are exactly the six of the format.
        if escape == Escape::Default {
            assert_eq!(text.matches('"').count(), 6);
        }
    }

    #[test]
    fn json_lines_parse_back_to_what_was_sent(
        agent in any::<String>(),
        target in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let fields = Lines(vec![("user-agent", agent.clone().into_bytes())]);
        let line = RequestLine::Parsed { method: "GET", target: &target, protocol: "HTTP/1.1" };
        let record = Record { line, request_fields: &fields, ..record() };
        let text = rendered(&Format::json(), &record);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["user_agent"].as_str(), Some(agent.as_str()));
        // Bytes that are no UTF-8 come back as the characters of the same number.
        let expect: String = target
            .utf8_chunks()
            .flat_map(|chunk| chunk.valid().chars().chain(chunk.invalid().iter().map(|byte| char::from(*byte))))
            .collect();
        assert_eq!(value["uri"].as_str(), Some(expect.as_str()));
        let (template, _) = Format::compile(r#"{"agent":"$http_user_agent","uri":"$request_uri"}"#, Escape::Json, |_| false);
        let value: serde_json::Value = serde_json::from_str(&rendered(&template, &record)).unwrap();
        assert_eq!(value["agent"].as_str(), Some(agent.as_str()));
        assert_eq!(value["uri"].as_str(), Some(expect.as_str()));
    }
}

#[test]
fn findings_know_the_variables_that_the_log_of_streams_knows() {
    let mut known: Vec<_> = stream::known().collect();
    known.sort_unstable();
    assert_eq!(known, crate::variable::STREAM);
}
