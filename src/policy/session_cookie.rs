//! `session-cookie-*`: the sticky cookie, byte-compatible with ingress-nginx so that sessions survive the change.

use std::sync::Arc;

/// What the cookie looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCookie {
    /// `session-cookie-name`.
    pub name: Arc<str>,
    /// `session-cookie-path`; `None` means the path of the Ingress rule.
    pub path: Option<Arc<str>>,
    /// `session-cookie-domain`.
    pub domain: Option<Arc<str>>,
    /// `session-cookie-samesite`, as written.
    pub same_site: Option<Arc<str>>,
    /// `session-cookie-conditional-samesite-none`.
    pub conditional_none: bool,
    /// `session-cookie-secure`: `Secure` also on clear-text connections.
    pub secure: bool,
    /// `session-cookie-expires`, seconds.
    pub expires: Option<i64>,
    /// `session-cookie-max-age`, seconds.
    pub max_age: Option<i64>,
    /// `session-cookie-change-on-failure`.
    pub change_on_failure: bool,
}

/// Name of the cookie where none is given.
pub const DEFAULT_NAME: &str = "INGRESSCOOKIE";

impl Default for SessionCookie {
    fn default() -> Self {
        Self {
            name: Arc::from(DEFAULT_NAME),
            path: None,
            domain: None,
            same_site: None,
            conditional_none: false,
            secure: false,
            expires: None,
            max_age: None,
            change_on_failure: false,
        }
    }
}
