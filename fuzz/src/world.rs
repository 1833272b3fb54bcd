//! Targets that go through the whole core: objects of a tenant compiled, and a request of a client decided.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use narthex::compile::{Compiled, Inputs, Options, compile};
use narthex::model::{
    Backend, CertCatalog, ConfigMap, Ingress, Meta, ObjectKey, PathRule, PathType, PortRef, Rule, Secret, SecretBytes,
    ServiceRef, World,
};
use narthex::pattern::{Anchor, Case, Pattern};
use narthex::policy::basic_auth::htpasswd::Users;
use narthex::policy::forwarded::Connection;
use narthex::policy::snippet::Run;
use narthex::policy::template::{Facts, RouteFacts};
use narthex::policy::{rewrite, session_cookie};
use narthex::request::{RequestView, Scheme};
use narthex::route::decide::{Unrecorded, decide};
use narthex::route::dump;
use narthex::route::intake::Intake;
use narthex::wire::{HeadLimits, Parse, parse_request_head};

/// Who asks.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)), 4711);

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn map(name: &str, data: &[(&str, &str)]) -> Arc<ConfigMap> {
    let data = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Arc::new(ConfigMap { meta: Meta::named(key(name)), data })
}

/// A world of one Ingress with these annotations, and what they may refer to.
fn world(annotations: &[(&str, &str)], config: &[(&str, &str)]) -> World {
    let mut world = World::default();
    let backend = Backend::Service(ServiceRef { name: "b".into(), port: PortRef::Number(80) });
    let path = PathRule { path: "/x/(.*)".into(), path_type: Some(PathType::ImplementationSpecific), backend };
    let mut meta = Meta::named(key("a"));
    meta.annotations = annotations
        .iter()
        .map(|(name, value)| (format!("nginx.ingress.kubernetes.io/{name}"), (*value).to_owned()))
        .chain([("kubernetes.io/ingress.class".to_owned(), "nginx".to_owned())])
        .collect();
    let rules = vec![Rule { host: "a.test".into(), paths: Some(vec![path]) }];
    let ingress = Ingress { meta, class_name: None, default_backend: None, rules, tls: Vec::new() };
    world.ingresses.insert(key("a"), Arc::new(ingress));
    world.config_maps.insert(key("config"), map("config", config));
    let users = [("auth".to_owned(), SecretBytes::new(&b"a:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk="[..]))];
    let secret =
        Secret { meta: Meta::named(key("users")), secret_type: "Opaque".into(), data: users.into_iter().collect() };
    world.secrets.insert(key("users"), Arc::new(secret));
    world
}

/// The same table twice.
fn compiled(world: &World) -> Compiled {
    let options = Options {
        config_map: Some(key("config")),
        tcp_services: Some(key("streams")),
        udp_services: Some(key("streams")),
        ..Options::default()
    };
    let certificates = CertCatalog::default();
    let inputs = Inputs { world, certificates: &certificates, options: &options };
    let (one, two) = (compile(&inputs), compile(&inputs));
    assert_eq!(one.diagnostics, two.diagnostics, "the same objects, the same findings");
    assert_eq!(dump::table(&one.table, &one.endpoints), dump::table(&two.table, &two.endpoints));
    one
}

/// Has a request seen as the data plane sees it.
fn seen(compiled: &Compiled, head: &[u8], look: impl FnOnce(&RequestView<'_>)) {
    let Parse::Complete(parsed) = parse_request_head(head, &HeadLimits::default()) else { return };
    let Ok(intake) = Intake::of(&parsed.head) else { return };
    let connection = Connection { peer: PEER, listen_port: 80, scheme: Scheme::Http, proxy: None };
    look(&intake.view(&connection, &compiled.table.globals, 7));
}

fn decided(compiled: &Compiled, head: &[u8]) {
    seen(compiled, head, |view| {
        let once = || {
            let mut run = Run::new("id", Duration::ZERO);
            format!("{:?}", decide(&compiled.table, &compiled.endpoints, view, &mut run, &mut Unrecorded))
        };
        assert_eq!(once(), once(), "the same request, the same decision");
    });
}

const OPEN: [(&str, &str); 2] = [("allow-snippet-annotations", "true"), ("annotations-risk-level", "Critical")];

fn text_and_head(data: &[u8]) -> Option<(&str, &[u8])> {
    let at = data.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(&data[..at]).ok()?, &data[at + 1..]))
}

/// `name=value`, separated by 0x01, then NUL and the head of a request: compiling and deciding never fail, and give the
/// same for the same.
pub fn table(data: &[u8]) {
    let Some((text, head)) = text_and_head(data) else { return };
    let annotations: Vec<_> = text.split('\u{1}').filter_map(|line| line.split_once('=')).collect();
    decided(&compiled(&world(&annotations, &OPEN)), head);
}

