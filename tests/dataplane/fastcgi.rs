//! `backend-protocol: FCGI`: applications that speak FastCGI.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::{Answer, Raw, get};
use crate::support::manifests::{annotated, ingress, service};

/// A request as an application gets it.
#[derive(Debug, Default)]
struct Asked {
    params: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn read_record(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; 8];
    stream.read_exact(&mut header).ok()?;
    let mut content = vec![0; usize::from(u16::from_be_bytes([header[4], header[5]]))];
    stream.read_exact(&mut content).ok()?;
    let mut padding = vec![0; usize::from(header[6])];
    stream.read_exact(&mut padding).ok()?;
    Some((header[1], content))
}

fn length(bytes: &mut &[u8]) -> usize {
    let (value, taken) = if bytes[0] < 0x80 {
        (usize::from(bytes[0]), 1)
    } else {
        (usize::try_from(u32::from_be_bytes([bytes[0] & 0x7f, bytes[1], bytes[2], bytes[3]])).unwrap(), 4)
    };
    *bytes = &bytes[taken..];
    value
}

fn params(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while !bytes.is_empty() {
        let (name, value) = (length(&mut bytes), length(&mut bytes));
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        found.insert(text(&bytes[..name]), text(&bytes[name..name + value]));
        bytes = &bytes[name + value..];
    }
    found
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[1, kind, 0, 1, high, low, 3, 0], content, &[0; 3]].concat()
}

/// Output, its end, and the end of the request.
fn said(output: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = output.chunks(60_000).flat_map(|part| record(6, part)).collect();
    bytes.extend(record(6, b""));
    bytes.extend(record(3, &[0; 8]));
    bytes
}

