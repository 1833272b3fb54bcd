//! `proxy-next-upstream*`, `retry-non-idempotent`: when another endpoint is asked.

use std::time::Duration;

/// Which failures lead to another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryOn {
    /// `error`: no connection, broken connection.
    pub error: bool,
    /// `timeout`.
    pub timeout: bool,
    /// `invalid_header`: an answer that is no HTTP.
    pub invalid_header: bool,
    /// `http_500`.
    pub http_500: bool,
    /// `http_502`.
    pub http_502: bool,
    /// `http_503`.
    pub http_503: bool,
    /// `http_504`.
    pub http_504: bool,
    /// `http_403`.
    pub http_403: bool,
    /// `http_404`.
    pub http_404: bool,
    /// `http_429`.
    pub http_429: bool,
}

/// What went wrong with a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// The request could not be written in time.
    SendTimeout,
    /// No answer in time.
    ReadTimeout,
    /// The connection broke before an answer.
    Reset,
    /// The answer is no HTTP.
    InvalidHeader,
    /// The answer has this status.
    Status(u16),
}

/// Retry policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Conditions.
    pub on: RetryOn,
    /// Tries in all; 0 for no limit.
    pub tries: u32,
    /// Total time for tries after the first; `None` for no limit.
    pub timeout: Option<Duration>,
    /// POST, LOCK and PATCH too are tried again after they were sent.
    pub non_idempotent: bool,
}
