//! TLS towards backends.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::policy::backend_tls::BackendTls;
use crate::upstream::tls::TlsError;

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    material: Arc<TlsMaterial>,
}

/// A certificate that is its own CA.
fn identity(name: &str) -> Identity {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key_pem = made.signing_key.serialize_pem();
    let material = TlsMaterial {
        authority: Some(made.cert.pem().into_bytes().into()),
        certificate: Some(made.cert.pem().into_bytes().into()),
        key: Some(key_pem.into_bytes().into()),
    };
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    Identity { certificate: made.cert.der().clone(), key, material: Arc::new(material) }
}

fn server(identity: &Identity) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .unwrap()
}

/// Answers `answer` to every request; tells the SNI as a field.
async fn secure(identity: &Identity, answer: &'static str, notify: bool) -> Scripted {
    secure_as(Arc::new(server(identity)), answer, notify).await
}

async fn secure_as(config: Arc<ServerConfig>, answer: &'static str, notify: bool) -> Scripted {
    let acceptor = TlsAcceptor::from(config);
    serve(move |_, conn| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(conn.stream).await else { return };
            let name = stream.get_ref().1.server_name().unwrap_or("none").to_owned();
            let mut head = Vec::new();
            loop {
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                head.clear();
                stream.write_all(answer.replace("SNI", &name).as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                if !answer.contains("Content-Length") {
                    break;
                }
            }
            if notify {
                stream.shutdown().await.unwrap();
            }
        }
    })
    .await
}

const OK: &str = "HTTP/1.1 200 OK\r\nX-Name: SNI\r\nContent-Length: 2\r\n\r\nok";

fn policy(verify: bool, name: Option<&str>) -> BackendTls {
    BackendTls { verify, name: name.map(Arc::from), server_name: true, ..BackendTls::default() }
}

async fn ask(
    upstreams: &Upstreams,
    address: SocketAddr,
    policy: &BackendTls,
    material: Option<&Arc<TlsMaterial>>,
    timeouts: Timeouts,
) -> Result<Answer, Failed> {
    let tls = upstreams.tls(policy, material, "svc.ns.svc", Protocol::Http1).unwrap();
    let peer = Peer { address, protocol: Protocol::Http1, kept: None, tls: Some(tls) };
    Ask { timeouts, ..Ask::get(&peer) }.send(upstreams).await
}

#[test]
fn nothing_is_verified_unless_asked_for() {
    local(async {
        let backend = secure(&identity("other.test"), OK, true).await;
        let upstreams = upstreams();
        for (policy, name) in [
            (policy(false, None), "svc.ns.svc"),
            (policy(false, Some("a.test")), "a.test"),
            (BackendTls { server_name: false, ..policy(false, Some("a.test")) }, "none"),
            (policy(false, Some("not a name")), "none"),
            (BackendTls { tls13: false, ..policy(false, None) }, "svc.ns.svc"),
            (BackendTls { tls12: false, ..policy(false, None) }, "svc.ns.svc"),
        ] {
            for reused in [false, true] {
                let answer = ask(&upstreams, backend.address, &policy, None, PATIENT).await.unwrap();
                assert_eq!(answer.reused, reused, "{policy:?}");
                assert_eq!(answer.head.fields.get_str("x-name"), Some(name), "{policy:?}");
                assert_eq!(read(answer.content).await.0, b"ok");
            }
        }
    });
}

#[test]
fn verification_takes_the_right_authority_and_name_only() {
    local(async {
        let (right, wrong) = (identity("backend.test"), identity("backend.test"));
        let backend = secure(&right, OK, true).await;
        let upstreams = upstreams();
        for (name, material, expected) in [
            ("backend.test", &right.material, Ok(200)),
            ("backend.test", &wrong.material, Err("tls")),
            ("other.test", &right.material, Err("tls")),
        ] {
            let policy = policy(true, Some(name));
            let found = ask(&upstreams, backend.address, &policy, Some(material), PATIENT).await;
            let found = found.map(|answer| answer.head.status.as_u16()).map_err(|failed| {
                assert!(!failed.error.sent);
                failed.error.reason()
            });
            assert_eq!(found, expected, "{name}");
        }
    });
}

