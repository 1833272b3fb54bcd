//! Text of objects that was written to be more than text (`security.md` section B): what broke out of configurations
//! elsewhere stays a value here, decides nothing but its own field, and never stands where bytes of a head do.

use std::net::SocketAddr;

use narthex::policy::registry::specs;

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::{Raw, get};
use crate::support::manifests::{config_map, ingress, service};

/// What was published as proof of one attack or another, and relatives of it.
const ESCAPES: [&str; 14] = [
    "http://example.test/#;\n}\n}\n}\nssl_engine ../../../../../../proc/1/fd/1;\n#",
    "http://example.test/#;\n\nload_module /tmp/x.so;",
    "CN=abc #(\n){}\n }}\nssl_engine foobar;\n#",
    "$1;\n}\nlocation /x { root /;",
    "/x; alias /etc/;",
    "a\r\nX-Evil: 1",
    "a\rX-Evil: 1",
    "\"; return 200 $http_authorization; #",
    "${env:HOME}",
    "lua_need_request_body on;\ncontent_by_lua_block { os.execute('id') }",
    "GET\nX-Evil: 1",
    "../../../../etc/passwd",
    "default/../../users",
    "{{ .Env.SECRET }}",
];

/// A Secret of users whom nobody here is.
const USERS: &str = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: users, namespace: default}\ntype: Opaque\nstringData: {auth: \"jo:$apr1$abcdefgh$AAAAAAAAAAAAAAAAAAAAA/\"}\n";

/// An Ingress with values that hold line ends: Rust writes them as YAML reads them.
fn guarded(number: usize, annotations: &[(&str, &str)]) -> (String, String) {
    let (name, host) = (format!("g{number}"), format!("g{number}.test"));
    (ingress(&name, annotations, &[(&host, "/", "Prefix", "b")]), host)
}

fn every_switch_open() -> String {
    config_map(&[("allow-snippet-annotations", "true"), ("annotations-risk-level", "Critical")])
}

/// PT-6: what guards a route guards it whatever else is written beside it, well or badly.
#[test]
fn a_protection_holds_beside_every_other_annotation_whatever_it_says() {
    const GUARDS: [&[(&str, &str)]; 5] = [
        &[("auth-type", "basic"), ("auth-secret", "users")],
        &[("whitelist-source-range", "10.0.0.0/8")],
        &[("denylist-source-range", "127.0.0.0/8")],
        &[("auth-url", "http://127.0.0.1:1/check")],
        &[("auth-tls-secret", "default/ca"), ("ssl-redirect", "false")],
    ];
    let backend = Backend::echo("b");
    let mut text = service("b", &[backend.address()]) + &every_switch_open() + USERS;
    let mut cases = Vec::new();
    for guard in GUARDS {
        let names = specs().flat_map(|spec| std::iter::once(spec.name).chain(spec.aliases.iter().copied()));
        let examples = |name| specs().find(|spec| spec.name == name).map_or("true", |spec| spec.example);
        for name in names {
            // Other words for the same thing say the same thing anew.
            let own =
                guard.iter().any(|(guard, _)| guard.starts_with(name) || name.ends_with("-source-range"));
            for value in [examples(name), ESCAPES[cases.len() % ESCAPES.len()], "true", "off", ""] {
                if own {
                    continue;
                }
                let written: Vec<(&str, &str)> = guard.iter().copied().chain([(name, value)]).collect();
                let (object, host) = guarded(cases.len(), &written);
                text += &object;
                cases.push((host, format!("{} beside {name} = {value:?}", guard[0].0)));
            }
        }
    }
    let proxy = TestProxy::start(&text, &["--configmap=default/config"]);
    for (host, what) in &cases {
        let status = get(proxy.http(), host, "/").status;
        assert!(status >= 300 || status == 204, "{what}: {status}");
    }
    assert!(cases.len() > 3000, "{} pairs", cases.len());
    let reached: Vec<_> =
        backend.requests().iter().filter_map(|one| one.field("host").map(str::to_owned)).collect();
    let whats: Vec<_> =
        cases.iter().filter(|(host, _)| reached.contains(host)).map(|(_, what)| what).collect();
    assert!(reached.is_empty(), "{whats:?} {reached:?}");
}

/// CVE-2025-1097, -1098, -24514, -1974, CVE-2026-1580, -3288, CVE-2023-5044: no value becomes anything but its own
/// field; a guard that cannot be read shuts its routes, a comfort is left out.
#[test]
fn text_of_known_attacks_stays_text_in_every_annotation() {
    let backend = Backend::echo("b");
    let mut text = service("b", &[backend.address()]) + &every_switch_open();
    let mut hosts = Vec::new();
    for spec in specs() {
        for escape in ESCAPES {
            let (object, host) = guarded(hosts.len(), &[(spec.name, escape)]);
            text += &object;
            hosts.push((host, spec.name, escape));
        }
    }
    text += &ingress("calm", &[], &[("calm.test", "/", "Prefix", "b")]);
    let proxy = TestProxy::start(&text, &["--configmap=default/config"]);
    for (host, name, escape) in &hosts {
        let answer = get(proxy.http(), host, "/");
        let told = format!("{:?} {}", answer.fields, answer.text());
        assert!(!told.contains("root:") && !told.contains("uid="), "{name} {escape:?}: {told}");
        assert!(answer.field("x-evil").is_none(), "{name} {escape:?}");
    }
    for request in backend.requests() {
        assert!(request.field("x-evil").is_none(), "{request:?}");
        assert!(request.line.ends_with(" HTTP/1.1") && request.line.matches(' ').count() == 2, "{request:?}");
    }
    assert_eq!(get(proxy.http(), "calm.test", "/").status, 200);
}

/// CVE-2021-25745, -25748, CVE-2022-4886, CVE-2026-24512: a path is compared and never opened, and one that cannot be
/// used costs nothing but itself.
#[test]
fn paths_of_objects_are_compared_and_never_opened() {
    let backend = Backend::echo("b");
    let kept = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(kept.path(), "CONTENT-OF-A-FILE").unwrap();
    let file = kept.path().to_str().unwrap();
    let broken_out = format!("/x {{ alias {file}; }} location /y");
    let hostile = [
        file,
        &broken_out,
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/a\nb",
        "/a\r\nX-Evil: 1",
        "/a;}",
        "/a{b}",
        "/a#b",
        "/a?b",
        "/a b",
        "/a\"b",
        "/a'b",
        "/a\\b",
        "/$1",
        "/%00",
        "/%zz",
        "/..",
        "/a/../../etc/passwd",
        "//",
        "*",
        "relative",
        "/(",
        "/a\u{e9}",
    ];
    let mut text = service("b", &[backend.address()]);
    text += &config_map(&[("strict-validate-path-type", "false")]);
    let mut cases = Vec::new();
    for path in hostile {
        for kind in ["Exact", "Prefix", "ImplementationSpecific"] {
            for regex in ["false", "true"] {
                let (name, host) = (format!("p{}", cases.len()), format!("p{}.test", cases.len()));
                let rules = [(&*host, path, kind, "b"), (&*host, "/good", "Prefix", "b")];
                text += &ingress(&name, &[("use-regex", regex)], &rules);
                cases.push((host, path, kind, regex));
            }
        }
    }
    let proxy = TestProxy::start(&text, &["--configmap=default/config"]);
    for (host, path, kind, regex) in &cases {
        let what = format!("{kind} {path:?}, use-regex {regex}");
        assert_eq!(get(proxy.http(), host, "/good").status, 200, "{what}: the other path of the object");
        for target in
            [file, "/x", "/y", "/a", "/etc/passwd", "/var/run/secrets/kubernetes.io/serviceaccount/token"]
        {
            let answer = get(proxy.http(), host, target);
            assert!(!answer.text().contains("CONTENT-OF-A-FILE"), "{what}");
            assert!(answer.field("x-evil").is_none(), "{what}");
            // It is the backend that answers, or nobody.
            let ours = answer.field("x-backend") == Some("b");
            assert!(ours || matches!(answer.status, 404 | 503), "{what}: {target} {}", answer.status);
        }
    }
}

/// CVE-2025-15566: ConfigMaps that name fields name fields.
#[test]
fn fields_of_config_maps_are_fields_and_nothing_else() {
    let backend = Backend::answering(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let fields = [
        ("X-Good", "good"),
        ("X-Broken", "a\r\nX-Evil: 1"),
        ("X-Return", "a\rX-Evil: 1"),
        ("X-Quoted", "\"; } location / { return 200; } #"),
        ("X-Evil: 1\r\nX-Name", "a"),
        ("X Spaced", "a"),
        ("", "a"),
        ("Connection", "X-Good, upgrade"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "5"),
        ("Upgrade", "h2c"),
        ("TE", "gzip"),
        (":path", "/evil"),
    ];
    let mut map = String::from(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: fields, namespace: default}\ndata:\n",
    );
    for (name, value) in fields {
        map += &format!("  {name:?}: {value:?}\n");
    }
    let keys = [
        ("proxy-set-headers", "default/fields"),
        ("add-headers", "default/fields"),
        (
            "global-allowed-response-headers",
            "X-Good,X-Broken,X-Quoted,Connection,Transfer-Encoding,Content-Length",
        ),
    ];
    let text = service("b", &[backend.address()])
        + &config_map(&keys)
        + &map
        + &ingress("plain", &[], &[("plain.test", "/", "Prefix", "b")])
        + &ingress("own", &[("custom-headers", "default/fields")], &[("own.test", "/", "Prefix", "b")])
        + &ingress(
            "auth",
            &[
                ("auth-url", &format!("http://{}/", backend.address())),
                ("auth-proxy-set-headers", "default/fields"),
            ],
            &[("auth.test", "/", "Prefix", "b")],
        );
    let proxy = TestProxy::start(&text, &["--configmap=default/config", "--allow-upstream-cidr=127.0.0.0/8"]);
    let ask = |address: SocketAddr, host: &str| {
        // Two requests on one connection: what frames the first one wrongly shows in the second.
        let mut raw = Raw::connect(address);
        let request = format!("POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi");
        raw.send(&request);
        let first = raw.answer();
        raw.send(&request);
        [first, raw.answer()]
    };
    for host in ["plain.test", "own.test", "auth.test"] {
        for answer in ask(proxy.http(), host) {
            assert!(matches!(answer.status, 200 | 503), "{host}: {}", answer.status);
            assert!(
                answer.field("x-evil").is_none() && answer.field("upgrade").is_none(),
                "{:?}",
                answer.fields
            );
            assert_eq!(answer.all("content-length").len(), 1, "{:?}", answer.fields);
            assert!(answer.field("transfer-encoding").is_none(), "{:?}", answer.fields);
        }
    }
    let requests = backend.requests();
    assert!(requests.iter().any(|request| request.field("x-good") == Some("good")), "{requests:?}");
    for request in &requests {
        assert!(matches!(&*request.line, "POST /x HTTP/1.1" | "GET / HTTP/1.1"), "{request:?}");
        for name in ["x-evil", "x spaced", "te", "upgrade", "transfer-encoding", ":path"] {
            assert!(request.field(name).is_none(), "{name}: {request:?}");
        }
        assert!(request.field("connection").is_none_or(|value| !value.contains("X-Good")), "{request:?}");
    }
}
