//! `proxy-connect-timeout`, `proxy-send-timeout`, `proxy-read-timeout`.

use std::time::Duration;

/// Timeouts towards a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To a usable connection.
    pub connect: Duration,
    /// Between two writes.
    pub send: Duration,
    /// Between two reads.
    pub read: Duration,
}
