//! Client certificates over real sockets: what is asked, what is answered, and that nothing leads around them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection};

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::get;
use crate::support::manifests::{config_map, ingress, service, tls_secret, with_tls};
use crate::support::tls::{AnyCertificate, version_1};

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn client(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        (vec![made.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

fn client(identity: Option<&Identity>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::default()));
    match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// The text of the answer to `GET / HTTP/1.1` with this SNI and these lines; `None` for a failed handshake.
fn ask_with(
    config: &Arc<ClientConfig>,
    address: SocketAddr,
    sni: Option<&str>,
    head: &str,
) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let name = match sni {
        Some(sni) => ServerName::try_from(sni.to_owned()).unwrap(),
        None => ServerName::from(std::net::Ipv4Addr::LOCALHOST),
    };
    let mut session = ClientConnection::new(Arc::clone(config), name).ok()?;
    let mut tls = rustls::Stream::new(&mut session, &mut stream);
    tls.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut bytes = Vec::new();
    let _closed_hard = tls.read_to_end(&mut bytes);
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

fn ask(identity: Option<&Identity>, address: SocketAddr, host: &str) -> String {
    let head = format!("GET / HTTP/1.1\r\nHost: {host}");
    ask_with(&Arc::new(client(identity)), address, Some(host), &head).expect("an answer")
}

fn status(text: &str) -> u16 {
    text.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status")
}

fn opaque(name: &str, data: &[(&str, &str)]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\ntype: Opaque\nstringData:\n"
    );
    for (key, value) in data {
        let lines: String = value.lines().map(|line| format!("    {line}\n")).collect();
        text.push_str(&format!("  {key}: |\n{lines}"));
    }
    text
}

/// `m.test` (with these annotations) and `*.w.test` want certificates of `ca`, `o.test` those of another authority,
/// `p.test` none.
fn world(backend: SocketAddr, ca: &Ca, annotations: &[(&str, &str)]) -> String {
    let names = ["m.test", "p.test", "o.test", "*.w.test"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let host = |name: &str, host: &str, annotations: &[(&str, &str)]| {
        with_tls(&ingress(name, annotations, &[(host, "/", "Prefix", "b")]), host, "pair")
    };
    let mut all = vec![("auth-tls-secret", "default/ca")];
    all.extend_from_slice(annotations);
    host("m", "m.test", &all)
        + &host("w", "*.w.test", &[("auth-tls-secret", "ca")])
        + &host("o", "o.test", &[("auth-tls-secret", "other")])
        + &host("p", "p.test", &[])
        + &tls_secret("pair", &made.cert.pem(), &made.signing_key.serialize_pem())
        + &opaque("ca", &[("ca.crt", &ca.pem)])
        + &opaque("other", &[("ca.crt", &Ca::new("other").pem)])
        + &service("b", &[backend])
}

#[test]
fn a_client_s_certificate_may_be_its_own_authority() {
    let (backend, key) = (Backend::echo("b"), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = params.self_signed(&key).unwrap();
    let text = with_tls(
        &ingress("m", &[("auth-tls-secret", "default/own")], &[("m.test", "/", "Prefix", "b")]),
        "m.test",
        "pair",
    );
    let made = rcgen::generate_simple_self_signed(["m.test".to_owned()]).unwrap();
    let text = text
        + &tls_secret("pair", &made.cert.pem(), &made.signing_key.serialize_pem())
        + &opaque("own", &[("ca.crt", &own.pem())])
        + &service("b", &[backend.address()]);
    let proxy = TestProxy::start(&text, &[]);
    let identity = (vec![own.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    assert_eq!(status(&ask(Some(&identity), proxy.https(), "m.test")), 200);
    assert_eq!(status(&ask(Some(&Ca::new("x").client("x")), proxy.https(), "m.test")), 400);
    assert_eq!(status(&ask(None, proxy.https(), "m.test")), 400);
}

#[test]
fn certificates_of_version_1_are_taken_as_openssl_takes_them() {
    let backend = Backend::echo("b");
    let ca = Ca::new("clients");
    let world = world(backend.address(), &ca, &[]);
    let proxy = TestProxy::start(&world, &[]);
    let (key, stranger) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        for (signer, until, expect) in [
            (ca.issuer.key(), "400101000000Z", 200),
            (ca.issuer.key(), "210101000000Z", 400),
            (&stranger, "400101000000Z", 400),
        ] {
            let shown = version_1("My Client", &key, "clients", signer, until);
            assert_eq!(status_of_old(&proxy, shown, &key, versions), expect, "{until} {versions:?}");
        }
    }
}

/// The status that the holder of a certificate of version 1 hears.
fn status_of_old(
    proxy: &TestProxy,
    shown: Vec<u8>,
    key: &KeyPair,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let signing = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let signing = provider.key_provider.load_private_key(signing).unwrap();
    let pair = CertifiedKey::new(vec![CertificateDer::from(shown)], signing);
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::default()))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    let head = "GET / HTTP/1.1\r\nHost: m.test";
    status(&ask_with(&Arc::new(config), proxy.https(), Some("m.test"), head).expect("an answer"))
}

#[test]
fn an_authority_that_limits_names_has_no_clients_of_version_1() {
    let (backend, key, signer) =
        (Backend::echo("b"), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    for (limits, expect) in [(false, 200), (true, 400)] {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "limited");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let permitted = vec![rcgen::GeneralSubtree::DnsName("good.test".to_owned())];
        params.name_constraints = limits
            .then(|| rcgen::NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
        let made = rcgen::generate_simple_self_signed(["m.test".to_owned()]).unwrap();
        let guarded =
            ingress("m", &[("auth-tls-secret", "default/limited")], &[("m.test", "/", "Prefix", "b")]);
        let text = with_tls(&guarded, "m.test", "pair")
            + &tls_secret("pair", &made.cert.pem(), &made.signing_key.serialize_pem())
            + &opaque("limited", &[("ca.crt", &params.self_signed(&signer).unwrap().pem())])
            + &service("b", &[backend.address()]);
        let proxy = TestProxy::start(&text, &[]);
        let shown = version_1("bad.test", &key, "limited", &signer, "400101000000Z");
        assert_eq!(status_of_old(&proxy, shown, &key, &[&rustls::version::TLS13]), expect);
    }
}

#[test]
fn variables_tell_of_the_certificate_and_of_the_connection() {
    let (backend, ca) = (Backend::echo("b"), Ca::new("clients"));
    let text = "proxy_set_header X-Tls \"$ssl_protocol $ssl_server_name $ssl_session_reused\"; \
                proxy_set_header X-Client \"$ssl_client_verify $ssl_client_s_dn $ssl_client_i_dn\"; \
                proxy_set_header X-More \"$ssl_client_v_remain,$ssl_client_serial,$ssl_client_fingerprint\"; \
                if ($ssl_client_s_dn ~ CN=eve) { return 403; }";
    let config = config_map(&[("allow-snippet-annotations", "true"), ("annotations-risk-level", "Critical")]);
    let world = world(backend.address(), &ca, &[("configuration-snippet", text)]) + &config;
    let proxy = TestProxy::start(&world, &["--configmap=default/config"]);
    assert_eq!(status(&ask(Some(&ca.client("ann")), proxy.https(), "m.test")), 200);
    assert_eq!(status(&ask(Some(&ca.client("eve")), proxy.https(), "m.test")), 403);
    let seen = backend.requests();
    assert_eq!(seen[0].field("x-tls"), Some("TLSv1.3 m.test ."));
    assert_eq!(seen[0].field("x-client"), Some("SUCCESS CN=ann CN=clients"));
    let more: Vec<&str> = seen[0].field("x-more").unwrap().split(',').collect();
    let [days, serial, fingerprint] = more[..] else { panic!("{more:?}") };
    assert!(days.parse::<u32>().unwrap() > 300_000, "rcgen's certificates end late: {days}");
    assert!(!serial.is_empty() && fingerprint.len() == 40, "{more:?}");
}

#[test]
fn a_sound_certificate_is_needed_and_told_to_the_backend() {
    let (backend, ca) = (Backend::echo("b"), Ca::new("clients"));
    let proxy = TestProxy::start(&world(backend.address(), &ca, &[]), &[]);
    let https = proxy.https();
    let none = ask(None, https, "m.test");
    assert_eq!(status(&none), 400);
    assert!(none.contains("<center>No required SSL certificate was sent</center>"), "{none}");
    let foreign = ask(Some(&Ca::new("else").client("ann")), https, "m.test");
    assert_eq!(status(&foreign), 400);
    assert!(foreign.contains("<center>The SSL certificate error</center>"), "{foreign}");
    assert!(backend.requests().is_empty());
    assert_eq!(status(&ask(Some(&ca.client("ann")), https, "m.test")), 200);
    let seen = backend.requests();
    assert_eq!(seen[0].field("ssl-client-verify"), Some("SUCCESS"));
    assert_eq!(seen[0].field("ssl-client-subject-dn"), Some("CN=ann"));
    assert_eq!(seen[0].field("ssl-client-issuer-dn"), Some("CN=clients"));
    assert_eq!(seen[0].field("ssl-client-cert"), None);
    assert_eq!(status(&ask(None, https, "p.test")), 200, "another host asks nobody");
}

#[test]
fn other_modes_let_in_whom_nginx_lets_in_and_say_what_was_shown() {
    let (backend, ca) = (Backend::echo("b"), Ca::new("clients"));
    let (own, foreign) = (ca.client("ann"), Ca::new("else").client("bob"));
    for (mode, expect) in [
        ("optional", [(200, "NONE"), (200, "SUCCESS"), (400, "")]),
        (
            "optional_no_ca",
            [(200, "NONE"), (200, "SUCCESS"), (200, "FAILED:unable to verify the first certificate")],
        ),
        ("off", [(200, "NONE"), (200, "NONE"), (200, "NONE")]),
    ] {
        let annotations =
            [("auth-tls-verify-client", mode), ("auth-tls-pass-certificate-to-upstream", "true")];
        let proxy = TestProxy::start(&world(backend.address(), &ca, &annotations), &[]);
        for (identity, (expected, verdict)) in [None, Some(&own), Some(&foreign)].into_iter().zip(expect) {
            let config = Arc::new(client(identity));
            let head = "GET / HTTP/1.1\r\nHost: m.test\r\nssl-client-verify: SUCCESS\r\nssl-client-cert: mine\r\nSSL-Client-Subject-DN: CN=root";
            let text = ask_with(&config, proxy.https(), Some("m.test"), head).unwrap();
            assert_eq!(status(&text), expected, "{mode} {verdict}");
            if expected == 200 {
                let seen = backend.requests().pop().unwrap();
                assert_eq!(seen.field("ssl-client-verify"), Some(verdict), "{mode}");
                assert_ne!(seen.field("ssl-client-subject-dn"), Some("CN=root"), "{mode}");
                let passed = seen.field("ssl-client-cert");
                let shown = identity.is_some() && mode != "off";
                let expect = shown.then_some(true);
                assert_eq!(passed.map(|text| text.starts_with("-----BEGIN%20CERTIFICATE-----%0A")), expect);
            }
        }
    }
}

/// `security.md` E-4, `sni_confusion`.
#[test]
fn neither_server_name_nor_host_leads_around_a_certificate() {
    let (backend, ca) = (Backend::echo("b"), Ca::new("clients"));
    let proxy = TestProxy::start(&world(backend.address(), &ca, &[]), &[]);
    let (none, ann) = (Arc::new(client(None)), Arc::new(client(Some(&ca.client("ann")))));
    let target = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}");
    let hosts =
        ["m.test", "M.TEST", "m.test.", "m.test:443", "m.test:8443", "a.w.test", "A.w.Test.", "o.test"];
    for sni in [Some("p.test"), Some("unknown.test"), None] {
        for host in hosts {
            for (who, config) in [("nobody", &none), ("ann", &ann)] {
                let text = ask_with(config, proxy.https(), sni, &target("/", host)).unwrap();
                assert_eq!(status(&text), 421, "{sni:?} {host} {who}");
            }
        }
        let text = ask_with(&none, proxy.https(), sni, &target("https://m.test/", "p.test")).unwrap();
        assert_eq!(status(&text), 421, "absolute form, {sni:?}");
    }
    // Other authorities are another group, the same Secret is the same.
    for (sni, host, expect) in [
        ("m.test", "o.test", 421),
        ("o.test", "m.test", 421),
        ("m.test", "a.w.test", 200),
        ("m.test", "p.test", 421),
    ] {
        let text = ask_with(&ann, proxy.https(), Some(sni), &target("/", host)).unwrap();
        assert_eq!(status(&text), expect, "{sni} {host}");
    }
    let text = ask_with(&none, proxy.https(), Some("p.test"), &target("/", "unknown.test")).unwrap();
    assert_eq!(status(&text), 404, "ordinary hosts share connections");
    assert_eq!(backend.requests().len(), 1);
}

/// The statuses of requests for these hosts over one HTTP/2 connection with this SNI.
fn over_http2(config: ClientConfig, address: SocketAddr, sni: &str, hosts: &[&str]) -> Vec<u16> {
    let mut config = config;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(sni.to_owned()).unwrap();
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (mut client, connection) = h2::client::handshake(tls).await.unwrap();
        tokio::spawn(connection);
        let mut statuses = Vec::new();
        for host in hosts {
            client = client.ready().await.expect("the connection goes on");
            let request = http::Request::get(format!("https://{host}/")).body(()).unwrap();
            let (answer, _) = client.send_request(request, true).unwrap();
            statuses.push(answer.await.unwrap().status().as_u16());
        }
        statuses
    })
}

