//! Why a try at a backend gave no answer, with the facts that a retry decision needs.

use std::io;

use crate::message::BodyError;
use crate::policy::retry::Failure;
use crate::wire::Reject;

/// A failed try.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct UpstreamError {
    /// What happened.
    pub kind: ErrorKind,
    /// The connection came from the pool.
    pub reused: bool,
    /// At least one byte of the request was written.
    pub sent: bool,
    /// At least one byte of an answer was read.
    pub answered: bool,
}

/// What happened.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(io::ErrorKind),
    /// No connection, or no finished TLS handshake, in time.
    #[error("connecting took longer than allowed")]
    ConnectTimeout,
    /// The TLS handshake failed or the certificate was refused.
    #[error("TLS towards the backend failed: {0}")]
    Tls(Box<str>),
    /// The address may not be connected to (B-18).
    #[error("the address is not allowed as a backend")]
    Denied,
    /// The endpoint has as many connections as it may have (F-17).
    #[error("the endpoint has as many connections as it may have")]
    Busy,
    /// The backend closed before a whole head.
    #[error("the backend closed the connection before an answer")]
    Closed,
    /// The connection broke before a whole head.
    #[error("the connection broke before an answer: {0}")]
    Broken(io::ErrorKind),
    /// The request could not be written in time.
    #[error("the backend took no bytes of the request in time")]
    SendTimeout,
    /// No answer in time.
    #[error("the backend sent no answer in time")]
    ReadTimeout,
    /// The answer breaks a rule of HTTP.
    #[error("the answer is no sound HTTP: {0}")]
    Invalid(Reject),
    /// HTTP/2: the backend says that it did not process the request (REFUSED_STREAM, GOAWAY).
    #[error("the backend refused the stream unprocessed")]
    Refused,
    /// HTTP/2: the stream was reset or the connection ended in an error.
    #[error("the backend ended the stream: {0}")]
    Stream(Box<str>),
    /// The client's body failed: not the backend's fault.
    #[error("the request body failed: {0}")]
    Client(BodyError),
    /// The request cannot be written as asked: a fault of ours.
    #[error("the request cannot be sent: {0}")]
    Request(&'static str),
}

impl UpstreamError {
    /// A failure before anything was written.
    pub(crate) const fn unsent(kind: ErrorKind) -> Self {
        Self { kind, reused: false, sent: false, answered: false }
    }

    /// The failure that the retry policy judges; `None` when another endpoint cannot help. What was certainly not
    /// processed counts as [`Failure::Connect`].
    pub const fn failure(&self) -> Option<Failure> {
        Some(match &self.kind {
            ErrorKind::Connect(_)
            | ErrorKind::Tls(_)
            | ErrorKind::Denied
            | ErrorKind::Busy
            | ErrorKind::Refused => Failure::Connect,
            ErrorKind::ConnectTimeout => Failure::ConnectTimeout,
            ErrorKind::Closed | ErrorKind::Broken(_) | ErrorKind::Stream(_) => Failure::Reset,
            ErrorKind::SendTimeout => Failure::SendTimeout,
            ErrorKind::ReadTimeout => Failure::ReadTimeout,
            ErrorKind::Invalid(_) => Failure::InvalidHeader,
            ErrorKind::Client(_) | ErrorKind::Request(_) => return None,
        })
    }

    /// The client's error, when the request body failed.
    pub const fn client(&self) -> Option<BodyError> {
        match &self.kind {
            ErrorKind::Client(error) => Some(*error),
            _ => None,
        }
    }

    /// True when a pooled connection turned out to be dead: reused, broken, no byte of an answer (F-13).
    pub const fn is_stale(&self) -> bool {
        let broken = matches!(&self.kind, ErrorKind::Closed | ErrorKind::Broken(_) | ErrorKind::Refused);
        self.reused && broken && !self.answered
    }

    /// The timeout that expired, as `LocalReply::GatewayTimeout` names it; `None` means 502.
    pub const fn timeout(&self) -> Option<&'static str> {
        match &self.kind {
            ErrorKind::ConnectTimeout => Some("connect"),
            ErrorKind::SendTimeout => Some("send"),
            ErrorKind::ReadTimeout => Some("read"),
            _ => None,
        }
    }

    /// A constant word for logs and metric labels.
    pub const fn reason(&self) -> &'static str {
        match &self.kind {
            ErrorKind::Connect(io::ErrorKind::ConnectionRefused) => "connect_refused",
            ErrorKind::Connect(_) => "connect",
            ErrorKind::ConnectTimeout => "connect_timeout",
            ErrorKind::Tls(_) => "tls",
            ErrorKind::Denied => "denied",
            ErrorKind::Busy => "busy",
            ErrorKind::Closed => "closed",
            ErrorKind::Broken(_) => "reset",
            ErrorKind::SendTimeout => "send_timeout",
            ErrorKind::ReadTimeout => "read_timeout",
            ErrorKind::Invalid(_) => "invalid_header",
            ErrorKind::Refused => "refused_stream",
            ErrorKind::Stream(_) => "stream",
            ErrorKind::Client(_) => "client",
            ErrorKind::Request(_) => "request",
        }
    }

    /// True for a fault that says that the endpoint itself is ill (F-14): no connection, or broken before an answer.
    pub(crate) const fn is_illness(&self) -> bool {
        !self.reused
            && !self.answered
            && matches!(
                &self.kind,
                ErrorKind::Connect(_) | ErrorKind::ConnectTimeout | ErrorKind::Closed | ErrorKind::Broken(_)
            )
    }
}

/// A read or write that failed before a whole head.
impl From<io::Error> for ErrorKind {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            kind => Self::Broken(kind),
        }
    }
}
