//! The targets: one function per parser of foreign bytes. A target returns when its promises hold and panics when one
//! does not. libFuzzer calls them through `fuzz_targets/`, `smoke` calls them on a stable toolchain.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use http::Method;
use narthex::model::{Ingress, Meta, ObjectKey};
use narthex::pattern::{Anchor, Case, Pattern};
use narthex::policy::annotation::Objects;
use narthex::policy::global::Globals;
use narthex::policy::registry;
use narthex::request::normalize as normalise;
use narthex::telemetry::access_log::{Clock, Escape, Format};
use narthex::telemetry::{FieldLookup, NoFields, Record, RequestLine, RouteLabels};
use narthex::wire::hpack::{Appetite, Decoder, Discard, Encoder, Line, Sink};
use narthex::wire::http2_head::{HeadDraft, TrailerDraft};
use narthex::wire::http2_session::{Limits, Session};
use narthex::wire::{
    BodyDecoder, ChunkLimits, Fields, FrameLimits, Framing, HeadLimits, Leniency, Parse, RequestParser,
    ResponseContext, ResponseLimits, ResponseParser, Step, parse_authority, parse_request_head,
    parse_response_head,
};

pub mod mutate;
mod world;

pub use world::{cookies, htpasswd, real_ip, rewrite_apply, snippet, stream_services, table};

#[allow(dead_code, reason = "the data plane uses more of it")]
#[path = "../../src/listener/proxy_protocol.rs"]
mod proxy_protocol;

#[allow(dead_code, reason = "the data plane uses more of it")]
#[path = "../../src/listener/client_hello.rs"]
mod client_hello;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 23] = [
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
    ("hpack", hpack),
    ("manifests_yaml", manifests_yaml),
    ("log_format", log_format),
    ("proxy_header", proxy_header),
    ("guard_vs_hyper", guard_vs_hyper),
    ("field_writer", field_writer),
    ("table", table),
    ("snippet", snippet),
    ("stream_services", stream_services),
    ("htpasswd", htpasswd),
    ("cookies", cookies),
    ("real_ip", real_ip),
    ("client_hello_peek", client_hello_peek),
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
    let read =
        || registry::read(&ingress, "nginx.ingress.kubernetes.io", true, &Globals::default(), Objects::NONE);
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

/// What a session makes of bytes and says to them does not depend on how they were cut.
pub fn http2_frames(data: &[u8]) {
    let limits = Limits {
        streams: 8,
        header_list: 4096,
        window: 16 * 1024,
        head: HeadLimits::default(),
        frames: FrameLimits::default(),
        provoked_resets: 16,
    };
    let judge = |size: usize| {
        let mut session = Session::new(limits);
        let (mut waiting, mut events) = (Vec::new(), Vec::new());
        for piece in data.chunks(size) {
            waiting.extend_from_slice(piece);
            let mut rest = &waiting[..];
            loop {
                match session.next(&mut rest, 0) {
                    Ok(Some(event)) => events.push(format!("{event:?}")),
                    Ok(None) => break,
                    Err(fatal) => return (events, Some(fatal), session.open(), session.output.len()),
                }
            }
            let left = rest.len();
            waiting.drain(..waiting.len() - left);
        }
        (events, None, session.open(), session.output.len())
    };
    let whole = judge(data.len().max(1));
    assert_eq!(whole, judge(1));
    assert_eq!(whole, judge(13));
}

/// Keeps fields that could be sent.
#[derive(Default)]
struct Sendable(Fields);

impl Sink for Sendable {
    fn line(&mut self, line: &Line<'_>) -> Appetite {
        // What no field may hold is left out.
        let _kept = self.0.append(line.name(), &line.value());
        Appetite::More
    }
}

/// Header blocks of one connection, each behind its length: whoever decodes them gets the same verdict and keeps the
/// same table, what is taken as a head is fit for one of HTTP/1, and what is encoded again is read as it was.
pub fn hpack(data: &[u8]) {
    let new = || Decoder::new(4096);
    let (mut heads, mut trailers, mut none, mut fields) = (new(), new(), new(), new());
    let (mut encoder, mut reader) = (Encoder::new(), new());
    let mut rest = data;
    while let Some((length, tail)) = rest.split_first() {
        let (block, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let (mut head, mut trailer, mut kept) =
            (HeadDraft::new(8192), TrailerDraft::new(8192), Sendable::default());
        let verdict = none.decode(block, &mut Discard);
        assert_eq!(heads.decode(block, &mut head), verdict);
        assert_eq!(trailers.decode(block, &mut trailer), verdict);
        assert_eq!(fields.decode(block, &mut kept), verdict);
        if verdict.is_err() {
            return;
        }
        if let Ok(taken) = head.finish(&HeadLimits::default(), true)
            && taken.refused.is_none()
        {
            let mut written = b"GET / HTTP/1.0\r\n".to_vec();
            for (name, value) in taken.head.fields.iter() {
                written.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
            }
            written.extend(b"\r\n");
            let Parse::Complete(again) = parse_request_head(&written, &HeadLimits::default()) else {
                panic!("no head of HTTP/1: {}", written.escape_ascii())
            };
            assert!(again.head.fields.iter().eq(taken.head.fields.iter()));
        }
        // Whether it is sound does not matter here.
        let _trailers = trailer.finish();
        let (mut out, mut read) = (Vec::new(), Sendable::default());
        encoder.section(&kept.0, &mut out);
        assert_eq!(reader.decode(&out, &mut read), Ok(()));
        let lower = kept.0.iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        assert!(lower.eq(read.0.iter().map(|(name, value)| (name.to_owned(), value))));
    }
}

/// Reading never fails, and the same text gives the same findings.
pub fn manifests_yaml(data: &[u8]) {
    let (one, two) = (narthex::manifest::read("a.yaml", data), narthex::manifest::read("a.yaml", data));
    let (world, found) = narthex::manifest::world([&one]);
    let (again, found_again) = narthex::manifest::world([&two]);
    assert_eq!(found, found_again, "the same text, the same findings");
    assert_eq!(world.ingresses.len(), again.ingresses.len());
}

/// One field, whatever is asked for.
struct Field<'f>(&'f [u8]);

impl FieldLookup for Field<'_> {
    fn each(&self, _name: &str, visit: &mut dyn FnMut(&[u8])) {
        visit(self.0);
    }
}

