use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::policy::annotation::sample::{PREFIX, ingress};
use crate::policy::global;

fn policies(annotations: &[(&str, &str)], globals: &Globals) -> (IngressPolicies, Vec<Diagnostic>) {
    read(&ingress(annotations), PREFIX, true, globals, Objects::NONE)
}

fn codes(annotations: &[(&str, &str)], globals: &Globals) -> Vec<&'static str> {
    policies(annotations, globals).1.into_iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn names_are_unique_and_all_136_and_four_that_were_removed_are_known() {
    let names: Vec<&str> =
        specs().flat_map(|s| std::iter::once(s.name).chain(s.aliases.iter().copied())).collect();
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(unique.len(), names.len());
    assert_eq!(specs().count(), 136 + 4);
    assert_eq!(names.len(), 138 + 4);
}

#[test]
fn every_spec_is_documented_and_its_example_is_valid() {
    let permissive = Globals {
        annotations_risk_level: Risk::Critical,
        allow_cross_namespace_resources: true,
        ..Globals::default()
    };
    for spec in specs() {
        assert!(
            !spec.doc.is_empty() && !spec.default.is_empty() && !spec.example.is_empty(),
            "{}",
            spec.name
        );
        let found = codes(&[(spec.name, spec.example), ("canary", "true")], &permissive);
        assert!(!found.contains(&"InvalidAnnotation"), "{}: {found:?}", spec.name);
        assert!(!found.contains(&"UnknownAnnotation"), "{}: {found:?}", spec.name);
    }
}

#[test]
fn no_annotations_give_the_defaults_of_the_config_map() {
    let globals = Globals { ssl_redirect: false, proxy_body_size: None, ..Globals::default() };
    let (policies, diagnostics) = policies(&[], &globals);
    assert_eq!(*policies.route, RoutePolicies::defaults(&globals));
    assert_eq!(policies.server, Arc::default());
    assert_eq!(policies.backend, Arc::default());
    assert_eq!((policies.canary, diagnostics), (None, vec![]));
}

#[test]
fn a_control_character_makes_any_value_invalid() {
    let globals = Globals { annotations_risk_level: Risk::Critical, ..Globals::default() };
    for spec in
        specs().filter(|spec| !matches!(spec.fidelity, Fidelity::AcceptedNoEffect(_) | Fidelity::Refused(_)))
    {
        for bad in ['\r', '\0', '\x1b', '\x7f'] {
            let value = format!("{}{bad}", spec.example);
            let found = codes(&[(spec.name, &value), ("canary", "true")], &globals);
            if spec.name != "canary" {
                assert!(found.contains(&"InvalidAnnotation"), "{} {bad:?}: {found:?}", spec.name);
            }
        }
    }
}

#[test]
fn a_broken_protective_value_never_leaves_the_routes_open() {
    let huge = "x".repeat(70_000);
    let junk = ["", "junk", huge.as_str(), "a\r\nb", "{}"];
    for spec in specs().filter(|spec| spec.on_invalid == OnInvalid::FailClosed) {
        for bad in junk {
            // An empty size is the limit of the ConfigMap; `junk` is a fine server name and file name.
            let sound = (spec.name == "proxy-body-size" && bad.is_empty())
                || (spec.name == "proxy-ssl-name" && matches!(bad, "junk" | "{}"))
                || (spec.name == "fastcgi-index" && bad == "junk")
                // A text without variables is a key: all clients share it.
                || (spec.name == "global-rate-limit-key" && matches!(bad, "junk" | "{}"));
            let (policies, diagnostics) = policies(&[(spec.name, bad)], &Globals::default());
            assert_eq!(policies.route.denied.is_none(), sound, "{} {:.20}", spec.name, bad);
            assert!(sound || !diagnostics.is_empty(), "{} {:.20}", spec.name, bad);
        }
    }
}

#[test]
fn one_annotation_never_changes_what_another_one_means() {
    let globals = Globals::default();
    let target = ("rewrite-target", "/$1");
    let expect = policies(&[target], &globals).0;
    for spec in specs().filter(|spec| spec.name != "rewrite-target" && spec.risk < Risk::Critical) {
        let found = policies(&[target, (spec.name, "} # ; $(x) \\ \" '")], &globals).0;
        assert_eq!(found.route.rewrite, expect.route.rewrite, "{}", spec.name);
    }
}

