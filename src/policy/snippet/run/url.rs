//! Texts as they stand in a URL, and the content type of a path.

/// Content type by the extension of a path, as nginx's own list has the usual ones; it beats `default_type`.
pub(super) fn content_type(path: &[u8]) -> Option<&'static str> {
    let name = path.rsplit(|byte| *byte == b'/').next()?;
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    let extension = std::str::from_utf8(name.get(dot + 1..)?).ok()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "html" | "htm" | "shtml" => "text/html",
        "css" => "text/css",
        "xml" => "text/xml",
        "txt" => "text/plain",
        "js" => "application/javascript",
        "json" => "application/json",
        "pdf" => "application/pdf",
        "gif" => "image/gif",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "svg" | "svgz" => "image/svg+xml",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "zip" => "application/zip",
        _ => return None,
    })
}

/// A group as part of a URL: what could end or split it is percent-encoded.
pub(super) fn quote(text: &[u8]) -> Vec<u8> {
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
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
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
