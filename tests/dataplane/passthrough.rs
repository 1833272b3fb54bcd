//! `ssl-passthrough`: TLS that goes to the backend unopened.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::get;
use crate::support::manifests::{ingress, service};
use crate::tls::{ANY_VERSION, config};

const FLAG: &str = "--enable-ssl-passthrough";

/// A backend that says its name, gives back the first record it gets as hexadecimal digits, and ends.
fn recorder(name: &'static str) -> Backend {
    Backend::script(move |mut stream, _| {
        let mut start = Vec::new();
        let mut part = [0; 4096];
        // Up to the end of the first record, behind a PROXY line if there is one.
        let whole = |bytes: &[u8]| {
            let at = if bytes.starts_with(b"PROXY") {
                bytes.iter().position(|byte| *byte == b'\n').map_or(usize::MAX, |end| end + 1)
            } else {
                0
            };
            let record = bytes.get(at..).unwrap_or_default();
            record.len() >= 5 && record.len() >= 5 + usize::from(u16::from_be_bytes([record[3], record[4]]))
        };
        while !whole(&start) {
            match stream.read(&mut part) {
                Ok(read) if read > 0 => start.extend_from_slice(&part[..read]),
                _ => return,
            }
        }
        let _ = stream.write_all(format!("{name} ").as_bytes());
        let _ = stream.write_all(&start);
    })
}

/// What a TLS client says first.
fn greeting(name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(config(ANY_VERSION), name).unwrap();
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).unwrap();
    bytes
}

/// Sends bytes in pieces and reads all that comes.
fn send(address: SocketAddr, bytes: &[u8], piece: usize) -> (Vec<u8>, SocketAddr) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    for part in bytes.chunks(piece) {
        stream.write_all(part).unwrap();
        std::thread::yield_now();
    }
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    (answer, stream.local_addr().unwrap())
}

fn world(backend: SocketAddr, annotations: &[(&str, &str)], host: &str) -> String {
    let annotations = [&[("ssl-passthrough", "true")], annotations].concat();
    ingress("p", &annotations, &[(host, "/", "Prefix", "p")]) + &service("p", &[backend])
}

#[test]
fn a_greeting_goes_through_as_it_is_at_any_segmentation() {
    let backend = recorder("one");
    let proxy = TestProxy::start(&world(backend.address(), &[], "pass.test"), &[FLAG]);
    let hello = greeting("pass.test");
    for piece in [1, 7, 600, 100_000] {
        let (answer, _) = send(proxy.https(), &hello, piece);
        assert_eq!(answer, [b"one ".to_vec(), hello.clone()].concat(), "in pieces of {piece}");
    }
}

#[test]
fn another_namespace_cannot_open_a_host_that_is_not_its_own() {
    let (backend, theirs) = (Backend::echo("mine"), recorder("theirs"));
    let dated = |manifests: String, year: u16| {
        manifests.replacen(
            "metadata: {",
            &format!("metadata: {{creationTimestamp: \"{year}-01-01T00:00:00Z\", "),
            1,
        )
    };
    let mine = dated(ingress("m", &[("ssl-redirect", "false")], &[("pass.test", "/", "Prefix", "m")]), 2020)
        + &service("m", &[backend.address()]);
    let asks = |year, path| {
        let manifests = ingress("p", &[("ssl-passthrough", "true")], &[("pass.test", path, "Prefix", "p")])
            + &service("p", &[theirs.address()]);
        dated(manifests, year).replace("namespace: default", "namespace: other")
    };
    let proxy = TestProxy::start(&(mine + &asks(2024, "/zz")), &[FLAG]);
    let seen = crate::tls::ask(&config(ANY_VERSION), proxy.https(), "pass.test", "pass.test").unwrap();
    assert!(seen.text.starts_with("HTTP/1.1 200"), "{}", seen.text);
    let told = get(proxy.admin(), "localhost", "/api/v1/diagnostics");
    assert!(told.text().contains("older Ingress of another namespace"), "{}", told.text());
}

#[test]
fn wildcard_hosts_pass_and_other_names_end_here() {
    let (backend, plain) = (recorder("one"), Backend::echo("plain"));
    let manifests = world(backend.address(), &[], "*.pass.test")
        + &ingress("n", &[("ssl-redirect", "false")], &[("here.test", "/", "Prefix", "n")])
        + &service("n", &[plain.address()]);
    let proxy = TestProxy::start(&manifests, &[FLAG]);
    assert!(send(proxy.https(), &greeting("a.pass.test"), 9000).0.starts_with(b"one "));
    let seen = crate::tls::ask(&config(ANY_VERSION), proxy.https(), "here.test", "here.test").unwrap();
    assert!(seen.text.starts_with("HTTP/1.1 200"), "{}", seen.text);
    let seen = crate::tls::ask(&config(ANY_VERSION), proxy.https(), "unknown.test", "unknown.test").unwrap();
    assert!(seen.text.starts_with("HTTP/1.1 404"), "{}", seen.text);
    // Clear text on the TLS port gets the answer that it gets without the flag.
    let (answer, _) = send(proxy.https(), b"GET / HTTP/1.1\r\nHost: here.test\r\n\r\n", 9000);
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn the_client_is_told_to_the_backend_where_that_is_asked_for() {
    let backend = recorder("one");
    let proxy = TestProxy::start(
        &world(backend.address(), &[], "pass.test"),
        &[FLAG, "--ssl-passthrough-proxy-protocol"],
    );
    let (answer, own) = send(proxy.https(), &greeting("pass.test"), 9000);
    let line = format!("one PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", own.port(), proxy.https().port());
    assert!(answer.starts_with(line.as_bytes()), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn address_lists_hold_and_without_the_flag_nothing_passes() {
    let backend = recorder("one");
    let denied = world(backend.address(), &[("denylist-source-range", "127.0.0.0/8")], "pass.test");
    let proxy = TestProxy::start(&denied, &[FLAG]);
    assert_eq!(send(proxy.https(), &greeting("pass.test"), 9000).0, b"");
    let proxy = TestProxy::start(&world(backend.address(), &[], "pass.test"), &[]);
    assert!(!send(proxy.https(), &greeting("pass.test"), 9000).0.starts_with(b"one"));
    assert_eq!(backend.connections(), 0);
    let told = get(proxy.admin(), "localhost", "/api/v1/diagnostics").text();
    assert!(told.contains("SslPassthrough"), "{told}");
    // TLS ends here then, and begins anew to the backend, as with ingress-nginx: the recorder is no TLS server.
    let connections = backend.connections();
    assert_eq!(get(proxy.http(), "pass.test", "/").status, 502);
    assert!(backend.connections() > connections);
}

#[test]
fn a_greeting_that_never_ends_is_bounded() {
    let backend = recorder("one");
    let proxy = TestProxy::start(&world(backend.address(), &[], "pass.test"), &[FLAG]);
    // Records of one byte each, of a message that claims to be long.
    let mut bytes = vec![22, 3, 1, 0, 4, 1, 0, 0x3f, 0xff];
    for _ in 0..4000 {
        bytes.extend([22, 3, 1, 0, 1, 0]);
    }
    let mut stream = TcpStream::connect(proxy.https()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let _reset = stream.write_all(&bytes);
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    assert_eq!((answer.as_slice(), backend.connections()), (&b""[..], 0));
}
