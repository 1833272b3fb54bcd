//! What is listed and watched: one feed per kind, and a few more for objects that are named outside the namespace that
//! is watched, or followed by name. What nobody here reads is left at the server by field selectors.

use crate::config::{Config, SecretScope, Source};
use crate::model::{Kind, ObjectKey};

/// Secrets of these types never hold a certificate, a password file or a key; Helm's alone can be most of a cluster's
/// bytes.
const OTHER_SECRETS: &str = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,\
                             type!=kubernetes.io/dockercfg,type!=kubernetes.io/dockerconfigjson,\
                             type!=bootstrap.kubernetes.io/token";
/// Every namespace has one.
const OTHER_CONFIG_MAPS: &str = "metadata.name!=kube-root-ca.crt";

/// A part of what the API server has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Feed {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; `None` for all, and for kinds that lie in none.
    pub namespace: Option<String>,
    /// Field selector; empty for everything.
    pub fields: String,
    /// Label selector; empty for everything.
    pub labels: String,
    /// How much of that is followed.
    pub reach: Reach,
}

/// How much of a collection is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Whatever the selectors select.
    Selected,
    /// The one object that the field selector names: it is read, not listed, so that the right to list is not needed.
    Single,
    /// Objects that others name, each by a feed of its own (`referenced`).
    Referenced,
}

/// All feeds that a configuration needs.
pub fn plan(config: &Config) -> Vec<Feed> {
    let scope = Some(config.options.namespace.clone()).filter(|name| !name.is_empty());
    let feed = |kind, fields: &str| Feed {
        kind,
        namespace: scope.clone().filter(|_| !matches!(kind, Kind::IngressClass | Kind::Namespace)),
        fields: fields.to_owned(),
        labels: String::new(),
        reach: Reach::Selected,
    };
    let mut feeds = vec![
        feed(Kind::IngressClass, ""),
        feed(Kind::Ingress, ""),
        feed(Kind::Service, ""),
        feed(Kind::EndpointSlice, ""),
        feed(Kind::ConfigMap, OTHER_CONFIG_MAPS),
    ];
    match &config.source {
        Source::Cluster(cluster) => match &cluster.secrets {
            SecretScope::All => feeds.push(feed(Kind::Secret, OTHER_SECRETS)),
            SecretScope::Namespaces(namespaces) => feeds.extend(namespaces.iter().map(|namespace| Feed {
                namespace: Some(namespace.clone()),
                ..feed(Kind::Secret, OTHER_SECRETS)
            })),
            SecretScope::Referenced => feeds.push(referenced(Kind::Secret)),
        },
        _ => feeds.push(feed(Kind::Secret, OTHER_SECRETS)),
    }
    let by_name = feeds.iter().any(|feed| feed.kind == Kind::Secret && feed.reach == Reach::Referenced);
    // Namespaces are read for their labels only; who selects by none needs no permission to list them.
    if config.namespace_selector.is_some() {
        feeds.push(feed(Kind::Namespace, ""));
    }
    let Some(scope) = &scope else { return feeds };
    let options = &config.options;
    let named = [
        (Kind::ConfigMap, &options.config_map),
        (Kind::ConfigMap, &options.tcp_services),
        (Kind::ConfigMap, &options.udp_services),
        (Kind::Secret, &options.default_certificate),
        (Kind::Service, &options.default_backend),
    ];
    for (kind, key) in named {
        let Some(key) = key.as_ref().filter(|key| *key.namespace != **scope) else { continue };
        if kind == Kind::Secret && by_name {
            continue;
        }
        feeds.push(one(kind, key));
        if kind == Kind::Service {
            feeds.push(Feed::slices_of(key));
        }
    }
    // TCP and UDP services may lie anywhere; which, their ConfigMaps say.
    if options.tcp_services.is_some() || options.udp_services.is_some() {
        feeds.extend([referenced(Kind::Service), referenced(Kind::EndpointSlice)]);
    }
    feeds
}

fn referenced(kind: Kind) -> Feed {
    Feed { kind, namespace: None, fields: String::new(), labels: String::new(), reach: Reach::Referenced }
}

fn one(kind: Kind, key: &ObjectKey) -> Feed {
    Feed {
        kind,
        namespace: Some(key.namespace.to_string()).filter(|namespace| !namespace.is_empty()),
        fields: format!("metadata.name={}", key.name),
        labels: String::new(),
        reach: Reach::Selected,
    }
}

// === impl Feed ===

