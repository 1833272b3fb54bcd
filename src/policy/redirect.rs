//! `permanent-redirect`, `temporal-redirect`, their codes; `relative-redirects` and `use-port-in-redirects`.

use std::sync::Arc;

use http::StatusCode;

use crate::reply::RedirectCause;

/// A fixed redirect: request path and query are not appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Target: absolute URL, or a path that is made absolute unless redirects are relative.
    pub url: Arc<str>,
    /// 300 to 308.
    pub status: StatusCode,
    /// Which annotation.
    pub cause: RedirectCause,
}

/// How our own redirects are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RedirectStyle {
    /// `relative-redirects`: `Location` without scheme and host.
    pub relative: bool,
    /// `use-port-in-redirects`.
    pub with_port: bool,
}
