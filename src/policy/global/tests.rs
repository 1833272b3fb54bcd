use super::*;
use crate::model::{ConfigMap, Meta, ObjectKey};
use crate::policy::annotation::sample::{fields, view};

fn parse(pairs: &[(&str, &str)]) -> (Globals, Vec<&'static str>) {
    let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let (globals, diagnostics) = Globals::parse_data(&data);
    (globals, diagnostics.into_iter().map(|diagnostic| diagnostic.code).collect())
}

#[test]
fn an_empty_config_map_gives_the_defaults() {
    assert_eq!(parse(&[]), (Globals::default(), vec![]));
}

#[test]
fn keys_are_sorted_and_unique() {
    assert!(KEYS.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn exactly_the_applied_keys_are_read() {
    for key in KEYS {
        let together = key.name.starts_with("global-auth-") && key.name != "global-auth-snippet";
        let special = together
            || key.name.starts_with("hsts")
            || matches!(key.name, "add-headers" | "proxy-set-headers");
        let read = special || Globals::default().set(key.name, "x").is_some();
        assert_eq!(read, key.effect == Effect::Applied, "{}", key.name);
    }
}

#[test]
fn the_default_that_is_documented_is_the_default_that_counts() {
    for key in KEYS.iter().filter(|key| key.effect == Effect::Applied && !key.default.is_empty()) {
        if matches!(key.name, "log-format-upstream" | "proxy-buffer-size") {
            continue;
        }
        assert_eq!(parse(&[(key.name, key.default)]), (Globals::default(), vec![]), "{}", key.name);
    }
}

#[test]
fn one_bad_value_affects_its_key_only() {
    let (globals, codes) =
        parse(&[("proxy-connect-timeout", "1k"), ("proxy-read-timeout", "10"), ("ssl-redirect", "off")]);
    assert_eq!(codes, ["InvalidConfigMapValue", "InvalidConfigMapValue"]);
    assert_eq!((globals.proxy_connect_timeout.as_secs(), globals.proxy_read_timeout.as_secs()), (5, 10));
    assert!(globals.ssl_redirect);
}

#[test]
fn sound_entries_of_a_list_count_beside_others() {
    let (globals, codes) =
        parse(&[("custom-http-errors", "404, demo,503,700,"), ("bind-address", "1.1.1.1,x")]);
    assert_eq!(codes, ["InvalidConfigMapValue", "InvalidConfigMapValue"]);
    assert_eq!(*globals.custom_http_errors, [404, 503]);
    assert_eq!(globals.bind_address.len(), 1);
    assert!(parse(&[("custom-http-errors", "demo")]).0.custom_http_errors.is_empty());
    assert_eq!(parse(&[("custom-http-errors", "300,404,")]).1, Vec::<&str>::new());
}

#[test]
fn unknown_keys_are_reported_with_the_nearest_name() {
    let data = [("use-forwarded-header".to_owned(), "true".to_owned())].into();
    let (_, diagnostics) = Globals::parse_data(&data);
    assert_eq!(diagnostics[0].code, "UnknownKey");
    assert_eq!(diagnostics[0].hint, "did you mean use-forwarded-headers?");
    assert_eq!(diagnostics[0].field, "data[use-forwarded-header]");
}

#[test]
fn a_list_of_hosts_that_nothing_asks_for_is_told() {
    let list = ("host-allow-list", "team-a: a.example");
    assert_eq!(parse(&[list]).1, ["NoEffect"]);
    assert_eq!(parse(&[list, ("host-ownership", "first-namespace")]).1, ["NoEffect"]);
    assert!(parse(&[list, ("host-ownership", "allow-list")]).1.is_empty());
}

#[test]
fn keys_without_effect_say_so() {
    assert_eq!(
        parse(&[("lua-shared-dicts", "x: 1"), ("ssl-early-data", "true")]).1,
        ["NoEffect", "NotSupported"]
    );
}

#[test]
fn hsts_is_put_together() {
    let value = |pairs: &[(&str, &str)]| parse(pairs).0.hsts.as_deref().map(str::to_owned);
    let set = [("hsts-max-age", "86400"), ("hsts-preload", "true"), ("hsts-include-subdomains", "false")];
    assert_eq!(value(&set).as_deref(), Some("max-age=86400; preload"));
    assert_eq!(value(&[("hsts", "false")]), None);
}

#[test]
fn named_config_maps_give_fields_and_bad_entries_are_left_out() {
    let map = |name: &str, pairs: &[(&str, &str)]| ConfigMap {
        meta: Meta::named(ObjectKey::new("ns", name)),
        data: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    };
    let entries = map(
        "m",
        &[("X-A", "1"), ("Connection", "close"), ("X-B", "a\r\nb"), ("X-C", "$http_x-$nope"), ("a b", "1")],
    );
    let referenced: Referenced = [(entries.meta.key.clone(), Arc::new(entries))].into();
    let (set, findings) = Globals::parse(&map("c", &[("proxy-set-headers", "ns/m")]), &referenced);
    assert_eq!(set.proxy_set_headers.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["X-A"]);
    assert_eq!(findings.len(), 4);
    let (add, findings) = Globals::parse(&map("c", &[("add-headers", "ns/m")]), &referenced);
    assert_eq!(add.add_headers.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["X-A", "X-C"]);
    assert_eq!(findings.len(), 3);
    let (_, findings) = Globals::parse(&map("c", &[("add-headers", "ns/absent")]), &referenced);
    assert_eq!(findings[0].code, "InvalidConfigMapValue");
}

#[test]
fn lists_and_pairs_are_read() {
    let (globals, codes) = parse(&[
        ("large-client-header-buffers", "4 64k"),
        ("custom-http-errors", "404,301"),
        ("hide-headers", "X-Powered-By, Server"),
        ("nginx-status-ipv4-whitelist", "10.0.0.0/8"),
        ("ssl-protocols", "TLSv1.3"),
        ("worker-processes", "4"),
        ("proxy-body-size", "0"),
        ("keep-alive", "0"),
        ("log-format-escape-json", "true"),
        ("log-format-escape-none", "true"),
        ("annotations-risk-level", "Critical"),
    ]);
    assert!(codes.is_empty(), "{codes:?}");
    assert_eq!((globals.large_header_count, globals.large_header_bytes), (4, 65536));
    assert_eq!(*globals.custom_http_errors, [301, 404]);
    assert_eq!(
        globals.hide_headers.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["x-powered-by", "server"]
    );
    assert_eq!(
        globals.status_allow.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/8", "::1/128"]
    );
    assert_eq!((globals.tls12, globals.tls13, globals.worker_processes), (false, true, Some(4)));
    assert_eq!((globals.proxy_body_size, globals.keep_alive), (None, None));
    assert_eq!((globals.log_escape, globals.annotations_risk_level), (LogEscape::Json, Risk::Critical));
}

#[test]
fn blocked_clients_agents_and_referers_are_told() {
    let blocks = |key: &str, value: &str, lines: &[(&str, &str)]| {
        let fields = fields(lines);
        parse(&[(key, value)]).0.blocks(&view("/", &fields))
    };
    assert!(blocks("block-cidrs", "10.0.0.0/8", &[]));
    assert!(!blocks("block-cidrs", "11.0.0.0/8", &[]));
    assert!(blocks("block-user-agents", "~*bot, curl/8", &[("User-Agent", "GoodBOT")]));
    assert!(blocks("block-user-agents", "~*bot, curl/8", &[("User-Agent", "curl/8")]));
    assert!(!blocks("block-user-agents", "~bot", &[("User-Agent", "GoodBOT")]));
    assert!(blocks("block-referers", "~*evil", &[("Referer", "http://evil.test")]));
    assert!(!blocks("block-referers", "~*evil", &[]));
    assert!(!parse(&[]).0.blocks(&view("/", &fields(&[]))));
}

#[test]
fn locations_are_free_of_authentication_by_whole_segments_and_never_by_an_expression() {
    let globals = parse(&[("no-auth-locations", "/public,/.well-known/acme-challenge,/open/")]).0;
    for (path, free) in [
        ("/public", true),
        ("/public/a.css", true),
        ("/publicadmin", false),
        ("/public|/admin", false),
        ("/public/x|/admin", false),
        ("/public/.*|/", false),
        ("/open/x", true),
        ("/open", false),
        ("/.well-known/acme-challenge/token", true),
        ("/.well-known/acme-challenge/x|/", false),
        ("/", false),
    ] {
        assert_eq!(globals.is_free_of_auth(path), free, "{path}");
    }
}

#[test]
fn a_log_format_with_an_unknown_variable_is_a_finding_and_works() {
    let check = |key: &str, text: &str, expect: &[&str]| {
        let data = std::collections::BTreeMap::from([(key.to_owned(), text.to_owned())]);
        let (_, found) = Globals::parse_data(&data);
        let told: Vec<String> = found
            .iter()
            .map(|one| format!("{} {} {} ({})", one.code, one.field, one.value, one.hint))
            .collect();
        assert_eq!(told, expect, "{text}");
    };
    check("log-format-upstream", "$remote_addr ${status}x $http_x_y 5$ $", &[]);
    check(
        "log-format-upstream",
        "$statu ${no_such} $no_such",
        &[
            "UnknownVariable data[log-format-upstream] $no_such ()",
            "UnknownVariable data[log-format-upstream] $statu (did you mean $status?)",
        ],
    );
    check("log-format-stream", "$remote_addr $session_time", &[]);
    check("log-format-stream", "$uri", &["UnknownVariable data[log-format-stream] $uri ()"]);
}

#[test]
fn lists_keep_their_sound_entries_and_a_list_of_the_allowed_never_opens() {
    let allowed = |text: &str| parse(&[("whitelist-source-range", text)]).0.allowlist_source_range.to_vec();
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    assert_eq!(allowed("10.0.0.0/8,10.1.0.0/33"), [net("10.0.0.0/8")]);
    assert_eq!(allowed("nonsense"), [net("255.255.255.255/32")]);
    assert_eq!(allowed(""), []);
    let (globals, told) = parse(&[("block-cidrs", "127.0.0.0/8,foo"), ("block-user-agents", "~(,curl")]);
    assert_eq!((&*globals.block_cidrs, globals.block_user_agents.len()), (&[net("127.0.0.0/8")][..], 1));
    assert_eq!(told.len(), 2);
}

#[test]
fn a_switch_without_a_word_is_off() {
    let (globals, told) = parse(&[("hsts", ""), ("ssl-redirect", " ")]);
    assert!(globals.hsts.is_none() && !globals.ssl_redirect && told.is_empty());
}
