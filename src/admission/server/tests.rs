//! The port over real TLS, asked as an API server asks.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;
use crate::cert::serving;
use crate::compile::Options;
use crate::control::Completion;
use crate::model::{CertCatalog, World};
use crate::telemetry::metrics::MetricsConfig;

struct Scene {
    address: std::net::SocketAddr,
    authority: String,
    _webhook: Webhook,
}

fn scene() -> Scene {
    let _installed_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let made = serving::make(&["127.0.0.1".into()], i64::try_from(now).unwrap()).unwrap();
    let serving = Serving::default();
    serving.put(made.chain.as_bytes(), made.key.as_bytes()).unwrap();
    let options = Options { without_class: true, ..Options::default() };
    let settings = Settings {
        options: options.clone(),
        without_class: Some(true),
        namespace_selector: None,
        completion: Completion::AsGiven,
        mass_removal_guard: true,
    };
    let intake = Intake::new();
    let sources = Sources { world: World::default(), certificates: CertCatalog::new(), options };
    intake.0.send_replace(Some(Arc::new(sources)));
    let metrics = Metrics::new(MetricsConfig::default());
    let webhook = start(listener, &serving, settings, &intake, metrics).unwrap();
    Scene { address, authority: made.authority, _webhook: webhook }
}

impl Scene {
    async fn ask(&self, head: &str, body: &[u8]) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        let head = format!(
            "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn review(&self, path: &str) -> String {
        let backend = serde_json::json!({"service": {"name": "web", "port": {"number": 80}}});
        let paths = serde_json::json!([{"path": path, "pathType": "Prefix", "backend": backend}]);
        let object = serde_json::json!({"metadata": {"name": "a", "namespace": "team"},
            "spec": {"rules": [{"host": "a.test", "http": {"paths": paths}}]}});
        let request =
            serde_json::json!({"uid": "u-1", "operation": "CREATE", "namespace": "team", "object": object});
        let body = serde_json::json!({"request": request}).to_string();
        self.ask(&format!("POST {}?timeout=10s", review::PATH), body.as_bytes()).await
    }
}

#[tokio::test]
async fn reviews_are_answered_over_tls_under_the_name_that_the_certificate_was_made_for() {
    let scene = scene();
    let allowed = scene.review("/").await;
    assert!(allowed.contains(" 200 ") && allowed.contains(r#""allowed":true"#), "{allowed}");
    let refused = scene.review("/etc/nginx").await;
    assert!(refused.contains(" 200 ") && refused.contains(r#""allowed":false"#), "{refused}");
    assert!(refused.contains(r#""code":400"#) && refused.contains(r#""uid":"u-1""#), "{refused}");
}

#[tokio::test]
async fn everything_but_a_review_is_refused() {
    let scene = scene();
    assert!(scene.ask("GET /networking/v1/ingresses", b"").await.starts_with("HTTP/1.1 405 "));
    assert!(scene.ask("POST /networking/v1/ingresses", b"{}").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn a_review_may_have_any_path_as_with_the_configurations_of_older_charts() {
    let scene = scene();
    for path in ["/networking/v1beta1/ingresses", "/extensions/v1beta1/ingresses", "/"] {
        let answer = scene.ask(&format!("POST {path}"), br#"{"request": {"uid": "u-1"}}"#).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn who_sends_too_large_a_review_hears_so_and_is_not_cut_off() {
    let scene = scene();
    let mut body = br#"{"request": {"uid": "u-1"}}"#.to_vec();
    body.resize(LARGEST, b' ');
    assert!(scene.ask("POST /networking/v1/ingresses", &body).await.starts_with("HTTP/1.1 200 "));
    body.push(b' ');
    assert!(scene.ask("POST /networking/v1/ingresses", &body).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn reviews_beyond_those_in_hand_wait_for_their_turn() {
    let scene = scene();
    let answers = futures_util::future::join_all((0..AT_ONCE * 4).map(|_| scene.review("/"))).await;
    assert!(answers.iter().all(|answer| answer.contains(r#""allowed":true"#)), "{answers:?}");
}
