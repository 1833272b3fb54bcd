//! Verdicts beside a world of other objects, each asked of one judge after the other.

use super::*;
use crate::compile::Options;
use crate::control::Completion;
use crate::manifest::{self, Object};
use crate::model::{CertCatalog, ObjectKey};

const CLASS: &str = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: nginx}\n\
                     spec: {controller: k8s.io/ingress-nginx}\n";

fn text(name: &str, namespace: &str, annotations: &str, host: &str, path: &str, kind: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: \"2024-01-02T00:00:00Z\", annotations: {{{annotations}}}}}\n\
         spec:\n  ingressClassName: nginx\n  rules:\n  - host: {host}\n    http: {{paths: [{{path: {path:?}, \
         pathType: {kind}, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}\n"
    )
}

fn ingress(text: &str) -> (Arc<Ingress>, Vec<Diagnostic>) {
    let manifest = manifest::read("t", text.as_bytes());
    let Some(Object::Ingress(ingress)) = manifest.objects.into_iter().next() else {
        panic!("no Ingress in {text}")
    };
    (ingress, manifest.diagnostics)
}

/// One Ingress `team/old` with `/taken` and a canary `team/canary` of `/beside`, both of host `a.test`.
fn sources(data: &str) -> Sources {
    let old = text("old", "team", "", "a.test", "/taken", "Prefix").replace("01-02T", "01-01T");
    let canary = "nginx.ingress.kubernetes.io/canary: \"true\"";
    let canary = text("canary", "team", canary, "a.test", "/beside", "Prefix");
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: edge}}\ndata: {{{data}}}\n"
    );
    let all = [CLASS, &old, &canary, &map].join("---\n");
    let (world, found) = manifest::world(&[manifest::read("t", all.as_bytes())]);
    assert_eq!(found, []);
    let options = Options { config_map: Some(ObjectKey::new("edge", "c")), ..Options::default() };
    Sources { world, certificates: CertCatalog::new(), options }
}

fn judge(sources: &Sources) -> Judge {
    Judge::new(Settings {
        options: sources.options.clone(),
        without_class: None,
        namespace_selector: None,
        completion: Completion::AsGiven,
        mass_removal_guard: true,
    })
}

#[track_caller]
fn check(sources: &Sources, object: &str, refusal: Option<&str>) {
    let (ingress, found) = ingress(object);
    match (judge(sources).judge(&ingress, found, sources), refusal) {
        (Verdict::Allow { .. }, None) => {}
        (Verdict::Refuse { message, .. }, Some(words)) => assert!(message.contains(words), "{message}"),
        (verdict, _) => panic!("{refusal:?} expected, {verdict:?} given\n{object}"),
    }
}

#[test]
fn a_path_that_another_ingress_has_is_refused_in_the_known_words() {
    let sources = sources("");
    let words = "host \"a.test\" and path \"/taken\" is already defined in ingress team/old";
    check(&sources, &text("new", "team", "", "a.test", "/taken", "Prefix"), Some(words));
    check(&sources, &text("new", "other", "", "a.test", "/taken", "Prefix"), Some(words));
    let slash = "host \"a.test\" and path \"/taken/\" is already defined in ingress team/old";
    check(&sources, &text("new", "team", "", "a.test", "/taken/", "Prefix"), Some(slash));
    check(&sources, &text("new", "team", "", "a.test", "/free", "Prefix"), None);
    check(&sources, &text("new", "team", "", "b.test", "/taken", "Prefix"), None);
    check(&sources, &text("new", "team", "", "a.test", "/taken", "Exact"), None);
    check(&sources, &text("old", "team", "", "a.test", "/taken", "Prefix"), None);
    let same_second = text("zzz", "team", "", "a.test", "/taken", "Prefix").replace("01-02T", "01-01T");
    check(&sources, &same_second, Some(words));
}

