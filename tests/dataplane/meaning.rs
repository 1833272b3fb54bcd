//! Requests that keep their meaning on the way: what a rewrite, a snippet or a template makes of them is still a sound
//! request for the same host, and what is said about the client is said by the proxy.

use std::net::SocketAddr;

use crate::support::backend::Backend;
use crate::support::client::{Answer, Raw, get};
use crate::support::manifests::{annotated, config_map, ingress, service};
use crate::support::{TestProxy, eventually};
use crate::tls::{ANY_VERSION, config};

/// Snippets count.
fn scripted(manifests: &str) -> TestProxy {
    let keys = [("allow-snippet-annotations", "true"), ("annotations-risk-level", "Critical")];
    TestProxy::start(&(manifests.to_owned() + &config_map(&keys)), &["--configmap=default/config"])
}

fn ask(address: SocketAddr, target: &str, fields: &str) -> Answer {
    let mut raw = Raw::connect(address);
    raw.send(format!("GET {target} HTTP/1.1\r\nHost: h.test\r\n{fields}Connection: close\r\n\r\n"));
    raw.answer()
}

fn rewritten(backend: SocketAddr, target: &str) -> String {
    ingress(
        "a",
        &[("rewrite-target", target), ("use-regex", "true")],
        &[("h.test", "/x/(.*)", "ImplementationSpecific", "b")],
    ) + &service("b", &[backend])
}

#[test]
fn a_rewritten_target_names_no_other_host() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&rewritten(backend.address(), "$1"), &[]);
    for (asked, sent) in [
        ("/x/abc", "abc"),
        ("/x/@evil.test/", "/@evil.test/"),
        ("/x/*", "/*"),
        ("/x/.evil.test/", "/.evil.test/"),
        ("/x/:80/", "/:80/"),
        ("/x/http:%2F%2Fevil.test/", "/http:/evil.test/"),
        ("/x/?a", "500"),
        ("/x/", "500"),
    ] {
        let answer = get(proxy.http(), "h.test", asked);
        if sent == "500" {
            assert_eq!(answer.status, 500, "{asked}");
        } else {
            assert_eq!(backend.requests().pop().unwrap().line, format!("GET {sent} HTTP/1.1"), "{asked}");
        }
    }
}

#[test]
fn a_rewrite_to_a_url_redirects_as_nginx_does() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&rewritten(backend.address(), "https://there.test/$1"), &[]);
    let answer = get(proxy.http(), "h.test", "/x/a?b=c");
    assert_eq!((answer.status, answer.field("location")), (302, Some("https://there.test/a?b=c")));
    // A client does not choose the host.
    let proxy = TestProxy::start(&rewritten(backend.address(), "https://$1"), &[]);
    assert_eq!(get(proxy.http(), "h.test", "/x/evil.test/").status, 200);
    assert_eq!(backend.requests().pop().unwrap().line, "GET /https://evil.test/ HTTP/1.1");
}

#[test]
fn a_host_made_of_what_a_client_sends_is_a_host_or_nothing() {
    let backend = Backend::echo("b");
    let vhost = annotated(backend.address(), &[("upstream-vhost", "$http_x_tenant.internal.test")]);
    let scripts = [
        "proxy_set_header Host $http_x_tenant.internal.test;",
        "proxy_set_header Host \"${http_x_tenant}.internal.test\";",
    ];
    let mut worlds = vec![vhost];
    worlds.extend(scripts.map(|text| annotated(backend.address(), &[("configuration-snippet", text)])));
    for world in worlds {
        let proxy = scripted(&world);
        assert_eq!(ask(proxy.http(), "/", "X-Tenant: blue\r\n").status, 200);
        assert_eq!(backend.requests().pop().unwrap().field("host"), Some("blue.internal.test"));
        let before = backend.requests().len();
        for bad in ["", "a b", "a/b", "a@b", "a,b", "a\"b", "a\tb", "..", "\u{e4}", "a?b", "a#b", "a\\b"] {
            let status = ask(proxy.http(), "/", &format!("X-Tenant: {bad}\r\n")).status;
            assert_eq!(status, 400, "{bad:?}");
        }
        assert_eq!(backend.requests().len(), before);
    }
}

#[test]
fn a_method_made_of_what_a_client_sends_is_a_method_or_nothing() {
    let backend = Backend::echo("b");
    let proxy = scripted(&annotated(backend.address(), &[("configuration-snippet", "proxy_method $arg_m;")]));
    for method in ["PUT", "PATCH", "M-SEARCH"] {
        assert_eq!(ask(proxy.http(), &format!("/?m={method}"), "").status, 200);
        assert!(backend.requests().pop().unwrap().line.starts_with(&format!("{method} /")));
    }
    let before = backend.requests().len();
    for bad in ["", "CONNECT", "TRACE", "A/B", "A:B", &"A".repeat(33)] {
        assert_eq!(ask(proxy.http(), &format!("/?m={bad}"), "").status, 500, "{bad:?}");
    }
    assert_eq!(backend.requests().len(), before);
    let literal = scripted(&annotated(backend.address(), &[("configuration-snippet", "proxy_method HEAD;")]));
    assert_eq!(ask(literal.http(), "/", "").status, 200);
    assert!(backend.requests().pop().unwrap().line.starts_with("HEAD / "));
}

