use super::*;
use crate::policy::annotation::sample::{fields, view};
use crate::policy::connection_header::ConnectionHeader;
use crate::policy::template::Template;

fn head(method: &str, lines: &[(&str, &str)]) -> RequestHead {
    RequestHead {
        method: Method::from_bytes(method.as_bytes()).unwrap(),
        target: b"/".to_vec(),
        version: Version::Http11,
        authority: None,
        protocol: None,
        fields: fields(lines),
    }
}

fn text(fields: &Fields) -> Vec<String> {
    fields.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect()
}

fn sanitised(lines: &[(&str, &str)]) -> (Vec<String>, Hop) {
    let mut head = head("GET", lines);
    let hop = sanitise(&mut head, false, &Globals::default());
    (text(&head.fields), hop)
}

#[test]
fn hop_by_hop_nominated_and_underscore_fields_are_taken_out() {
    let (left, hop) = sanitised(&[
        ("Host", "h"),
        ("Connection", "close, X-Mine, Host"),
        ("connection", "x-too,Content-Length"),
        ("X-Mine", "1"),
        ("X-Too", "1"),
        ("Content-Length", "0"),
        ("Keep-Alive", "5"),
        ("TE", "gzip, trailers;q=1"),
        ("Transfer-Encoding", "chunked"),
        ("Proxy", "evil"),
        ("Proxy-Authorization", "x"),
        ("Expect", "100-continue"),
        ("X_Under", "1"),
        ("X.Odd", "1"),
        ("X-Ok", "2"),
    ]);
    assert_eq!(left, ["Host: h", "Content-Length: 0", "X-Ok: 2"]);
    assert_eq!(hop, Hop { upgrade: None, trailers: true });
}

#[test]
fn an_odd_element_of_connection_keeps_no_other_from_counting() {
    let mut head = head("GET", &[("X-Mine", "1"), ("X-Too", "1"), ("X-Ok", "2")]);
    head.fields.append("Connection", b"X-Mine, \xff, x y ,X-Too").unwrap();
    sanitise(&mut head, false, &Globals::default());
    assert_eq!(text(&head.fields), ["X-Ok: 2"]);
}

#[test]
fn underscores_and_odd_names_pass_when_the_config_map_lets_them() {
    for (underscores, ignored, left) in [
        (false, true, &[][..]),
        (true, true, &["X_Under: 1"]),
        // To nginx a name with an underscore is one of the invalid ones.
        (false, false, &["X_Under: 1", "X.Odd: 1"]),
        (true, false, &["X_Under: 1", "X.Odd: 1"]),
    ] {
        let globals = Globals {
            enable_underscores_in_headers: underscores,
            ignore_invalid_headers: ignored,
            ..Globals::default()
        };
        let mut head = head("GET", &[("X_Under", "1"), ("X.Odd", "1")]);
        sanitise(&mut head, false, &globals);
        assert_eq!(text(&head.fields), left, "{underscores} {ignored}");
    }
}

#[test]
fn several_cookie_lines_become_one() {
    let (left, _) = sanitised(&[("Cookie", "a=1"), ("X", "y"), ("cookie", "b=2")]);
    assert_eq!(left, ["Cookie: a=1; b=2", "X: y"]);
}

#[test]
fn only_sound_upgrades_are_attempted() {
    let upgrade = |method: &str, body: bool, lines: &[(&str, &str)]| {
        sanitise(&mut head(method, lines), body, &Globals::default()).upgrade
    };
    let ask = |protocol: &'static str| [("Connection", "keep-alive, Upgrade"), ("Upgrade", protocol)];
    assert_eq!(upgrade("GET", false, &ask("websocket")).as_deref(), Some("websocket"));
    assert_eq!(upgrade("POST", false, &ask("SPDY/3.1")).as_deref(), Some("SPDY/3.1"));
    assert_eq!(upgrade("POST", false, &ask("websocket")), None);
    assert_eq!(upgrade("GET", true, &ask("websocket")), None);
    assert_eq!(upgrade("GET", false, &ask("h2c")), None);
    assert_eq!(upgrade("GET", false, &ask("H2")), None);
    assert_eq!(upgrade("GET", false, &ask("HTTP/2.0")), None);
    assert_eq!(upgrade("GET", false, &ask("websocket, h2c")), None);
    assert_eq!(upgrade("GET", false, &ask("a/b/c")), None);
    assert_eq!(upgrade("GET", false, &[("Upgrade", "websocket")]), None);
    let mut old = head("GET", &ask("websocket"));
    old.version = Version::Http10;
    assert_eq!(sanitise(&mut old, false, &Globals::default()).upgrade, None);
}

struct Case<'c> {
    lines: &'c [(&'c str, &'c str)],
    globals: Globals,
    hop: Hop,
    trusted: bool,
    prefix: Option<&'c str>,
    purpose: Purpose,
    change: fn(&mut RoutePolicies),
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            lines: &[],
            globals: Globals::default(),
            hop: Hop::default(),
            trusted: false,
            prefix: None,
            purpose: Purpose::Forward,
            change: |_| {},
        }
    }
}

fn applied(case: &Case<'_>) -> Vec<String> {
    let fields = fields(case.lines);
    let view = view("/x/y?z", &fields);
    let mut policies = RoutePolicies::defaults(&case.globals);
    (case.change)(&mut policies);
    let route = RouteFacts {
        request_id: "rid",
        namespace: "ns",
        ingress: "ing",
        service: "svc",
        service_port: "80",
        ..RouteFacts::default()
    };
    let outgoing = Outgoing {
        view: &view,
        route,
        policies: &policies,
        globals: &case.globals,
        hop: &case.hop,
        trusted: case.trusted,
        forwarded_prefix: case.prefix,
        purpose: case.purpose,
    };
    text(&apply(&outgoing).fields)
}