#[test]
fn what_asks_for_verification_and_cannot_have_it_is_an_error() {
    let cache = super::super::tls::TlsCache::new();
    let broken = |authority: Option<&str>, certificate: Option<&str>| {
        Some(Arc::new(TlsMaterial {
            authority: authority.map(|text| text.as_bytes().into()),
            certificate: certificate.map(|text| text.as_bytes().into()),
            key: certificate.map(|text| text.as_bytes().into()),
        }))
    };
    let good = identity("a.test").material;
    for (policy, material, expected) in [
        (policy(true, None), None, TlsError::Authority),
        (policy(true, None), broken(Some(""), None), TlsError::Authority),
        (policy(true, None), broken(Some("junk"), None), TlsError::Authority),
        (policy(false, None), broken(None, Some("junk")), TlsError::Pair),
        (policy(true, Some("not a name")), Some(good), TlsError::Name),
        (BackendTls { tls12: false, tls13: false, ..policy(false, None) }, None, TlsError::Versions),
    ] {
        let found = cache.client(&policy, material.as_ref(), "svc", Protocol::Http1).map(|tls| tls.id());
        assert_eq!(found, Err(expected), "{policy:?}");
    }
}

#[test]
fn configurations_are_shared_by_content_and_renewed_with_it() {
    let cache = super::super::tls::TlsCache::new();
    let (one, two) = (identity("a.test").material, identity("a.test").material);
    let copy = Arc::new((*one).clone());
    let id = |material: &Arc<TlsMaterial>| {
        cache.client(&policy(true, None), Some(material), "svc", Protocol::Http1).unwrap().id()
    };
    assert_eq!(id(&one), id(&one));
    assert_eq!(id(&one), id(&copy));
    let first = id(&one);
    assert_ne!(first, id(&two));
    let other = |policy: &BackendTls, host: &str, protocol| {
        cache.client(policy, Some(&two), host, protocol).unwrap().id()
    };
    let base = other(&policy(true, None), "svc", Protocol::Http1);
    for id in [
        other(&policy(false, None), "svc", Protocol::Http1),
        other(&policy(true, None), "another", Protocol::Http1),
        other(&policy(true, None), "svc", Protocol::Http2),
    ] {
        assert_ne!(id, base);
    }
}

/// An authority, signed by `by` or by itself.
fn authority(
    name: &str,
    by: Option<&Issuer<'static, KeyPair>>,
) -> (Issuer<'static, KeyPair>, CertificateDer<'static>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let made = by.map_or_else(|| params.self_signed(&key), |by| params.signed_by(&key, by)).unwrap();
    let der = made.der().clone();
    (Issuer::new(params, key), der)
}

#[test]
fn a_chain_may_have_as_many_authorities_between_as_the_depth_says() {
    local(async {
        let (root, anchor) = authority("root", None);
        let (one, first) = authority("one", Some(&root));
        let (two, second) = authority("two", Some(&one));
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["backend.test".into()]).unwrap();
        let leaf = leaf.signed_by(&key, &two).unwrap().der().clone();
        let trust =
            |der| Arc::new(TlsMaterial { authority: Some(pem(der).into()), certificate: None, key: None });
        let (far, near) = (trust(&anchor), trust(&second));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf, second.clone(), first.clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let backend = secure_as(Arc::new(config), OK, true).await;
        let upstreams = upstreams();
        for (depth, material, expected) in
            [(0, &near, true), (0, &far, false), (1, &far, false), (2, &far, true), (9, &far, true)]
        {
            let policy = BackendTls { depth, ..policy(true, Some("backend.test")) };
            let found = ask(&upstreams, backend.address, &policy, Some(material), PATIENT).await;
            assert_eq!(found.is_ok(), expected, "{depth}");
        }
    });
}

fn pem(der: &CertificateDer<'_>) -> Vec<u8> {
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n").into_bytes()
}

