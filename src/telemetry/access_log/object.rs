//! `--log-format json`: one JSON object per request with stable keys. `docs/access-log.md` lists them.
//!
//! Every key is always there; a missing value is `null`. `truncated` alone appears only when something was cut.

use std::time::Duration;

use super::clock::{Clock, since_epoch};
use super::escape::{Escape, LINE_MAX, Out};
use crate::telemetry::record::{FieldLookup, Record, RequestLine};

/// Room for keys, punctuation and values that are ours.
const FRAME: usize = 3 * 1024;

/// Appends the object, without a line feed.
pub(super) fn render(record: &Record<'_>, clock: &mut Clock, buffer: &mut Vec<u8>) {
    let mut object = Object { out: Out::new(buffer, Escape::Json, LINE_MAX - FRAME) };
    object.out.literal(b"{\"time\":\"");
    object.out.begin_field();
    object.out.plain(clock.utc_second(record.time).as_bytes());
    let millis = since_epoch(record.time).subsec_millis();
    object.out.literal(format!(".{millis:03}Z\"").as_bytes());
    object.display("remote_addr", Some(record.client));
    object.text("remote_user", record.remote_user);
    object.text("request_id", present(record.request_id));
    let (method, uri, protocol) = match record.line {
        RequestLine::Parsed { method, target, protocol } => {
            (Some(method.as_bytes()), Some(target), Some(protocol.as_bytes()))
        }
        RequestLine::Raw(bytes) => (None, Some(bytes), None),
        RequestLine::Absent => (None, None, None),
    };
    object.text("method", method);
    object.text("scheme", present(record.scheme));
    object.text("host", present(record.host));
    object.text("uri", uri);
    object.text("protocol", protocol);
    object.number("status", record.status.into());
    object.number("bytes_sent", record.bytes_sent);
    object.number("body_bytes_sent", record.body_bytes_sent);
    object.number("request_length", record.request_length);
    object.seconds("request_time", Some(record.request_time));
    object.field("referer", record.request_fields, "referer");
    object.field("user_agent", record.request_fields, "user-agent");
    object.text("namespace", present(record.route.namespace));
    object.text("ingress", present(record.route.ingress));
    object.text("service", present(record.route.service));
    object.text("service_port", present(record.route.service_port));
    object.text("path", present(record.route.path));
    object.text("upstream", present(record.upstream_name));
    object.text("alternative_upstream", present(record.alternative_upstream_name));
    object.tries(record);
    if let Some(trace) = record.trace {
        object.text("trace_id", present(trace.trace_id));
        object.text("span_id", present(trace.span_id));
    }
    object.text("reason", record.local.and_then(|local| present(local.kind)));
    object.text("rule", record.local.and_then(|local| present(local.rule)));
    object.text("tls_protocol", record.tls_protocol.map(str::as_bytes));
    object.text("tls_cipher", record.tls_cipher.map(str::as_bytes));
    if object.out.is_truncated() {
        object.out.literal(b",\"truncated\":true");
    }
    object.out.literal(b"}");
}

fn present(text: &str) -> Option<&[u8]> {
    (!text.is_empty()).then_some(text.as_bytes())
}

struct Object<'o> {
    out: Out<'o>,
}

impl Object<'_> {
    fn key(&mut self, key: &str) {
        self.out.literal(b",\"");
        self.out.literal(key.as_bytes());
        self.out.literal(b"\":");
        self.out.begin_field();
    }

    fn text(&mut self, key: &str, value: Option<&[u8]>) {
        self.key(key);
        match value {
            Some(value) => {
                self.out.literal(b"\"");
                self.out.text(value);
                self.out.literal(b"\"");
            }
            None => self.out.literal(b"null"),
        }
    }

    fn display(&mut self, key: &str, value: Option<impl std::fmt::Display>) {
        self.key(key);
        match value {
            Some(value) => {
                self.out.literal(b"\"");
                self.out.display(value);
                self.out.literal(b"\"");
            }
            None => self.out.literal(b"null"),
        }
    }

    fn field(&mut self, key: &str, fields: &dyn FieldLookup, name: &str) {
        self.key(key);
        let mut found = false;
        let out = &mut self.out;
        fields.each(name, &mut |value| {
            out.literal(if found { b", " } else { b"\"" });
            out.text(value);
            found = true;
        });
        out.literal(if found { b"\"" } else { b"null" });
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.out.literal(value.to_string().as_bytes());
    }

    fn seconds(&mut self, key: &str, value: Option<Duration>) {
        self.key(key);
        match value {
            Some(value) => {
                let text = format!("{}.{:03}", value.as_secs(), value.subsec_millis());
                self.out.literal(text.as_bytes());
            }
            None => self.out.literal(b"null"),
        }
    }

    /// At most eight tries are shown; more is a sign of a broken limit and would not fit the frame.
    fn tries(&mut self, record: &Record<'_>) {
        self.key("upstreams");
        self.out.literal(b"[");
        for (index, one) in record.tries.iter().take(8).enumerate() {
            self.out.literal(if index > 0 { b",{\"attempt\":" } else { b"{\"attempt\":" });
            self.out.literal((index + 1).to_string().as_bytes());
            self.display("addr", one.address);
            self.key("status");
            match one.status {
                Some(status) => self.out.literal(status.to_string().as_bytes()),
                None => self.out.literal(b"null"),
            }
            self.number("response_length", one.response_length);
            self.seconds("connect_time", one.connect_time);
            self.seconds("header_time", one.header_time);
            self.seconds("response_time", one.response_time);
            self.out.literal(b"}");
        }
        self.out.literal(b"]");
    }
}
