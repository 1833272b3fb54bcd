//! `geo` blocks: a value by the network or range of addresses that holds an address. Made and asked by `maps`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::lex::{Fault, Statement, Word};
use crate::policy::template::Template;

/// The entries of one `geo`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Networks {
    networks: BTreeMap<IpNet, Template>,
    /// Lengths of their prefixes.
    lengths: BTreeSet<u8>,
    /// `ranges`: first and last address. The last one that holds an address counts.
    ranges: Vec<(IpAddr, IpAddr, Template)>,
    default: Template,
}

impl Networks {
    /// Reads the block.
    ///
    /// # Errors
    /// [`Fault`] for what nginx would refuse, and for `include`, `proxy` and `proxy_recursive`.
    pub(super) fn read(lines: &[Statement]) -> Result<Self, Fault> {
        let mut geo = Self {
            networks: BTreeMap::new(),
            lengths: BTreeSet::new(),
            ranges: Vec::new(),
            default: Template::plain(""),
        };
        let mut by_range = false;
        for line in lines {
            if line.block.is_some() {
                return Err(Fault::new(line.at, "an entry takes no block"));
            }
            match line.words.as_slice() {
                [word] if word.text == "ranges" && geo.networks.is_empty() => by_range = true,
                [word] if word.text == "ranges" => {
                    return Err(Fault::new(word.at, "ranges stands before all networks"));
                }
                [word, ..] if matches!(word.text.as_str(), "proxy" | "proxy_recursive") => {
                    let reason =
                        format!("{} is not known: use proxy-real-ip-cidr of the ConfigMap", word.text);
                    return Err(Fault::new(word.at, reason));
                }
                [word, _] if word.text == "include" => {
                    return Err(Fault::new(word.at, "include is not known: there are no files"));
                }
                [word, value] if word.text == "default" => geo.default = Template::plain(&value.text),
                [word, what] if word.text == "delete" => geo.delete(what, by_range)?,
                [key, value] if by_range => {
                    let (first, last) = range(key)?;
                    geo.ranges.push((first, last, Template::plain(&value.text)));
                }
                [key, value] => {
                    let network = network(key)?;
                    geo.lengths.insert(network.prefix_len());
                    geo.networks.insert(network, Template::plain(&value.text));
                }
                _ => return Err(Fault::new(line.at, "an entry is a network and a value")),
            }
        }
        Ok(geo)
    }

    fn delete(&mut self, what: &Word, by_range: bool) -> Result<(), Fault> {
        if by_range {
            let (first, last) = range(what)?;
            self.ranges.retain(|(one, other, _)| (*one, *other) != (first, last));
        } else {
            self.networks.remove(&network(what)?);
        }
        Ok(())
    }

    /// The value of the longest network, or the last range, that holds the address; the default for what is none.
    pub(super) fn look(&self, text: &[u8]) -> &Template {
        let address = std::str::from_utf8(text).ok().and_then(|text| text.parse::<IpAddr>().ok());
        let Some(address) = address.map(|address| address.to_canonical()) else { return &self.default };
        let ranges = self.ranges.iter().rev();
        let holds = |first: &IpAddr, last: &IpAddr| {
            first.is_ipv4() == address.is_ipv4() && (*first..=*last).contains(&address)
        };
        if let Some((_, _, value)) = ranges.into_iter().find(|(first, last, _)| holds(first, last)) {
            return value;
        }
        let networks = self.lengths.iter().rev().filter_map(|length| IpNet::new(address, *length).ok());
        networks.filter_map(|network| self.networks.get(&network.trunc())).next().unwrap_or(&self.default)
    }
}

/// A network or an address.
fn network(word: &Word) -> Result<IpNet, Fault> {
    let network = word.text.parse::<IpNet>().ok();
    let network = network.or_else(|| word.text.parse::<IpAddr>().ok().map(IpNet::from));
    network
        .map(|network| network.trunc())
        .ok_or_else(|| Fault::new(word.at, format!("{} is neither a network nor an address", word.text)))
}

/// `first-last`, IPv4.
fn range(word: &Word) -> Result<(IpAddr, IpAddr), Fault> {
    let both = word.text.split_once('-').and_then(|(first, last)| {
        let first: std::net::Ipv4Addr = first.parse().ok()?;
        let last: std::net::Ipv4Addr = last.parse().ok()?;
        (first <= last).then_some((first.into(), last.into()))
    });
    both.ok_or_else(|| Fault::new(word.at, format!("{} is no range of addresses", word.text)))
}

#[cfg(test)]
mod tests {
    use super::super::super::lex;
    use super::*;

    fn read(text: &str) -> Result<Networks, Fault> {
        Networks::read(&lex::parse(text, lex::MAX_TEXT)?)
    }

    #[test]
    fn the_longest_network_counts() {
        let geo = read(
            "default no; 10.0.0.0/8 ten; 10.1.0.0/16 \"ten one\"; 10.1.2.3 host; 0.0.0.0/1 low; 2001:db8::/32 six;
             10.9.0.0/16 gone; delete 10.9.0.0/16;",
        )
        .expect("sound");
        for (address, expect) in [
            ("10.2.0.1", "ten"),
            ("10.1.9.9", "ten one"),
            ("10.1.2.3", "host"),
            ("::ffff:10.1.2.3", "host"),
            ("11.0.0.1", "low"),
            ("10.9.1.1", "ten"),
            ("200.0.0.1", "no"),
            ("2001:db8::1", "six"),
            ("2001:db9::1", "no"),
            ("", "no"),
            ("unix:", "no"),
        ] {
            assert_eq!(geo.look(address.as_bytes()).constant(), Some(expect), "{address}");
        }
    }

    #[test]
    fn the_last_range_counts() {
        let geo = read("ranges; default a; 1.1.1.0-1.1.1.255 b; 1.1.1.5-1.1.1.6 c;").expect("sound");
        for (address, expect) in [("1.1.1.4", "b"), ("1.1.1.6", "c"), ("1.1.2.0", "a"), ("::1", "a")] {
            assert_eq!(geo.look(address.as_bytes()).constant(), Some(expect), "{address}");
        }
    }

    #[test]
    fn what_nginx_would_refuse_and_files_are_faults() {
        for text in [
            "10.0.0.0/33 a;",
            "host.test a;",
            "10.0.0.0/8;",
            "include x;",
            "proxy 10.0.0.0/8;",
            "proxy_recursive;",
            "ranges; 1.1.1.2-1.1.1.1 a;",
            "ranges; 1.1.1.0/24 a;",
            "1.1.1.0/24 a; ranges;",
            "10.0.0.0/8 { a; }",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
