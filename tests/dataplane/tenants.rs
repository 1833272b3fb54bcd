//! What writers of objects may and may not reach (`security.md` section B): addresses, names, other namespaces, and
//! protections that are damaged instead of absent.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

use crate::support::backend::Backend;
use crate::support::client::{Answer, Raw, get};
use crate::support::manifests::{config_map, ingress, service};
use crate::support::{TestProxy, eventually};

fn external(name: &str, host: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec: {{type: ExternalName, externalName: {host:?}, ports: [{{port: 80, targetPort: {port}, protocol: TCP}}]}}\n"
    )
}

fn endpoint_v6(name: &str, address: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec: {{clusterIP: 10.96.0.9, ports: [{{port: 80, targetPort: 8080, protocol: TCP}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-6, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv6\nendpoints: [{{addresses: [{address:?}], conditions: {{ready: true}}}}]\nports: [{{port: {port}, protocol: TCP}}]\n"
    )
}

/// A name server that gives every name one address, for a second.
struct Names {
    address: SocketAddr,
    answer: Arc<Mutex<Ipv4Addr>>,
}

impl Names {
    fn start(first: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(first));
        let current = Arc::clone(&answer);
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut query) {
                if let Some(reply) = reply(&query[..length], *current.lock().unwrap()) {
                    let _ = socket.send_to(&reply, peer);
                }
            }
        });
        Self { address, answer }
    }

    fn flip(&self, to: Ipv4Addr) {
        *self.answer.lock().unwrap() = to;
    }
}

/// RFC 1035 section 4: the question repeated, and for type A one record.
fn reply(query: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let mut end = 12;
    while *query.get(end)? != 0 {
        end += usize::from(query[end]) + 1;
    }
    let question = query.get(12..end + 5)?;
    let asks_a = question.get(question.len() - 4..question.len() - 2)? == [0, 1];
    let mut bytes = query.get(..2)?.to_vec();
    bytes.extend([0x81, 0x80, 0, 1, 0, u8::from(asks_a), 0, 0, 0, 0]);
    bytes.extend(question);
    if asks_a {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        bytes.extend(address.octets());
    }
    Some(bytes)
}

#[test]
fn endpoints_with_forbidden_addresses_are_never_connected_to() {
    let trap = Backend::echo("trap");
    let port = trap.address().port();
    let v4 = ["0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "100.100.100.200", "224.0.0.1"];
    let v6 = [
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
    ];
    let mut text = String::new();
    let mut hosts = Vec::new();
    for (index, address) in v4.iter().enumerate() {
        let (name, host) = (format!("four{index}"), format!("four{index}.test"));
        text += &ingress(&name, &[], &[(&host, "/", "Prefix", &name)]);
        text += &service(&name, &[SocketAddr::new(address.parse().unwrap(), port)]);
        hosts.push((host, *address));
    }
    for (index, address) in v6.iter().enumerate() {
        let (name, host) = (format!("six{index}"), format!("six{index}.test"));
        text += &(ingress(&name, &[], &[(&host, "/", "Prefix", &name)]) + &endpoint_v6(&name, address, port));
        hosts.push((host, *address));
    }
    let spelled =
        ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "[::1]", "metadata.google.internal"];
    for (index, name) in spelled.iter().enumerate() {
        let (object, host) = (format!("name{index}"), format!("name{index}.test"));
        text += &(ingress(&object, &[], &[(&host, "/", "Prefix", &object)]) + &external(&object, name, port));
        hosts.push((host, *name));
    }
    let proxy = TestProxy::start(&text, &["--allow-upstream-cidr=10.0.0.0/8"]);
    for (host, address) in hosts {
        assert_eq!(get(proxy.http(), &host, "/").status, 503, "{address}");
    }
    assert_eq!(trap.connections(), 0);
}

