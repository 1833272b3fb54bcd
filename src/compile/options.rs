//! The flags that change what a world means.

use crate::model::ObjectKey;
use crate::route::reach::Reach;

/// Meaning of paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PathSemantics {
    /// As ingress-nginx: implied redirects, regex mode per host.
    #[default]
    Nginx,
    /// As the Kubernetes Ingress documentation says, to the letter.
    Kubernetes,
}

/// Flags, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// `--controller-class`.
    pub controller_class: String,
    /// `--ingress-class`.
    pub ingress_class: String,
    /// `--ingress-class-by-name`.
    pub class_by_name: bool,
    /// `--watch-ingress-without-class`.
    pub without_class: bool,
    /// `--annotations-prefix`, without the slash.
    pub annotations_prefix: String,
    /// `--disable-catch-all`.
    pub disable_catch_all: bool,
    /// `--disable-svc-external-name`.
    pub disable_external_name: bool,
    /// `--enable-annotation-validation`.
    pub validate_annotations: bool,
    /// `--watch-namespace`; empty for all.
    pub namespace: String,
    /// `--configmap`.
    pub config_map: Option<ObjectKey>,
    /// `--default-backend-service`.
    pub default_backend: Option<ObjectKey>,
    /// `--default-ssl-certificate`.
    pub default_certificate: Option<ObjectKey>,
    /// `--tcp-services-configmap`.
    pub tcp_services: Option<ObjectKey>,
    /// `--udp-services-configmap`.
    pub udp_services: Option<ObjectKey>,
    /// `--enable-ssl-passthrough`.
    pub ssl_passthrough: bool,
    /// `--health-check-path` for the catch-all built-in.
    pub health_check_path: String,
    /// `--compat-trust-forwarded=any`.
    pub trust_forwarded_any: bool,
    /// `--path-semantics`.
    pub path_semantics: PathSemantics,
    /// `--http-port`, `--https-port` as written into redirects.
    pub http_port: u16,
    /// See above.
    pub https_port: u16,
    /// `--allow-upstream-cidr`: address ranges that endpoints may lie in although they are refused by default.
    pub allow_upstream: Vec<ipnet::IpNet>,
    /// Addresses that no endpoint may have: our own listeners (`B-18`).
    pub own_addresses: Vec<std::net::SocketAddr>,
    /// Addresses that endpoints may have only within `allow_upstream`: the API server.
    pub guarded_addresses: Vec<std::net::SocketAddr>,
    /// Texts of keys of the controller's ConfigMap that count while those that stand there cannot be read: their last
    /// good ones. Who calls the compiler remembers them; empty where nothing is broken.
    pub kept_keys: std::collections::BTreeMap<String, String>,
}

impl Options {
    /// Which addresses backends may have.
    pub fn reach(&self) -> Reach {
        Reach {
            allow: self.allow_upstream.clone(),
            own: self.own_addresses.clone(),
            guarded: self.guarded_addresses.clone(),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller_class: "k8s.io/ingress-nginx".into(),
            ingress_class: "nginx".into(),
            class_by_name: false,
            without_class: false,
            annotations_prefix: "nginx.ingress.kubernetes.io".into(),
            disable_catch_all: false,
            disable_external_name: false,
            validate_annotations: true,
            namespace: String::new(),
            config_map: None,
            default_backend: None,
            default_certificate: None,
            tcp_services: None,
            udp_services: None,
            ssl_passthrough: false,
            health_check_path: "/healthz".into(),
            path_semantics: PathSemantics::Nginx,
            http_port: 80,
            https_port: 443,
            trust_forwarded_any: false,
            allow_upstream: Vec::new(),
            own_addresses: Vec::new(),
            guarded_addresses: Vec::new(),
            kept_keys: std::collections::BTreeMap::new(),
        }
    }
}