/// An application: reads a whole request, answers with these bytes, closes.
fn application(answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Backend {
    Backend::script(move |mut stream, _| {
        let mut told = Vec::new();
        let mut asked = Asked::default();
        while let Some((kind, content)) = read_record(&mut stream) {
            match kind {
                1 => assert_eq!(content, [0, 1, 0, 0, 0, 0, 0, 0], "the role of a responder"),
                4 if content.is_empty() => asked.params = params(&told),
                4 => told.extend(content),
                5 if content.is_empty() => break,
                5 => asked.body.extend(content),
                other => unreachable!("record of kind {other}"),
            }
        }
        let _ = stream.write_all(&answer(&asked));
    })
}

const FCGI: (&str, &str) = ("backend-protocol", "FCGI");

fn ask(proxy: &TestProxy, request: &str) -> Answer {
    Raw::connect(proxy.http()).send(request).answer()
}

#[test]
fn an_application_is_told_of_the_request_and_its_answer_arrives() {
    let backend = application(|asked| {
        let text: String = asked.params.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let head = "Status: 201 Made\r\nContent-Type: text/plain\r\nX-Powered-By: test\r\n\r\n";
        said(&[head.as_bytes(), text.as_bytes(), &asked.body].concat())
    });
    let params = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: params, namespace: default}\ndata:\n  SCRIPT_FILENAME: /srv$fastcgi_script_name\n  SERVER_SOFTWARE: mine\n";
    let annotations = [FCGI, ("fastcgi-index", "index.php"), ("fastcgi-params-configmap", "default/params")];
    let proxy = TestProxy::start(&(annotated(backend.address(), &annotations) + params), &[]);
    let answer = ask(
        &proxy,
        "POST /a/?q=1 HTTP/1.1\r\nHost: h.test\r\nX-Thing: 1\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!((answer.status, answer.field("x-powered-by")), (201, Some("test")));
    assert_eq!(answer.field("status"), None);
    let text = answer.text();
    assert!(text.ends_with("hello"), "{text}");
    for line in [
        "SCRIPT_NAME=/a/index.php",
        "SCRIPT_FILENAME=/srv/a/index.php",
        "SERVER_SOFTWARE=mine",
        "REQUEST_METHOD=POST",
        "QUERY_STRING=q=1",
        "CONTENT_LENGTH=5",
        "CONTENT_TYPE=a/b",
        "REQUEST_URI=/a/?q=1",
        "REMOTE_ADDR=127.0.0.1",
        "HTTP_X_THING=1",
        "HTTP_HOST=h.test",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is not in {text}");
    }
    // A change of the ConfigMap counts at once.
    let changed = params.replace("mine", "other");
    proxy.swap(&(annotated(backend.address(), &annotations) + &changed));
    assert!(get(proxy.http(), "h.test", "/").text().contains("SERVER_SOFTWARE=other"));
}

#[test]
fn an_application_hears_of_a_client_what_a_backend_over_http_would_and_no_claim_of_its_own() {
    let backend = application(|asked| {
        let text: String = asked.params.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        said(format!("Content-Type: text/plain\r\n\r\n{text}").as_bytes())
    });
    let proxy = TestProxy::start(&annotated(backend.address(), &[FCGI]), &[]);
    let claims = "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n";
    let answer = ask(&proxy, &format!("GET / HTTP/1.1\r\nHost: h.test\r\n{claims}Connection: close\r\n\r\n"));
    let text = answer.text();
    for line in ["HTTP_X_FORWARDED_FOR=127.0.0.1", "HTTP_X_REAL_IP=127.0.0.1", "HTTP_X_FORWARDED_PROTO=http"]
    {
        assert!(text.lines().any(|told| told == line), "{line} is not in {text}");
    }
    assert!(!text.contains("HTTP_CONNECTION"), "{text}");
}

#[test]
fn bodies_of_any_size_pass_both_ways() {
    let backend = application(|asked| {
        let told = asked.params["CONTENT_LENGTH"].clone();
        said(&[format!("X-Told: {told}\n\n").as_bytes(), &asked.body].concat())
    });
    let proxy = TestProxy::start(&annotated(backend.address(), &[FCGI, ("proxy-body-size", "8m")]), &[]);
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let mut client = Raw::connect(proxy.http());
    client.send(format!("PUT / HTTP/1.1\r\nHost: h.test\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body);
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("x-told")), (200, Some("3000000")));
    assert!(answer.body == body && answer.whole);
    // Chunked: its length is found out first.
    client.send("POST / HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n4\r\n you\r\n0\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.text().as_str(), answer.field("x-told")), ("hello you", Some("9")));
    client.send("HEAD / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(client.answer_to("HEAD").unwrap().status, 200);
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(client.answer().body, b"");
}

#[test]
fn answers_that_are_none_are_502_and_cut_ones_are_cut() {
    for (what, bytes, status) in [
        ("another protocol", b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), 502),
        (
            "another version",
            record(6, b"A: b\n\n").iter().enumerate().map(|(at, b)| if at == 0 { 9 } else { *b }).collect(),
            502,
        ),
        ("a record of another kind", record(10, b"x"), 502),
        ("no head", said(b"no head at all"), 502),
        ("no status", said(b"Status: soon\n\n"), 502),
        ("two lengths", said(b"Content-Length: 1\nContent-Length: 2\n\nxx"), 502),
        ("a head without end", record(6, b"A: b\n"), 502),
        ("a head that is too large", said(&[b"A: ", &vec![b'x'; 70_000][..], b"\n\n"].concat()), 502),
        ("nothing", Vec::new(), 502),
        ("errors only", [record(7, b"it broke"), record(3, &[0; 8])].concat(), 502),
        ("an overloaded application", record(3, &[0, 0, 0, 0, 2, 0, 0, 0]), 502),
        ("errors beside the answer", [record(7, b"a notice"), said(b"A: b\n\nwhole")].concat(), 200),
        ("a redirect without status", said(b"Location: /x\n\n"), 302),
        ("more than was promised", said(b"Content-Length: 5\n\nwhole and more"), 200),
    ] {
        let backend = application(move |_| bytes.clone());
        let proxy = TestProxy::start(&annotated(backend.address(), &[FCGI]), &["--passive-health=off"]);
        let answer = get(proxy.http(), "h.test", "/");
        assert_eq!(answer.status, status, "{what}");
        if status == 200 {
            assert_eq!((answer.text().as_str(), answer.whole), ("whole", true), "{what}");
        }
    }
    for cut in [record(6, b"A: b\n\nhalf"), said(b"Content-Length: 9\n\nhalf")] {
        let backend = application(move |_| cut.clone());
        let proxy = TestProxy::start(&annotated(backend.address(), &[FCGI]), &[]);
        let mut client = Raw::connect(proxy.http());
        client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        assert!(!client.answer().whole, "the client sees the cut");
    }
}

#[test]
fn an_endpoint_that_refuses_is_passed_over_and_a_missing_config_map_shuts_the_route() {
    let backend = application(|_| said(b"A: b\n\nfine"));
    let endpoints = [crate::support::backend::refusing(), backend.address()];
    let manifests = ingress("a", &[FCGI], &[("h.test", "/", "Prefix", "b")])
        + &service("b", &endpoints)
        + &ingress(
            "c",
            &[FCGI, ("fastcgi-params-configmap", "default/missing")],
            &[("shut.test", "/", "Prefix", "b")],
        );
    let proxy = TestProxy::start(&manifests, &[]);
    for _ in 0..4 {
        assert_eq!(get(proxy.http(), "h.test", "/").text(), "fine");
    }
    assert_eq!(get(proxy.http(), "shut.test", "/").status, 503);
}