#[test]
fn a_name_that_flips_to_a_forbidden_address_is_not_followed() {
    let good = Backend::echo("good");
    let port = good.address().port();
    // The same port on another loopback address, which the proxy may not reach.
    let trap = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).unwrap();
    trap.set_nonblocking(true).unwrap();
    let names = Names::start(Ipv4Addr::LOCALHOST);
    let text =
        ingress("a", &[], &[("h.test", "/", "Prefix", "b")]) + &external("b", "flip.example.test", port);
    let resolver = format!("--dns-resolver={}", names.address);
    let proxy = TestProxy::start(&text, &["--allow-upstream-cidr=127.0.0.1/32", "--workers=1", &resolver]);
    eventually("the name resolves", || get(proxy.http(), "h.test", "/").status == 200);
    for forbidden in [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(169, 254, 169, 254)] {
        names.flip(forbidden);
        eventually("the flip is seen", || get(proxy.http(), "h.test", "/").status == 503);
        assert!(trap.accept().is_err(), "nobody connects to {forbidden}");
        names.flip(Ipv4Addr::LOCALHOST);
        eventually("the flip back is seen", || get(proxy.http(), "h.test", "/").status == 200);
    }
    assert!(trap.accept().is_err());
}

/// As above, for what annotations name: the authentication service is not asked, the copy is not sent.
#[test]
fn a_name_of_an_annotation_that_flips_to_a_forbidden_address_is_not_followed() {
    let (backend, service_of_names) = (Backend::echo("b"), Backend::echo("named"));
    let port = service_of_names.address().port();
    let trap = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).unwrap();
    trap.set_nonblocking(true).unwrap();
    let names = Names::start(Ipv4Addr::LOCALHOST);
    let url = |path: &str| format!("http://flip.example.test:{port}/{path}");
    let text = service("b", &[backend.address()])
        + &ingress("a", &[("auth-url", &url("check"))], &[("a.test", "/", "Prefix", "b")])
        + &ingress("m", &[("mirror-target", &url("copy"))], &[("m.test", "/", "Prefix", "b")]);
    let resolver = format!("--dns-resolver={}", names.address);
    let proxy = TestProxy::start(&text, &["--allow-upstream-cidr=127.0.0.1/32", "--workers=1", &resolver]);
    let copies = || service_of_names.requests().iter().filter(|one| one.line.contains("/copy")).count();
    eventually("the service is asked", || get(proxy.http(), "a.test", "/").status == 200);
    eventually("a copy arrives", || get(proxy.http(), "m.test", "/").status == 200 && copies() > 0);
    for forbidden in [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(169, 254, 169, 254)] {
        names.flip(forbidden);
        eventually("the flip is seen", || get(proxy.http(), "a.test", "/").status == 500);
        assert_eq!(get(proxy.http(), "m.test", "/").status, 200, "copies are nobody's business");
        assert!(trap.accept().is_err(), "nobody connects to {forbidden}");
        names.flip(Ipv4Addr::LOCALHOST);
        eventually("the flip back is seen", || get(proxy.http(), "a.test", "/").status == 200);
    }
    assert!(trap.accept().is_err());
}

/// Protections as they are written right, and what answers a client without credentials.
const PROTECTIONS: &[&[(&str, &str)]] = &[
    &[("auth-type", "basic"), ("auth-secret", "users"), ("auth-realm", "here")],
    &[
        ("auth-type", "basic"),
        ("auth-secret", "users"),
        ("satisfy", "any"),
        ("whitelist-source-range", "10.0.0.0/8"),
    ],
    &[("whitelist-source-range", "10.0.0.0/8")],
    &[("denylist-source-range", "127.0.0.0/8")],
    &[("auth-url", "http://127.0.0.1:1/check"), ("auth-method", "GET")],
    &[("auth-tls-secret", "default/ca"), ("auth-tls-verify-client", "on")],
];

