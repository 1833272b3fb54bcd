//! Where lines go: syslog, and questions to authentication services beside requests.

use std::net::UdpSocket;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::client::{Raw, get};
use crate::support::manifests::{annotated, config_map, simple};
use crate::support::{TestProxy, eventually};
use crate::tls::get_text;

#[test]
fn requests_are_told_to_a_syslog_server_instead_of_a_file() {
    let backend = Backend::echo("b");
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    let data = [
        ("enable-syslog", "true"),
        ("syslog-host", "127.0.0.1"),
        ("syslog-port", port.as_str()),
        ("log-format-upstream", "$request_method $uri $status"),
    ];
    let manifests = simple(backend.address()) + &config_map(&data);
    let proxy = TestProxy::start(&manifests, &["--configmap=default/config"]);
    assert_eq!(get(proxy.http(), "h.test", "/logged").status, 200);
    let mut datagram = [0; 2000];
    let length = server.recv(&mut datagram).unwrap();
    let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
    // <190>Jan  2 15:04:05 host nginx: line
    assert!(text.starts_with("<190>") && text.ends_with(" nginx: GET /logged 200"), "{text}");
}

/// P25, of what leaves the machine: the default format names no field that proves who somebody is.
#[test]
fn no_line_to_a_syslog_server_holds_a_secret() {
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nSet-Cookie: session=CANARY1\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    let data = [("enable-syslog", "true"), ("syslog-host", "127.0.0.1"), ("syslog-port", port.as_str())];
    let manifests = simple(backend.address()) + &config_map(&data);
    let proxy = TestProxy::start(&manifests, &["--configmap=default/config"]);
    for (field, status) in [
        ("Authorization: Bearer CANARY2", 200),
        ("Proxy-Authorization: Basic CANARY3", 200),
        ("Cookie: a=CANARY4", 200),
        ("Authorization : CANARY5", 400),
    ] {
        let mut raw = Raw::connect(proxy.http());
        raw.send(format!("GET /logged HTTP/1.1\r\nHost: h.test\r\n{field}\r\nConnection: close\r\n\r\n"));
        assert_eq!(raw.answer().status, status, "{field}");
        let mut datagram = [0; 4000];
        let length = server.recv(&mut datagram).unwrap();
        let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
        assert!(text.contains(&status.to_string()) && !text.contains("CANARY"), "{text}");
    }
}

#[test]
fn questions_to_an_authentication_service_are_logged_where_asked_for() {
    let backend = Backend::echo("b");
    let service = Backend::answering(|_| b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
    let url = format!("http://{}/check", service.address());
    for (on, lines) in [("true", vec!["204 204 /x", "200 200 /x"]), ("false", vec!["200 200 /x"])] {
        let log = tempfile::NamedTempFile::new().unwrap();
        let path = log.path().display().to_string();
        let data = [
            ("enable-auth-access-log", on),
            ("access-log-path", path.as_str()),
            ("log-format-upstream", "$status $upstream_status $uri"),
        ];
        let manifests = annotated(backend.address(), &[("auth-url", url.as_str())]) + &config_map(&data);
        let proxy = TestProxy::start(&manifests, &["--configmap=default/config"]);
        assert_eq!(get(proxy.http(), "h.test", "/x").status, 200);
        eventually("the lines are written", || {
            let text = std::fs::read_to_string(&path).unwrap();
            text.lines().any(|line| line == "200 200 /x")
        });
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), lines, "{on}");
    }
}

