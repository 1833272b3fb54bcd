//! Flags as users of ingress-nginx write them.

use super::*;
use crate::compile::PathSemantics;
use crate::model::ObjectKey;

fn resolve(flags: &[&str]) -> Result<Config, String> {
    let command = accept_unused(Flags::augment_args(Command::new("t").args_override_self(true)));
    let matches =
        command.try_get_matches_from(["t"].iter().chain(flags)).map_err(|error| error.to_string())?;
    let parsed = Flags::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    let environment =
        Environment { pod_namespace: "ns".into(), pod_name: "pod".into(), ..Environment::default() };
    Config::resolve(Source::Directory("m".into()), parsed, &matches, environment)
}

#[track_caller]
fn fails(flags: &[&str], words: &str) {
    let error = resolve(flags).expect_err("these flags should be refused");
    assert!(error.contains(words), "{flags:?}: {error}");
}

#[test]
fn no_flag_at_all_gives_the_documented_defaults() {
    let config = resolve(&[]).unwrap();
    assert_eq!(config.http.to_string(), "0.0.0.0:80");
    assert_eq!(config.https.to_string(), "0.0.0.0:443");
    assert_eq!(config.admin.to_string(), "127.0.0.1:10254");
    assert_eq!(config.health_path, "/healthz");
    assert_eq!(config.without_class, None);
    assert_eq!(config.options.allow_upstream, loopback());
    assert_eq!(loopback().len(), 2);
    let expect = Options {
        allow_upstream: loopback(),
        own_addresses: vec![config.http, config.https, config.admin],
        ..Options::default()
    };
    assert_eq!(config.options, expect);
    assert_eq!(config.metrics.controller_pod, "pod");
    assert!(config.metrics.enabled && config.metrics.per_host);
    assert_eq!((config.workers, config.dns.len(), config.webhook), (None, 0, None));
    assert!(!config.options.ssl_passthrough && !config.passthrough_proxy_protocol);
    assert_eq!(config.notices, []);
    assert_eq!(Config::without_flags(Source::Directory("m".into())).unwrap().options, config.options);
}

#[test]
fn a_demo_listens_on_loopback_without_privileges() {
    let config = Config::without_flags(Source::Demo(None)).unwrap();
    assert_eq!(
        (config.http.to_string(), config.https.to_string()),
        ("127.0.0.1:8080".into(), "127.0.0.1:8443".into())
    );
    assert_eq!((config.options.http_port, config.options.https_port), (8080, 8443));
    assert!(!config.given.http && !config.given.https && !config.given.admin);
    assert!(resolve(&["--http-port=1"]).unwrap().given.http);
}

#[test]
fn both_ways_to_write_a_flag_work_and_the_last_counts() {
    let config =
        resolve(&["--http-addr", "127.0.0.1:8080", "--https-addr=[::1]:8443", "--admin-addr=:9"]).unwrap();
    assert_eq!(
        (config.http.to_string(), config.https.to_string()),
        ("127.0.0.1:8080".into(), "[::1]:8443".into())
    );
    assert_eq!(config.admin.to_string(), "0.0.0.0:9");
    let config = resolve(&["--ingress-class=a", "--ingress-class", "b"]).unwrap();
    assert_eq!(config.options.ingress_class, "b");
}

#[test]
fn booleans_take_what_go_takes() {
    let without = |flag: &str| resolve(&[flag]).map(|config| config.without_class);
    assert_eq!(without("--watch-ingress-without-class"), Ok(Some(true)));
    for (text, expect) in
        [("true", true), ("1", true), ("T", true), ("false", false), ("0", false), ("F", false)]
    {
        assert_eq!(without(&format!("--watch-ingress-without-class={text}")), Ok(Some(expect)), "{text}");
    }
    fails(&["--watch-ingress-without-class=yes"], "write true or false");
    fails(&["--watch-ingress-without-class", "false"], "unexpected argument 'false'");
}

#[test]
fn a_port_flag_sets_the_port_and_a_contradiction_is_told() {
    let config = resolve(&["--http-port=8080", "--https-port=8443", "--healthz-port=9"]).unwrap();
    assert_eq!(config.http.to_string(), "0.0.0.0:8080");
    assert_eq!(config.https.to_string(), "0.0.0.0:8443");
    assert_eq!(config.admin.to_string(), "127.0.0.1:9");
    assert_eq!((config.options.http_port, config.options.https_port), (8080, 8443));
    let config = resolve(&["--http-addr=127.0.0.1:1", "--http-port=2"]).unwrap();
    assert_eq!(config.http.to_string(), "127.0.0.1:1");
    assert!(
        matches!(&config.notices[..], [Notice::Warning(text)] if text.contains("--http-addr=127.0.0.1:1"))
    );
    let config = resolve(&["--http-addr=127.0.0.1:1", "--http-port=1"]).unwrap();
    assert_eq!(config.notices, []);
}

