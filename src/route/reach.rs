//! Which addresses a backend may have (`security.md` B-18): asked for every endpoint when it is compiled, and again
//! for every address that a name resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// Addresses that backends may have.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reach {
    /// `--allow-upstream-cidr`.
    pub allow: Vec<IpNet>,
    /// Our own listeners: never a backend.
    pub own: Vec<SocketAddr>,
    /// Servers that only `allow` opens: the API server.
    pub guarded: Vec<SocketAddr>,
}

const LOOPBACK: &str = "loopback addresses need --allow-upstream-cidr";
const API_SERVER: &str = "the API server needs --allow-upstream-cidr";

/// What helps against a refusal of [`Reach::check`]: an option opens some addresses and never the others.
pub fn hint(reason: &str) -> &'static str {
    match reason {
        LOOPBACK | API_SERVER => "see --allow-upstream-cidr",
        _ => "no option opens this address: name another one",
    }
}

impl Reach {
    /// `Ok` when a connection may be made to `address`, else why not.
    ///
    /// # Errors
    ///
    /// The reason, as words that fit into a sentence.
    pub fn check(&self, address: SocketAddr) -> Result<(), &'static str> {
        let ip = embedded(address.ip());
        if let Some(reason) = never(ip) {
            return Err(reason);
        }
        if self.own.iter().any(|own| is_own(*own, ip, address.port())) {
            return Err("the address is one of our own listeners");
        }
        let allowed = || self.allow.iter().any(|net| net.contains(&ip));
        if ip.is_loopback() && !allowed() {
            return Err(LOOPBACK);
        }
        let is_guarded = |one: &SocketAddr| one.ip() == ip && one.port() == address.port();
        if self.guarded.iter().any(is_guarded) && !allowed() {
            return Err(API_SERVER);
        }
        Ok(())
    }
}

fn is_own(own: SocketAddr, ip: IpAddr, port: u16) -> bool {
    let same_host = own.ip() == ip || (own.ip().is_unspecified() && ip.is_loopback());
    own.port() == port && same_host
}

/// The IPv4 address inside an IPv6 address that leads to it: mapped, compatible (RFC 4291 section 2.5.5), NAT64 (RFC
/// 6052 section 2.1, RFC 8215) or 6to4 (RFC 3056); else the address itself.
fn embedded(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    match v6.octets() {
        // The unspecified and the loopback address look compatible and are themselves.
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 | 1] => ip,
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
        | [0x00, 0x64, 0xff, 0x9b, 0 | 1, _, _, _, _, _, _, _, a, b, c, d]
        | [0x20, 0x02, a, b, c, d, ..] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => ip,
    }
}

/// Addresses that no option opens.
fn never(ip: IpAddr) -> Option<&'static str> {
    const METADATA: &str = "the address belongs to a metadata service or is link-local";
    match ip {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("the address is unspecified"),
        IpAddr::V4(v4) if v4.is_link_local() || v4 == Ipv4Addr::new(100, 100, 100, 200) => Some(METADATA),
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => Some("the address is no single host"),
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) if v6.is_unspecified() => Some("the address is unspecified"),
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80 => Some(METADATA),
        IpAddr::V6(v6) if v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254) => Some(METADATA),
        IpAddr::V6(v6) if v6.is_multicast() => Some("the address is no single host"),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, allow: &[&str], expected: bool) {
        let reach = Reach {
            allow: allow.iter().map(|net| net.parse().unwrap()).collect(),
            own: vec!["0.0.0.0:80".parse().unwrap(), "10.1.1.1:443".parse().unwrap()],
            guarded: vec!["10.96.0.1:443".parse().unwrap()],
        };
        assert_eq!(reach.check(address.parse().unwrap()).is_ok(), expected, "{address} with {allow:?}");
    }

    #[test]
    fn ordinary_addresses_are_reachable_and_metadata_never_is() {
        check("10.0.0.1:80", &[], true);
        check("[fd12::1]:80", &[], true);
        for address in [
            "0.0.0.0:80",
            "0.1.2.3:80",
            "[::]:80",
            "169.254.169.254:80",
            "[fe80::1]:80",
            "[febf::1]:80",
            "224.0.0.1:80",
            "[ff02::1]:80",
            "255.255.255.255:80",
            "100.100.100.200:80",
            "[fd00:ec2::254]:80",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[64:ff9b:1::a9fe:a9fe]:80",
            "[64:ff9b:1:ffff:ffff:ffff:a9fe:a9fe]:80",
            "[::169.254.169.254]:80",
            "[2002:a9fe:a9fe::1]:80",
            "[::ffff:0.0.0.0]:80",
            "[::ffff:224.0.0.1]:80",
        ] {
            check(address, &["0.0.0.0/0", "::/0"], false);
        }
    }

    #[test]
    fn the_api_server_needs_leave() {
        check("10.96.0.1:443", &[], false);
        check("[::ffff:10.96.0.1]:443", &[], false);
        check("[64:ff9b::a60:1]:443", &[], false);
        check("10.96.0.1:80", &[], true);
        check("10.96.0.2:443", &[], true);
        check("10.96.0.1:443", &["10.96.0.1/32"], true);
    }

    #[test]
    fn loopback_needs_leave_and_our_own_listeners_get_none() {
        check("127.0.0.1:8080", &[], false);
        check("127.0.0.1:8080", &["127.0.0.0/8"], true);
        check("[::ffff:127.0.0.1]:8080", &[], false);
        check("[::1]:8080", &[], false);
        check("[::1]:8080", &["::1/128"], true);
        for address in ["[64:ff9b::7f00:1]:8080", "[2002:7f00:1::]:8080", "[::127.0.0.1]:8080"] {
            check(address, &["::/0"], false);
        }
        check("127.0.0.1:80", &["127.0.0.0/8"], false);
        check("[::1]:80", &["::1/128"], false);
        check("10.1.1.1:443", &[], false);
        check("10.1.1.1:444", &[], true);
        check("10.1.1.1:80", &[], true);
    }
}