#[test]
fn a_copy_says_of_the_client_what_the_proxy_says() {
    let (backend, shadow) = (Backend::echo("b"), Backend::echo("s"));
    let target = format!("http://{}", shadow.address());
    let text = "proxy_set_header X-Team blue;";
    let mirror = [("mirror-target", target.as_str()), ("configuration-snippet", text)];
    let proxy = scripted(&annotated(backend.address(), &mirror));
    let claims = "X-Real-IP: 9.9.9.9\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n\
                  Forwarded: for=9.9.9.9\r\nssl-client-verify: SUCCESS\r\nSSL-Client-Subject-DN: CN=root\r\nX-Team: red\r\n\
                  X-Original-URI: /admin\r\nX-Mine: kept\r\n";
    assert_eq!(ask(proxy.http(), "/a?b", claims).status, 200);
    eventually("the copy arrives", || shadow.requests().len() == 1);
    let (copy, real) = (shadow.requests().pop().unwrap(), backend.requests().pop().unwrap());
    assert_eq!(copy.line, real.line);
    for name in ["x-real-ip", "x-forwarded-for"] {
        assert_eq!(copy.field(name), Some("127.0.0.1"), "{name}");
    }
    for name in ["ssl-client-verify", "ssl-client-subject-dn", "forwarded"] {
        assert_eq!(copy.field(name), None, "{name}");
    }
    for name in
        ["x-forwarded-proto", "x-forwarded-host", "x-original-uri", "x-request-id", "x-team", "x-mine"]
    {
        assert_eq!(copy.field(name), real.field(name), "{name}");
    }
    assert_eq!((copy.field("x-team"), copy.field("x-mine")), (Some("blue"), Some("kept")));
    assert_eq!(copy.field("connection"), None);
}

#[test]
fn a_body_above_the_limit_is_neither_sent_nor_copied() {
    let (backend, shadow) = (Backend::echo("b"), Backend::echo("s"));
    let target = format!("http://{}", shadow.address());
    let mirror = [("mirror-target", target.as_str()), ("proxy-body-size", "1k")];
    let proxy = TestProxy::start(&annotated(backend.address(), &mirror), &[]);
    let post = |length: usize| {
        let head = format!("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: {length}\r\n\r\n");
        Raw::connect(proxy.http()).send(head).send(vec![b'x'; length]).answer().status
    };
    assert_eq!(post(2000), 413);
    assert_eq!(post(1000), 200);
    eventually("the copy arrives", || shadow.requests().len() == 1);
    assert_eq!(shadow.requests().pop().unwrap().body.len(), 1000);
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn a_request_for_a_host_that_passes_through_is_not_served_over_another_ones_connection() {
    let (passed, plain) = (Backend::echo("passed"), Backend::echo("plain"));
    let manifests = ingress("p", &[("ssl-passthrough", "true")], &[("pass.test", "/", "Prefix", "p")])
        + &service("p", &[passed.address()])
        + &ingress("n", &[], &[("plain.test", "/", "Prefix", "n")])
        + &service("n", &[plain.address()]);
    let proxy = TestProxy::start(&manifests, &["--enable-ssl-passthrough"]);
    let status = |host: &str| {
        let seen = crate::tls::ask(&config(ANY_VERSION), proxy.https(), "plain.test", host).unwrap();
        seen.text.get(..12).unwrap_or_default().to_owned()
    };
    assert_eq!(status("plain.test"), "HTTP/1.1 200");
    for host in ["pass.test", "PASS.test", "pass.test.", "pass.test:443"] {
        assert_eq!(status(host), "HTTP/1.1 421", "{host}");
    }
    assert_eq!(passed.connections(), 0);
}

#[test]
fn parts_of_a_body_are_not_searched_for_texts() {
    let backend = Backend::answering(|request| {
        let part = request.line.contains("part");
        let (status, fields) = match part {
            true => ("206 Partial Content", "Content-Range: bytes 0-3/4000\r\n"),
            false => ("200 OK", ""),
        };
        format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nETag: \"x\"\r\n{fields}Content-Length: 4\r\n\r\naaaa")
            .into_bytes()
    });
    let text = "sub_filter aa bbbb; sub_filter_once off;";
    let proxy = scripted(&annotated(backend.address(), &[("configuration-snippet", text)]));
    let whole = ask(proxy.http(), "/whole", "");
    assert_eq!((whole.text().as_str(), whole.field("etag")), ("bbbbbbbb", None));
    let part = ask(proxy.http(), "/part", "Range: bytes=0-3\r\n");
    assert_eq!((part.status, part.text().as_str(), part.field("etag")), (206, "aaaa", Some("\"x\"")));
    assert_eq!(part.field("content-range"), Some("bytes 0-3/4000"));
}
