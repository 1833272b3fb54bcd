//! Which Ingress is ours (`routing.md` 1), and which meaning of paths its class asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::options::{Options, PathSemantics};
use crate::model::{Ingress, IngressClass, World};

/// The annotation that named classes before `spec.ingressClassName`.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Answer to "is this Ingress ours?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, and its paths mean this.
    Ours(PathSemantics),
    /// No; field and reason.
    Foreign {
        /// Field that decides.
        field: &'static str,
        /// Its value; empty when it is absent.
        value: String,
        /// Why, in words.
        reason: String,
    },
    /// Outside the namespace that is watched: not even worth a finding.
    OutOfScope,
}

/// The classes that are ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classes {
    ours: BTreeMap<String, PathSemantics>,
    hidden: bool,
}

impl Classes {
    /// Remembers the classes whose controller (or, by name, whose name) is ours.
    pub fn new(world: &World, options: &Options) -> Self {
        let is_ours = |class: &&Arc<IngressClass>| {
            class.controller == options.controller_class
                || (options.class_by_name && *class.meta.key.name == *options.ingress_class)
        };
        let ours = world.classes.values().filter(is_ours);
        let ours =
            ours.map(|class| (class.meta.key.name.to_string(), semantics(class, options.path_semantics)));
        Self { ours: ours.collect(), hidden: world.classes_hidden }
    }

    /// True when classes may not be read.
    pub fn are_hidden(&self) -> bool {
        self.hidden
    }

    /// Decides about one Ingress.
    pub fn judge(&self, ingress: &Ingress, options: &Options) -> Verdict {
        if !options.namespace.is_empty() && *ingress.meta.key.namespace != *options.namespace {
            return Verdict::OutOfScope;
        }
        if options.disable_catch_all && ingress.default_backend.is_some() {
            return foreign(
                "spec.defaultBackend",
                "",
                "--disable-catch-all refuses Ingresses with a default backend",
            );
        }
        // As ingress-nginx without the right to read classes: the annotation and the flags alone count.
        if let Some(name) = ingress.class_name.as_ref().filter(|_| !self.hidden) {
            return match self.ours.get(name) {
                Some(semantics) => Verdict::Ours(*semantics),
                None => foreign(
                    "spec.ingressClassName",
                    name,
                    "no IngressClass of this name belongs to this controller",
                ),
            };
        }
        match ingress.meta.annotations.get(CLASS_ANNOTATION) {
            Some(name) if *name == options.ingress_class => Verdict::Ours(self.named(name, options)),
            Some(name) => foreign(
                "metadata.annotations[kubernetes.io/ingress.class]",
                name,
                "the annotation names another class than --ingress-class",
            ),
            None if options.without_class => Verdict::Ours(self.named(&options.ingress_class, options)),
            None if self.hidden => {
                let name = ingress.class_name.as_deref().unwrap_or_default();
                foreign("spec.ingressClassName", name, "IngressClasses may not be read by this controller")
            }
            None => foreign("spec.ingressClassName", "", "the Ingress names no class"),
        }
    }

    fn named(&self, name: &str, options: &Options) -> PathSemantics {
        self.ours.get(name).copied().unwrap_or(options.path_semantics)
    }
}

/// `spec.parameters` of kind `PathSemantics`; anything else is not ours to read.
fn semantics(class: &IngressClass, default: PathSemantics) -> PathSemantics {
    match class.parameters.as_ref().map(|(kind, name)| (kind.as_str(), name.as_str())) {
        Some(("PathSemantics", "kubernetes")) => PathSemantics::Kubernetes,
        Some(("PathSemantics", "nginx")) => PathSemantics::Nginx,
        _ => default,
    }
}