#[test]
fn lines_show_what_snippets_set_and_what_maps_make_of_the_end() {
    let backend = Backend::echo("b");
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().display().to_string();
    let data = [
        ("allow-snippet-annotations", "true"),
        ("annotations-risk-level", "Critical"),
        ("access-log-path", path.as_str()),
        ("http-snippet", "map $status $class { ~^2 good; default bad; }"),
        ("log-format-upstream", "$team|$class|$nobodys|$uri|$args|$later"),
    ];
    let text = "set $team red-$http_x_team; rewrite ^/old/(.*) /new/$1?x=1 break;";
    let manifests = annotated(backend.address(), &[("configuration-snippet", text)]) + &config_map(&data);
    let proxy = TestProxy::start(&manifests, &["--configmap=default/config"]);
    let told = |proxy: &TestProxy| get(proxy.admin(), "localhost", "/api/v1/diagnostics").text();
    let first = told(&proxy);
    assert!(first.contains("$nobodys") && first.contains("$later"), "{first}");
    assert!(!first.contains("$team") && !first.contains("$class"), "{first}");
    assert_eq!(get(proxy.http(), "h.test", "/old/a%20b").status, 200);
    assert_eq!(get(proxy.http(), "nobody.test", "/").status, 404);
    let lines = || std::fs::read_to_string(&path).unwrap();
    eventually("the line is written", || lines().contains("red-|good|-|/new/a b|x=1|-"));
    let later = format!("{text} set $later now;");
    let manifests =
        annotated(backend.address(), &[("configuration-snippet", later.as_str())]) + &config_map(&data);
    proxy.swap(&manifests);
    eventually("the variable is known", || !told(&proxy).contains("$later"));
    eventually("the line shows it", || {
        assert_eq!(get(proxy.http(), "h.test", "/x").status, 200);
        lines().contains("red-|good|-|/x|-|now")
    });
}

/// The lines that `format` gives once `ask` has had its answers, as many as it says.
fn lines_of(backend: &Backend, format: &str, ask: impl FnOnce(&TestProxy) -> usize) -> Vec<String> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().display().to_string();
    let data = [("access-log-path", path.as_str()), ("log-format-upstream", format)];
    let manifests = simple(backend.address()) + &config_map(&data);
    let proxy = TestProxy::start(&manifests, &["--configmap=default/config"]);
    let count = ask(&proxy);
    let lines = || std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    eventually("the lines are written", || lines().len() >= count);
    lines()
}

#[test]
fn lines_show_what_the_backend_is_told_of_the_client() {
    let backend = Backend::echo("b");
    let format = "$proxy_add_x_forwarded_for|$pass_port|$escaped_request_uri";
    let mut port = 0;
    let lines = lines_of(&backend, format, |proxy| {
        port = proxy.http().port();
        let mut raw = Raw::connect(proxy.http());
        raw.send("GET /a?b=c HTTP/1.1\r\nHost: h.test\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n");
        assert_eq!(raw.answer().status, 200);
        raw.send("GET / HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n");
        assert_eq!(raw.answer().status, 200);
        2
    });
    assert_eq!(lines, [format!("9.9.9.9, 127.0.0.1|{port}|%2Fa%3Fb%3Dc"), format!("127.0.0.1|{port}|%2F")]);
}

#[test]
fn lines_show_the_fields_that_frame_an_answer() {
    let backend = Backend::answering(|received| {
        if received.line.starts_with("GET /chunks") {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec()
        } else {
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc".to_vec()
        }
    });
    let format = "$sent_http_content_length|$sent_http_connection|$sent_http_transfer_encoding";
    let mut lines = lines_of(&backend, format, |proxy| {
        let mut raw = Raw::connect(proxy.http());
        raw.send("GET /chunks HTTP/1.1\r\nHost: h.test\r\n\r\n");
        assert_eq!(raw.answer().status, 200);
        raw.send("GET /length HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n");
        assert_eq!(raw.answer().status, 200);
        let mut broken = Raw::connect(proxy.http());
        broken.send("GET / HTTP/1.1\r\nHost : h.test\r\n\r\n");
        let refused = broken.answer();
        assert_eq!((refused.status, refused.field("content-length")), (400, Some("150")));
        3
    });
    // Two connections, maybe of two workers.
    lines.sort_unstable();
    assert_eq!(lines, ["-|keep-alive|chunked", "150|close|-", "3|close|-"]);
}

#[test]
fn lines_show_ciphers_by_the_names_of_openssl() {
    let backend = Backend::echo("b");
    let lines = lines_of(&backend, "$ssl_protocol|$ssl_cipher", |proxy| {
        assert!(get_text(proxy.https(), "h.test").starts_with("HTTP/1.1 200 "));
        1
    });
    assert!(lines[0].starts_with("TLSv1.3|TLS_AES_"), "{lines:?}");
}
