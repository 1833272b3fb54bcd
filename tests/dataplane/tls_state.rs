//! What handshakes carry beside the certificate: tickets that replicas share, OCSP answers, cipher suites.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::support::backend::Backend;
use crate::support::manifests::{config_map, ingress, service, simple, tls_secret, with_tls};
use crate::support::tls::{AnyCertificate, judged_by};
use crate::support::{TestProxy, eventually};

fn client(
    version: &'static rustls::SupportedProtocolVersion,
    judge: &Arc<AnyCertificate>,
) -> Arc<ClientConfig> {
    Arc::new(judged_by(judge, &[version]))
}

/// One request; whether its session was resumed, and the cipher suite.
fn ask(config: &Arc<ClientConfig>, address: SocketAddr) -> std::io::Result<(bool, u16)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    let mut session =
        ClientConnection::new(Arc::clone(config), ServerName::try_from("h.test").unwrap()).unwrap();
    let mut tls = rustls::Stream::new(&mut session, &mut stream);
    tls.write_all(b"GET / HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    tls.read_to_end(&mut bytes)?;
    assert!(bytes.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&bytes));
    let suite = session.negotiated_cipher_suite().unwrap().suite().into();
    Ok((session.handshake_kind() == Some(rustls::HandshakeKind::Resumed), suite))
}

fn proxy(backend: &Backend, data: &[(&str, &str)]) -> TestProxy {
    let mut all = vec![("disable-access-log", "true")];
    all.extend_from_slice(data);
    let manifests = simple(backend.address()) + &config_map(&all);
    TestProxy::start(&manifests, &["--configmap=default/config"])
}

fn key(byte: u8) -> String {
    base64::engine::general_purpose::STANDARD.encode([byte; 80])
}

#[test]
fn replicas_with_the_same_ticket_key_resume_each_other_s_sessions_and_others_do_not() {
    let backend = Backend::echo("b");
    let with = |keys: &str| {
        let data = [
            ("ssl-session-tickets", "true"),
            ("ssl-session-cache", "false"),
            ("ssl-session-ticket-key", keys),
        ];
        proxy(&backend, &data)
    };
    let (one, two, other) = (with(&key(1)), with(&key(1)), with(&key(2)));
    let rotated = with(&format!("{}, {}", key(3), key(1)));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let judge = Arc::default();
        for (proxy, resumed) in [(&two, true), (&rotated, true), (&other, false)] {
            let client = client(version, &judge);
            assert!(!ask(&client, one.https()).unwrap().0);
            assert_eq!(ask(&client, proxy.https()).unwrap().0, resumed, "{version:?}");
        }
    }
}

#[test]
fn tickets_without_a_key_are_the_process_own_and_off_means_none() {
    let backend = Backend::echo("b");
    for (tickets, resumed) in [("true", true), ("false", false)] {
        let proxy = proxy(&backend, &[("ssl-session-tickets", tickets), ("ssl-session-cache", "false")]);
        let client = client(&rustls::version::TLS13, &Arc::default());
        assert!(!ask(&client, proxy.https()).unwrap().0);
        assert_eq!(ask(&client, proxy.https()).unwrap().0, resumed, "tickets {tickets}");
    }
}

#[test]
fn cipher_lists_leave_what_they_name() {
    let backend = Backend::echo("b");
    // The certificate made at start is an ECDSA one.
    let wanted = "DHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
    let proxy = proxy(&backend, &[("ssl-ciphers", wanted)]);
    let judge = Arc::default();
    assert_eq!(ask(&client(&rustls::version::TLS12, &judge), proxy.https()).unwrap().1, 0xc02c);
    // TLS 1.3 has its own.
    assert!(ask(&client(&rustls::version::TLS13, &judge), proxy.https()).unwrap().1 < 0x1400);
}

/// `AuthorityInfoAccess` with one OCSP responder.
fn access(url: &str) -> CustomExtension {
    let tlv = |tag: u8, content: &[u8]| {
        let mut out = vec![tag, u8::try_from(content.len()).unwrap()];
        out.extend_from_slice(content);
        out
    };
    let method = tlv(0x06, &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01]);
    let description = tlv(0x30, &[method, tlv(0x86, url.as_bytes())].concat());
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], tlv(0x30, &description))
}

/// An authority whose responder is `openssl ocsp` behind HTTP.
struct Authority {
    folder: Arc<tempfile::TempDir>,
    responder: Backend,
}