#[test]
fn streams_of_one_connection_are_judged_each_for_its_host() {
    let (backend, ca) = (Backend::echo("b"), Ca::new("clients"));
    let proxy = TestProxy::start(&world(backend.address(), &ca, &[]), &[]);
    let ann = ca.client("ann");
    // A refused stream ends, the connection goes on.
    let hosts = ["p.test", "m.test", "a.w.test", "o.test", "p.test"];
    assert_eq!(over_http2(client(Some(&ann)), proxy.https(), "p.test", &hosts), [200, 421, 421, 421, 200]);
    let hosts = ["m.test", "p.test", "o.test", "a.w.test", "m.test"];
    assert_eq!(over_http2(client(Some(&ann)), proxy.https(), "m.test", &hosts), [200, 421, 421, 200, 200]);
    let hosts = ["m.test", "p.test"];
    assert_eq!(over_http2(client(None), proxy.https(), "m.test", &hosts), [400, 421]);
}

#[test]
fn a_session_of_another_host_is_not_resumed_into_one_that_asks() {
    let (backend, ca) = (Backend::echo("b"), Ca::new("clients"));
    let proxy = TestProxy::start(&world(backend.address(), &ca, &[]), &["--workers=1"]);
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (chain, key) = ca.client("ann");
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder =
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate::default()));
        let mut with = builder.with_client_auth_cert(chain, key).unwrap();
        with.resumption = Resumption::in_memory_sessions(32);
        let mut without = client(None);
        without.resumption = with.resumption.clone();
        let (with, without) = (Arc::new(with), Arc::new(without));
        let head = "GET / HTTP/1.1\r\nHost: m.test";
        for _ in 0..3 {
            let text = ask_with(&with, proxy.https(), Some("m.test"), head).unwrap();
            assert_eq!(status(&text), 200, "its own session keeps its certificate");
        }
        let plain = "GET / HTTP/1.1\r\nHost: p.test";
        assert_eq!(status(&ask_with(&without, proxy.https(), Some("p.test"), plain).unwrap()), 200);
        assert_eq!(status(&ask_with(&without, proxy.https(), Some("p.test"), head).unwrap()), 421);
    }
}

