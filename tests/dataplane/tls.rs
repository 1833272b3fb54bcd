//! TLS towards clients: which certificate, which versions, resumption, swap.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection};

use crate::support::backend::Backend;
use crate::support::client::{Raw, get};
use crate::support::manifests::{config_map, ingress, service, simple, tls_secret, with_tls};
use crate::support::tls::AnyCertificate;
use crate::support::{self, TestProxy, eventually};

/// A client without a certificate of its own, which takes any.
pub(crate) fn config(versions: &[&'static rustls::SupportedProtocolVersion]) -> Arc<ClientConfig> {
    Arc::new(support::tls::config(versions))
}

/// Both versions.
pub(crate) const ANY_VERSION: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The answer to one GET over a TLS connection of its own, as text.
pub(crate) fn get_text(address: SocketAddr, host: &str) -> String {
    ask(&config(rustls::ALL_VERSIONS), address, host, host).expect("an answer").text
}

/// What a handshake and one GET showed.
pub(crate) struct Seen {
    pub(crate) names: Vec<String>,
    pub(crate) text: String,
    resumed: bool,
    cipher: Option<rustls::CipherSuite>,
}

pub(crate) fn ask(
    config: &Arc<ClientConfig>,
    address: SocketAddr,
    sni: &str,
    host: &str,
) -> std::io::Result<Seen> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    let name = ServerName::try_from(sni.to_owned()).expect("a server name");
    let mut session = ClientConnection::new(Arc::clone(config), name).expect("a session");
    let mut tls = rustls::Stream::new(&mut session, &mut stream);
    tls.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    tls.read_to_end(&mut bytes)?;
    let certificate = session.peer_certificates().expect("a certificate")[0].clone();
    Ok(Seen {
        names: names(&certificate),
        text: String::from_utf8_lossy(&bytes).into_owned(),
        resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        cipher: session.negotiated_cipher_suite().map(|suite| suite.suite()),
    })
}

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    names.value.general_names.iter().map(|name| name.to_string()).collect()
}

fn pair(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn secret(name: &str, names: &[&str]) -> String {
    let (certificate, key) = pair(names);
    tls_secret(name, &certificate, &key)
}

fn world(backend: SocketAddr, secrets: &str) -> String {
    let host = |name: &str, host: &str| {
        with_tls(&ingress(name, &[], &[(host, "/", "Prefix", "b")]), host, &format!("{name}-cert"))
    };
    host("exact", "a.w.test")
        + &host("wild", "*.w.test")
        + &host("broken", "broken.test")
        + &ingress("plain", &[], &[("plain.test", "/", "Prefix", "b")])
        + &service("b", &[backend])
        + secrets
}

const BROKEN: &str = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: broken-cert, namespace: default}\ntype: kubernetes.io/tls\nstringData: {tls.crt: junk, tls.key: junk}\n";

#[test]
fn sni_chooses_exact_then_wildcard_then_default() {
    let backend = Backend::echo("b");
    let secrets = secret("exact-cert", &["a.w.test"]) + &secret("wild-cert", &["*.w.test"]) + BROKEN;
    let proxy = TestProxy::start(&world(backend.address(), &secrets), &[]);
    let config = config(rustls::ALL_VERSIONS);
    for (sni, expected) in [
        ("a.w.test", "a.w.test"),
        ("A.W.test", "a.w.test"),
        ("b.w.test", "*.w.test"),
        ("x.y.w.test", "ingress.local"),
        ("plain.test", "ingress.local"),
        ("broken.test", "ingress.local"),
        ("unknown.test", "ingress.local"),
    ] {
        let seen = ask(&config, proxy.https(), sni, "a.w.test").unwrap();
        assert!(seen.names.iter().any(|name| name.contains(expected)), "{sni}: {:?}", seen.names);
        assert!(seen.text.starts_with("HTTP/1.1 200 "), "{sni}: {}", seen.text);
        assert!(
            seen.text.contains("Strict-Transport-Security: max-age=31536000; includeSubDomains"),
            "{}",
            seen.text
        );
    }
    assert_eq!(backend.requests()[0].field("x-forwarded-proto"), Some("https"));
    assert_eq!(backend.requests()[0].field("x-forwarded-port"), Some("443"));
    let redirect = get(proxy.http(), "a.w.test", "/x/");
    assert_eq!((redirect.status, redirect.field("location")), (308, Some("https://a.w.test/x")));
}

#[test]
fn both_versions_work_and_sessions_resume_on_any_worker() {
    let backend = Backend::echo("b");
    let proxy =
        TestProxy::start(&world(backend.address(), &secret("exact-cert", &["a.w.test"])), &["--workers=2"]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = config(&[version]);
        assert!(!ask(&config, proxy.https(), "a.w.test", "a.w.test").unwrap().resumed);
        let resumed =
            (0..6).filter(|_| ask(&config, proxy.https(), "a.w.test", "a.w.test").unwrap().resumed).count();
        assert_eq!(resumed, 6, "{version:?}");
    }
}

