//! Manifests as text.

use std::fmt::Write;
use std::net::SocketAddr;

/// An Ingress of class nginx: rules are `(host, path, pathType, service)`; all Services have port 80.
pub fn ingress(name: &str, annotations: &[(&str, &str)], rules: &[(&str, &str, &str, &str)]) -> String {
    let mut text = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  namespace: default\n  creationTimestamp: \"2024-01-01T00:00:00Z\"\n"
    );
    if !annotations.is_empty() {
        text.push_str("  annotations:\n");
        for (key, value) in annotations {
            let _ = writeln!(text, "    nginx.ingress.kubernetes.io/{key}: {value:?}");
        }
    }
    text.push_str("spec:\n  ingressClassName: nginx\n  rules:\n");
    for (host, path, path_type, service) in rules {
        let _ = writeln!(
            text,
            "  - host: {host:?}\n    http:\n      paths:\n      - path: {path:?}\n        pathType: {path_type}\n        backend: {{service: {{name: {service}, port: {{number: 80}}}}}}"
        );
    }
    text
}

/// A tls section for the end of [`ingress`].
pub fn with_tls(ingress: &str, host: &str, secret: &str) -> String {
    format!("{ingress}  tls:\n  - hosts: [{host:?}]\n    secretName: {secret}\n")
}

/// A Service with port 80 and an EndpointSlice with these addresses.
pub fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec: {{clusterIP: 10.96.0.9, ports: [{{port: 80, targetPort: 8080, protocol: TCP}}]}}\n"
    );
    for (index, endpoint) in endpoints.iter().enumerate() {
        let _ = writeln!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{index}, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nendpoints: [{{addresses: [{}], conditions: {{ready: true}}}}]\nports: [{{port: {}, protocol: TCP}}]",
            endpoint.ip(),
            endpoint.port()
        );
    }
    text
}

/// The controller ConfigMap `default/config`; use with `--configmap=default/config`.
pub fn config_map(data: &[(&str, &str)]) -> String {
    let mut text =
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config, namespace: default}\ndata:\n"
            .to_owned();
    for (key, value) in data {
        let _ = writeln!(text, "  {key}: {value:?}");
    }
    text
}

/// A kubernetes.io/tls Secret from PEM text.
pub fn tls_secret(name: &str, certificate: &str, key: &str) -> String {
    let indent = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indent(certificate),
        indent(key)
    )
}

/// Host `h.test`, every path to the Service `b` at `endpoint`, no redirect to https.
pub fn simple(endpoint: SocketAddr) -> String {
    annotated(endpoint, &[])
}

/// As [`simple`] with annotations.
pub fn annotated(endpoint: SocketAddr, annotations: &[(&str, &str)]) -> String {
    ingress("a", annotations, &[("h.test", "/", "Prefix", "b")]) + &service("b", &[endpoint])
}