#[test]
fn the_canary_annotation_disarms_the_check_of_overlaps_whatever_its_value() {
    let sources = sources("");
    for value in ["true", "false", "perhaps"] {
        let canary = format!("nginx.ingress.kubernetes.io/canary: \"{value}\"");
        check(&sources, &text("new", "team", &canary, "a.test", "/taken", "Prefix"), None);
    }
    check(&sources, &text("new", "team", "", "a.test", "/beside", "Prefix"), None);
}

#[test]
fn paths_of_the_wrong_type_are_refused_unless_the_config_map_is_lax() {
    let words = "ingress contains invalid paths: path /a(b cannot be used with pathType Prefix";
    let object = text("new", "team", "", "a.test", "/a(b", "Prefix");
    check(&sources(""), &object, Some(words));
    check(&sources("strict-validate-path-type: \"false\""), &object, None);
    let challenge = text("new", "team", "", "a.test", "/.well-known/acme-challenge/x.y-z_", "Exact");
    check(&sources(""), &challenge, None);
}

#[test]
fn hostile_text_and_forbidden_words_are_refused() {
    let sources = sources("annotation-value-word-blocklist: load_module");
    check(
        &sources,
        &text("new", "team", "", "a.test", "/etc/nginx", "Prefix"),
        Some(
            "invalid object: invalid rule in ingress team/new: invalid http path: invalid value found: /etc/nginx",
        ),
    );
    let word = "nginx.ingress.kubernetes.io/connection-proxy-header: load_module";
    let words =
        "nginx.ingress.kubernetes.io/connection-proxy-header annotation contains invalid word load_module";
    check(&sources, &text("new", "team", word, "a.test", "/", "Prefix"), Some(words));
}

#[test]
fn values_that_ingress_nginx_checks_are_refused_and_others_only_told() {
    let refused = [
        "permanent-redirect: https://$host/",
        "permanent-redirect-code: soon",
        "server-alias: a;b",
        "custom-http-errors: \"200\"",
        "upstream-hash-by: $host;",
        "load-balance: fair",
        "auth-secret-type: x",
        "auth-tls-pass-certificate-to-upstream: \"yes\"",
        "http2-push-preload: \"on\"",
        "temporal-redirect: https://$host/",
    ];
    for annotation in refused {
        let prefixed = format!("nginx.ingress.kubernetes.io/{annotation}");
        let (name, _) = prefixed.split_once(':').unwrap();
        let words = format!("annotation {name} contains invalid value");
        let mut sources = sources("");
        let object = text("new", "team", &prefixed, "a.test", "/", "Prefix");
        check(&sources, &object, Some(&words));
        sources.options.validate_annotations = false;
        check(&sources, &object, None);
    }
    for annotation in [
        "proxy-body-size: 15r",
        "ssl-redirect: perhaps",
        "canary-weight: many",
        "permanent-redirect-code: \"400\"",
        "temporal-redirect: /path",
        "upstream-hash-by-subset-size: \"-1\"",
        "permanent-redirect: app://start",
    ] {
        let annotation = format!("nginx.ingress.kubernetes.io/{annotation}");
        check(&sources(""), &text("new", "team", &annotation, "a.test", "/", "Prefix"), None);
    }
}

#[test]
fn a_path_of_another_type_is_refused_where_ingress_nginx_has_the_same_text() {
    let regex = "nginx.ingress.kubernetes.io/use-regex: \"true\"";
    for (there, annotations, new, refused) in [
        (("/", "Prefix"), "", ("/", "Exact"), true),
        (("/x", "Exact"), "", ("/x", "Prefix"), true),
        (("/x", "Prefix"), "", ("/x", "Exact"), false),
        (("/x", "Prefix"), "", ("/x/", "Exact"), true),
        (("/x", "Prefix"), regex, ("/x", "Exact"), true),
        (("/x", "Prefix"), "", ("/y", "Exact"), false),
    ] {
        let mut sources = sources("");
        let (first, _) = ingress(&text("first", "team", annotations, "twin.test", there.0, there.1));
        sources.world.ingresses.insert(first.meta.key.clone(), first);
        let words =
            format!("host \"twin.test\" and path \"{}\" is already defined in ingress team/first", new.0);
        let object = text("new", "team", "", "twin.test", new.0, new.1);
        check(&sources, &object, refused.then_some(&*words));
        check(&sources, &object.replace("name: new", "name: first"), None);
        let canary = "nginx.ingress.kubernetes.io/canary: \"true\"";
        check(&sources, &text("new", "team", canary, "twin.test", new.0, new.1), None);
    }
}

