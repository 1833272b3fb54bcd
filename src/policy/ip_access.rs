//! `allowlist-source-range` (`whitelist-source-range`), `denylist-source-range`: which client addresses may ask.
//! The address judged is the one after trust was judged (`forwarded`).

use std::sync::Arc;

use ipnet::IpNet;

/// Address lists; both empty never exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpAccess {
    /// Those refused; asked first.
    pub deny: Arc<[IpNet]>,
    /// Those admitted; empty admits everyone not denied.
    pub allow: Arc<[IpNet]>,
}
