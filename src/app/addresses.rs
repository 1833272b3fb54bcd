//! On which addresses requests and services are taken: those of the flags, and what `bind-address` and `disable-ipv6`
//! of the ConfigMap make of them. Decides only; `app/ports` opens and closes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::Config;
use crate::listener::{Families, Place};
use crate::policy::global::Globals;

/// An address of the flags, with its real port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen {
    pub(super) address: SocketAddr,
    pub(super) sixth: Sixth,
}

/// Whether the flags leave clients of IPv6 in where they stand for all of IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sixth {
    /// An address was given, and it is that.
    AsGiven,
    /// None was given, and the machine has IPv6: both families are taken, as by ingress-nginx.
    Too,
}

impl Chosen {
    /// Those of HTTP and of HTTPS; the ports are as they were taken.
    pub(super) fn of(config: &Config, http: SocketAddr, https: SocketAddr) -> (Self, Self) {
        let here = std::fs::read("/proc/net/if_inet6").is_ok_and(|interfaces| !interfaces.is_empty());
        let chosen = |address, given: bool| Self {
            address,
            sixth: if here && !given { Sixth::Too } else { Sixth::AsGiven },
        };
        (chosen(http, config.given.http_address), chosen(https, config.given.https_address))
    }

    /// The same for another port.
    pub(super) fn at(self, port: u16) -> Self {
        Self { address: SocketAddr::new(self.address.ip(), port), ..self }
    }

    /// Where to listen. A family of which the ConfigMap names no address stays as the flags say.
    pub(super) fn places(self, globals: &Globals) -> BTreeSet<Place> {
        let named = &globals.bind_address;
        let mut four: Vec<IpAddr> = named.iter().copied().filter(IpAddr::is_ipv4).collect();
        let mut six: Vec<IpAddr> = named.iter().copied().filter(IpAddr::is_ipv6).collect();
        if globals.disable_ipv6 {
            six.clear();
        }
        let (mut families, parted) = (Families::Own, globals.disable_ipv6 || !named.is_empty());
        match self.address.ip() {
            // Each family has a socket of its own as soon as they differ.
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) if parted => {
                or(&mut four, Ipv4Addr::UNSPECIFIED.into());
                if !globals.disable_ipv6 {
                    or(&mut six, Ipv6Addr::UNSPECIFIED.into());
                }
            }
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
                families = Families::Both;
                six.push(Ipv6Addr::UNSPECIFIED.into());
            }
            // One address of IPv6 was asked for by a flag: without it nobody would listen.
            IpAddr::V6(given) if !globals.disable_ipv6 || four.is_empty() => or(&mut six, given.into()),
            IpAddr::V6(_) => {}
            IpAddr::V4(given) => {
                or(&mut four, given.into());
                if given.is_unspecified() && self.sixth == Sixth::Too && !globals.disable_ipv6 {
                    or(&mut six, Ipv6Addr::UNSPECIFIED.into());
                }
            }
        }
        let place = |ip| Place { address: SocketAddr::new(ip, self.address.port()), families };
        four.into_iter().chain(six).map(place).collect()
    }
}

fn or(named: &mut Vec<IpAddr>, otherwise: IpAddr) {
    if named.is_empty() {
        named.push(otherwise);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flag: &str, sixth: Sixth, keys: &[(&str, &str)], expected: &[&str]) {
        let data = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (globals, found) = Globals::parse_data(&data);
        assert!(found.is_empty(), "{found:?}");
        let chosen = Chosen { address: flag.parse().unwrap(), sixth };
        let show = |place: Place| match place.families {
            Families::Both => format!("{} both", place.address),
            Families::Own => place.address.to_string(),
        };
        let places: Vec<String> = chosen.places(&globals).into_iter().map(show).collect();
        assert_eq!(places, expected, "{flag} {sixth:?} {keys:?}");
    }

    #[test]
    fn without_flags_both_families_are_taken_and_a_given_address_is_taken_alone() {
        check("0.0.0.0:80", Sixth::Too, &[], &["0.0.0.0:80", "[::]:80"]);
        check("0.0.0.0:80", Sixth::Too, &[("disable-ipv6", "true")], &["0.0.0.0:80"]);
        check("0.0.0.0:80", Sixth::AsGiven, &[], &["0.0.0.0:80"]);
        check("10.0.0.1:80", Sixth::Too, &[], &["10.0.0.1:80"]);
        check("[::]:80", Sixth::AsGiven, &[], &["[::]:80 both"]);
        check("[::]:80", Sixth::AsGiven, &[("disable-ipv6", "true")], &["0.0.0.0:80"]);
        check("[fd00::1]:80", Sixth::AsGiven, &[("disable-ipv6", "true")], &["[fd00::1]:80"]);
    }

    #[test]
    fn named_addresses_take_the_place_of_those_of_their_family() {
        let four = ("bind-address", "10.0.0.2, 10.0.0.1");
        let both = ("bind-address", "10.0.0.1,[fd00::1]");
        let off = ("disable-ipv6", "true");
        check("0.0.0.0:80", Sixth::Too, &[four], &["10.0.0.1:80", "10.0.0.2:80", "[::]:80"]);
        check("0.0.0.0:80", Sixth::Too, &[four, off], &["10.0.0.1:80", "10.0.0.2:80"]);
        check("127.0.0.1:80", Sixth::AsGiven, &[four], &["10.0.0.1:80", "10.0.0.2:80"]);
        check("0.0.0.0:80", Sixth::Too, &[both], &["10.0.0.1:80", "[fd00::1]:80"]);
        check("0.0.0.0:80", Sixth::Too, &[both, off], &["10.0.0.1:80"]);
        check("[::]:80", Sixth::AsGiven, &[four], &["10.0.0.1:80", "10.0.0.2:80", "[::]:80"]);
        check("[::]:80", Sixth::AsGiven, &[("bind-address", "fd00::1")], &["0.0.0.0:80", "[fd00::1]:80"]);
        check("0.0.0.0:80", Sixth::Too, &[("bind-address", "fd00::1")], &["0.0.0.0:80", "[fd00::1]:80"]);
        check("[fd00::1]:80", Sixth::AsGiven, &[("bind-address", "10.0.0.1"), off], &["10.0.0.1:80"]);
    }
}
