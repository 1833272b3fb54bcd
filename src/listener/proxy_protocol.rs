//! PROXY protocol (haproxy's proxy-protocol.txt): versions 1 and 2 received, version 1 sent. Pure: bytes in, verdict out.
//!
//! Never auto-detected: only a listener that is configured for it calls this, and whether the sender is to be
//! believed is judged by its caller (`security.md` G-2, G-3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest version 1 line, CRLF included.
const V1_MAX: usize = 107;
/// Longest version 2 address and TLV block that is taken.
const V2_MAX: usize = 4096;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Source and destination; `None` for `UNKNOWN`, `LOCAL` and non-IP families: the socket's addresses count.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// Verdict over the bytes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parse {
    /// At least this many bytes are needed in all before another look is worth it.
    Need(usize),
    /// A whole header of this length.
    Done(usize, ProxyHeader),
    /// No PROXY header: close without a byte.
    Bad,
}

/// Judges the start of a connection.
pub fn parse(bytes: &[u8]) -> Parse {
    match bytes.first() {
        None => Parse::Need(1),
        Some(b'P') => parse_v1(bytes),
        Some(b'\r') => parse_v2(bytes),
        Some(_) => Parse::Bad,
    }
}

/// The version 1 line about a connection. Addresses of two families cannot be told, which is what `UNKNOWN` is for.
pub fn encode_v1(source: SocketAddr, destination: SocketAddr) -> String {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let family = match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        _ => return "PROXY UNKNOWN\r\n".to_owned(),
    };
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
}

fn parse_v1(bytes: &[u8]) -> Parse {
    let window = bytes.get(..bytes.len().min(V1_MAX)).unwrap_or(bytes);
    let Some(end) = memchr::memchr(b'\n', window) else {
        let start = b"PROXY ";
        let known = window.len().min(start.len());
        if bytes.len() >= V1_MAX || window.get(..known) != start.get(..known) {
            return Parse::Bad;
        }
        return Parse::Need(bytes.len() + 1);
    };
    let line =
        window.get(..end).and_then(|line| line.strip_suffix(b"\r")).and_then(|l| std::str::from_utf8(l).ok());
    match line.and_then(v1_line) {
        Some(header) => Parse::Done(end + 1, header),
        None => Parse::Bad,
    }
}

fn v1_line(line: &str) -> Option<ProxyHeader> {
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(ProxyHeader { addresses: None });
    }
    let mut parts = rest.split(' ');
    let family = parts.next()?;
    let (source, destination) = (parts.next()?, parts.next()?);
    let (source_port, destination_port) = (v1_port(parts.next()?)?, v1_port(parts.next()?)?);
    if parts.next().is_some() {
        return None;
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let source = SocketAddr::new(address(source)?, source_port);
    let destination = SocketAddr::new(address(destination)?, destination_port);
    Some(ProxyHeader { addresses: Some((source, destination)) })
}

fn v1_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn parse_v2(bytes: &[u8]) -> Parse {
    let known = bytes.len().min(V2_SIGNATURE.len());
    if bytes.get(..known) != V2_SIGNATURE.get(..known) {
        return Parse::Bad;
    }
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else { return Parse::Need(16) };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if head[12] >> 4 != 2 || length > V2_MAX {
        return Parse::Bad;
    }
    let Some(block) = rest.get(..length) else { return Parse::Need(16 + length) };
    let addresses = match (head[12] & 0x0f, head[13]) {
        (0, _) => Some((None, 0)),
        (1, 0x11) => v2_addresses::<4>(block).map(|pair| (Some(pair), 12)),
        (1, 0x21) => v2_addresses::<16>(block).map(|pair| (Some(pair), 36)),
        (1, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => Some((None, length)),
        _ => None,
    };
    let Some((addresses, used)) = addresses else { return Parse::Bad };
    let local = head[12] & 0x0f == 0;
    if !local && !tlvs_add_up(block.get(used..).unwrap_or(&[])) {
        return Parse::Bad;
    }
    Parse::Done(16 + length, ProxyHeader { addresses })
}

fn v2_addresses<const N: usize>(block: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let address = |bytes: &[u8]| -> Option<IpAddr> {
        if N == 4 {
            Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?))
        } else {
            Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?))
        }
    };
    let port = |at: usize| Some(u16::from_be_bytes([*block.get(at)?, *block.get(at + 1)?]));
    let source = SocketAddr::new(address(block.get(..N)?)?, port(2 * N)?);
    let destination = SocketAddr::new(address(block.get(N..2 * N)?)?, port(2 * N + 2)?);
    Some((source, destination))
}

