//! What a parser says about bytes: more needed, complete, refused.

use http::StatusCode;

/// Outcome of parsing a message head from the bytes at hand.
#[derive(Debug)]
pub enum Parse<T> {
    /// Nothing wrong so far, the end is not there yet.
    Incomplete,
    /// All of it.
    Complete(T),
    /// A rule is broken; no further byte can mend it.
    Reject(Reject),
}

impl<T> Parse<T> {
    /// From the shape parsers use inside, where `?` carries the refusal.
    pub(crate) fn of(outcome: Result<Option<T>, Reject>) -> Self {
        match outcome {
            Ok(None) => Self::Incomplete,
            Ok(Some(value)) => Self::Complete(value),
            Err(reject) => Self::Reject(reject),
        }
    }
}

/// A broken rule of `spec/security.md`, sections C.2 (requests, `H1-..`) and C.7 (responses, `R-..`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {reason}")]
pub struct Reject {
    /// Status to answer the client with (for responses always 502).
    pub status: StatusCode,
    /// Rule, for metrics and logs: `H1-01` …
    pub rule: &'static str,
    /// What was wrong; constant text without bytes of the message.
    pub reason: &'static str,
}

impl Reject {
    /// A refusal with the status of its own.
    pub(crate) const fn new(status: StatusCode, rule: &'static str, reason: &'static str) -> Self {
        Self { status, rule, reason }
    }

    /// A refusal with 400.
    pub(crate) const fn bad(rule: &'static str, reason: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, rule, reason)
    }

    /// A refusal of a backend's answer.
    pub(crate) const fn gateway(rule: &'static str, reason: &'static str) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, rule, reason)
    }
}
