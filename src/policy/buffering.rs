//! `proxy-buffering`, `proxy-request-buffering`, `proxy-buffer-size`, `proxy-buffers-number`,
//! `proxy-busy-buffers-size`, `proxy-max-temp-file-size`.

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec};
use super::global::Globals;

const BUFFER_SIZE: Spec = Spec::new("proxy-buffer-size", Scope::Location, Risk::Low)
    .fidelity(Fidelity::Equivalent("heads up to 64 KiB pass unless a size is set explicitly"))
    .values("ConfigMap proxy-buffer-size (4k)", "16k")
    .doc("Largest response head; above it the answer is 502.");
const BUFFERS_NUMBER: Spec = Spec::new("proxy-buffers-number", Scope::Location, Risk::Low)
    .fidelity(Fidelity::Equivalent(
        "together with proxy-buffer-size it bounds what is read ahead; it counts with proxy-buffering only",
    ))
    .values("ConfigMap proxy-buffers-number (4)", "8")
    .doc("Number of response buffers.");
const BUSY: Spec = Spec::new("proxy-busy-buffers-size", Scope::Location, Risk::Low)
    .fidelity(Fidelity::AcceptedNoEffect("buffers are written as soon as the client takes them"))
    .values("none", "8k")
    .doc("Part of the response buffers that may be busy sending.");
const BUFFERING: Spec = Spec::new("proxy-buffering", Scope::Location, Risk::Low)
    .fidelity(Fidelity::Equivalent(
        "an answer is read ahead into memory, never into a file: at most 1 MiB, and within max-body-memory",
    ))
    .values("ConfigMap proxy-buffering (off)", "on")
    .doc("Read the response ahead of a slow client.");
const TEMP_FILE: Spec = Spec::new("proxy-max-temp-file-size", Scope::Location, Risk::Low)
    .fidelity(Fidelity::Equivalent(
        "what nginx would write to a file stays in memory, at most 1 MiB; 0 leaves the buffers alone",
    ))
    .values("ConfigMap proxy-max-temp-file-size (1024m)", "0")
    .doc("Bytes of a buffered response that may be written to a file; 0 for none.");
const REQUEST: Spec = Spec::new("proxy-request-buffering", Scope::Location, Risk::Low)
    .values("ConfigMap proxy-request-buffering (on)", "off")
    .doc("Read the whole request body before a backend is asked.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[BUFFER_SIZE, BUFFERS_NUMBER, BUSY, BUFFERING, TEMP_FILE, REQUEST];

/// Buffering of request bodies, and how large the head of an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffering {
    /// The whole request body is read before a backend is asked.
    pub request: bool,
    /// Bytes of an answer that are read ahead of its client; `None` where it streams at the client's pace.
    pub ahead: Option<u64>,
    /// Size limit of a response head in bytes, only when `proxy-buffer-size` is set explicitly (`R-8`).
    pub header_bytes: Option<u32>,
}

impl Buffering {
    /// The ConfigMap's values.
    pub fn global(globals: &Globals) -> Self {
        let ahead = globals.proxy_buffering.then(|| {
            ahead(globals.proxy_buffers_number, globals.proxy_buffer_size, globals.proxy_max_temp_file_size)
        });
        Self { request: globals.proxy_request_buffering, ahead, header_bytes: globals.proxy_buffer_size }
    }

    /// Reads the family over the ConfigMap's values.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Self {
        let narrow = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
        let header_bytes = reader.size(&BUFFER_SIZE).map(narrow).ok().or(globals.proxy_buffer_size);
        // Read for its diagnostics only.
        reader.size(&BUSY);
        let temp = reader.size(&TEMP_FILE).or(globals.proxy_max_temp_file_size);
        let number = reader.count(&BUFFERS_NUMBER).or(globals.proxy_buffers_number);
        let on = reader.on_off(&BUFFERING).or(globals.proxy_buffering);
        Self {
            request: reader.on_off(&REQUEST).or(globals.proxy_request_buffering),
            ahead: on.then(|| ahead(number, header_bytes, temp)),
            header_bytes,
        }
    }
}

impl Buffering {
    /// What a snippet says in place of that: `proxy_buffering`, bytes of `proxy_buffers`, `proxy_max_temp_file_size`.
    pub(super) fn buffer(&mut self, on: Option<bool>, buffers: Option<u64>, temp: Option<u64>) {
        if !on.unwrap_or_else(|| self.ahead.is_some()) {
            self.ahead = None;
            return;
        }
        if on.is_none() && buffers.is_none() && temp.is_none() {
            return;
        }
        let size = u64::from(self.header_bytes.unwrap_or(4 << 10));
        let buffers = buffers.unwrap_or_else(|| size.saturating_mul(4)).max(1 << 10);
        self.ahead = Some(buffers.saturating_add(temp.unwrap_or(MOST_AHEAD)).min(MOST_AHEAD));
    }
}

/// Most bytes of one answer that are read ahead.
pub const MOST_AHEAD: u64 = 1 << 20;

/// What nginx would hold of an answer: its buffers (4k each unless a size is set), then a file.
fn ahead(number: u32, size: Option<u32>, temp: u64) -> u64 {
    let size = u64::from(size.unwrap_or(4 << 10)).max(1 << 10);
    let buffers = u64::from(number.max(1)).saturating_mul(size);
    buffers.saturating_add(temp).min(MOST_AHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{diagnostics, read};

    fn buffering(annotations: &[(&str, &str)]) -> Buffering {
        read(annotations, |reader| Buffering::read(reader, &Globals::default()))
    }

    #[test]
    fn without_annotations_requests_are_read_whole_and_heads_have_the_limit_of_all() {
        assert_eq!(buffering(&[]), Buffering { request: true, ahead: None, header_bytes: None });
    }

    #[test]
    fn a_buffer_size_is_a_limit_only_when_written() {
        assert_eq!(buffering(&[("proxy-buffer-size", "16k")]).header_bytes, Some(16384));
        assert_eq!(buffering(&[("proxy-buffer-size", "big")]).header_bytes, None);
    }

    #[test]
    fn an_answer_is_read_ahead_only_where_asked_and_within_bounds() {
        let on = ("proxy-buffering", "on");
        for (annotations, expect) in [
            (vec![], None),
            (vec![("proxy-buffering", "off")], None),
            (vec![("proxy-buffering", "perhaps")], None),
            (vec![("proxy-buffers-number", "8")], None),
            (vec![on], Some(1 << 20)),
            (vec![on, ("proxy-max-temp-file-size", "0")], Some(16 << 10)),
            (vec![on, ("proxy-max-temp-file-size", "0"), ("proxy-buffers-number", "8")], Some(32 << 10)),
            (
                vec![on, ("proxy-max-temp-file-size", "64k"), ("proxy-buffer-size", "8k")],
                Some((32 << 10) + (64 << 10)),
            ),
            (vec![on, ("proxy-buffers-number", "4000000000")], Some(1 << 20)),
        ] {
            assert_eq!(buffering(&annotations).ahead, expect, "{annotations:?}");
        }
    }

    #[test]
    fn what_has_no_effect_is_still_judged_and_said() {
        let codes = |name, value| {
            diagnostics(&[(name, value)], |reader| Buffering::read(reader, &Globals::default()))
        };
        for name in
            ["proxy-buffering", "proxy-buffers-number", "proxy-max-temp-file-size", "proxy-request-buffering"]
        {
            assert_eq!(codes(name, "much"), ["InvalidAnnotation"], "{name}");
        }
        assert!(!buffering(&[("proxy-request-buffering", "off")]).request);
    }
}
