//! Databases in MaxMind's format, written small: one network of eight bits, values of a few bytes.

/// Values of a database.
pub enum Value {
    /// UTF-8.
    Text(&'static str),
    /// An unsigned number.
    Number(u32),
    /// A small number, as readers expect some of them.
    Short(u16),
    /// A large number.
    Long(u64),
    /// Yes or no.
    Truth(bool),
    /// Values by name.
    Map(Vec<(&'static str, Self)>),
    /// Values in order.
    List(Vec<Self>),
}

use Value::{List, Long, Map, Number, Short, Text, Truth};

impl Value {
    /// Section "Data section" of the format: a control byte of type and size, then the bytes.
    fn write(&self, out: &mut Vec<u8>) {
        let size = |length: usize| u8::try_from(length).expect("small values only");
        match self {
            Text(text) => {
                assert!(text.len() < 29);
                out.push(2 << 5 | size(text.len()));
                out.extend_from_slice(text.as_bytes());
            }
            Number(number) => {
                out.push(6 << 5 | 4);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Short(number) => {
                out.push(5 << 5 | 2);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Long(number) => {
                out.extend_from_slice(&[8, 9 - 7]);
                out.extend_from_slice(&number.to_be_bytes());
            }
            // Extended types: the control byte names none, the next one is the type less seven.
            Truth(truth) => out.extend_from_slice(&[u8::from(*truth), 14 - 7]),
            List(items) => {
                out.extend_from_slice(&[size(items.len()), 11 - 7]);
                items.iter().for_each(|item| item.write(out));
            }
            Map(pairs) => {
                out.push(7 << 5 | size(pairs.len()));
                for (key, value) in pairs {
                    Text(key).write(out);
                    value.write(out);
                }
            }
        }
    }
}

/// A database of IPv4 that knows one network, `first`.0.0.0/8.
pub fn database(kind: &'static str, first: u8, record: &Value) -> Vec<u8> {
    const NODES: u32 = 8;
    let mut out = Vec::new();
    for bit in 0..NODES {
        let (next, nothing) = (if bit + 1 == NODES { NODES + 16 } else { bit + 1 }, NODES);
        let pair = if first >> (7 - bit) & 1 == 0 { [next, nothing] } else { [nothing, next] };
        // Records of 24 bits.
        pair.iter().for_each(|record| out.extend_from_slice(&record.to_be_bytes()[1..]));
    }
    out.extend_from_slice(&[0; 16]);
    record.write(&mut out);
    out.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    let metadata = Map(vec![
        ("binary_format_major_version", Short(2)),
        ("binary_format_minor_version", Short(0)),
        ("build_epoch", Long(1_700_000_000)),
        ("database_type", Text(kind)),
        ("description", Map(vec![])),
        ("ip_version", Short(4)),
        ("languages", List(vec![])),
        ("node_count", Number(NODES)),
        ("record_size", Short(24)),
    ]);
    metadata.write(&mut out);
    out
}
