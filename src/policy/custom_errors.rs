//! `custom-http-errors`, `disable-proxy-intercept-errors`: which answers are replaced by a page of the error backend.

use std::sync::Arc;

/// Which statuses are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomErrors {
    /// Statuses, sorted; empty for none.
    pub codes: Arc<[u16]>,
    /// False with `disable-proxy-intercept-errors`: only our own answers are replaced, not those of backends.
    pub intercept: bool,
}