/// A backend that shows `chain`, and whether it is taken for each name when `trusted` is `ca.crt`.
async fn taken(
    chain: &[CertificateDer<'static>],
    key: &KeyPair,
    trusted: &CertificateDer<'_>,
    names: &[&str],
) -> Vec<bool> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.to_vec(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let backend = secure_as(Arc::new(config), OK, true).await;
    let material =
        Arc::new(TlsMaterial { authority: Some(pem(trusted).into()), certificate: None, key: None });
    let upstreams = upstreams();
    let mut found = Vec::new();
    for name in names {
        let policy = policy(true, Some(name));
        found.push(ask(&upstreams, backend.address, &policy, Some(&material), PATIENT).await.is_ok());
    }
    found
}

/// Its own authority, as `openssl req -x509` makes it.
fn own(names: &[&str], common_name: &str) -> (CertificateDer<'static>, KeyPair) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().der().clone(), key)
}

#[test]
fn a_certificate_that_is_its_own_authority_is_taken_for_its_names() {
    local(async {
        let names = ["own.test", "cn.test", "other.test"];
        let (named, key) = own(&["own.test"], "cn.test");
        assert_eq!(taken(std::slice::from_ref(&named), &key, &named, &names).await, [true, false, false]);
        let (unnamed, key) = own(&[], "cn.test");
        assert_eq!(taken(std::slice::from_ref(&unnamed), &key, &unnamed, &names).await, [false, true, false]);
        // The same names and another key: nobody's authority.
        let (stranger, key) = own(&["own.test"], "cn.test");
        assert_eq!(taken(&[stranger], &key, &named, &names).await, [false, false, false]);
    });
}

#[test]
fn a_certificate_without_dns_names_is_taken_by_its_common_name_unless_an_authority_limits_names() {
    local(async {
        let key = KeyPair::generate().unwrap();
        let leaf = |by: &Issuer<'static, KeyPair>| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "cn.test");
            params.signed_by(&key, by).unwrap().der().clone()
        };
        let (root, anchor) = authority("root", None);
        let names = ["cn.test", "other.test"];
        assert_eq!(taken(&[leaf(&root)], &key, &anchor, &names).await, [true, false]);
        let (_, other) = authority("root", None);
        assert_eq!(taken(&[leaf(&root)], &key, &other, &names).await, [false, false]);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "limited");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("inside.test".into())],
            excluded_subtrees: Vec::new(),
        });
        let limited = KeyPair::generate().unwrap();
        let between = params.signed_by(&limited, &root).unwrap().der().clone();
        let limited = Issuer::new(params, limited);
        assert_eq!(taken(&[leaf(&limited), between], &key, &anchor, &names).await, [false, false]);
    });
}

#[test]
fn only_the_ciphers_of_the_policy_are_offered() {
    local(async {
        let backend = secure(&identity("backend.test"), OK, true).await;
        let upstreams = upstreams();
        // The backend has a key of the other kind.
        for (list, expected) in [("aECDSA", true), ("aRSA", false), ("ECDSA+CHACHA20", true)] {
            let ciphers = Some(crate::policy::cipher_list::parse(list).unwrap().suites);
            let policy = BackendTls { ciphers, tls13: false, ..policy(false, None) };
            let found = ask(&upstreams, backend.address, &policy, None, PATIENT).await;
            assert_eq!(found.is_ok(), expected, "{list}");
        }
    });
}

#[test]
fn a_client_certificate_is_shown_where_the_secret_has_one() {
    local(async {
        let (backend, client) = (identity("backend.test"), identity("client.test"));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(client.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        )
        .build()
        .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![backend.certificate.clone()], backend.key.clone_key())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (told, seen) = tokio::sync::oneshot::channel();
        let told = Cell::new(Some(told));
        let scripted = serve(move |_, conn| {
            let (acceptor, told) = (acceptor.clone(), told.take());
            async move {
                let stream = acceptor.accept(conn.stream).await.unwrap();
                let shown = stream.get_ref().1.peer_certificates().map(|chain| chain[0].clone());
                let _ = told.unwrap().send(shown);
            }
        })
        .await;
        let upstreams = upstreams();
        let _ =
            ask(&upstreams, scripted.address, &policy(false, None), Some(&client.material), PATIENT).await;
        assert_eq!(seen.await.unwrap(), Some(client.certificate));
    });
}

