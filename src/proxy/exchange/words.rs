//! The words of our own answers in logs and metrics: stable, from a closed list.

use crate::reply::{LocalReply, RedirectCause};
use crate::telemetry::LocalReason;

/// The words of a local reply in logs and metrics.
pub(super) fn reason(reply: &LocalReply) -> LocalReason {
    let (kind, rule) = match reply {
        LocalReply::BadRequest { rule, .. } => ("bad_request", *rule),
        LocalReply::Redirect { cause, .. } => ("redirect", cause_word(*cause)),
        LocalReply::Preflight => ("preflight", ""),
        LocalReply::Healthz => ("healthz", ""),
        LocalReply::StubStatus => ("stub_status", ""),
        LocalReply::NoRoute => ("no_route", ""),
        LocalReply::NoEndpoints => ("no_endpoints", ""),
        LocalReply::Denied { code } => ("denied", *code),
        LocalReply::Unauthorized { .. } => ("unauthorized", ""),
        LocalReply::AuthForbidden => ("auth_forbidden", ""),
        LocalReply::AuthFailed { reason } => ("auth_failed", *reason),
        LocalReply::CertificateMissing => ("certificate_missing", ""),
        LocalReply::CertificateInvalid => ("certificate_invalid", ""),
        LocalReply::CertificateUnauthorized => ("certificate_unauthorized", ""),
        LocalReply::Forbidden { .. } => ("forbidden", ""),
        LocalReply::Limited { limit, .. } => ("limited", *limit),
        LocalReply::RewriteFailed { .. } => ("rewrite_failed", ""),
        LocalReply::BodyTooLarge => ("body_too_large", ""),
        LocalReply::BadBody { .. } => ("bad_body", ""),
        LocalReply::BadGateway { reason } => ("bad_gateway", *reason),
        LocalReply::GatewayTimeout { phase } => ("gateway_timeout", *phase),
        LocalReply::Overloaded { what } => ("overloaded", *what),
        LocalReply::Scripted { .. } => ("snippet", ""),
        LocalReply::Misdirected => ("misdirected", ""),
        LocalReply::ClientGone => ("client_gone", ""),
        LocalReply::Internal => ("internal", ""),
    };
    LocalReason { kind, rule }
}

/// The word for a redirect.
pub(super) const fn cause_word(cause: RedirectCause) -> &'static str {
    match cause {
        RedirectCause::AppRoot => "app_root",
        RedirectCause::CertificateError => "certificate_error",
        RedirectCause::FromToWww => "from_to_www",
        RedirectCause::Permanent => "permanent",
        RedirectCause::Rewrite => "rewrite",
        RedirectCause::SignIn => "sign_in",
        RedirectCause::Ssl => "ssl",
        RedirectCause::Temporal => "temporal",
        RedirectCause::TrailingSlash => "trailing_slash",
    }
}
