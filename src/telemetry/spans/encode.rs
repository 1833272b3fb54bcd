//! Spans as OTLP has them: Protocol Buffers of `opentelemetry/proto/trace/v1/trace.proto`, by hand, because it is six
//! messages of four kinds of fields. The tests read them back with `prost`.

use std::time::{Duration, SystemTime};

use super::super::access_log::clock::since_epoch;

/// Bytes of one text; longer ones are cut.
const MAX_TEXT: usize = 4096;
/// `SPAN_KIND_SERVER`.
const SERVER: u64 = 2;

/// One finished span of kind server.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
    /// The span above it.
    pub parent: Option<[u8; 8]>,
    /// `tracestate`; empty for none.
    pub state: &'a [u8],
    /// Name.
    pub name: &'a str,
    /// When it ended.
    pub end: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Facts.
    pub attributes: &'a [(&'static str, Attribute<'a>)],
}

/// Value of a fact.
#[derive(Debug, Clone, Copy)]
pub enum Attribute<'a> {
    /// Text; bytes that are no UTF-8 are replaced.
    Text(&'a [u8]),
    /// A number.
    Number(i64),
}

impl Span<'_> {
    /// The message `Span`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        bytes(&mut out, 1, &self.trace_id);
        bytes(&mut out, 2, &self.span_id);
        if !self.state.is_empty() {
            text(&mut out, 3, self.state);
        }
        if let Some(parent) = self.parent {
            bytes(&mut out, 4, &parent);
        }
        text(&mut out, 5, self.name.as_bytes());
        number(&mut out, 6, SERVER);
        let end = nanoseconds(since_epoch(self.end));
        let took = nanoseconds(self.took);
        fixed(&mut out, 7, end.saturating_sub(took));
        fixed(&mut out, 8, end);
        for (key, value) in self.attributes {
            attribute(&mut out, 9, key, *value);
        }
        out
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The message `ExportTraceServiceRequest` of spans of one resource. `scope` is name and version of who made them.
pub fn request(resource: &[(String, String)], scope: (&str, &str), spans: &[Vec<u8>]) -> Vec<u8> {
    let mut of_resource = Vec::new();
    for (key, value) in resource {
        attribute(&mut of_resource, 1, key, Attribute::Text(value.as_bytes()));
    }
    let mut of_scope = Vec::new();
    text(&mut of_scope, 1, scope.0.as_bytes());
    text(&mut of_scope, 2, scope.1.as_bytes());
    let mut scope_spans = Vec::with_capacity(spans.iter().map(|span| span.len() + 4).sum::<usize>() + 64);
    bytes(&mut scope_spans, 1, &of_scope);
    for span in spans {
        bytes(&mut scope_spans, 2, span);
    }
    let mut resource_spans = Vec::with_capacity(scope_spans.len() + of_resource.len() + 16);
    bytes(&mut resource_spans, 1, &of_resource);
    bytes(&mut resource_spans, 2, &scope_spans);
    let mut out = Vec::with_capacity(resource_spans.len() + 8);
    bytes(&mut out, 1, &resource_spans);
    out
}

/// `KeyValue` with `AnyValue`.
fn attribute(out: &mut Vec<u8>, field: u64, key: &str, value: Attribute<'_>) {
    let mut any = Vec::new();
    match value {
        Attribute::Text(value) => text(&mut any, 1, value),
        Attribute::Number(value) => number(&mut any, 3, u64::from_ne_bytes(value.to_ne_bytes())),
    }
    let mut pair = Vec::with_capacity(key.len() + any.len() + 8);
    text(&mut pair, 1, key.as_bytes());
    bytes(&mut pair, 2, &any);
    bytes(out, field, &pair);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

/// Wire type 2.
fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Wire type 2, of UTF-8.
fn text(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    let value = value.get(..MAX_TEXT).unwrap_or(value);
    bytes(out, field, String::from_utf8_lossy(value).as_bytes());
}

/// Wire type 0.
fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

/// Wire type 1.
fn fixed(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_protocol_buffers_have_them() {
        for (value, expect) in [(0, &[0][..]), (1, &[1]), (127, &[127]), (128, &[0x80, 1]), (300, &[0xac, 2])]
        {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out, expect, "{value}");
        }
        let mut out = Vec::new();
        varint(&mut out, u64::MAX);
        assert_eq!(out.len(), 10);
    }

    #[test]
    fn a_span_stands_on_the_wire_byte_for_byte() {
        let span = Span {
            trace_id: [1; 16],
            span_id: [2; 8],
            parent: None,
            state: b"",
            name: "/",
            end: SystemTime::UNIX_EPOCH + Duration::from_nanos(5),
            took: Duration::from_nanos(3),
            attributes: &[("a", Attribute::Number(7)), ("b", Attribute::Text(b"x\xff"))],
        };
        let mut expect = vec![0x0a, 16];
        expect.extend([1; 16]);
        expect.extend([0x12, 8]);
        expect.extend([2; 8]);
        expect.extend([0x2a, 1, b'/', 0x30, 2]);
        expect.extend([0x39, 2, 0, 0, 0, 0, 0, 0, 0, 0x41, 5, 0, 0, 0, 0, 0, 0, 0]);
        expect.extend([0x4a, 7, 0x0a, 1, b'a', 0x12, 2, 0x18, 7]);
        expect.extend([0x4a, 11, 0x0a, 1, b'b', 0x12, 6, 0x0a, 4, b'x', 0xef, 0xbf, 0xbd]);
        assert_eq!(span.encode(), expect);
    }
}