#[test]
fn risk_above_the_level_shuts_the_routes() {
    let snippet = [("configuration-snippet", "more_set_headers \"A: b\";")];
    let (denied, diagnostics) = policies(&snippet, &Globals::default());
    assert_eq!(denied.route.denied, Some("AnnotationRiskTooHigh"));
    assert_eq!(diagnostics[0].code, "AnnotationRiskTooHigh");
    let low = Globals { annotations_risk_level: Risk::Low, ..Globals::default() };
    assert_eq!(policies(&[("rewrite-target", "/")], &low).0.route.denied, Some("AnnotationRiskTooHigh"));
    assert_eq!(policies(&[("use-regex", "true")], &low).0.route.denied, None);
    let critical = Globals { annotations_risk_level: Risk::Critical, ..Globals::default() };
    assert_eq!(policies(&snippet, &critical).0.route.denied, None);
}

#[test]
fn blocklisted_words_shut_the_routes_with_and_without_spaces() {
    let globals =
        Globals { annotation_value_word_blocklist: ["bad_word".into()].into(), ..Globals::default() };
    for value in ["bad_word", "a bad_ word"] {
        let denied = policies(&[("connection-proxy-header", value)], &globals).0.route.denied;
        assert_eq!(denied, Some("AnnotationBlocklisted"), "{value}");
    }
    assert_eq!(policies(&[("connection-proxy-header", "close")], &globals).0.route.denied, None);
}

#[test]
fn unknown_removed_and_foreign_annotations_are_told_with_a_hint() {
    let hint = |name: &str| {
        let found = policies(&[(name, "x")], &Globals::default()).1;
        found.first().map(|diagnostic| format!("{} {}", diagnostic.code, diagnostic.hint))
    };
    assert_eq!(hint("rewrite-targt").as_deref(), Some("UnknownAnnotation did you mean rewrite-target?"));
    assert_eq!(
        hint("white-list-source-range").as_deref(),
        Some("UnknownAnnotation did you mean whitelist-source-range?")
    );
    assert_eq!(hint("secure-backends").as_deref(), Some("UnknownAnnotation use backend-protocol: HTTPS"));
    assert_eq!(hint("flux-capacitor").as_deref(), Some("UnknownAnnotation "));
    assert_eq!(hint("nginx.org/rewrites").as_deref(), Some("ForeignAnnotation "));
    assert_eq!(hint("haproxy.org/flux-capacitor").as_deref(), Some("ForeignAnnotation "));
    assert_eq!(
        hint("ingress.kubernetes.io/ssl-redirect").as_deref(),
        Some("ForeignAnnotation write nginx.ingress.kubernetes.io/ssl-redirect"),
    );
    // Google's controller writes what it made under it.
    assert_eq!(hint("ingress.kubernetes.io/forwarding-rule"), None);
    assert_eq!(
        hint("nginx.ingress.kuberentes.io/use-regex").as_deref(),
        Some("UnknownAnnotation did you mean nginx.ingress.kubernetes.io/use-regex?"),
    );
    assert_eq!(hint("cert-manager.io/cluster-issuer"), None);
    assert_eq!(hint("kubernetes.io/ingress.class"), None);
}

#[test]
fn names_that_do_nothing_give_exactly_one_finding_with_the_documented_hint() {
    for gone in gone::ANNOTATIONS {
        let name = gone.name.replace('*', "x");
        let (read, found) = policies(&[(&name, "true")], &Globals::default());
        if specs().any(|spec| spec.name == name || spec.aliases.contains(&&*name)) {
            continue;
        }
        let [diagnostic] = &found[..] else { panic!("{name}: {found:?}") };
        let expect = if name == "session-cookie-hash" { Severity::Info } else { Severity::Warning };
        assert_eq!(
            (diagnostic.code, diagnostic.severity, diagnostic.hint.as_str()),
            ("UnknownAnnotation", expect, gone.hint),
            "{name}"
        );
        assert_eq!(*read.route, RoutePolicies::defaults(&Globals::default()), "{name}");
    }
}

#[test]
fn a_diagnostic_names_object_field_value_reason_and_hint() {
    let found = policies(&[("proxy-read-timeout", "soon")], &Globals::default()).1;
    let [diagnostic] = &found[..] else { panic!("{found:?}") };
    assert_eq!(
        diagnostic.to_string(),
        concat!(
            "warning: InvalidAnnotation Ingress default/app ",
            "metadata.annotations[nginx.ingress.kubernetes.io/proxy-read-timeout] = \"soon\": ",
            "is no duration: write seconds, or a number with ms, s, m, h or d ",
            "(hint: use a value such as \"3600\"; until then the default counts: ConfigMap proxy-read-timeout (60))",
        )
    );
}

#[test]
fn another_prefix_can_be_read() {
    let ingress = ingress(&[("my.prefix/use-regex", "true"), ("use-regex", "false")]);
    assert!(read(&ingress, "my.prefix", true, &Globals::default(), Objects::NONE).0.route.use_regex);
}

