//! Texts as nginx writes them into the URL of a redirect that a rewrite makes. `rewrite` and the `rewrite` directive of
//! snippets use it.

/// A group as part of a URL: what could end or split it is percent-encoded.
pub(in crate::policy) fn quote(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match *byte {
            0..=0x20 | 0x7f..=0xff | b'"' | b'#' | b'%' | b'&' | b'+' | b'?' => {
                out.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
            plain => out.push(plain),
        }
    }
    out
}

/// As nginx writes a redirect: triples of visible characters above `%` are decoded, up to the query.
pub(in crate::policy) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'?' {
            break;
        }
        let triple = (*first == b'%').then(|| after.get(..2)).flatten();
        let value = triple
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(|value| (b'&'..0x7f).contains(value));
        match value {
            Some(value) => {
                out.push(value);
                rest = after.get(2..).unwrap_or_default();
                if value == b'?' {
                    break;
                }
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out.extend_from_slice(rest);
    out
}