#[test]
fn ciphers_and_their_order_are_the_hosts_own() {
    use rustls::CipherSuite as Cipher;
    let own = |name: &str, host: &str, annotations: &[(&str, &str)]| {
        with_tls(&ingress(name, annotations, &[(host, "/", "Prefix", "b")]), host, "pair")
    };
    let backend = Backend::echo("b");
    let world = own("plain", "plain.test", &[])
        + &own("own", "own.test", &[("ssl-ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-SHA")])
        + &own("later", "own.test", &[("ssl-ciphers", "AES128"), ("ssl-prefer-server-ciphers", "false")])
        + &own("clients", "clients.test", &[("ssl-prefer-server-ciphers", "false")])
        + &own("none", "none.test", &[("ssl-ciphers", "AES128-SHA")])
        + &own("rsa", "rsa.test", &[("ssl-ciphers", "aRSA")])
        + &service("b", &[backend.address()])
        + &secret("pair", &["plain.test", "own.test", "clients.test", "none.test", "rsa.test"])
        + &config_map(&[("ssl-ciphers", "AES256:AES128")]);
    let proxy = TestProxy::start(&world, &["--configmap=default/config"]);
    let old = config(&[&rustls::version::TLS12]);
    let ciphers = |mut suites: Vec<rustls::SupportedCipherSuite>| {
        suites.reverse();
        suites
    };
    let mut turned = rustls::crypto::aws_lc_rs::default_provider();
    turned.cipher_suites = ciphers(turned.cipher_suites);
    let turned = ClientConfig::builder_with_provider(Arc::new(turned))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::default()))
        .with_no_client_auth();
    let turned = Arc::new(turned);
    let cipher = |config: &Arc<ClientConfig>, host: &str| {
        let seen = ask(config, proxy.https(), host, host).ok()?;
        assert!(seen.text.starts_with("HTTP/1.1 200 "), "{host}: {}", seen.text);
        seen.cipher
    };
    for (config, host, expect) in [
        (&old, "plain.test", Some(Cipher::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
        (&turned, "plain.test", Some(Cipher::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
        (&turned, "clients.test", Some(Cipher::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)),
        (&turned, "own.test", Some(Cipher::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)),
        (&turned, "none.test", Some(Cipher::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
        // The certificate has another kind of key.
        (&old, "rsa.test", None),
    ] {
        assert_eq!(cipher(config, host), expect, "{host}");
    }
    let new = config(&[&rustls::version::TLS13]);
    assert!(cipher(&new, "rsa.test").is_some());
}

#[test]
fn a_renewed_certificate_is_served_and_open_connections_go_on() {
    let backend = Backend::echo("b");
    let before = world(backend.address(), &secret("exact-cert", &["a.w.test", "old.test"]));
    let proxy = TestProxy::start(&before, &[]);
    let client = config(rustls::ALL_VERSIONS);
    let mut stream = TcpStream::connect(proxy.https()).unwrap();
    let name = ServerName::try_from("a.w.test").unwrap();
    let mut session = ClientConnection::new(Arc::clone(&client), name).unwrap();
    let mut open = rustls::Stream::new(&mut session, &mut stream);
    let request = b"GET / HTTP/1.1\r\nHost: a.w.test\r\n\r\n";
    let mut part = [0; 4096];
    open.write_all(request).unwrap();
    assert!(open.read(&mut part).unwrap() > 0);
    proxy.replace(&world(backend.address(), &secret("exact-cert", &["a.w.test", "new.test"])));
    eventually("the new certificate", || {
        let fresh = config(rustls::ALL_VERSIONS);
        let seen = ask(&fresh, proxy.https(), "a.w.test", "a.w.test").unwrap();
        seen.names.iter().any(|name| name.contains("new.test"))
    });
    open.write_all(request).unwrap();
    assert!(open.read(&mut part).unwrap() > 0, "the open connection goes on");
    // A broken renewal keeps the last good pair.
    let broken = BROKEN.replace("broken-cert", "exact-cert");
    proxy.replace(&world(backend.address(), &broken));
    let seen = ask(&config(rustls::ALL_VERSIONS), proxy.https(), "a.w.test", "a.w.test").unwrap();
    assert!(seen.names.iter().any(|name| name.contains("new.test")), "{:?}", seen.names);
}

#[test]
fn clear_http_on_the_tls_port_gets_nginx_s_400() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut raw = Raw::connect(proxy.https());
    raw.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    let answer = raw.answer();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("The plain HTTP request was sent to HTTPS port"));
    // A greeting of SSLv2 is no HTTP: an alert, as any broken handshake gets.
    let mut stream = TcpStream::connect(proxy.https()).unwrap();
    stream.write_all(b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10").unwrap();
    stream.write_all(&[1; 37]).unwrap();
    let mut seen = Vec::new();
    let _reset_or_closed = stream.read_to_end(&mut seen);
    assert!(!seen.starts_with(b"HTTP"), "{seen:02x?}");
}

#[test]
fn a_certificate_of_version_1_is_shown() {
    let backend = Backend::echo("b");
    let key = rcgen::KeyPair::generate().unwrap();
    let shown = support::tls::version_1("h.test", &key, "h.test", &key, "400101000000Z");
    let text = {
        use base64::Engine;
        let body = base64::engine::general_purpose::STANDARD.encode(&shown);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    let world = with_tls(&ingress("h", &[], &[("h.test", "/", "Prefix", "b")]), "h.test", "old")
        + &service("b", &[backend.address()])
        + &tls_secret("old", &text, &key.serialize_pem());
    let proxy = TestProxy::start(&world, &[]);
    let mut stream = TcpStream::connect(proxy.https()).unwrap();
    let name = ServerName::try_from("h.test").unwrap();
    let mut session = ClientConnection::new(config(ANY_VERSION), name).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut stream).unwrap();
    }
    assert_eq!(session.peer_certificates().unwrap()[0].as_ref(), shown);
}

#[test]
fn clients_that_offer_an_old_version_only_are_served() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    for (offers, served) in [
        (&["http/1.0"][..], true),
        (&["http/0.9"], true),
        (&["x", "http/1.1"], true),
        (&[], true),
        (&["h3"], false),
        (&["HTTP/1.1"], false),
    ] {
        let mut client = support::tls::config(ANY_VERSION);
        client.alpn_protocols = offers.iter().map(|name| name.as_bytes().to_vec()).collect();
        let answer = ask(&Arc::new(client), proxy.https(), "h.test", "h.test");
        let got = answer.is_ok_and(|seen| seen.text.starts_with("HTTP/1.1 200 "));
        assert_eq!(got, served, "{offers:?}");
    }
}

/// A TLS backend on a thread: answers one request per connection and tells SNI, ALPN and the request line.
fn tls_backend() -> SocketAddr {
    let names = vec!["b.default.svc".to_owned(), "named.test".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], made.signing_key.serialize_der().try_into().unwrap())
        .unwrap();
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let server = Arc::new(server);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (server, Ok(mut stream)) = (Arc::clone(&server), stream) else { continue };
            std::thread::spawn(move || {
                let mut session = rustls::ServerConnection::new(server).unwrap();
                let mut tls = rustls::Stream::new(&mut session, &mut stream);
                let mut head = [0; 4096];
                let Ok(read) = tls.read(&mut head) else { return };
                let line = String::from_utf8_lossy(&head[..read]).lines().next().unwrap_or("").to_owned();
                let sni = tls.conn.server_name().unwrap_or("none").to_owned();
                let body = format!("{line} sni={sni}");
                let _ = write!(tls, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                let _ = tls.flush();
                let _ = tls.read(&mut head);
            });
        }
    });
    address
}