/// `format NUL bytes of a client`: one line, of bounded length, without a control byte of the client's.
pub fn log_format(data: &[u8]) {
    let Some((text, foreign)) = halves(data) else { return };
    let fields = Field(foreign);
    let record = Record {
        time: SystemTime::UNIX_EPOCH,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        peer: SocketAddr::from(([127, 0, 0, 1], 1)),
        listener: SocketAddr::from(([127, 0, 0, 1], 80)),
        proxy_protocol: None,
        forwarded: None,
        remote_user: Some(foreign),
        line: RequestLine::Raw(foreign),
        scheme: "http",
        host: "a.test",
        best_host: "a.test",
        uri: foreign,
        args: Some(foreign),
        request_fields: &fields,
        response_fields: &NoFields,
        upstream_fields: &fields,
        handshake: None,
        completed: true,
        request_id: "",
        connection: 1,
        connection_requests: 1,
        request_length: 1,
        request_time: Duration::ZERO,
        status: 200,
        bytes_sent: 1,
        body_bytes_sent: 1,
        tls_protocol: None,
        tls_cipher: None,
        tls_server_name: None,
        upstream_name: "",
        alternative_upstream_name: "",
        own: None,
        tries: &[],
        route: RouteLabels::NONE,
        local: None,
        place: None,
        trace: None,
    };
    let mut clock = Clock::system();
    for escape in [Escape::Default, Escape::Json] {
        let (format, _) = Format::compile(text, escape, |name| name.starts_with("own"));
        let mut line = Vec::new();
        format.render(&record, &mut clock, &mut line);
        assert!(line.len() <= text.len() + 17 * 1024 * 8, "{} bytes", line.len());
        // A tab may be the operator's own: `\\t` in the format.
        let tabs = text.contains("\\t");
        let raw = |byte: &u8| (*byte < 0x20 && !(tabs && *byte == b'\t')) || *byte == 0x7f;
        if !text.bytes().any(|byte| raw(&byte)) {
            assert!(!line.iter().any(raw), "{}", line.escape_ascii());
        }
    }
}

