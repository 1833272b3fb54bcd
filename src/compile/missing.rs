//! Objects that flags name and that are not there. Nothing fails for them, so somebody has to say it: a ConfigMap with a
//! misspelt name is a proxy with default settings. Called by those who compile, for `check` and for a running process.

use std::sync::Arc;

use super::Options;
use crate::diagnostic::{Diagnostic, Severity, nearest};
use crate::model::{Kind, ObjectKey, ObjectRef, Origin, World};

/// One finding for each object that a flag names and the world does not have.
pub fn missing(options: &Options, world: &World) -> Vec<Diagnostic> {
    let wanted = [
        Wanted {
            flag: "--configmap",
            key: options.config_map.as_ref(),
            kind: Kind::ConfigMap,
            code: "ConfigMapMissing",
            until: "every setting has its default",
        },
        Wanted {
            flag: "--tcp-services-configmap",
            key: options.tcp_services.as_ref(),
            kind: Kind::ConfigMap,
            code: "ConfigMapMissing",
            until: "no TCP port is opened",
        },
        Wanted {
            flag: "--udp-services-configmap",
            key: options.udp_services.as_ref(),
            kind: Kind::ConfigMap,
            code: "ConfigMapMissing",
            until: "no UDP port is opened",
        },
        Wanted {
            flag: "--default-backend-service",
            key: options.default_backend.as_ref(),
            kind: Kind::Service,
            code: "DefaultBackendMissing",
            until: "what no rule takes is answered with the built-in 404",
        },
        Wanted {
            flag: "--default-ssl-certificate",
            key: options.default_certificate.as_ref(),
            kind: Kind::Secret,
            code: "DefaultCertificateMissing",
            until: "a self-signed certificate is served",
        },
    ];
    let mut found = Vec::new();
    for one in wanted {
        let Some(key) = one.key else { continue };
        let there = ObjectRef { kind: one.kind, key: key.clone() };
        if !world.contains(&there) {
            let known: Vec<&ObjectKey> = match one.kind {
                Kind::Secret => world.secrets.keys().collect(),
                Kind::Service => world.services.keys().collect(),
                _ => world.config_maps.keys().collect(),
            };
            found.push(one.tell(key, &known));
        }
    }
    found
}

/// What a flag asks for.
struct Wanted<'o> {
    flag: &'static str,
    key: Option<&'o ObjectKey>,
    kind: Kind,
    code: &'static str,
    /// What holds as long as it is missing.
    until: &'static str,
}

impl Wanted<'_> {
    fn tell(&self, key: &ObjectKey, known: &[&ObjectKey]) -> Diagnostic {
        let (named, names) = (key.to_string(), known.iter().map(ToString::to_string).collect::<Vec<_>>());
        let hint = nearest(&named, names.iter().map(String::as_str));
        Diagnostic {
            object: ObjectRef { kind: self.kind, key: key.clone() },
            code: self.code,
            severity: Severity::Warning,
            field: String::new(),
            value: String::new(),
            reason: format!(
                "{} names this {}, which does not exist or cannot be read; {}",
                self.flag,
                self.kind.as_str(),
                self.until
            ),
            hint: hint.map(|name| format!("did you mean {name}?")).unwrap_or_default(),
            origin: Arc::new(Origin::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConfigMap, Meta};

    #[test]
    fn every_flag_that_names_an_object_is_told_when_it_is_not_there() {
        let key = |name: &str| Some(ObjectKey::new("infra", name));
        let options = Options {
            config_map: key("controler"),
            tcp_services: key("tcp"),
            udp_services: key("udp"),
            default_backend: key("pages"),
            default_certificate: key("wildcard"),
            ..Options::default()
        };
        let mut world = World::default();
        let there = ObjectKey::new("infra", "controller");
        let map = ConfigMap { meta: Meta::named(there.clone()), data: Default::default() };
        world.config_maps.insert(there, Arc::new(map));
        let told: Vec<String> = missing(&options, &world).iter().map(ToString::to_string).collect();
        for (line, words) in told.iter().zip([
            "--configmap names this ConfigMap, which does not exist or cannot be read; every setting has its default (hint: did you mean infra/controller?)",
            "--tcp-services-configmap",
            "--udp-services-configmap",
            "--default-backend-service names this Service",
            "--default-ssl-certificate names this Secret",
        ]) {
            assert!(line.starts_with("warning: ") && line.contains(words), "{line}");
        }
        assert_eq!(told.len(), 5);
        let options = Options { config_map: key("controller"), ..Options::default() };
        assert_eq!(missing(&options, &world), []);
    }
}