#[test]
fn the_standard_set_stands_first_in_the_order_of_nginx_and_replaces_the_clients() {
    let lines = [
        ("Accept", "*/*"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-Forwarded-Host", "evil"),
        ("Content-Length", "3"),
        ("X-Forwarded-Prefix", "/client"),
        ("X-Forwarded-Server", "s"),
    ];
    let expect = [
        "Host: Host.Test:8080",
        "X-Request-ID: rid",
        "X-Real-IP: 10.1.2.3",
        "X-Forwarded-For: 10.1.2.3",
        "X-Forwarded-Host: Host.Test:8080",
        "X-Forwarded-Port: 80",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Scheme: http",
        "X-Scheme: http",
        "X-Original-Forwarded-For: 6.6.6.6",
        "X-Original-Forwarded-Host: evil",
        "Accept: */*",
        "X-Forwarded-Prefix: /client",
        "X-Forwarded-Server: s",
    ];
    assert_eq!(applied(&Case { lines: &lines, ..Case::default() }), expect);
}

#[test]
fn claims_of_untrusted_peers_are_removed_and_those_of_trusted_ones_pass() {
    let lines = [
        ("Forwarded", "for=1.2.3.4"),
        ("X-Original-URL", "/e"),
        ("X-Original-URI", "/e"),
        ("ssl-client-verify", "SUCCESS"),
        ("SSL-Client-Subject-DN", "CN=root"),
    ];
    let has = |trusted: bool, name: &str| {
        applied(&Case { lines: &lines, trusted, ..Case::default() }).iter().any(|line| line.starts_with(name))
    };
    for name in
        ["Forwarded", "X-Original-URL", "X-Original-URI", "ssl-client-verify", "SSL-Client-Subject-DN"]
    {
        assert!(!has(false, name), "{name}");
        assert!(has(true, name), "{name}");
    }
}

#[test]
fn an_upgrade_is_announced_and_a_fixed_connection_overrides() {
    let hop = Hop { upgrade: Some("websocket".into()), trailers: false };
    let lines = applied(&Case { hop: hop.clone(), ..Case::default() });
    assert_eq!(lines[1..3], ["Upgrade: websocket", "Connection: upgrade"]);
    let fixed = applied(&Case {
        hop,
        change: |policies| policies.connection_header = Some(ConnectionHeader::KeepAlive),
        ..Case::default()
    });
    assert_eq!(fixed[2], "Connection: keep-alive");
}

#[test]
fn vhost_prefix_original_uri_and_grpc_are_set() {
    let lines = applied(&Case {
        lines: &[("X-Forwarded-Prefix", "/client")],
        globals: Globals { proxy_add_original_uri_header: true, ..Globals::default() },
        prefix: Some("/svc"),
        change: |policies| {
            policies.upstream_vhost = Some(Template::parse("$service_name.internal").unwrap());
            policies.protocol = crate::policy::backend_protocol::BackendProtocol::Grpc;
        },
        ..Case::default()
    });
    for line in ["Host: svc.internal", "TE: trailers", "X-Forwarded-Prefix: /svc", "X-Original-URI: /x/y?z"] {
        assert!(lines.iter().any(|found| found == line), "{line} not in {lines:?}");
    }
    assert!(!lines.iter().any(|line| line.contains("/client")));
}

#[test]
fn proxy_set_headers_come_last_and_replace() {
    let set = |name: &str, text: &str| (name.into(), Template::parse(text).unwrap());
    let globals = Globals {
        proxy_set_headers: [
            set("Accept", ""),
            set("X-New", "$namespace-v"),
            set("X-Real-IP", "none"),
            set("X-Bad", "$arg_a"),
        ]
        .into(),
        ..Globals::default()
    };
    let lines = applied(&Case { lines: &[("Accept", "*/*")], globals, ..Case::default() });
    assert!(!lines.iter().any(|line| line.starts_with("Accept")));
    assert_eq!(lines.last().map(String::as_str), Some("X-New: ns-v"));
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("X-Real-IP")).collect::<Vec<_>>(),
        ["X-Real-IP: none"]
    );
}

#[test]
fn a_default_backend_is_told_why_and_gets_the_request_id_twice() {
    let lines = applied(&Case {
        lines: &[("Accept", "text/html")],
        purpose: Purpose::DefaultBackend,
        ..Case::default()
    });
    let expect = [
        "X-Code: 503",
        "X-Format: text/html",
        "X-Namespace: ns",
        "X-Ingress-Name: ing",
        "X-Service-Name: svc",
        "X-Service-Port: 80",
    ];
    for line in expect {
        assert!(lines.iter().any(|found| found == line), "{line} not in {lines:?}");
    }
    assert_eq!(lines.iter().filter(|line| *line == "X-Request-ID: rid").count(), 2);
    assert!(!lines.iter().any(|line| line.starts_with("X-Original-URI")));
}

#[test]
fn an_error_page_is_asked_with_its_own_set() {
    let lines = applied(&Case {
        lines: &[("X-Code", "200"), ("Accept", "a/b"), ("X-Mine", "1")],
        purpose: Purpose::ErrorPage(404),
        ..Case::default()
    });
    let expect = [
        "X-Code: 404",
        "X-Format: a/b",
        "X-Namespace: ns",
        "X-Ingress-Name: ing",
        "X-Service-Name: svc",
        "X-Service-Port: 80",
        "X-Request-ID: rid",
        "X-Forwarded-For: 10.1.2.3",
        "Host: Host.Test:8080",
        "X-Original-URI: /x/y?z",
        "Accept: a/b",
        "X-Mine: 1",
    ];
    assert_eq!(lines, expect);
}