/// The verdict depends on the bytes only; a header ends within them, and asking for more is asking for progress.
pub fn proxy_header(data: &[u8]) {
    use proxy_protocol::{Parse, parse};
    let whole = parse(data);
    match whole {
        Parse::Done(length, _) => assert!(length <= data.len()),
        Parse::Need(length) => assert!(length > data.len()),
        Parse::Bad => {}
    }
    for end in 0..data.len() {
        match parse(&data[..end]) {
            Parse::Need(length) => assert!(length > end),
            early => {
                assert_eq!(early, whole, "a verdict stays");
                return;
            }
        }
    }
}

/// A verdict stays however many more bytes come, and a name is one.
pub fn client_hello_peek(data: &[u8]) {
    use client_hello::{Parse, parse};
    let whole = parse(data);
    if let Parse::Done(Some(name)) = &whole {
        assert!(!name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name:?}");
    }
    for end in 0..data.len() {
        match parse(&data[..end]) {
            Parse::Need => {}
            early => {
                assert_eq!(early, whole, "a verdict stays");
                return;
            }
        }
    }
}

/// A head that is accepted here is the same head to hyper's parser: method, target, fields and end.
pub fn guard_vs_hyper(data: &[u8]) {
    let Parse::Complete(ours) = parse_request_head(data, &HeadLimits::default()) else { return };
    // HTTP/1.2 to 1.9 are served as 1.1 (H1-11); hyper refuses them.
    let mut data = data.to_vec();
    if let Some(at) = data.windows(9).position(|text| text.starts_with(b"HTTP/1.") && text[8] == b'\r') {
        data[at + 7] = data[at + 7].min(b'1');
    }
    let data = &*data;
    let mut space = [httparse::EMPTY_HEADER; 256];
    let mut theirs = httparse::Request::new(&mut space);
    let verdict = theirs.parse(data);
    // Bytes from 0x80 on may stand in our targets as in nginx's; hyper refuses them.
    if ours.head.target.iter().any(|byte| !byte.is_ascii()) {
        return;
    }
    let consumed = match verdict {
        Ok(httparse::Status::Complete(consumed)) => consumed,
        other => panic!("{other:?}: {}", data.escape_ascii()),
    };
    assert_eq!(ours.consumed, consumed);
    assert_eq!(Some(ours.head.method.as_str()), theirs.method);
    let seen: Vec<(&str, &[u8])> = theirs.headers.iter().map(|field| (field.name, field.value)).collect();
    let kept: Vec<(&str, &[u8])> = ours.head.fields.iter().collect();
    assert_eq!(kept.len(), seen.len(), "{}", data.escape_ascii());
    for ((name, value), (their_name, their_value)) in kept.iter().zip(&seen) {
        assert!(name.eq_ignore_ascii_case(their_name));
        assert_eq!(value.trim_ascii(), their_value.trim_ascii());
    }
}

/// `name NUL value`: a field that is taken reads back as itself, alone (PT-7).
pub fn field_writer(data: &[u8]) {
    let Some((name, value)) = halves(data) else { return };
    let mut fields = narthex::wire::Fields::new();
    if fields.append(name, value).is_err() {
        return;
    }
    let mut head = b"GET / HTTP/1.1\r\nHost: a.test\r\n".to_vec();
    for (name, value) in fields.iter() {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    let mut space = [httparse::EMPTY_HEADER; 8];
    let mut read = httparse::Request::new(&mut space);
    assert!(matches!(read.parse(&head), Ok(httparse::Status::Complete(end)) if end == head.len()));
    assert_eq!(read.headers.len(), 2);
    assert!(read.headers[1].name.eq_ignore_ascii_case(name));
    assert_eq!(read.headers[1].value.trim_ascii(), value.trim_ascii());
}
