//! The targets: one function per parser of foreign bytes. A target returns when its promises hold and panics when one
//! does not. libFuzzer calls them through `fuzz_targets/`, `smoke` calls them on a stable toolchain.

use std::collections::BTreeMap;

use http::Method;
use narthex::model::{Ingress, Meta, ObjectKey};
use narthex::pattern::{Anchor, Case, Pattern};
use narthex::policy::global::Globals;
use narthex::policy::{registry, rewrite};
use narthex::request::normalize as normalise;
use narthex::wire::{
    BodyDecoder, ChunkLimits, FrameCounter, FrameLimits, Framing, HeadLimits, Leniency, Parse, RequestParser,
    ResponseContext, ResponseLimits, ResponseParser, Step, parse_authority, parse_request_head,
    parse_response_head,
};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 10] = [
    ("normalize", normalize),
    ("host_parse", host_parse),
    ("request_head", request_head),
    ("response_head", response_head),
    ("chunked", chunked),
    ("pattern", pattern),
    ("rewrite_apply", rewrite_apply),
    ("annotations", annotations),
    ("configmap", configmap),
    ("http2_frames", http2_frames),
];

/// A normalised path starts with a slash, climbs nowhere, and normalising decodes once only.
pub fn normalize(data: &[u8]) {
    let Ok(path) = normalise(data) else { return };
    let bytes = path.as_bytes();
    assert_eq!(bytes.first(), Some(&b'/'));
    assert!(!bytes.contains(&0) && !bytes.windows(2).any(|pair| pair == b"//"));
    assert!(!bytes.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")));
    let mut encoded = Vec::new();
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            encoded.push(*byte);
        } else {
            encoded.extend(format!("%{byte:02X}").into_bytes());
        }
    }
    if let Ok(again) = normalise(&encoded) {
        assert_eq!(again.as_bytes(), bytes, "normalising is idempotent");
    }
}

/// An accepted authority is made of its parts and nothing else.
pub fn host_parse(data: &[u8]) {
    let Ok(authority) = parse_authority(data) else { return };
    assert!(data.starts_with(authority.host.as_bytes()));
    assert!(!authority.lookup_host().is_empty());
    assert!(authority.host.bytes().all(|byte| byte > b' ' && byte < 0x7f && !b"/\\@,\"'%".contains(&byte)));
}

/// The verdict depends on the bytes only, never on how they were cut, and an accepted head holds no control byte.
pub fn request_head(data: &[u8]) {
    let limits = HeadLimits::default();
    let whole = parse_request_head(data, &limits);
    let mut parser = RequestParser::default();
    let mut pieces = Parse::Incomplete;
    for end in 1..=data.len() {
        pieces = parser.parse(&data[..end], &limits);
        if !matches!(pieces, Parse::Incomplete) {
            break;
        }
    }
    match (&whole, &pieces) {
        (Parse::Complete(one), Parse::Complete(two)) => {
            assert_eq!(
                (one.consumed, one.framing, one.keep_alive),
                (two.consumed, two.framing, two.keep_alive)
            );
            for (name, value) in one.head.fields.iter() {
                assert!(!name.is_empty() && !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            }
            assert!(!one.head.target.iter().any(|byte| *byte <= b' '));
        }
        (Parse::Reject(one), Parse::Reject(two)) => assert_eq!(one.status, two.status),
        (Parse::Incomplete, Parse::Incomplete) => {}
        other => panic!("{other:?}"),
    }
}

/// As [`request_head`], for the lenient side.
pub fn response_head(data: &[u8]) {
    let (context, limits) = (ResponseContext::of(&Method::GET), ResponseLimits::default());
    let whole = parse_response_head(data, context, &limits);
    let mut parser = ResponseParser::default();
    let mut pieces = Parse::Incomplete;
    for end in 1..=data.len() {
        pieces = parser.parse(&data[..end], context, &limits);
        if !matches!(pieces, Parse::Incomplete) {
            break;
        }
    }
    match (&whole, &pieces) {
        (Parse::Complete(one), Parse::Complete(two)) => {
            assert_eq!(
                (one.consumed, one.framing, one.head.status),
                (two.consumed, two.framing, two.head.status)
            );
            for (name, value) in one.head.fields.iter() {
                assert!(!name.is_empty() && !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            }
        }
        (Parse::Reject(_), Parse::Reject(_)) | (Parse::Incomplete, Parse::Incomplete) => {}
        other => panic!("{other:?}"),
    }
}

/// The same data and the same end come out, however the bytes are cut.
pub fn chunked(data: &[u8]) {
    for leniency in [Leniency::Strict, Leniency::Backend] {
        let whole = decode(data, data.len().max(1), leniency);
        for size in [1, 3, 16] {
            let pieces = decode(data, size, leniency);
            assert_eq!(whole.is_err(), pieces.is_err());
            if let (Ok(one), Ok(two)) = (&whole, &pieces) {
                assert_eq!(one, two);
            }
        }
    }
}

/// The data, and how many bytes the body took if it ended.
fn decode(data: &[u8], size: usize, leniency: Leniency) -> Result<(Vec<u8>, Option<usize>), ()> {
    let mut decoder = BodyDecoder::new(Framing::Chunked, leniency, ChunkLimits::default());
    let (mut body, mut used) = (Vec::new(), 0);
    for piece in data.chunks(size) {
        let mut rest = piece;
        loop {
            match decoder.decode(rest).map_err(|_| ())? {
                Step::More => {
                    used += rest.len();
                    break;
                }
                Step::Data(range) => {
                    body.extend_from_slice(&rest[range.clone()]);
                    used += range.end;
                    rest = &rest[range.end..];
                }
                Step::End(taken) => return Ok((body, Some(used + taken))),
            }
        }
    }
    Ok((body, None))
}

fn halves(data: &[u8]) -> Option<(&str, &[u8])> {
    let at = data.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(&data[..at]).ok()?, &data[at + 1..]))
}