#[test]
fn https_backends_are_asked_over_tls_and_verified_only_when_asked_to() {
    let address = tls_backend();
    let world = |annotations: &[(&str, &str)]| {
        let mut all = vec![("backend-protocol", "HTTPS")];
        all.extend_from_slice(annotations);
        support::manifests::annotated(address, &all)
    };
    let proxy = TestProxy::start(&world(&[]), &[]);
    let answer = get(proxy.http(), "h.test", "/x");
    assert_eq!((answer.status, answer.text().as_str()), (200, "GET /x HTTP/1.1 sni=none"));
    let named = [("proxy-ssl-server-name", "on"), ("proxy-ssl-name", "named.test")];
    let proxy = TestProxy::start(&world(&named), &[]);
    assert_eq!(get(proxy.http(), "h.test", "/x").text(), "GET /x HTTP/1.1 sni=named.test");
    // Verification without an authority to verify by never goes on in clear or unverified.
    let proxy = TestProxy::start(&world(&[("proxy-ssl-verify", "on")]), &[]);
    let status = get(proxy.http(), "h.test", "/x").status;
    assert!(status == 502 || status == 503, "{status}");
    // A Secret that is not there, or of no use, never means going on without the pair.
    let secret = |name: &str, data: &str| {
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\nstringData: {data}\n"
        )
    };
    let secrets = secret("junk", "{ca.crt: x}") + &secret("other", "{foo: x}");
    for name in ["default/nope", "default/junk", "other"] {
        let text = world(&[("proxy-ssl-secret", name), ("proxy-ssl-verify", "off")]) + &secrets;
        let proxy = TestProxy::start(&text, &[]);
        assert_eq!(get(proxy.http(), "h.test", "/x").status, 503, "{name}");
        let told = get(proxy.admin(), "localhost", "/api/v1/diagnostics").text();
        assert!(told.contains("BackendTlsUnavailable"), "{name}: {told}");
    }
    // A clear-text backend behind HTTPS is a 502, never clear text.
    let clear = Backend::echo("clear");
    let proxy = TestProxy::start(
        &support::manifests::annotated(clear.address(), &[("backend-protocol", "HTTPS")]),
        &[],
    );
    assert_eq!(get(proxy.http(), "h.test", "/x").status, 502);
    assert!(clear.requests().is_empty());
}