fn tlvs_add_up(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let (Some(high), Some(low)) = (rest.get(1), rest.get(2)) else { return false };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(next) = rest.get(3 + length..) else { return false };
        rest = next;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
        bytes.extend(block);
        bytes
    }

    /// The verdict is the same for every cut: each shorter piece asks for more, and never for more than there is.
    fn check(bytes: &[u8], expected: Option<Option<(&str, &str)>>) {
        let verdict = parse(bytes);
        match expected {
            None => assert_eq!(verdict, Parse::Bad, "{bytes:?}"),
            Some(pair) => {
                let addresses = pair.map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()));
                assert_eq!(verdict, Parse::Done(bytes.len(), ProxyHeader { addresses }), "{bytes:?}");
                for cut in 0..bytes.len() {
                    let part = parse(&bytes[..cut]);
                    assert!(matches!(part, Parse::Need(n) if n > cut && n <= bytes.len()), "{cut}: {part:?}");
                }
            }
        }
    }

    #[test]
    fn version_1_lines_are_taken_by_exact_grammar() {
        check(
            b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n",
            Some(Some(("203.0.113.7:56324", "10.0.0.1:443"))),
        );
        check(b"PROXY TCP6 2001:db8::7 ::1 1 80\r\n", Some(Some(("[2001:db8::7]:1", "[::1]:80"))));
        check(b"PROXY UNKNOWN\r\n", Some(None));
        check(b"PROXY UNKNOWN anything at all\r\n", Some(None));
        for bad in [
            "PROXY TCP4 203.0.113.7 10.0.0.1 056324 443\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 70000 443\r\n",
            "PROXY TCP4 ::1 10.0.0.1 1 443\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 1 443 \r\n",
            "PROXY TCP4 203.0.113.7  10.0.0.1 1 443\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 1 443\n",
            "PROXY UDP4 203.0.113.7 10.0.0.1 1 443\r\n",
            "PROXYTCP4\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            check(bad.as_bytes(), None);
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(120));
        check(long.as_bytes(), None);
    }

    #[test]
    fn what_is_sent_reads_as_it_was_meant() {
        for (source, destination) in [
            ("203.0.113.7:56324", "10.0.0.1:443"),
            ("[2001:db8::7]:1", "[::1]:80"),
            ("[::ffff:203.0.113.7]:5", "10.0.0.1:443"),
        ] {
            let (source, destination): (SocketAddr, SocketAddr) =
                (source.parse().unwrap(), destination.parse().unwrap());
            let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
            let line = encode_v1(source, destination);
            let addresses = Some((plain(source), plain(destination)));
            assert_eq!(parse(line.as_bytes()), Parse::Done(line.len(), ProxyHeader { addresses }));
        }
        let mixed = encode_v1("203.0.113.7:1".parse().unwrap(), "[::1]:80".parse().unwrap());
        check(mixed.as_bytes(), Some(None));
    }

    #[test]
    fn version_2_blocks_are_taken_with_known_families_and_sound_tlvs() {
        let v4 = [203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 0x04, 0x01, 0xbb];
        check(&v2(1, 0x11, &v4), Some(Some(("203.0.113.7:56324", "10.0.0.1:443"))));
        let mut with_tlv = v4.to_vec();
        with_tlv.extend([0x04, 0, 2, 1, 2]);
        check(&v2(1, 0x11, &with_tlv), Some(Some(("203.0.113.7:56324", "10.0.0.1:443"))));
        check(&v2(0, 0x00, &[]), Some(None));
        with_tlv.push(9);
        check(&v2(1, 0x11, &with_tlv), None);
        check(&v2(1, 0x11, &v4[..8]), None);
        check(&v2(1, 0x77, &v4), None);
        check(&v2(3, 0x11, &v4), None);
        let mut version_3 = v2(1, 0x11, &v4);
        version_3[12] = 0x31;
        check(&version_3, None);
        check(&v2(1, 0x11, &[0; 5000]), None);
    }
}