fn foreign(field: &'static str, value: &str, reason: &str) -> Verdict {
    Verdict::Foreign { field, value: value.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Meta, ObjectKey};

    fn class(name: &str, controller: &str, parameters: Option<(&str, &str)>) -> Arc<IngressClass> {
        let parameters = parameters.map(|(kind, name)| (kind.to_owned(), name.to_owned()));
        let meta = Meta::named(ObjectKey::new("", name));
        Arc::new(IngressClass { meta, controller: controller.into(), parameters })
    }

    fn ingress(class_name: Option<&str>, annotation: Option<&str>) -> Ingress {
        let mut meta = Meta::named(ObjectKey::new("default", "a"));
        meta.annotations.extend(annotation.map(|name| (CLASS_ANNOTATION.to_owned(), name.to_owned())));
        let class_name = class_name.map(str::to_owned);
        Ingress { meta, class_name, default_backend: None, rules: Vec::new(), tls: Vec::new() }
    }

    fn check(options: &Options, class_name: Option<&str>, annotation: Option<&str>, ours: bool) {
        let classes = [
            class("nginx", "k8s.io/ingress-nginx", None),
            class("other", "example.com/other", None),
            class("strict", "k8s.io/ingress-nginx", Some(("PathSemantics", "kubernetes"))),
        ];
        let classes = classes.into_iter().map(|class| (class.meta.key.clone(), class)).collect();
        let world = World { classes, ..World::default() };
        let verdict = Classes::new(&world, options).judge(&ingress(class_name, annotation), options);
        assert_eq!(matches!(verdict, Verdict::Ours(_)), ours, "{class_name:?} {annotation:?}: {verdict:?}");
        if class_name == Some("strict") {
            assert_eq!(verdict, Verdict::Ours(PathSemantics::Kubernetes));
        }
    }

    #[test]
    fn the_field_goes_before_the_annotation_and_nothing_is_guessed() {
        let options = Options::default();
        check(&options, Some("nginx"), None, true);
        check(&options, Some("strict"), None, true);
        check(&options, Some("nginx"), Some("haproxy"), true);
        check(&options, Some("other"), Some("nginx"), false);
        check(&options, Some("missing"), None, false);
        check(&options, None, Some("nginx"), true);
        check(&options, None, Some(""), false);
        check(&options, None, Some("NGINX"), false);
        check(&options, None, None, false);
    }

    #[test]
    fn flags_widen_what_is_ours() {
        let without = Options { without_class: true, ..Options::default() };
        check(&without, None, None, true);
        check(&without, None, Some("haproxy"), false);
        let by_name = Options { class_by_name: true, ingress_class: "other".into(), ..Options::default() };
        check(&by_name, Some("other"), None, true);
    }

    #[test]
    fn where_classes_may_not_be_read_the_annotation_and_the_flags_count_whatever_the_field_says() {
        let world = World { classes_hidden: true, ..World::default() };
        let check = |without_class: bool, class_name: Option<&str>, annotation: Option<&str>, ours: bool| {
            let options = Options { without_class, ..Options::default() };
            let verdict = Classes::new(&world, &options).judge(&ingress(class_name, annotation), &options);
            let case = format!("{without_class} {class_name:?} {annotation:?}: {verdict:?}");
            assert_eq!(matches!(verdict, Verdict::Ours(_)), ours, "{case}");
        };
        check(false, Some("nginx"), None, false);
        check(false, None, None, false);
        check(false, Some("other"), Some("nginx"), true);
        check(false, Some("nginx"), Some("haproxy"), false);
        check(true, Some("other"), None, true);
        check(true, Some("nginx"), Some("haproxy"), false);
        check(true, None, None, true);
    }

    #[test]
    fn a_default_backend_is_refused_where_catch_alls_are_disabled() {
        let options = Options { disable_catch_all: true, without_class: true, ..Options::default() };
        let mut one = ingress(None, None);
        assert!(matches!(Classes::default().judge(&one, &options), Verdict::Ours(_)));
        one.default_backend =
            Some(crate::model::Backend::Resource { kind: "Bucket".into(), name: "static".into() });
        assert!(matches!(Classes::default().judge(&one, &options), Verdict::Foreign { .. }));
    }

    #[test]
    fn other_namespaces_are_out_of_scope() {
        let options = Options { namespace: "team".into(), without_class: true, ..Options::default() };
        assert_eq!(Classes::default().judge(&ingress(None, None), &options), Verdict::OutOfScope);
    }
}
