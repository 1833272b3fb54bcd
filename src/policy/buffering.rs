//! `proxy-buffering`, `proxy-request-buffering`, `proxy-buffer-size`, `proxy-buffers-number`,
//! `proxy-busy-buffers-size`, `proxy-max-temp-file-size`.

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec};
use super::global::Globals;

const BUFFER_SIZE: Spec = Spec::new("proxy-buffer-size", Scope::Location, Risk::Low)
    .fidelity(Fidelity::Equivalent("heads up to 64 KiB pass unless a size is set explicitly"))
    .values("ConfigMap proxy-buffer-size (4k)", "16k")
    .doc("Largest response head; above it the answer is 502. Also the size of one response buffer.");
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

/// Size of a response buffer where none is set.
const DEFAULT_BUFFER: u32 = 4096;

/// Buffering of bodies in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffering {
    /// The whole request body is read before a backend is asked.
    pub request: bool,
    /// The response is read ahead of a slow client.
    pub response: bool,
    /// Size limit of a response head in bytes, only when `proxy-buffer-size` is set explicitly (`R-8`).
    pub header_bytes: Option<u32>,
    /// Size of one response buffer in bytes.
    pub buffer_bytes: u32,
    /// Number of response buffers.
    pub buffers: u32,
    /// Bytes of a response that may be spooled to a file while buffering; 0 for none.
    pub max_temp_file: u64,
}

impl Buffering {
    /// The ConfigMap's values.
    pub fn global(globals: &Globals) -> Self {
        Self {
            request: globals.proxy_request_buffering,
            response: globals.proxy_buffering,
            header_bytes: globals.proxy_buffer_size,
            buffer_bytes: globals.proxy_buffer_size.unwrap_or(DEFAULT_BUFFER),
            buffers: globals.proxy_buffers_number,
            max_temp_file: globals.proxy_max_temp_file_size,
        }
    }

    /// Reads the family over the ConfigMap's values.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Self {
        let narrow = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
        let header_bytes = reader.size(&BUFFER_SIZE).map(narrow).ok().or(globals.proxy_buffer_size);
        // Read for its diagnostics only.
        reader.size(&BUSY);
        Self {
            request: reader.on_off(&REQUEST).or(globals.proxy_request_buffering),
            response: reader.on_off(&BUFFERING).or(globals.proxy_buffering),
            header_bytes,
            buffer_bytes: header_bytes.unwrap_or(DEFAULT_BUFFER),
            buffers: reader.count(&BUFFERS_NUMBER).or(globals.proxy_buffers_number),
            max_temp_file: reader.size(&TEMP_FILE).or(globals.proxy_max_temp_file_size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::read;

    fn buffering(annotations: &[(&str, &str)]) -> Buffering {
        read(annotations, |reader| Buffering::read(reader, &Globals::default()))
    }

    #[test]
    fn defaults_are_those_of_ingress_nginx() {
        let expect = Buffering {
            request: true,
            response: false,
            header_bytes: None,
            buffer_bytes: 4096,
            buffers: 4,
            max_temp_file: 1 << 30,
        };
        assert_eq!(buffering(&[]), expect);
    }

    #[test]
    fn a_buffer_size_is_a_limit_only_when_written() {
        assert_eq!(buffering(&[("proxy-buffer-size", "16k")]).header_bytes, Some(16384));
        assert_eq!(buffering(&[("proxy-buffer-size", "big")]).header_bytes, None);
    }

    #[test]
    fn switches_and_sizes_are_read() {
        let read = buffering(&[
            ("proxy-buffering", "on"),
            ("proxy-request-buffering", "off"),
            ("proxy-max-temp-file-size", "0"),
            ("proxy-buffers-number", "8"),
        ]);
        assert_eq!((read.response, read.request, read.max_temp_file, read.buffers), (true, false, 0, 8));
    }
}