impl Authority {
    fn new() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let place = Arc::clone(&folder);
        let turn = Mutex::new(());
        let responder = Backend::answering(move |request| {
            let _one_at_a_time = turn.lock().unwrap();
            let path = |name: &str| place.path().join(name);
            std::fs::write(path("request"), &request.body).unwrap();
            let done = Command::new("openssl")
                .arg("ocsp")
                .arg("-index")
                .arg(path("index"))
                .arg("-CA")
                .arg(path("ca.pem"))
                .arg("-rsigner")
                .arg(path("ca.pem"))
                .arg("-rkey")
                .arg(path("ca.key"))
                .arg("-reqin")
                .arg(path("request"))
                .arg("-respout")
                .arg(path("response"))
                .args(["-ndays", "2"])
                .output()
                .expect("openssl runs");
            let body = std::fs::read(path("response")).unwrap_or_else(|_| panic!("{done:?}"));
            let mut answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
            .into_bytes();
            answer.extend(body);
            answer
        });
        Self { folder, responder }
    }

    /// A Secret with leaf and issuer; the index says `status` of it.
    fn secret(&self, status: char) -> String {
        let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
        authority.distinguished_name.push(DnType::CommonName, "ocsp-root");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority_key = KeyPair::generate().unwrap();
        let root = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, &authority_key);
        let mut leaf = CertificateParams::new(vec!["h.test".to_owned()]).unwrap();
        leaf.serial_number = Some(0x1234_u64.into());
        leaf.custom_extensions = vec![access(&format!("http://{}/ocsp", self.responder.address()))];
        let key = KeyPair::generate().unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let write = |name: &str, text: &str| std::fs::write(self.folder.path().join(name), text).unwrap();
        write("ca.pem", &root.pem());
        write("ca.key", &authority_key.serialize_pem());
        let revoked = if status == 'R' { "250101000000Z" } else { "" };
        write("index", &format!("{status}\t350101000000Z\t{revoked}\t1234\tunknown\t/CN=h.test\n"));
        tls_secret("cert", &(leaf.pem() + &root.pem()), &key.serialize_pem())
    }

    fn proxy(&self, backend: &Backend, status: char, enable: &str) -> TestProxy {
        let manifests = with_tls(&ingress("a", &[], &[("h.test", "/", "Prefix", "b")]), "h.test", "cert")
            + &service("b", &[backend.address()])
            + &self.secret(status)
            + &config_map(&[("disable-access-log", "true"), ("enable-ocsp", enable)]);
        TestProxy::start(&manifests, &["--configmap=default/config"])
    }
}

fn stapled(proxy: &TestProxy) -> Vec<u8> {
    let judge = Arc::default();
    ask(&client(&rustls::version::TLS13, &judge), proxy.https()).unwrap();
    judge.stapled()
}

#[test]
fn a_good_ocsp_answer_is_stapled_once_the_responder_gave_one() {
    let (backend, authority) = (Backend::echo("b"), Authority::new());
    let proxy = authority.proxy(&backend, 'V', "true");
    eventually("the answer is stapled", || !stapled(&proxy).is_empty());
    let shown = stapled(&proxy);
    assert_eq!(shown, std::fs::read(authority.folder.path().join("response")).unwrap());
    let asked = &authority.responder.requests()[0];
    assert_eq!(asked.line, "POST /ocsp HTTP/1.1");
    assert_eq!(asked.field("content-type"), Some("application/ocsp-request"));
}

#[test]
fn nothing_is_asked_when_off_and_a_revoked_certificate_has_nothing_to_staple() {
    let backend = Backend::echo("b");
    let authority = Authority::new();
    let proxy = authority.proxy(&backend, 'R', "true");
    eventually("the responder is asked", || !authority.responder.requests().is_empty());
    assert!(stapled(&proxy).is_empty());
    let quiet = Authority::new();
    let proxy = quiet.proxy(&backend, 'V', "false");
    assert!(stapled(&proxy).is_empty());
    assert!(quiet.responder.requests().is_empty());
}

#[test]
fn versions_and_ciphers_follow_the_config_map_and_sessions_go_on() {
    let backend = Backend::echo("b");
    let with = |more: &[(&str, &str)]| {
        let mut data = vec![("disable-access-log", "true")];
        data.extend_from_slice(more);
        simple(backend.address()) + &config_map(&data)
    };
    let proxy = TestProxy::start(&with(&[]), &["--configmap=default/config"]);
    let judge = Arc::default();
    let (old, new) = (client(&rustls::version::TLS12, &judge), client(&rustls::version::TLS13, &judge));
    assert!(ask(&old, proxy.https()).is_ok() && !ask(&new, proxy.https()).unwrap().0);
    proxy.replace(&with(&[("ssl-protocols", "TLSv1.3")]));
    eventually("TLS 1.2 is refused", || ask(&old, proxy.https()).is_err());
    assert!(ask(&new, proxy.https()).unwrap().0, "the session of before is resumed");
}
