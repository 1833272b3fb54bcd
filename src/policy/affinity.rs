//! `affinity`, `affinity-mode`, `affinity-canary-behavior`: whether requests of one client stay on one endpoint.
//! What the cookie looks like is `session_cookie`'s.

/// How a cookie's key becomes an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The key is hashed onto a ring: some sessions move when endpoints are added.
    #[default]
    Balanced,
    /// The key names the endpoint: sessions never move while it lives.
    Persistent,
}

/// What a sticky session means for canaries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CanaryBehavior {
    /// The cookie also pins the client to primary or canary.
    #[default]
    Sticky,
    /// Canary rules are asked on every request.
    Legacy,
}

/// Present when `affinity` is `cookie`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Affinity {
    /// `affinity-mode`.
    pub mode: Mode,
    /// `affinity-canary-behavior`.
    pub canary: CanaryBehavior,
}