#[test]
fn a_damaged_protection_never_means_no_protection() {
    let backend = Backend::echo("b");
    let huge = "x".repeat(65_000);
    let poisons = ["", " ", "junk", "a\u{1}b", "a\nb", "\u{0}", "${x}", "-1", "on, off", "../../x", &huge];
    let mut text = service("b", &[backend.address()]);
    text += "---\napiVersion: v1\nkind: Secret\nmetadata: {name: users, namespace: default}\ntype: Opaque\nstringData: {auth: \"jo:$apr1$abcdefgh$AAAAAAAAAAAAAAAAAAAAA/\"}\n";
    let mut cases = Vec::new();
    for protection in PROTECTIONS {
        for spoiled in 0..protection.len() {
            for poison in poisons {
                let number = cases.len();
                let (name, host) = (format!("p{number}"), format!("p{number}.test"));
                let mut written = protection.to_vec();
                written[spoiled].1 = poison;
                text += &poisoned(&name, &host, &written);
                let what: String = poison.chars().take(12).collect();
                cases
                    .push((host, format!("{} with {:?} = {what:?}", protection[0].0, protection[spoiled].0)));
            }
        }
    }
    let proxy = TestProxy::start(&text, &[]);
    for (host, what) in &cases {
        let status = get(proxy.http(), host, "/").status;
        assert!(matches!(status, 401 | 403 | 500 | 503), "{what}: {status}");
    }
    let reached: Vec<String> =
        backend.requests().iter().filter_map(|request| request.field("host").map(str::to_owned)).collect();
    assert!(reached.is_empty(), "{reached:?}");
}

/// As `ingress`, with values that need escapes of YAML.
fn poisoned(name: &str, host: &str, annotations: &[(&str, &str)]) -> String {
    let quoted = |value: &str| {
        let mut out = String::from("\"");
        for char in value.chars() {
            match char {
                '"' | '\\' => out.extend(['\\', char]),
                char if char.is_control() => out += &format!("\\x{:02X}", u32::from(char)),
                char => out.push(char),
            }
        }
        out + "\""
    };
    let plain = ingress(name, &[], &[(host, "/", "Prefix", "b")]);
    let mut lines = String::from("  annotations:\n    nginx.ingress.kubernetes.io/ssl-redirect: \"false\"\n");
    for (key, value) in annotations {
        lines += &format!("    nginx.ingress.kubernetes.io/{key}: {}\n", quoted(value));
    }
    plain.replace("spec:\n", &format!("{lines}spec:\n"))
}

#[test]
fn a_foreign_object_that_exists_and_one_that_does_not_give_the_same_words() {
    let backend = Backend::echo("b");
    let world = |with_secret: bool| {
        let mut text = service("b", &[backend.address()]);
        text += &poisoned("a", "h.test", &[("auth-type", "basic"), ("auth-secret", "other/users")]);
        text += &poisoned("c", "c.test", &[("proxy-ssl-secret", "other/users")]);
        if with_secret {
            text += "---\napiVersion: v1\nkind: Secret\nmetadata: {name: users, namespace: other}\ntype: Opaque\nstringData: {auth: \"jo:{PLAIN}secret\"}\n";
        }
        let proxy = TestProxy::start(&text, &[]);
        assert_eq!(get(proxy.http(), "h.test", "/").status, 503);
        let told = get(proxy.admin(), "localhost", "/api/v1/diagnostics").text();
        // The findings about the Ingresses; the Secret itself is told to nobody.
        assert!(told.contains("allow-cross-namespace-resources"), "{told}");
        told.replace(&proxy.directory().display().to_string(), "")
    };
    assert_eq!(world(true), world(false));
    assert!(backend.requests().is_empty());
}