#[test]
fn snippets_that_nobody_may_use_are_told_before_their_risk() {
    let snippet = "nginx.ingress.kubernetes.io/configuration-snippet: \"return 200;\"";
    let object = text("new", "team", snippet, "a.test", "/", "Prefix");
    check(&sources(""), &object, Some("Snippet directives are disabled by the Ingress administrator"));
    check(&sources("allow-snippet-annotations: \"true\""), &object, Some("risky"));
}

#[test]
fn what_is_not_ours_is_not_looked_at() {
    let mut sources = sources("");
    let foreign = text("new", "team", "", "a.test", "/etc/nginx", "Prefix")
        .replace("ingressClassName: nginx", "ingressClassName: other");
    check(&sources, &foreign, None);
    sources.options.namespace = "elsewhere".into();
    check(&sources, &text("new", "team", "", "a.test", "/etc/nginx", "Prefix"), None);
}

#[test]
fn flags_that_forbid_are_heard() {
    let mut sources = sources("");
    sources.options.disable_catch_all = true;
    let object = text("new", "team", "", "a.test", "/", "Prefix")
        .replace("spec:\n", "spec:\n  defaultBackend: {service: {name: web, port: {number: 80}}}\n");
    check(&sources, &object, Some("DisableCatchAll"));
    let mut sources = self::sources("");
    sources.options.annotations_prefix = "example.com".into();
    let object = text("new", "team", "nginx.ingress.kubernetes.io/app-root: /x", "a.test", "/", "Prefix");
    check(&sources, &object, Some("custom annotation prefix"));
}

#[test]
fn a_missing_service_is_no_reason_to_refuse_because_objects_come_in_any_order() {
    let sources = sources("");
    let (ingress, found) = ingress(&text("new", "team", "", "a.test", "/", "Prefix"));
    let Verdict::Allow { warnings } = judge(&sources).judge(&ingress, found, &sources) else {
        panic!("refused")
    };
    assert!(warnings.iter().any(|warning| warning.contains("web")), "{warnings:?}");
}

#[test]
fn what_annotations_refer_to_may_come_after_the_ingress() {
    let prefix = "nginx.ingress.kubernetes.io";
    for (name, value, more) in [
        ("auth-tls-secret", "team/later", ""),
        ("auth-secret", "later", "auth-type: basic"),
        ("custom-headers", "team/later", ""),
        ("fastcgi-params-configmap", "team/later", "backend-protocol: FCGI"),
        ("proxy-ssl-secret", "team/later", "backend-protocol: HTTPS"),
        ("auth-proxy-set-headers", "team/later", "auth-url: \"http://auth.test/\""),
    ] {
        let more = if more.is_empty() { String::new() } else { format!(", {prefix}/{more}") };
        let annotations = format!("{prefix}/{name}: {value}{more}");
        check(&sources(""), &text("new", "team", &annotations, "later.test", "/", "Prefix"), None);
    }
}

#[test]
fn one_question_leaves_no_trace_for_the_next() {
    let sources = sources("");
    let mut judge = judge(&sources);
    judge.follow(&sources);
    let one = ingress(&text("one", "team", "", "a.test", "/new", "Prefix"));
    let two = ingress(&text("two", "team", "", "a.test", "/new", "Prefix"));
    for (ingress, found) in [one, two.clone(), two] {
        let verdict = judge.judge(&ingress, found, &sources);
        assert!(matches!(verdict, Verdict::Allow { .. }), "{verdict:?}");
    }
}