#[test]
fn klog_and_other_flags_without_a_meaning_are_accepted_with_one_line_each() {
    for (flags, level) in [(&["-v=3"][..], 3), (&["--v=2"], 2), (&["-v", "5"], 5), (&["-v4"], 4)] {
        assert_eq!(resolve(flags).unwrap().logging.verbosity, level, "{flags:?}");
    }
    let config =
        resolve(&["--logtostderr", "--election-id=x", "--update-status=false", "--publish-service", "a/b"])
            .unwrap();
    assert_eq!(config.notices.len(), 4);
    assert!(
        config
            .notices
            .iter()
            .all(|notice| matches!(notice, Notice::Info(text) if text.contains("changes nothing")))
    );
}

#[test]
fn an_unknown_flag_is_refused_with_the_nearest_known_one() {
    fails(&["--http-adr=127.0.0.1:1"], "--http-addr");
    fails(&["--configmpa=a/b"], "--configmap");
}

#[test]
fn names_of_objects_are_pairs_and_may_be_empty() {
    let config =
        resolve(&["--configmap=a/b", "--tcp-services-configmap=", "--default-ssl-certificate=c/d"]).unwrap();
    assert_eq!(config.options.config_map, Some(ObjectKey::new("a", "b")));
    assert_eq!(config.options.tcp_services, None);
    assert_eq!(config.options.default_certificate, Some(ObjectKey::new("c", "d")));
    for text in ["b", "a/", "/b", "a/b/c"] {
        fails(&[&format!("--configmap={text}")], "namespace/name");
    }
}

#[test]
fn bad_values_are_named() {
    fails(&["--http-addr=localhost:80"], "ADDRESS:PORT");
    fails(&["--http-port=0"], "0");
    fails(&["--workers=0"], "0");
    fails(&["--allow-upstream-cidr=10.0.0.0/33"], "address range");
    fails(&["--path-semantics=apache"], "nginx or kubernetes");
    fails(&["--time-buckets=1,x"], "bucket limit");
    fails(&["--dns-resolver=example.com"], "ADDRESS:PORT");
    fails(&["--health-check-path=healthz"], "starts with /");
    fails(&["--shutdown-grace-period=soon"], "number of seconds");
    fails(&["--watch-namespace-selector=a b c"], "requirement");
    fails(&["--watch-namespace=a", "--watch-namespace-selector=b=c"], "exclude each other");
    fails(&["--metrics-per-host=false", "--metrics-per-undefined-host"], "needs --metrics-per-host");
    fails(&["--validating-webhook=:8443"], "needs --validating-webhook-certificate");
    fails(&["--validating-webhook-key=x"], "--validating-webhook");
}

#[test]
fn lists_and_units_are_read() {
    let config = resolve(&[
        "--dns-resolver=127.0.0.1:5353,::1",
        "--allow-upstream-cidr=10.0.0.0/8,192.0.2.1",
        "--time-buckets=2,1",
        "--exclude-socket-metrics=nginx_ingress_controller_request_size,header_duration_seconds",
        "--shutdown-grace-period=10",
        "--post-shutdown-grace-period=2m",
        "--path-semantics=kubernetes",
        "--enable-ssl-passthrough",
        "--ssl-passthrough-proxy-port=4442",
        "--compat-trust-forwarded=any",
        "--watch-namespace-selector=foo=bar",
    ])
    .unwrap();
    assert_eq!(
        config.dns.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["127.0.0.1:5353", "[::1]:53"]
    );
    let ranges: Vec<_> = config.options.allow_upstream.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.0.0.0/8", "192.0.2.1/32"]);
    assert_eq!(config.metrics.time_buckets, [1.0, 2.0]);
    assert_eq!(config.metrics.exclude, ["request_size", "header_duration_seconds"]);
    assert_eq!((config.shutdown_grace.as_secs(), config.post_shutdown_grace.as_secs()), (10, 120));
    assert_eq!(config.options.path_semantics, PathSemantics::Kubernetes);
    assert!(config.options.ssl_passthrough);
    assert!(config.options.trust_forwarded_any);
    assert!(config.namespace_selector.is_some());
}