#[test]
fn no_byte_of_a_client_breaks_a_line_of_the_access_log() {
    let backend = Backend::echo("b");
    let directory = tempfile::tempdir().unwrap();
    for (escape, key) in [("default", "log-format-escape-none"), ("json", "log-format-escape-json")] {
        let path = directory.path().join(escape);
        let format = "[$http_user_agent] [$request_uri] [$http_cookie] [$remote_user]";
        let on = if escape == "json" { "true" } else { "false" };
        let keys = [("access-log-path", path.to_str().unwrap()), ("log-format-upstream", format), (key, on)];
        let text = ingress("a", &[], &[("h.test", "/", "Prefix", "b")])
            + &service("b", &[backend.address()])
            + &config_map(&keys);
        let proxy = TestProxy::start(&text, &["--configmap=default/config", "--workers=1"]);
        let mut sent = 0;
        for byte in 0..=255_u8 {
            let mut request = b"GET /x".to_vec();
            request.extend([b'?', byte]);
            request.extend(b" HTTP/1.1\r\nHost: h.test\r\nUser-Agent: a");
            request.push(byte);
            request.extend(b"b\r\nCookie: c=");
            request.push(byte);
            request.extend(b"\r\nConnection: close\r\n\r\n");
            let mut raw = Raw::connect(proxy.http());
            raw.send(&request);
            sent += usize::from(raw.answer_to("GET").is_some());
        }
        assert_eq!(sent, 256, "every request has an answer");
        eventually("all lines", || {
            std::fs::read(&path).is_ok_and(|text| text.iter().filter(|byte| **byte == b'\n').count() >= 256)
        });
        drop(proxy);
        let text = std::fs::read(&path).unwrap();
        let lines: Vec<&[u8]> = text.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 256, "one line a request");
        for line in lines {
            let sound = |byte: &u8| (0x20..0x7f).contains(byte);
            if escape == "default" {
                assert!(line.iter().all(sound), "{}", line.escape_ascii());
            }
            assert!(!line.iter().any(|byte| *byte < 0x20 || *byte == 0x7f), "{}", line.escape_ascii());
            assert!(std::str::from_utf8(line).is_ok(), "{}", line.escape_ascii());
        }
    }
}

