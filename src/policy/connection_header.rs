//! `connection-proxy-header`: a fixed `Connection` field to the backend.

/// The value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionHeader {
    /// `close`.
    Close,
    /// `keep-alive`.
    KeepAlive,
}