impl Feed {
    /// One object, read and watched by its name.
    pub fn single(kind: Kind, key: &ObjectKey) -> Self {
        Self { reach: Reach::Single, ..one(kind, key) }
    }

    /// EndpointSlices of one Service.
    pub fn slices_of(service: &ObjectKey) -> Self {
        Self {
            kind: Kind::EndpointSlice,
            namespace: Some(service.namespace.to_string()),
            fields: String::new(),
            labels: format!("kubernetes.io/service-name={}", service.name),
            reach: Reach::Selected,
        }
    }

    /// Path of its collection.
    pub fn path(&self) -> String {
        let prefix = match self.kind {
            Kind::EndpointSlice => "/apis/discovery.k8s.io/v1",
            Kind::Ingress | Kind::IngressClass => "/apis/networking.k8s.io/v1",
            _ => "/api/v1",
        };
        let resource = self.resource();
        match &self.namespace {
            Some(namespace) => format!("{prefix}/namespaces/{namespace}/{resource}"),
            None => format!("{prefix}/{resource}"),
        }
    }

    /// The kind's name in paths and in RBAC rules.
    pub const fn resource(&self) -> &'static str {
        match self.kind {
            Kind::ConfigMap => "configmaps",
            Kind::EndpointSlice => "endpointslices",
            Kind::Ingress => "ingresses",
            Kind::IngressClass => "ingressclasses",
            Kind::Manifest => "",
            Kind::Namespace => "namespaces",
            Kind::Node => "nodes",
            Kind::Pod => "pods",
            Kind::Secret => "secrets",
            Kind::Service => "services",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Access, Cluster, Selector};

    fn config() -> Config {
        Config::without_flags(Source::Directory("m".into())).unwrap()
    }

    fn paths(config: &Config) -> Vec<String> {
        plan(config).iter().map(Feed::path).collect()
    }

    #[test]
    fn a_whole_cluster_is_six_feeds() {
        let expect = [
            "/apis/networking.k8s.io/v1/ingressclasses",
            "/apis/networking.k8s.io/v1/ingresses",
            "/api/v1/services",
            "/apis/discovery.k8s.io/v1/endpointslices",
            "/api/v1/configmaps",
            "/api/v1/secrets",
        ];
        assert_eq!(paths(&config()), expect);
    }

    #[test]
    fn secrets_of_some_namespaces_need_no_right_to_list_all() {
        let mut config = config();
        config.source = Source::Cluster(Box::new(Cluster {
            access: Access::default(),
            namespace: "edge".into(),
            identity: String::new(),
            election: None,
            status: None,
            events: true,
            sync_events: true,
            secrets: SecretScope::Namespaces(vec!["edge".into(), "team".into()]),
            snapshot_dir: None,
        }));
        let secrets: Vec<_> = paths(&config).into_iter().filter(|path| path.ends_with("/secrets")).collect();
        assert_eq!(secrets, ["/api/v1/namespaces/edge/secrets", "/api/v1/namespaces/team/secrets"]);
    }

    #[test]
    fn namespaces_are_asked_for_only_to_select_by_labels() {
        let mut config = config();
        config.namespace_selector = Some(Selector::parse("a=b").unwrap());
        assert_eq!(paths(&config).last().map(String::as_str), Some("/api/v1/namespaces"));
    }

    #[test]
    fn one_namespace_is_asked_for_nothing_outside_but_what_flags_name() {
        let mut config = config();
        config.options.namespace = "team".into();
        config.options.config_map = Some(ObjectKey::new("team", "settings"));
        config.options.default_certificate = Some(ObjectKey::new("edge", "wild"));
        config.options.default_backend = Some(ObjectKey::new("edge", "errors"));
        let feeds = plan(&config);
        assert_eq!(feeds[0].namespace, None);
        assert!(feeds[1..6].iter().all(|feed| feed.namespace.as_deref() == Some("team")));
        let more: Vec<_> =
            feeds[6..].iter().map(|feed| (feed.path(), &*feed.fields, &*feed.labels)).collect();
        let expect = [
            ("/api/v1/namespaces/edge/secrets".to_owned(), "metadata.name=wild", ""),
            ("/api/v1/namespaces/edge/services".to_owned(), "metadata.name=errors", ""),
            (
                "/apis/discovery.k8s.io/v1/namespaces/edge/endpointslices".to_owned(),
                "",
                "kubernetes.io/service-name=errors",
            ),
        ];
        assert_eq!(more, expect);
    }
}
