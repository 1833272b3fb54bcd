//! The binary of a lane in a process of its own, over a catch-all Ingress.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A running proxy; killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    _directory: tempfile::TempDir,
    pub(crate) http: u16,
    pub(crate) https: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Every host and path to the backend on `port`.
fn manifests(port: u16) -> String {
    format!(
        r#"apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: all
  namespace: default
  creationTimestamp: "2024-01-01T00:00:00Z"
  annotations: {{nginx.ingress.kubernetes.io/ssl-redirect: "false"}}
spec:
  ingressClassName: nginx
  rules:
  - http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: b, port: {{number: 80}}}}}}}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: b, namespace: default}}
spec: {{clusterIP: 10.96.0.9, ports: [{{port: 80, targetPort: 8080, protocol: TCP}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: b-1, namespace: default, labels: {{kubernetes.io/service-name: b}}}}
addressType: IPv4
endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: true}}}}]
ports: [{{port: {port}, protocol: TCP}}]
"#
    )
}

/// Starts a proxy and waits until it is ready. A port that somebody else took meanwhile: once more with others.
pub(crate) async fn start(backend: u16) -> Proxy {
    for _ in 0..4 {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("all.yaml"), manifests(backend)).unwrap();
        let [http, https, admin] = free_ports();
        let mut child = Command::new(env!("CARGO_BIN_EXE_narthex"))
            .args(["standalone", "--workers=1", "--manifests"])
            .arg(directory.path())
            .arg(format!("--http-addr=127.0.0.1:{http}"))
            .arg(format!("--https-addr=127.0.0.1:{https}"))
            .arg(format!("--admin-addr=127.0.0.1:{admin}"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Its pipe is emptied, so that it never waits for us.
        let errors = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || errors.lines().map_while(Result::ok).for_each(drop));
        let proxy = Proxy { child, _directory: directory, http, https };
        if ready(admin).await {
            return proxy;
        }
    }
    panic!("the proxy does not become ready");
}

fn free_ports() -> [u16; 3] {
    let sockets = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

async fn ready(admin: u16) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        if probe(admin).await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

async fn probe(admin: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", admin)).await.ok()?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}
