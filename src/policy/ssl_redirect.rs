//! `ssl-redirect`, `force-ssl-redirect`, `preserve-trailing-slash`: from http to https.

/// When and how clear-text requests are sent to https.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SslRedirect {
    /// Redirect where the host has a certificate entry.
    pub on: bool,
    /// Redirect always.
    pub force: bool,
    /// Keep a trailing slash of the target.
    pub preserve_trailing_slash: bool,
}
