//! Under which addresses of this machine our listeners can be reached, so that none of them becomes a backend
//! (`security.md` B-18). Read once at start, from what Linux tells about itself; elsewhere only loopback is known.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The addresses, and for those that mean every address of the machine each of them too.
pub fn everywhere(listeners: &[SocketAddr]) -> Vec<SocketAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let local = local(&read("/proc/net/fib_trie"), &read("/proc/net/if_inet6"));
    let mut all: BTreeSet<SocketAddr> = listeners.iter().copied().collect();
    for listener in listeners.iter().filter(|listener| listener.ip().is_unspecified()) {
        all.extend(local.iter().map(|ip| SocketAddr::new(*ip, listener.port())));
    }
    all.into_iter().collect()
}

/// `fib_trie` names an address and then, below it, what it is; `if_inet6` begins its lines with one.
fn local(fib_trie: &str, if_inet6: &str) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last.map(IpAddr::V4));
        }
    }
    let sixth = |line: &str| u128::from_str_radix(line.split(' ').next()?, 16).ok().map(Ipv6Addr::from);
    found.extend(if_inet6.lines().filter_map(sixth).map(IpAddr::V6));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIB: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.2.0.0\n        /24 link UNICAST\nLocal:\n     |-- 10.2.0.7\n        /32 host LOCAL\n     |-- 10.2.0.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n";

    #[test]
    fn addresses_of_the_machine_are_read_and_those_of_its_networks_are_not() {
        let six = "fd000000000000000000000000000007 02 40 00 80     eth0\n";
        let found: Vec<String> = local(FIB, six).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.2.0.7", "127.0.0.1", "fd00::7"]);
        assert!(local("junk", "xyz 1").is_empty());
    }

    #[test]
    fn a_listener_on_one_address_is_reached_under_that_one_only() {
        let one: SocketAddr = "10.9.9.9:80".parse().unwrap();
        assert_eq!(everywhere(&[one]), [one]);
    }
}