/// `pattern NUL input`: no panic; a match lies in the input.
pub fn pattern(data: &[u8]) {
    let Some((text, input)) = halves(data) else { return };
    for case in [Case::Sensitive, Case::Insensitive] {
        let Ok(pattern) = Pattern::compile(text, case, Anchor::Start) else { continue };
        if let Ok(Some(found)) = pattern.find(input) {
            let (start, end) = found.span();
            assert!(start <= end && end <= input.len());
        }
    }
}

/// `pattern NUL target NUL path`: the output is bounded and can stand in a request line.
pub fn rewrite_apply(data: &[u8]) {
    let Some((text, rest)) = halves(data) else { return };
    let Some((target, path)) = halves(rest) else { return };
    let (Ok(pattern), Ok(path)) = (Pattern::compile(text, Case::Insensitive, Anchor::Start), normalise(path))
    else {
        return;
    };
    let Ok(target) = rewrite::Substitution::parse(target) else { return };
    if let Ok(Some(found)) = pattern.find(path.as_bytes()) {
        assert!(target.expand(&found).len() <= 64 * (path.as_bytes().len() + 1) * (data.len() + 1));
    }
}

/// Lines `name=value`: reading never fails, and the same text gives the same policies.
pub fn annotations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut meta = Meta::named(ObjectKey::new("default", "app"));
    meta.annotations = text
        .split('\u{1}')
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (format!("nginx.ingress.kubernetes.io/{name}"), value.to_owned()))
        .collect();
    let ingress =
        Ingress { meta, class_name: None, default_backend: None, rules: Vec::new(), tls: Vec::new() };
    let read = || registry::read(&ingress, "nginx.ingress.kubernetes.io", true, &Globals::default());
    let (one, two) = (read(), read());
    assert_eq!(one.1, two.1, "the same text, the same findings");
}

/// Lines `key=value`: reading never fails.
pub fn configmap(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let data: BTreeMap<String, String> = text
        .split('\u{1}')
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let (_, one) = Globals::parse_data(&data);
    let (_, two) = Globals::parse_data(&data);
    assert_eq!(one, two, "the same text, the same findings");
}

/// The verdict does not depend on how the bytes were cut.
pub fn http2_frames(data: &[u8]) {
    let judge = |size: usize| {
        let mut counter = FrameCounter::new(FrameLimits::default());
        let verdict = data.chunks(size).try_for_each(|piece| counter.received(piece, 0));
        (verdict, counter.last_stream())
    };
    let whole = judge(data.len().max(1));
    assert_eq!(whole, judge(1));
    assert_eq!(whole, judge(13));
}