#[test]
fn a_backend_without_tls_gets_no_request() {
    local(async {
        let backend = serve(|_, mut conn| async move {
            conn.write("HTTP/1.1 400 Bad Request\r\n\r\n").await;
            conn.closed().await;
        })
        .await;
        let failed =
            ask(&upstreams(), backend.address, &policy(false, None), None, PATIENT).await.unwrap_err();
        assert_eq!((failed.error.reason(), failed.error.sent), ("tls", false));
    });
}

#[test]
fn a_handshake_that_stalls_is_a_connect_timeout() {
    local(async {
        let backend = serve(|_, mut conn| async move {
            conn.closed().await;
        })
        .await;
        let failed = ask(&upstreams(), backend.address, &policy(false, None), None, HASTY).await.unwrap_err();
        assert_eq!((failed.error.reason(), failed.error.timeout()), ("connect_timeout", Some("connect")));
    });
}

#[test]
fn only_close_notify_ends_a_body_that_lasts_until_close() {
    for (notify, expected) in [(true, None), (false, Some(BodyError::Upstream))] {
        local(async {
            let backend = secure(&identity("a.test"), "HTTP/1.1 200 OK\r\n\r\nhello", notify).await;
            let upstreams = upstreams();
            let answer = ask(&upstreams, backend.address, &policy(false, None), None, PATIENT).await.unwrap();
            let (data, _, error) = read(answer.content).await;
            assert_eq!((data.as_slice(), error), (&b"hello"[..], expected));
        });
    }
}

#[test]
fn large_answers_over_tls_arrive_whole() {
    const SIZE: usize = 4 << 20;
    local(async {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n{}", "x".repeat(SIZE));
        let backend = secure(&identity("a.test"), answer.leak(), true).await;
        let upstreams = upstreams();
        let answer = ask(&upstreams, backend.address, &policy(false, None), None, PATIENT).await.unwrap();
        let (data, _, error) = read(answer.content).await;
        assert_eq!((data.len(), error, upstreams.kept_connections().0), (SIZE, None, 1));
    });
}

#[test]
fn grpc_over_tls_is_agreed_on_by_alpn() {
    local(async {
        let mut config = server(&identity("a.test"));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let backend = serve(move |_, conn| {
            let acceptor = acceptor.clone();
            async move {
                let stream = acceptor.accept(conn.stream).await.unwrap();
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                let mut server = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = server.accept().await {
                    let scheme = request.uri().scheme_str().unwrap().to_owned();
                    let response = http::Response::builder().header("x-scheme", scheme).body(()).unwrap();
                    respond.send_response(response, true).unwrap();
                }
            }
        })
        .await;
        let upstreams = upstreams();
        let tls = upstreams.tls(&policy(false, None), None, "svc.ns.svc", Protocol::Http2).unwrap();
        let peer = Peer { address: backend.address, protocol: Protocol::Http2, kept: None, tls: Some(tls) };
        for _ in 0..2 {
            let answer = Ask::get(&peer).send(&upstreams).await.unwrap();
            assert_eq!(answer.head.fields.get_str("x-scheme"), Some("https"));
        }
        assert_eq!(backend.accepted.get(), 1);
    });
}

#[test]
fn configurations_outlive_publications_while_they_are_in_use() {
    local(async {
        let backend = secure(&identity("a.test"), OK, true).await;
        let upstreams = upstreams();
        let socket = crate::route::EndpointAddress::Socket(backend.address);
        let set = crate::route::EndpointSet { ready: vec![socket], empty_because: "" };
        let endpoints = crate::route::EndpointMap::new(vec![set.into()]);
        for reused in [false, true] {
            let answer = ask(&upstreams, backend.address, &policy(false, None), None, PATIENT).await.unwrap();
            assert_eq!(answer.reused, reused);
            read(answer.content).await;
            upstreams.publish(std::iter::empty(), &endpoints, KEEPALIVE, || None).await;
        }
    });
}
