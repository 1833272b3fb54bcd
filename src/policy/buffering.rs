//! `proxy-buffering`, `proxy-request-buffering`, `proxy-buffer-size`, `proxy-buffers-number`,
//! `proxy-busy-buffers-size`, `proxy-max-temp-file-size`.

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec};
use super::global::Globals;
use crate::diagnostic::Severity;

const BUFFER_SIZE: Spec = Spec::new("proxy-buffer-size", Scope::Location, Risk::Low)
    .fidelity(Fidelity::Equivalent("heads up to 64 KiB pass unless a size is set explicitly"))
    .values("ConfigMap proxy-buffer-size (4k)", "16k")
    .doc("Largest response head; above it the answer is 502.");
const BUFFERS_NUMBER: Spec = Spec::new("proxy-buffers-number", Scope::Location, Risk::Low)
    .fidelity(Fidelity::AcceptedNoEffect("an answer is not read ahead of its client"))
    .values("ConfigMap proxy-buffers-number (4)", "8")
    .doc("Number of response buffers.");
const BUSY: Spec = Spec::new("proxy-busy-buffers-size", Scope::Location, Risk::Low)
    .fidelity(Fidelity::AcceptedNoEffect("buffers are written as soon as the client takes them"))
    .values("none", "8k")
    .doc("Part of the response buffers that may be busy sending.");
const BUFFERING: Spec = Spec::new("proxy-buffering", Scope::Location, Risk::Low)
    .fidelity(Fidelity::AcceptedNoEffect("an answer streams at the pace of its client, as with off"))
    .values("ConfigMap proxy-buffering (off)", "on")
    .doc("Read the response ahead of a slow client.");
const TEMP_FILE: Spec = Spec::new("proxy-max-temp-file-size", Scope::Location, Risk::Low)
    .fidelity(Fidelity::AcceptedNoEffect("answers never go to a file"))
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
    /// Size limit of a response head in bytes, only when `proxy-buffer-size` is set explicitly (`R-8`).
    pub header_bytes: Option<u32>,
}

impl Buffering {
    /// The ConfigMap's values.
    pub fn global(globals: &Globals) -> Self {
        Self { request: globals.proxy_request_buffering, header_bytes: globals.proxy_buffer_size }
    }

    /// Reads the family over the ConfigMap's values.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Self {
        let narrow = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
        let header_bytes = reader.size(&BUFFER_SIZE).map(narrow).ok().or(globals.proxy_buffer_size);
        // Read for their diagnostics only.
        reader.size(&BUSY);
        reader.size(&TEMP_FILE);
        reader.count(&BUFFERS_NUMBER);
        if reader.on_off(&BUFFERING).ok() == Some(true) {
            let reason = "has no effect: an answer streams at the pace of its client";
            reader.report(BUFFERING.name, Severity::Info, "NoEffect", reason, "");
        }
        Self { request: reader.on_off(&REQUEST).or(globals.proxy_request_buffering), header_bytes }
    }
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
        assert_eq!(buffering(&[]), Buffering { request: true, header_bytes: None });
    }

    #[test]
    fn a_buffer_size_is_a_limit_only_when_written() {
        assert_eq!(buffering(&[("proxy-buffer-size", "16k")]).header_bytes, Some(16384));
        assert_eq!(buffering(&[("proxy-buffer-size", "big")]).header_bytes, None);
    }

    #[test]
    fn what_has_no_effect_is_still_judged_and_said() {
        let codes = |name, value| {
            diagnostics(&[(name, value)], |reader| Buffering::read(reader, &Globals::default()))
        };
        assert_eq!(codes("proxy-buffering", "on"), ["NoEffect"]);
        assert!(codes("proxy-buffering", "off").is_empty());
        for name in
            ["proxy-buffering", "proxy-buffers-number", "proxy-max-temp-file-size", "proxy-request-buffering"]
        {
            assert_eq!(codes(name, "much"), ["InvalidAnnotation"], "{name}");
        }
        assert!(!buffering(&[("proxy-request-buffering", "off")]).request);
    }
}
