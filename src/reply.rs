//! Every answer that is ours and not a backend's, as a value with its reason. `proxy::respond` alone turns it into
//! status, fields, body, log text and metric label.

use std::net::IpAddr;

use bytes::Bytes;
use http::StatusCode;

/// An answer given without (or instead of) a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalReply {
    /// The request breaks a rule of HTTP or of ours; the rule's name and why.
    BadRequest {
        /// 400, 405, 408, 413, 414, 417, 421, 431, 501 or 505.
        status: StatusCode,
        /// Rule, such as `H1-13`.
        rule: &'static str,
        /// Why, for the log.
        reason: &'static str,
    },
    /// A redirect. `location` is complete; codes without a `Location` field (300, 305, 306) send it as body.
    Redirect {
        /// 300 to 308.
        status: StatusCode,
        /// Value of `Location`.
        location: String,
        /// What made it, for logs and `explain`.
        cause: RedirectCause,
    },
    /// A preflight of an admitted origin (`enable-cors`): 204.
    Preflight,
    /// Catch-all health answer: 200, empty body.
    Healthz,
    /// Catch-all `/nginx_status` page.
    StubStatus,
    /// No rule matches and no default backend is configured: the stock 404 page.
    NoRoute,
    /// The route's Service has no endpoint: 503.
    NoEndpoints,
    /// A protective policy of the route could not be compiled, so the route stays shut: 503.
    Denied {
        /// Diagnostic code.
        code: &'static str,
    },
    /// An address list refuses the client: 403.
    Forbidden {
        /// The client as judged.
        client: IpAddr,
    },
    /// The client must say who it is: 401.
    Unauthorized {
        /// Lines of `WWW-Authenticate`.
        challenges: Vec<String>,
    },
    /// The authentication service refuses the request: 403.
    AuthForbidden,
    /// The authentication service gave no answer that decides anything: 500.
    AuthFailed {
        /// A constant word.
        reason: &'static str,
    },
    /// The host asks for a client certificate and none was sent: 400 (nginx's 496).
    CertificateMissing,
    /// The client's certificate does not stand up: 400 (nginx's 495).
    CertificateInvalid,
    /// The client's certificate is sound and its name is not admitted (`auth-tls-match-cn`): 403.
    CertificateUnauthorized,
    /// The client asks for more than the route allows: `limit-*`.
    Limited {
        /// 400 to 599, as the ConfigMap says.
        status: StatusCode,
        /// Which limit.
        limit: &'static str,
    },
    /// The rewrite or a pattern search has no sound result: 500.
    RewriteFailed {
        /// Why.
        reason: &'static str,
    },
    /// The body is over the route's limit: 413.
    BodyTooLarge,
    /// The client's body broke framing or stalled: 400 or 408.
    BadBody {
        /// 400 or 408.
        status: StatusCode,
    },
    /// All tries failed to connect or broke: 502.
    BadGateway {
        /// Why the last try failed.
        reason: &'static str,
    },
    /// A try timed out: 504.
    GatewayTimeout {
        /// `connect`, `send` or `read`.
        phase: &'static str,
    },
    /// We are out of something bounded (connections, memory, spool): 503 with `Retry-After: 1`.
    Overloaded {
        /// What ran out.
        what: &'static str,
    },
    /// `return` or `rewrite` of a snippet.
    Scripted {
        /// Status.
        status: StatusCode,
        /// `Location`, complete.
        location: Option<String>,
        /// Content type and body; `None` is the stock page of the status.
        body: Option<(Box<str>, Bytes)>,
    },
    /// 421: the connection was made under another TLS policy than this host has.
    Misdirected,
    /// The client left before an answer: 499, written to the log only.
    ClientGone,
    /// A bug of ours stopped the request: 500.
    Internal,
}

/// What made a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectCause {
    /// `app-root`.
    AppRoot,
    /// `auth-tls-error-page`.
    CertificateError,
    /// `from-to-www-redirect`.
    FromToWww,
    /// `permanent-redirect`.
    Permanent,
    /// `rewrite-target` that is a URL.
    Rewrite,
    /// `auth-signin`.
    SignIn,
    /// `ssl-redirect` or `force-ssl-redirect`.
    Ssl,
    /// `temporal-redirect`.
    Temporal,
    /// A path that lacks its trailing slash.
    TrailingSlash,
}

impl LocalReply {
    /// True for answers that keep a client out. An error page may give them another look, never another meaning
    /// (CVE-2026-24513).
    pub fn refuses(&self) -> bool {
        let status = self.status();
        let guard = matches!(
            self,
            Self::Denied { .. }
                | Self::Limited { .. }
                | Self::AuthFailed { .. }
                | Self::CertificateMissing
                | Self::CertificateInvalid
        );
        guard || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
    }

    /// Status sent (499 only logged).
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest { status, .. }
            | Self::Redirect { status, .. }
            | Self::BadBody { status }
            | Self::Limited { status, .. }
            | Self::Scripted { status, .. } => *status,
            Self::Preflight => StatusCode::NO_CONTENT,
            Self::Healthz | Self::StubStatus => StatusCode::OK,
            Self::NoRoute => StatusCode::NOT_FOUND,
            // An object that the word list refuses is as if it were not there, as in ingress-nginx (B-3).
            Self::Denied { code: "AnnotationBlocklisted" } => StatusCode::NOT_FOUND,
            Self::NoEndpoints | Self::Denied { .. } | Self::Overloaded { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } | Self::AuthForbidden | Self::CertificateUnauthorized => {
                StatusCode::FORBIDDEN
            }
            Self::CertificateMissing | Self::CertificateInvalid => StatusCode::BAD_REQUEST,
            Self::RewriteFailed { .. } | Self::AuthFailed { .. } | Self::Internal => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BadGateway { .. } => StatusCode::BAD_GATEWAY,
            Self::GatewayTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::ClientGone => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        }
    }
}