#[test]
fn certificates_asked_for_and_revoked_later_count_for_the_next_request() {
    let (backend, ca) = (Backend::echo("b"), Ca::new("clients"));
    let with = world(backend.address(), &ca, &[]);
    let without = with.replace("    nginx.ingress.kubernetes.io/auth-tls-secret: \"default/ca\"\n", "");
    assert_ne!(with, without);
    let proxy = TestProxy::start(&without.replace("  annotations:\nspec", "spec"), &[]);
    let mut open = Open::to(proxy.https(), None);
    assert_eq!(open.get(), 200);
    proxy.swap(&with);
    assert_eq!(open.get(), 421, "the open connection showed nothing, since nobody asked");
    assert_eq!(status(&ask(None, proxy.https(), "m.test")), 400);
    let mut open = Open::to(proxy.https(), Some(&ca.client("ann")));
    assert_eq!((open.get(), open.get()), (200, 200));
    proxy.swap(&world(backend.address(), &Ca::new("next"), &[]));
    assert_eq!(open.get(), 400, "an open connection is judged by the authorities of the moment");
}

/// A connection to `m.test` that stays open.
struct Open {
    session: ClientConnection,
    stream: TcpStream,
}

impl Open {
    fn to(address: SocketAddr, identity: Option<&Identity>) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let name = ServerName::try_from("m.test").unwrap();
        Self { session: ClientConnection::new(Arc::new(client(identity)), name).unwrap(), stream }
    }

    /// Status of the next answer, whose head and body come at once.
    fn get(&mut self) -> u16 {
        let mut tls = rustls::Stream::new(&mut self.session, &mut self.stream);
        tls.write_all(b"GET / HTTP/1.1\r\nHost: m.test\r\n\r\n").unwrap();
        let mut text = String::new();
        let mut part = [0; 4096];
        // The echo answers with the request line, pages end with the page.
        while !text.ends_with("GET / HTTP/1.1") && !text.ends_with("</html>\r\n") {
            let read = tls.read(&mut part).unwrap();
            assert!(read > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        status(&text)
    }
}

#[test]
fn names_and_error_pages() {
    let (backend, ca) = (Backend::echo("b"), Ca::new("clients"));
    let annotations =
        [("auth-tls-match-cn", "CN=ann"), ("auth-tls-error-page", "https://$host.example/needed")];
    let proxy = TestProxy::start(&world(backend.address(), &ca, &annotations), &[]);
    let bob = ask(Some(&ca.client("bob")), proxy.https(), "m.test");
    assert_eq!(status(&bob), 403);
    assert!(bob.ends_with("\r\n\r\nclient certificate unauthorized"), "{bob}");
    assert_eq!(status(&ask(Some(&ca.client("ann-1")), proxy.https(), "m.test")), 200);
    let none = ask(None, proxy.https(), "m.test");
    assert_eq!(status(&none), 302);
    assert!(none.contains("\r\nLocation: https://m.test.example/needed\r\n"), "{none}");
}

#[test]
fn clear_text_redirects_and_serves_nothing() {
    let (backend, ca) = (Backend::echo("b"), Ca::new("clients"));
    let proxy = TestProxy::start(&world(backend.address(), &ca, &[]), &[]);
    assert_eq!(get(proxy.http(), "m.test", "/").status, 308);
    let proxy = TestProxy::start(&world(backend.address(), &ca, &[("ssl-redirect", "false")]), &[]);
    assert_eq!(get(proxy.http(), "m.test", "/").status, 400);
    assert!(backend.requests().is_empty());
}

#[test]
fn a_secret_that_cannot_be_used_shuts_the_whole_host() {
    let (backend, ca) = (Backend::echo("b"), Ca::new("clients"));
    let sound = world(backend.address(), &ca, &[]);
    let neighbour = ingress("n", &[], &[("m.test", "/neighbour", "Prefix", "b")]);
    for secret in [
        String::new(),
        opaque("ca", &[("ca.crt", "junk")]),
        opaque("ca", &[("ca.crt", "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----")]),
        opaque("ca", &[("ca.crt", &ca.pem), ("ca.crl", "junk")]),
    ] {
        let start = sound.find(&opaque("ca", &[("ca.crt", &ca.pem)])).expect("the Secret");
        let end = start + opaque("ca", &[("ca.crt", &ca.pem)]).len();
        let world = [&sound[..start], &secret, &sound[end..], &neighbour].concat();
        let proxy = TestProxy::start(&world, &[]);
        let config = Arc::new(client(Some(&ca.client("ann"))));
        for path in ["/", "/neighbour"] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: m.test");
            let text = ask_with(&config, proxy.https(), Some("m.test"), &head).unwrap();
            assert!(matches!(status(&text), 421 | 503), "{path}: {text}");
        }
    }
    assert!(backend.requests().is_empty());
}
