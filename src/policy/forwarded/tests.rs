use super::*;
use crate::policy::annotation::sample::fields;
use crate::policy::global::Globals;

fn globals(pairs: &[(&str, &str)]) -> Globals {
    let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let (globals, diagnostics) = Globals::parse_data(&data);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    globals
}

fn connection(peer: &str) -> Connection {
    Connection { peer: peer.parse().unwrap(), listen_port: 80, scheme: Scheme::Http, proxy: None }
}

fn proxied(peer: &str, source: &str, destination: &str) -> Connection {
    let proxy = ProxyFacts { source: source.parse().unwrap(), destination: destination.parse().unwrap() };
    Connection { proxy: Some(proxy), ..connection(peer) }
}

/// `client scheme port host | chain`
fn told(config: &[(&str, &str)], connection: &Connection, lines: &[(&str, &str)]) -> String {
    let fields = fields(lines);
    let host = Host { raw: "h.test".into(), name: "h.test".into() };
    let told = resolve(&fields, connection, &host, &globals(config));
    format!("{} {} {} {} | {}", told.client, told.scheme, told.port, told.host, told.chain)
}

const SPOOF: [(&str, &str); 4] = [
    ("X-Forwarded-For", "1.2.3.4, 5.6.7.8"),
    ("X-Forwarded-Host", "myhost.com, another"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Port", "1234"),
];

#[test]
fn by_default_nothing_a_client_says_counts() {
    let peer = connection("127.0.0.1:5000");
    assert_eq!(told(&[], &peer, &SPOOF), "127.0.0.1 http 80 h.test | 127.0.0.1");
    let tls = Connection { scheme: Scheme::Https, listen_port: 8443, ..peer };
    assert_eq!(told(&[], &tls, &SPOOF), "127.0.0.1 https 443 h.test | 127.0.0.1");
    let odd = Connection { listen_port: 8080, ..peer };
    assert_eq!(told(&[], &odd, &[]), "127.0.0.1 http 8080 h.test | 127.0.0.1");
}

#[test]
fn with_use_forwarded_headers_and_the_default_cidr_the_left_most_wins() {
    let peer = connection("127.0.0.1:5000");
    let config = [("use-forwarded-headers", "true")];
    assert_eq!(told(&config, &peer, &SPOOF), "1.2.3.4 https 1234 myhost.com | 1.2.3.4");
    assert_eq!(told(&config, &peer, &[]), "127.0.0.1 http 80 h.test | 127.0.0.1");
}

#[test]
fn untrusted_peers_are_not_believed_in_anything_unless_compatibility_asks_for_it() {
    let peer = connection("127.0.0.1:5000");
    let config = [("use-forwarded-headers", "true"), ("proxy-real-ip-cidr", "10.0.0.0/8")];
    assert_eq!(told(&config, &peer, &SPOOF), "127.0.0.1 http 80 h.test | 127.0.0.1");
    let fields = fields(&SPOOF);
    let host = Host { raw: "h.test".into(), name: "h.test".into() };
    let old_way = Globals { compat_trust_forwarded_any: true, ..globals(&config) };
    let told = resolve(&fields, &peer, &host, &old_way);
    assert_eq!(
        (told.client.to_string().as_str(), &*told.scheme, &*told.host),
        ("127.0.0.1", "https", "myhost.com")
    );
}

#[test]
fn the_walk_stops_at_the_first_address_that_is_not_trusted() {
    let peer = connection("127.0.0.1:5000");
    let config = [("use-forwarded-headers", "true"), ("proxy-real-ip-cidr", "127.0.0.0/8,10.0.0.0/8")];
    let client = |list: &str| {
        let all = told(&config, &peer, &[("X-Forwarded-For", list)]);
        all.split(' ').next().unwrap_or_default().to_owned()
    };
    assert_eq!(client("6.6.6.6, 1.2.3.4, 10.1.1.1"), "1.2.3.4");
    assert_eq!(client("10.2.2.2, 10.1.1.1"), "10.2.2.2");
    assert_eq!(client("6.6.6.6, junk, 10.1.1.1"), "10.1.1.1");
    assert_eq!(client("junk"), "127.0.0.1");
    assert_eq!(client(""), "127.0.0.1");
    assert_eq!(client("1.2.3.4:5678"), "1.2.3.4");
    assert_eq!(client("[2001:db8::1]:443, 10.1.1.1"), "2001:db8::1");
    assert_eq!(client("2001:db8::1"), "2001:db8::1");
    assert_eq!(client(&"10.0.0.1,".repeat(5000)), "127.0.0.1");
}

#[test]
fn several_lines_are_one_list() {
    let peer = connection("127.0.0.1:5000");
    let lines = [("X-Forwarded-For", "1.2.3.4"), ("x-forwarded-for", "10.1.1.1")];
    let config = [("use-forwarded-headers", "true"), ("proxy-real-ip-cidr", "127.0.0.0/8,10.0.0.0/8")];
    assert_eq!(told(&config, &peer, &lines), "1.2.3.4 http 80 h.test | 1.2.3.4");
}

#[test]
fn a_full_chain_appends_the_peer() {
    let peer = connection("127.0.0.1:5000");
    let config = [("use-forwarded-headers", "true"), ("compute-full-forwarded-for", "true")];
    let chain = |lines: &[(&str, &str)]| told(&config, &peer, lines).split_once("| ").unwrap().1.to_owned();
    assert_eq!(chain(&[("X-Forwarded-For", "1.2.3.4")]), "1.2.3.4, 127.0.0.1");
    assert_eq!(chain(&[]), "127.0.0.1");
    let alone = [("compute-full-forwarded-for", "true")];
    assert_eq!(told(&alone, &peer, &SPOOF), "127.0.0.1 http 80 h.test | 127.0.0.1");
}

#[test]
fn enable_real_ip_alone_moves_the_address_only() {
    let peer = connection("127.0.0.1:5000");
    assert_eq!(told(&[("enable-real-ip", "true")], &peer, &SPOOF), "1.2.3.4 http 80 h.test | 1.2.3.4");
}

#[test]
fn another_header_can_name_the_client() {
    let peer = connection("127.0.0.1:5000");
    let config = [("use-forwarded-headers", "true"), ("forwarded-for-header", "CF-Connecting-IP")];
    let lines = [("CF-Connecting-IP", "9.9.9.9"), ("X-Forwarded-For", "1.2.3.4")];
    assert_eq!(told(&config, &peer, &lines), "9.9.9.9 http 80 h.test | 9.9.9.9");
}

#[test]
fn a_proxy_header_names_client_port_and_scheme() {
    let config = [("use-proxy-protocol", "true")];
    let odd = proxied("127.0.0.1:5000", "192.168.0.1:56324", "192.168.0.11:1234");
    assert_eq!(told(&config, &odd, &[]), "192.168.0.1 http 1234 h.test | 192.168.0.1");
    let tls = proxied("127.0.0.1:5000", "192.168.0.1:56324", "192.168.0.11:443");
    assert_eq!(told(&config, &tls, &[]), "192.168.0.1 https 443 h.test | 192.168.0.1");
    assert_eq!(told(&[], &tls, &[]), "127.0.0.1 http 80 h.test | 127.0.0.1");
    let untrusted = [("use-proxy-protocol", "true"), ("proxy-real-ip-cidr", "10.0.0.0/8")];
    assert_eq!(told(&untrusted, &tls, &[]), "127.0.0.1 http 80 h.test | 127.0.0.1");
}

#[test]
fn with_proxy_header_and_forwarded_for_the_source_of_the_proxy_header_is_judged() {
    let both = [("use-proxy-protocol", "true"), ("use-forwarded-headers", "true")];
    let peer = proxied("127.0.0.1:5000", "192.168.0.1:56324", "192.168.0.11:1234");
    let lines = [("X-Forwarded-For", "192.168.0.111")];
    assert_eq!(told(&both, &peer, &lines), "192.168.0.111 http 1234 h.test | 192.168.0.111");
    let narrow = [both[0], both[1], ("proxy-real-ip-cidr", "127.0.0.0/8")];
    assert_eq!(told(&narrow, &peer, &lines), "192.168.0.1 http 1234 h.test | 192.168.0.1");
}

#[test]
fn an_ipv4_peer_written_as_ipv6_is_ipv4() {
    let peer = connection("[::ffff:10.0.0.1]:5000");
    assert_eq!(told(&[], &peer, &[]), "10.0.0.1 http 80 h.test | 10.0.0.1");
}

#[test]
fn addresses_are_written_as_the_standard_library_writes_them() {
    for octet in 0..=255u8 {
        let address = IpAddr::from([octet, 255 - octet, 0, octet]);
        assert_eq!(address_text(address), address.to_string());
    }
    for text in ["::1", "2001:db8::7", "::ffff:192.0.2.1"] {
        assert_eq!(address_text(text.parse().unwrap()), text);
    }
}