#[test]
fn no_value_of_an_annotation_splits_a_head() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let backend = Backend::answering(move |request| {
        log.lock().unwrap().push(request.clone());
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    let mut text = service("b", &[backend.address()]);
    let values = ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\u{0}X-Evil: 1", "$arg_x"];
    let names = [
        "upstream-vhost",
        "x-forwarded-prefix",
        "rewrite-target",
        "app-root",
        "permanent-redirect",
        "temporal-redirect",
        "connection-proxy-header",
        "cors-allow-origin",
        "cors-allow-headers",
        "session-cookie-name",
        "session-cookie-path",
        "server-alias",
        "backend-protocol",
    ];
    let mut hosts = Vec::new();
    for name in names {
        for value in values {
            let number = hosts.len();
            let (object, host) = (format!("i{number}"), format!("i{number}.test"));
            let annotations = [(name, value), ("enable-cors", "true"), ("affinity", "cookie")];
            text += &poisoned(&object, &host, &annotations);
            hosts.push((host, name, value));
        }
    }
    let proxy = TestProxy::start(&text, &[]);
    for (host, name, value) in hosts {
        for target in ["/", "/?x=a%0d%0aX-Evil:1"] {
            let answer: Answer = get(proxy.http(), &host, target);
            assert!(answer.field("x-evil").is_none(), "{name} {value:?}");
            assert!(answer.fields.iter().all(|(name, _)| !name.contains(['\r', '\n', '\0'])), "{name}");
        }
    }
    for request in seen.lock().unwrap().iter() {
        assert!(request.field("x-evil").is_none(), "{request:?}");
    }
}

#[test]
fn an_error_page_makes_no_refusal_a_success() {
    let (backend, errors) = (Backend::echo("b"), Backend::echo("errors"));
    for (name, value, status) in
        [("whitelist-source-range", "10.0.0.0/8", 403), ("denylist-source-range", "127.0.0.0/8", 403)]
    {
        let pages = [(name, value), ("custom-http-errors", "403"), ("default-backend", "errors")];
        let manifests = ingress("b", &pages, &[("h.test", "/", "Prefix", "b")])
            + &service("b", &[backend.address()])
            + &service("errors", &[errors.address()]);
        let proxy = TestProxy::start(&manifests, &[]);
        let answer = get(proxy.http(), "h.test", "/");
        assert_eq!((answer.status, answer.field("x-backend")), (status, Some("errors")), "{name}");
    }
    assert!(backend.requests().is_empty());
}

/// As nginx: without the challenge no browser would ask for a password.
#[test]
fn a_page_in_the_place_of_a_401_still_asks_for_the_password() {
    let (backend, errors) = (Backend::echo("b"), Backend::echo("errors"));
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: users, namespace: default}\ntype: Opaque\nstringData: {auth: \"u:{PLAIN}pw\"}\n";
    let guard = [
        ("auth-type", "basic"),
        ("auth-secret", "users"),
        ("auth-realm", "r"),
        ("custom-http-errors", "401"),
        ("default-backend", "errors"),
    ];
    let manifests = ingress("b", &guard, &[("h.test", "/", "Prefix", "b")])
        + &service("b", &[backend.address()])
        + &service("errors", &[errors.address()])
        + secret;
    let proxy = TestProxy::start(&manifests, &[]);
    let answer = get(proxy.http(), "h.test", "/");
    assert_eq!((answer.status, answer.field("x-backend")), (401, Some("errors")));
    assert_eq!(answer.field("www-authenticate"), Some("Basic realm=\"r\""));
    assert!(backend.requests().is_empty());
}

/// CVE-2020-8553: names are pairs and never joined.
#[test]
fn namespaces_and_names_that_join_to_the_same_text_stay_apart() {
    let backend = Backend::echo("b");
    let users = |namespace: &str, name: &str, user: &str| {
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: Opaque\nstringData: {{auth: \"{user}:{{PLAIN}}pw\"}}\n"
        )
    };
    let guarded = |namespace: &str, name: &str, secret: &str, host: &str| {
        let annotations = [("auth-type", "basic"), ("auth-secret", secret)];
        (ingress(name, &annotations, &[(host, "/", "Prefix", "b")]) + &service("b", &[backend.address()]))
            .replace("namespace: default", &format!("namespace: {namespace}"))
    };
    let text = users("a-b", "c", "ann")
        + &users("a", "b-c", "bob")
        + &guarded("a-b", "c", "c", "one.test")
        + &guarded("a", "b-c", "b-c", "two.test");
    let proxy = TestProxy::start(&text, &[]);
    let status = |host: &str, credentials: &str| {
        let mut raw = Raw::connect(proxy.http());
        raw.send(format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic {credentials}\r\nConnection: close\r\n\r\n"
        ));
        raw.answer().status
    };
    let (ann, bob) = ("YW5uOnB3", "Ym9iOnB3");
    assert_eq!((status("one.test", ann), status("one.test", bob)), (200, 401));
    assert_eq!((status("two.test", ann), status("two.test", bob)), (401, 200));
}

/// CVE-2025-24513: a key of a Secret is a key, whatever it looks like.
#[test]
fn keys_of_a_secret_are_no_paths() {
    let backend = Backend::echo("b");
    let long = "k".repeat(60_000);
    let mut text = service("b", &[backend.address()])
        + &ingress(
            "a",
            &[("auth-type", "basic"), ("auth-secret", "users"), ("auth-secret-type", "auth-map")],
            &[("h.test", "/", "Prefix", "b")],
        );
    text += &format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: users, namespace: default}}\ntype: Opaque\nstringData: {{\"../../etc/passwd\": \"{{PLAIN}}pw\", \"a\\0b\": \"{{PLAIN}}pw\", \"/x\": \"{{PLAIN}}pw\", {long}: \"{{PLAIN}}pw\", jo: \"{{PLAIN}}pw\"}}\n"
    );
    let proxy = TestProxy::start(&text, &[]);
    let mut raw = Raw::connect(proxy.http());
    raw.send("GET / HTTP/1.1\r\nHost: h.test\r\nAuthorization: Basic am86cHc=\r\nConnection: close\r\n\r\n");
    assert!(matches!(raw.answer().status, 200 | 503), "its own user, or shut: never open");
    assert!(matches!(get(proxy.http(), "h.test", "/").status, 401 | 503));
}
