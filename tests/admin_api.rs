//! The JSON of the admin port over a running proxy: shapes of `docs/admin-api.md`, and nothing secret in them.

mod support;

use serde_json::{Value, json};

use support::TestProxy;
use support::backend::Backend;
use support::client::get;
use support::manifests::{ingress, service, tls_secret, with_tls};

fn ask(proxy: &TestProxy, target: &str) -> Value {
    let answer = get(proxy.admin(), "localhost", target);
    let text = answer.text();
    assert_eq!(answer.status, 200, "{target}: {text}");
    assert_eq!(answer.field("content-type"), Some("application/json"));
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert!(value["generation"].as_u64().is_some_and(|generation| generation > 0), "{text}");
    value
}

fn pair(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn every_answer_has_the_documented_shape_and_no_key_material() {
    let backend = Backend::echo("b");
    let (certificate, key) = pair("h.test");
    let manifests = [
        with_tls(
            &ingress("a", &[], &[("h.test", "/foo", "Prefix", "b"), ("w.test", "/", "Exact", "none")]),
            "h.test",
            "tls",
        ),
        service("b", &[backend.address()]),
        tls_secret("tls", &certificate, &key),
    ];
    let proxy = TestProxy::start(&manifests.concat(), &[]);

    let routes = ask(&proxy, "/api/v1/routes");
    let servers = routes["servers"].as_array().expect("servers");
    let names: Vec<&str> = servers.iter().filter_map(|server| server["name"].as_str()).collect();
    assert_eq!(names, ["h.test", "w.test", "_"]);
    assert_eq!(servers[0]["certificate"], "default/tls");
    assert_eq!(servers[0]["regexMode"], false);
    let location = servers[0]["locations"]
        .as_array()
        .and_then(|all| all.iter().find(|location| location["path"] == "/foo/"))
        .expect("a location for /foo");
    assert_eq!(
        *location,
        json!({
            "kind": "prefix", "path": "/foo/", "rulePath": "/foo", "ingress": "default/a",
            "field": "spec.rules[0].http.paths[0]", "implicit": false, "target": "backend",
            "backend": "default-b-80", "ready": 1, "denied": null,
        })
    );
    assert!(routes["text"].as_str().is_some_and(|text| text.contains("server h.test")));

    let backends = ask(&proxy, "/api/v1/backends");
    let echo = backends["backends"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == "default-b-80"))
        .expect("the backend");
    assert_eq!(
        *echo,
        json!({
            "name": "default-b-80", "namespace": "default", "service": "b", "port": "80",
            "endpoints": [backend.address().to_string()], "emptyBecause": null,
            "loadBalance": null, "hashBy": null, "affinity": null, "canary": null,
        })
    );

    let certs = ask(&proxy, "/api/v1/certs");
    assert_eq!(certs["certificates"][0]["secret"], "tls");
    assert_eq!(certs["certificates"][0]["hosts"], json!(["h.test"]));
    assert_eq!(certs["certificates"][0]["certificate"]["names"], json!(["h.test"]));
    assert_eq!(certs["default"]["id"].as_str().map(str::len), Some(64));

    let diagnostics = ask(&proxy, "/api/v1/diagnostics");
    let found = diagnostics["diagnostics"].as_array().expect("a list");
    assert!(found.iter().any(|one| one["object"]["name"] == "a"), "a missing Service is told: {diagnostics}");

    let explained = ask(&proxy, "/api/v1/explain?method=GET&url=https%3A%2F%2Fw.test%2F");
    assert_eq!(explained["outcome"]["kind"], "reply");
    assert_eq!(explained["outcome"]["status"], 503);
    assert_eq!(explained["server"], "w.test");

    let secret: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    for target in ["/metrics", "/api/v1/routes", "/api/v1/backends", "/api/v1/certs", "/api/v1/diagnostics"] {
        let text = get(proxy.admin(), "localhost", target).text();
        assert!(!text.contains("PRIVATE KEY") && !text.contains(&secret[..40]), "{target}");
    }
}

#[test]
fn a_question_that_is_no_request_is_answered_400_in_words() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&support::manifests::simple(backend.address()), &[]);
    for target in [
        "/api/v1/explain",
        "/api/v1/explain?url=ftp%3A%2F%2Fh%2F",
        "/api/v1/explain?url=http%3A%2F%2Fh.test%2F%25zz",
        "/api/v1/explain?url=http%3A%2F%2Fh.test%2F&header=Bad%20Name%3A%20x",
        "/api/v1/explain?url=http%3A%2F%2Fh.test%2F&colour=red",
    ] {
        let answer = get(proxy.admin(), "localhost", target);
        assert_eq!(answer.status, 400, "{target}");
        let value: Value = serde_json::from_str(&answer.text()).expect("JSON");
        assert!(value["error"].as_str().is_some_and(|error| !error.is_empty()), "{target}");
    }
}
