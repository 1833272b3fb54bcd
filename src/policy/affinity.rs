//! `affinity`, `affinity-mode`, `affinity-canary-behavior`: whether requests of one client stay on one endpoint.
//! What the cookie looks like is `session_cookie`'s.

use super::annotation::{Reader, Risk, Scope, Spec};

const AFFINITY: Spec = Spec::new("affinity", Scope::Upstream, Risk::Low)
    .values("off", "cookie")
    .doc("`cookie` keeps each client on one endpoint of every backend of the Ingress.");
const MODE: Spec = Spec::new("affinity-mode", Scope::Upstream, Risk::Medium)
    .values("balanced", "persistent")
    .doc("`balanced` hashes the cookie onto the endpoints, `persistent` binds it to one for good.");
const CANARY_BEHAVIOR: Spec = Spec::new("affinity-canary-behavior", Scope::Upstream, Risk::Low)
    .values("sticky", "legacy")
    .doc("`sticky` pins a client to primary or canary, `legacy` asks the canary rules on every request.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[AFFINITY, MODE, CANARY_BEHAVIOR];

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

impl Affinity {
    /// Reads the family; `None` unless `affinity` is `cookie`.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let on = reader.word(&AFFINITY, &[("cookie", ())]).ok();
        let mode = reader.word(&MODE, &[("balanced", Mode::Balanced), ("persistent", Mode::Persistent)]);
        let canary = reader.word(
            &CANARY_BEHAVIOR,
            &[("sticky", CanaryBehavior::Sticky), ("legacy", CanaryBehavior::Legacy)],
        );
        on.map(|()| Self { mode: mode.or_default(), canary: canary.or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{diagnostics, read};

    fn check(annotations: &[(&str, &str)], expect: Option<Affinity>) {
        assert_eq!(read(annotations, Affinity::read), expect, "{annotations:?}");
    }

    #[test]
    fn only_the_word_cookie_switches_affinity_on() {
        check(&[], None);
        check(&[("affinity", "cookie")], Some(Affinity::default()));
        check(&[("affinity", "Cookie")], None);
        check(&[("affinity-mode", "persistent")], None);
    }

    #[test]
    fn modes_are_read_and_bad_ones_fall_back() {
        let persistent = Affinity { mode: Mode::Persistent, canary: CanaryBehavior::Legacy };
        check(
            &[
                ("affinity", "cookie"),
                ("affinity-mode", "persistent"),
                ("affinity-canary-behavior", "legacy"),
            ],
            Some(persistent),
        );
        check(&[("affinity", "cookie"), ("affinity-mode", "sometimes")], Some(Affinity::default()));
        assert_eq!(diagnostics(&[("affinity-mode", "sometimes")], Affinity::read), ["InvalidAnnotation"]);
    }
}
