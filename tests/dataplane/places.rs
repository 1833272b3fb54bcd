//! `$geoip2_*` in snippets, in fields for backends and in the log.

use crate::support::backend::Backend;
use crate::support::client::get;
use crate::support::manifests::{config_map, ingress, service};
use crate::support::mmdb::Value::{Map, Text};
use crate::support::mmdb::database;
use crate::support::{TestProxy, eventually};

#[test]
fn places_of_clients_are_known_to_snippets_backends_and_the_log() {
    let backend = Backend::echo("b");
    let folder = tempfile::tempdir().unwrap();
    let names = Map(vec![("en", Text("London"))]);
    let record =
        Map(vec![("city", Map(vec![("names", names)])), ("country", Map(vec![("iso_code", Text("GB"))]))]);
    std::fs::write(folder.path().join("city.mmdb"), database("GeoLite2-City", 127, &record)).unwrap();
    let log = folder.path().join("access.log").display().to_string();
    let data = [
        ("use-geoip2", "true"),
        ("access-log-path", log.as_str()),
        ("log-format-upstream", "$status $geoip2_city $geoip2_isp"),
        ("proxy-set-headers", "default/more"),
        ("server-snippet", "location /no { if ($geoip2_city_country_code = GB) { return 451; } }"),
    ];
    let more = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: more, namespace: default}\ndata: {X-Country: $geoip2_country_code}\n";
    let manifests = ingress("a", &[], &[("h.test", "/", "Prefix", "b")])
        + &service("b", &[backend.address()])
        + &config_map(&data)
        + more;
    let directory = format!("--geoip-dir={}", folder.path().display());
    let proxy = TestProxy::start(&manifests, &["--configmap=default/config", &directory]);
    assert_eq!(get(proxy.http(), "h.test", "/").status, 200);
    assert_eq!(backend.requests()[0].field("x-country"), Some("GB"));
    assert_eq!(get(proxy.http(), "h.test", "/no").status, 451);
    eventually("both lines are written", || {
        // Each worker writes its own lines in order.
        let text = std::fs::read_to_string(&log).unwrap();
        text.len() == 26 && text.contains("200 London -\n") && text.contains("451 London -\n")
    });
}
