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

#[test]
fn a_line_that_is_no_utf8_does_not_hide_what_a_balancer_appended_to_it() {
    let config = globals(&[("use-forwarded-headers", "true"), ("proxy-real-ip-cidr", "127.0.0.0/8")]);
    let mut fields = fields(&[("X-Forwarded-For", "6.6.6.6")]);
    fields.append("X-Forwarded-For", b"\xff, 203.0.113.9").unwrap();
    let host = Host { raw: "h.test".into(), name: "h.test".into() };
    let told = resolve(&fields, &connection("127.0.0.1:5000"), &host, &config);
    assert_eq!(told.client.to_string(), "203.0.113.9");
    fields.append("X-Forwarded-For", b"\xff").unwrap();
    assert_eq!(
        resolve(&fields, &connection("127.0.0.1:5000"), &host, &config).client.to_string(),
        "127.0.0.1"
    );
}

/// nginx's `ngx_http_get_forwarded_addr_internal` with `real_ip_recursive on`, written from its description: the last
/// element is the peer's word; while the word's address is trusted, the element before it is asked.
fn reference(elements: &[&str], peer: IpAddr, trusted: &dyn Fn(IpAddr) -> bool) -> IpAddr {
    match elements.split_last() {
        Some((last, rest)) if trusted(peer) => match last.parse::<IpAddr>() {
            Ok(said) => reference(rest, said, trusted),
            Err(_) => peer,
        },
        _ => peer,
    }
}

proptest::proptest! {
    /// Property of the walk over many lists.
    #[test]
    fn the_walk_to_the_client_is_nginx_s(
        elements in proptest::collection::vec(
            proptest::sample::select(vec![
                "10.0.0.1", "10.255.0.9", "127.0.0.1", "203.0.113.9", "6.6.6.6", "unknown", "", "300.1.1.1",
                "fd00::1", "2001:db8::5", "10.0.0.1x", "\u{e4}",
            ]),
            0..9,
        ),
        cuts in proptest::collection::vec(proptest::bool::ANY, 9),
        peer in proptest::sample::select(vec!["10.0.0.7", "203.0.113.1", "fd00::9"]),
    ) {
        let config =
            globals(&[("use-forwarded-headers", "true"), ("proxy-real-ip-cidr", "10.0.0.0/8,fd00::/8")]);
        let trusted = |ip: IpAddr| contains(&config.proxy_real_ip_cidr, ip);
        // The same list in one line or several.
        let mut lines: Vec<Vec<&str>> = vec![Vec::new()];
        for (element, cut) in elements.iter().zip(&cuts) {
            if *cut && !lines.last().is_some_and(Vec::is_empty) {
                lines.push(Vec::new());
            }
            lines.last_mut().unwrap().push(element);
        }
        let mut fields = fields(&[]);
        for line in &lines {
            fields.append("X-Forwarded-For", line.join(", ").trim().as_bytes()).unwrap();
        }
        let mut counted: Vec<&str> = Vec::new();
        // An empty line is no line.
        for line in lines.iter().filter(|line| !line.join(", ").is_empty()) {
            counted.extend(line);
        }
        let peer: IpAddr = peer.parse().unwrap();
        let connection = Connection { peer: SocketAddr::new(peer, 5000), ..connection("10.0.0.7:1") };
        let host = Host { raw: "h.test".into(), name: "h.test".into() };
        let told = resolve(&fields, &connection, &host, &config);
        proptest::prop_assert_eq!(told.client, reference(&counted, peer, &trusted), "{:?}", lines);
    }
}

#[test]
fn networks_of_a_server_stand_in_place_of_those_of_the_config_map() {
    let config = globals(&[("use-forwarded-headers", "true")]);
    let nets = |text: &str| text.split_whitespace().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
    let client = |http: &str, own: &str, peer: &Connection| {
        let fields = fields(&[("X-Forwarded-For", "192.0.2.7")]);
        let mut view = crate::policy::annotation::sample::view("/", &fields);
        view.forwarded = resolve(&fields, peer, &view.host, &config);
        RealIp::over(&config, nets(http), nets(own), None, None)
            .client(&view)
            .map(|client| client.to_string())
    };
    let peer = connection("127.0.0.1:5000");
    assert_eq!(client("", "", &peer).as_deref(), Some("192.0.2.7"));
    assert_eq!(client("10.0.0.0/8", "", &peer).as_deref(), Some("192.0.2.7"));
    assert_eq!(client("127.0.0.0/8", "10.0.0.0/8", &peer), None);
    assert_eq!(client("", "127.0.0.0/8", &peer).as_deref(), Some("192.0.2.7"));
}