/// `snippet NUL head of a request`, as each kind of snippet.
pub fn snippet(data: &[u8]) {
    let Some((text, head)) = text_and_head(data) else { return };
    for annotations in [vec![("configuration-snippet", text)], vec![("server-snippet", text), ("use-regex", "true")]] {
        decided(&compiled(&world(&annotations, &OPEN)), head);
    }
    decided(&compiled(&world(&[], &[("http-snippet", text), ("location-snippet", text)])), head);
}

/// The value of a TCP or UDP service.
pub fn stream_services(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut world = world(&[], &[]);
    let (port, value) = text.split_once('=').unwrap_or(("9000", text));
    world.config_maps.insert(key("streams"), map("streams", &[(port, value)]));
    compiled(&world);
}

/// A file of passwords: reading never fails, and nobody comes in whose name is not in it.
pub fn htpasswd(data: &[u8]) {
    let Ok(users) = Users::from_file(data) else { return };
    for line in data.split(|byte| *byte == b'\n').take(8) {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if let Some(hash) = users.hash_of(name)
            // Slow by design.
            && !data.windows(2).any(|pair| pair == b"$2" || pair == b"$5" || pair == b"$6")
        {
            let _ = hash.matches(b"password");
        }
    }
    assert!(users.hash_of(b"a name with a : in it").is_none());
}

/// `pattern NUL target NUL target of a request`: what is made of them is bounded and can stand in a request line or in
/// `Location`.
pub fn rewrite_apply(data: &[u8]) {
    let Some((pattern, rest)) = text_and_head(data) else { return };
    let Some((target, path)) = text_and_head(rest) else { return };
    let Ok(pattern) = Pattern::compile(pattern, Case::Insensitive, Anchor::Start) else { return };
    let Ok(target) = rewrite::Substitution::parse(target) else { return };
    let compiled = compiled(&world(&[], &[]));
    let head = [b"GET ", path, b" HTTP/1.1\r\nHost: a.test\r\nX-Up: %0d%0a\xff\r\n\r\n"].concat();
    seen(&compiled, &head, |view| {
        let rewrite = rewrite::Rewrite { target };
        let facts = Facts { view, route: RouteFacts::default() };
        let longest = 64 * head.len() * (data.len() + 1);
        match rewrite::apply(&rewrite, &pattern, &view.path, view.query, None, &facts) {
            Ok(Some(rewrite::Outcome::Forward(done))) => {
                assert!(!done.target.is_empty() && done.target.len() <= longest);
                assert!(done.target.iter().all(|byte| *byte > b' ' && *byte != 0x7f), "{:?}", done.target);
            }
            Ok(Some(rewrite::Outcome::Redirect(url))) => {
                assert!(url.len() <= longest && !url.bytes().any(|byte| byte < b' ' || byte == 0x7f), "{url:?}");
            }
            Ok(None) | Err(_) => {}
        }
    });
}

/// Cookies of a client, and the key that stickiness takes from one.
pub fn cookies(data: &[u8]) {
    let compiled = compiled(&world(&[("affinity", "cookie"), ("session-cookie-name", "route")], &[]));
    let mut head = b"GET /x/y HTTP/1.1\r\nHost: a.test\r\nCookie: route=1.2|3; ".to_vec();
    head.extend_from_slice(data);
    head.extend_from_slice(b"\r\n\r\n");
    seen(&compiled, &head, |view| {
        let value = view.cookie("route").unwrap_or_default();
        assert!(!value.contains(';'));
        if let Some(key) = session_cookie::key(value) {
            assert!(value.contains(key));
        }
    });
    decided(&compiled, &head);
}

/// `X-Forwarded-For NUL proxies that are believed`: the client is the peer or an address that stands in the field, and a
/// peer that is not believed is the client.
pub fn real_ip(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (said, rest) = data.split_at(at);
    let proxies = std::str::from_utf8(rest.get(1..).unwrap_or_default()).unwrap_or_default();
    for proxies in [proxies, "192.0.2.0/24"] {
        let config = [("use-forwarded-headers", "true"), ("proxy-real-ip-cidr", proxies)];
        let compiled = compiled(&world(&[], &config));
        let mut head = b"GET /x/y HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: ".to_vec();
        head.extend_from_slice(said);
        head.extend_from_slice(b"\r\n\r\n");
        seen(&compiled, &head, |view| {
            let client = view.forwarded.client;
            let stands = || {
                let text = String::from_utf8_lossy(said).to_ascii_lowercase();
                let parts = text.split([',', ' ', '\t', '"', '=', ';']).map(|part| part.trim());
                parts.flat_map(|part| {
                    let bare = part.trim_start_matches('[').split(']').next().unwrap_or_default();
                    let port = part.rsplit_once(':').map(|(address, _)| address);
                    [Some(part), Some(bare), port].into_iter().flatten().filter_map(|one| one.parse().ok())
                })
                .any(|one: IpAddr| one.to_canonical() == client.to_canonical())
            };
            assert!(client == PEER.ip() || stands(), "{client} in {:?}", said.escape_ascii().to_string());
            assert!(proxies != "192.0.2.0/24" || client == PEER.ip(), "a peer that is not believed");
        });
    }
}
