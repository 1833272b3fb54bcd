//! `proxy-buffering`, `proxy-request-buffering`, `proxy-buffer-size`, `proxy-buffers-number`,
//! `proxy-busy-buffers-size`, `proxy-max-temp-file-size`.

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
