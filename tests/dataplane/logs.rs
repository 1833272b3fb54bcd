//! Where lines go: syslog, and questions to authentication services beside requests.

use std::net::UdpSocket;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::client::get;
use crate::support::manifests::{annotated, config_map, simple};
use crate::support::{TestProxy, eventually};

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
