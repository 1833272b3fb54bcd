//! What operators see: health, metrics, the JSON API, the access log.

use crate::support::backend::Backend;
use crate::support::client::{Raw, get};
use crate::support::manifests::{config_map, ingress, service, simple};
use crate::support::{TestProxy, eventually};

#[test]
fn health_metrics_and_the_api_answer() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    assert_eq!(get(proxy.admin(), "localhost", "/healthz").text(), "ok");
    for path in [
        "/readyz",
        "/livez",
        "/api/v1/generation",
        "/api/v1/routes",
        "/api/v1/diagnostics",
        "/api/v1/backends",
        "/api/v1/certs",
    ] {
        assert_eq!(get(proxy.admin(), "localhost", path).status, 200, "{path}");
    }
    let explained = get(proxy.admin(), "localhost", "/api/v1/explain?method=GET&url=http://h.test/x");
    assert_eq!(explained.status, 200);
    assert!(explained.text().contains("default/a"), "{}", explained.text());
    let mut raw = Raw::connect(proxy.admin());
    raw.send("POST /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(raw.answer().status, 405);
}

#[test]
fn requests_are_counted_under_the_names_of_ingress_nginx() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    for _ in 0..3 {
        assert_eq!(get(proxy.http(), "h.test", "/x").status, 200);
    }
    for number in 0..200 {
        assert_eq!(get(proxy.http(), &format!("scan{number}.test"), "/").status, 404);
    }
    let wanted = "nginx_ingress_controller_requests{";
    let line = |text: &str| {
        text.lines()
            .find(|line| line.starts_with(wanted) && line.contains("ingress=\"a\""))
            .map(str::to_owned)
    };
    eventually("three requests counted", || {
        let text = get(proxy.admin(), "localhost", "/metrics").text();
        line(&text).is_some_and(|line| line.ends_with(" 3"))
    });
    let text = get(proxy.admin(), "localhost", "/metrics").text();
    let line = line(&text).unwrap();
    for label in [
        "status=\"200\"",
        "method=\"GET\"",
        "path=\"/\"",
        "namespace=\"default\"",
        "service=\"b\"",
        "canary=\"\"",
        "host=\"h.test\"",
    ] {
        assert!(line.contains(label), "{label} in {line}");
    }
    assert!(!text.contains("scan"), "no label from a client");
    for name in [
        "nginx_ingress_controller_request_duration_seconds_bucket",
        "nginx_ingress_controller_config_last_reload_successful",
        "narthex_generation",
    ] {
        assert!(text.contains(name), "{name}");
    }
}

#[test]
fn the_access_log_is_one_line_a_request_in_nginx_s_format() {
    let backend = Backend::echo("b");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let text = simple(backend.address()) + &config_map(&[("access-log-path", path.to_str().unwrap())]);
    let proxy = TestProxy::start(&text, &["--configmap=default/config"]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("GET /x?y HTTP/1.1\r\nHost: h.test\r\nUser-Agent: a\"b\r\nX-Request-ID: 0123456789abcdef0123456789abcdef\r\nConnection: close\r\n\r\n");
    assert_eq!(raw.answer().status, 200);
    eventually("a log line", || std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')));
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("127.0.0.1 - - ["), "{text}");
    let rest = text.split_once("] ").unwrap().1;
    let address = backend.address().to_string();
    assert!(rest.starts_with("\"GET /x?y HTTP/1.1\" 200 17 \"-\" \"a\\x22b\" "), "{rest}");
    assert!(rest.contains(&format!(" [default-b-80] [] {address} 17 ")), "{rest}");
    assert!(rest.trim_end().ends_with(" 200 0123456789abcdef0123456789abcdef"), "{rest}");
}

/// One request to `host`; what the log says in `format` about it.
fn logged(proxy: &TestProxy, path: &std::path::Path, host: &str, target: &str) -> String {
    let lines = || std::fs::read_to_string(path).unwrap_or_default().lines().count();
    let before = lines();
    get(proxy.http(), host, target);
    eventually("a log line", || lines() > before);
    std::fs::read_to_string(path).unwrap().lines().last().unwrap().to_owned()
}

#[test]
fn the_log_names_the_upstream_that_nginx_names() {
    let (backend, pages) = (
        Backend::answering(|_| b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec()),
        Backend::answering(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage".to_vec()),
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let rule = |name: &str, host, annotations: &[(&str, &str)]| {
        ingress(name, annotations, &[(host, "/dir/", "Prefix", "b")])
    };
    let format = "$proxy_upstream_name|$status|$ingress_name|$upstream_addr|$upstream_status";
    let text = rule("plain", "plain.test", &[])
        + &rule("own", "own.test", &[("custom-http-errors", "500"), ("default-backend", "pages")])
        + &rule("global", "global.test", &[("custom-http-errors", "500")])
        + &service("b", &[backend.address()])
        + &service("pages", &[pages.address()])
        + &service("spare", &[pages.address()])
        + &config_map(&[
            ("access-log-path", path.to_str().unwrap()),
            ("log-format-upstream", format),
            ("enable-access-log-for-default-backend", "false"),
        ]);
    let flags = ["--configmap=default/config", "--default-backend-service=default/spare"];
    let (one, page) = (backend.address(), pages.address());
    let proxy = TestProxy::start(&text, &flags);
    let check = |host, target, wanted: String| {
        // What no Ingress takes is not logged, so that the line after it is the next one.
        assert_eq!(get(proxy.http(), "nobody.test", "/").status, 200);
        assert_eq!(logged(&proxy, &path, host, target), wanted, "{host}{target}");
    };
    check("plain.test", "/dir/x", format!("default-b-80|500|plain|{one}|500"));
    check("plain.test", "/dir", "-|301||-|-".to_owned());
    // A path that no rule of a known host takes is the default backend's, and logged.
    check("plain.test", "/other", format!("upstream-default-backend|200|plain|{page}|200"));
    check(
        "own.test",
        "/dir/x",
        format!("custom-default-backend-default-pages|200|own|{one} : {page}|500 : 200"),
    );
    check("global.test", "/dir/x", format!("upstream-default-backend|200|global|{one} : {page}|500 : 200"));
    drop(proxy);
    // Without an error backend the built-in one is meant.
    let proxy = TestProxy::start(&text, &flags[..1]);
    let line = logged(&proxy, &path, "global.test", "/dir/x");
    assert!(line.starts_with("upstream-default-backend|404|global|"), "{line}");
}
