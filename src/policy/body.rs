//! `proxy-body-size`, `client-body-buffer-size`: how large a request body may be and how much of it stays in memory.

/// Limits of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes above which the answer is 413; `None` for no limit.
    pub max: Option<u64>,
    /// Bytes held in memory before a spool file is used.
    pub memory: u64,
}
