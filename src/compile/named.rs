//! Which objects a world names, for who follows such objects one by one instead of all of their kind: to be known before
//! the world is compiled, so nothing here needs a table. Not whether they exist or are of any use.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::class::{Classes, Verdict};
use super::options::Options;
use super::stream;
use crate::model::{ConfigMap, ObjectKey, SharedMap, World};
use crate::policy::global::Globals;
use crate::policy::registry;

/// Secrets that flags and our Ingresses name: certificates, and whatever annotations refer to.
pub fn secrets(world: &World, options: &Options) -> BTreeSet<ObjectKey> {
    let classes = Classes::new(world, options);
    let cross = crosses_namespaces(world, options);
    let mut named: BTreeSet<ObjectKey> = options.default_certificate.clone().into_iter().collect();
    for ingress in world.ingresses.values() {
        if !matches!(classes.judge(ingress, options), Verdict::Ours(_)) {
            continue;
        }
        let namespace = &ingress.meta.key.namespace;
        let certificates = ingress.tls.iter().filter(|block| !block.secret_name.is_empty());
        named.extend(certificates.map(|block| ObjectKey::new(namespace.clone(), block.secret_name.as_str())));
        named.extend(registry::named_secrets(ingress, &options.annotations_prefix, cross));
    }
    named
}

/// Services of TCP and UDP services.
pub fn stream_services(world: &World, options: &Options) -> BTreeSet<ObjectKey> {
    let (entries, _told_by_the_compiler) = stream::read(world, options);
    entries.into_iter().map(|entry| ObjectKey::new(entry.id.key.namespace, entry.id.key.service)).collect()
}

fn crosses_namespaces(world: &World, options: &Options) -> bool {
    let main = options.config_map.as_ref().and_then(|key| world.config_maps.get(key));
    let no_others: SharedMap<ObjectKey, Arc<ConfigMap>> = SharedMap::new();
    main.is_some_and(|main| {
        Globals::parse_keeping(main, &no_others, &options.kept_keys).0.allow_cross_namespace_resources
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ingress, Meta, TlsBlock};

    fn ingress(name: &str, class: &str, annotations: &[(&str, &str)], secrets: &[&str]) -> Arc<Ingress> {
        let mut meta = Meta::named(ObjectKey::new("team", name));
        for (key, value) in annotations {
            meta.annotations.insert(format!("nginx.ingress.kubernetes.io/{key}"), (*value).to_owned());
        }
        meta.annotations.insert("kubernetes.io/ingress.class".into(), class.to_owned());
        let tls = secrets.iter().map(|secret| TlsBlock { hosts: Vec::new(), secret_name: (*secret).into() });
        let tls = tls.collect();
        Arc::new(Ingress { meta, class_name: None, default_backend: None, rules: Vec::new(), tls })
    }

    fn world(all: &[Arc<Ingress>], crossing: &str) -> (World, Options) {
        let mut world = World::default();
        for one in all {
            world.ingresses.insert(one.meta.key.clone(), Arc::clone(one));
        }
        let key = ObjectKey::new("edge", "settings");
        let data = [("allow-cross-namespace-resources".to_owned(), crossing.to_owned())].into();
        let map = ConfigMap { meta: Meta::named(key.clone()), data };
        world.config_maps.insert(key.clone(), Arc::new(map));
        (world, Options { config_map: Some(key), ..Options::default() })
    }

    #[track_caller]
    fn check(all: &[Arc<Ingress>], crossing: &str, expect: &[&str]) {
        let (world, options) = world(all, crossing);
        let named: Vec<String> = secrets(&world, &options).iter().map(ToString::to_string).collect();
        assert_eq!(named, expect);
    }

    #[test]
    fn every_way_to_name_a_secret_is_followed() {
        let annotations =
            [("auth-secret", "users"), ("auth-tls-secret", "team/ca"), ("proxy-ssl-secret", "pair")];
        check(
            &[ingress("a", "nginx", &annotations, &["b-tls", "", "a-tls"])],
            "false",
            &["team/a-tls", "team/b-tls", "team/ca", "team/pair", "team/users"],
        );
    }

    #[test]
    fn secrets_of_foreign_ingresses_are_none_of_ours() {
        check(&[ingress("a", "other", &[("auth-secret", "users")], &["tls"])], "false", &[]);
    }

    #[test]
    fn other_namespaces_are_asked_only_where_they_may_be_used() {
        let all = [ingress("a", "nginx", &[("auth-secret", "else/users")], &[])];
        check(&all, "false", &[]);
        check(&all, "true", &["else/users"]);
        check(&[ingress("a", "nginx", &[("auth-secret", "a/b/c")], &[])], "true", &[]);
    }

    #[test]
    fn the_default_certificate_is_named_by_its_flag() {
        let (world, options) = world(&[], "false");
        let options = Options { default_certificate: Some(ObjectKey::new("edge", "wild")), ..options };
        assert_eq!(secrets(&world, &options), [ObjectKey::new("edge", "wild")].into());
    }

    #[test]
    fn services_of_tcp_and_udp_services_are_named_by_their_config_maps() {
        let (mut world, options) = world(&[], "false");
        let options = Options { tcp_services: Some(ObjectKey::new("edge", "tcp")), ..options };
        let data =
            [("5432".to_owned(), "db/postgres:5432".to_owned()), ("1".to_owned(), "broken".to_owned())];
        let map = ConfigMap { meta: Meta::named(ObjectKey::new("edge", "tcp")), data: data.into() };
        world.config_maps.insert(map.meta.key.clone(), Arc::new(map));
        assert_eq!(stream_services(&world, &options), [ObjectKey::new("db", "postgres")].into());
    }
}