#[test]
fn a_canary_ignores_location_faults_and_a_refused_one_takes_nothing() {
    let canary = [("canary", "true"), ("canary-weight", "100")];
    let (kept, diagnostics) =
        policies(&[canary[0], canary[1], ("auth-url", "https://a.example")], &Globals::default());
    assert_eq!(kept.canary.unwrap().weight, 100);
    assert!(diagnostics.iter().all(|diagnostic| diagnostic.severity == Severity::Info), "{diagnostics:?}");
    let (refused, diagnostics) =
        policies(&[canary[0], canary[1], ("server-snippet", "x")], &Globals::default());
    assert_eq!(refused.canary, Some(Box::new(canary::Canary::never())));
    assert!(diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error));
}

#[test]
fn a_refused_ingress_names_no_hosts_and_redirects_nothing() {
    let annotations = [("server-alias", "a.test"), ("app-root", "/x"), ("server-snippet", "x")];
    assert_eq!(policies(&annotations, &Globals::default()).0.server, Arc::default());
    assert_ne!(policies(&annotations[..2], &Globals::default()).0.server, Arc::default());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_reading_panic(texts in proptest::collection::vec(".{0,40}|[-0-9a-zA-Z$(){}/.,:*|? ]{0,30}", 137)) {
        let annotations: Vec<(&str, &str)> =
            specs().map(|spec| spec.name).zip(texts.iter().map(String::as_str)).collect();
        let globals = Globals { annotations_risk_level: Risk::Critical, ..Globals::default() };
        let (first, findings) = policies(&annotations, &globals);
        proptest::prop_assert_eq!((first, findings), policies(&annotations, &globals));
    }
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/{name} is out of date: run the tests with UPDATE_GOLDEN=1");
}

#[test]
fn the_documents_are_up_to_date() {
    golden("annotations.md", &markdown());
    golden("configmap.md", &global::markdown());
    golden("snippets.md", &snippet::document::markdown());
}

#[test]
fn a_global_auth_url_guards_every_route_that_does_not_opt_out() {
    let globals = |url: &str| Globals::parse_data(&[("global-auth-url".to_owned(), url.to_owned())].into()).0;
    let sound = globals("https://auth.test/check");
    let asks = |annotations: &[(&str, &str)], globals: &Globals| {
        let route = policies(annotations, globals).0.route;
        let url = route.external_auth.as_ref().map(|auth| auth.url.as_str().to_owned());
        (url, route.denied.is_some())
    };
    let global = Some("https://auth.test/check".to_owned());
    assert_eq!(asks(&[], &sound), (global.clone(), false));
    assert_eq!(asks(&[("enable-global-auth", "true")], &sound), (global.clone(), false));
    assert_eq!(asks(&[("enable-global-auth", "nonsense")], &sound), (global, false));
    assert_eq!(asks(&[("enable-global-auth", "false")], &sound), (None, false));
    let own = ("auth-url", "http://own.test/");
    assert_eq!(asks(&[own], &sound), (Some("http://own.test/".into()), false));
    assert_eq!(
        asks(&[own, ("enable-global-auth", "false")], &sound),
        (Some("http://own.test/".into()), false)
    );
    assert_eq!(asks(&[], &Globals::default()), (None, false));
    let broken = globals("auth.test");
    assert_eq!(asks(&[], &broken), (None, true));
    assert_eq!(asks(&[("enable-global-auth", "false")], &broken), (None, false));
    assert_eq!(asks(&[own], &broken), (Some("http://own.test/".into()), false));
}

#[test]
fn a_session_cookie_whose_path_would_be_an_expression_is_told() {
    let cookie = [("affinity", "cookie"), ("use-regex", "true")];
    assert_eq!(codes(&cookie, &Globals::default()), ["CookiePathMissing"]);
    for more in [("session-cookie-path", "/"), ("affinity", "none"), ("use-regex", "false")] {
        let set: Vec<_> =
            cookie.into_iter().filter(|(name, _)| *name != more.0).chain(std::iter::once(more)).collect();
        assert!(!codes(&set, &Globals::default()).contains(&"CookiePathMissing"), "{more:?}");
    }
}

#[test]
fn where_routes_are_shut_no_finding_speaks_of_a_default() {
    for shut in [
        &[("auth-type", "basic"), ("auth-secret", "a/b/c")][..],
        &[("auth-type", "basic"), ("auth-secret", "users"), ("auth-secret-type", "x")],
        &[("auth-url", "http://a.test/"), ("auth-method", "B AD")],
        &[("whitelist-source-range", "x"), ("proxy-read-timeout", "x")],
    ] {
        let (policies, diagnostics) = policies(shut, &Globals::default());
        assert!(policies.route.denied.is_some(), "{shut:?}");
        for found in &diagnostics {
            assert!(!found.hint.contains("default counts"), "{shut:?}: {found}");
        }
        assert!(diagnostics.iter().any(|found| found.hint.contains("answer 503")), "{diagnostics:?}");
    }
}
