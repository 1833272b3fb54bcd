//! `allowlist-source-range` (`whitelist-source-range`), `denylist-source-range`: which client addresses may ask.
//! The address judged is the one after trust was judged (`forwarded`).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::annotation::{Reader, Risk, Scope, Spec};
use super::global::Globals;
use super::satisfy::Verdict;
use crate::reply::LocalReply;

const ALLOW: Spec = Spec::new("allowlist-source-range", Scope::Location, Risk::Medium)
    .aliases(&["whitelist-source-range"])
    .fail_closed()
    .values("ConfigMap whitelist-source-range (everyone)", "10.0.0.0/8,192.0.2.1")
    .doc("Only clients of these networks are served; others get 403.");
const DENY: Spec = Spec::new("denylist-source-range", Scope::Location, Risk::Medium)
    .fail_closed()
    .values("ConfigMap denylist-source-range (no one)", "203.0.113.0/24")
    .doc("Clients of these networks get 403, even if allowed.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[ALLOW, DENY];

/// Address lists; both empty never exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpAccess {
    /// Those refused; asked first.
    pub deny: Arc<[IpNet]>,
    /// Those admitted; empty admits everyone not denied.
    pub allow: Arc<[IpNet]>,
}

impl IpAccess {
    /// Reads the family; each list of an annotation replaces the one of the ConfigMap.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Option<Self> {
        let deny = reader.cidrs(&DENY).or(Arc::clone(&globals.denylist_source_range));
        let allow = reader.cidrs(&ALLOW).or(Arc::clone(&globals.allowlist_source_range));
        Self::of(deny, allow)
    }

    /// The lists of the ConfigMap, for locations without an Ingress.
    pub fn global(globals: &Globals) -> Option<Self> {
        Self::of(Arc::clone(&globals.denylist_source_range), Arc::clone(&globals.allowlist_source_range))
    }

    fn of(deny: Arc<[IpNet]>, allow: Arc<[IpNet]>) -> Option<Self> {
        (!deny.is_empty() || !allow.is_empty()).then_some(Self { deny, allow })
    }

    /// What the lists say about a client, for `satisfy`: only a listed client is admitted by name.
    pub fn verdict(&self, client: IpAddr) -> Verdict {
        match self.decide(client) {
            Some(reply) => Verdict::Refuse(reply),
            None if self.allow.is_empty() => Verdict::Abstain,
            None => Verdict::Admit,
        }
    }

    /// 403 for a client that may not ask.
    pub fn decide(&self, client: IpAddr) -> Option<LocalReply> {
        let refused =
            contains(&self.deny, client) || (!self.allow.is_empty() && !contains(&self.allow, client));
        refused.then_some(LocalReply::Forbidden { client })
    }
}

/// True when a network of the list holds the address. An IPv4 address written as IPv6 (`::ffff:a.b.c.d`) counts as
/// IPv4.
pub fn contains(nets: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    nets.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{denied, read};

    fn access(annotations: &[(&str, &str)]) -> Option<IpAccess> {
        let globals = Globals {
            allowlist_source_range: Arc::from(["1.1.1.1/32".parse().unwrap()]),
            ..Globals::default()
        };
        read(annotations, |reader| IpAccess::read(reader, &globals))
    }

    fn check(annotations: &[(&str, &str)], client: &str, refused: bool) {
        let client = client.parse().unwrap();
        let reply = access(annotations).and_then(|access| access.decide(client));
        assert_eq!(reply.is_some(), refused, "{annotations:?} {client}");
    }

    #[test]
    fn the_config_map_counts_until_an_annotation_replaces_it() {
        check(&[], "1.1.1.1", false);
        check(&[], "2.2.2.2", true);
        check(&[("whitelist-source-range", "2.0.0.0/8")], "2.2.2.2", false);
        check(&[("whitelist-source-range", "2.0.0.0/8")], "1.1.1.1", true);
    }

    #[test]
    fn deny_beats_allow() {
        let lists = [
            ("denylist-source-range", "18.1.0.0/16, 56.0.0.0/8"),
            ("allowlist-source-range", "18.0.0.0/8, 55.0.0.0/8"),
        ];
        check(&lists, "18.1.2.3", true);
        check(&lists, "18.4.0.1", false);
        check(&lists, "56.0.0.1", true);
        check(&lists, "99.0.0.1", true);
        check(&lists, "::ffff:55.1.1.1", false);
        check(&lists, "::ffff:18.1.1.1", true);
    }

    #[test]
    fn the_new_name_beats_the_old_one_unless_it_is_empty() {
        let both = [("allowlist-source-range", "3.0.0.0/8"), ("whitelist-source-range", "4.0.0.0/8")];
        check(&both, "3.0.0.1", false);
        check(&both, "4.0.0.1", true);
        check(&[("allowlist-source-range", ""), both[1]], "4.0.0.1", false);
    }

    #[test]
    fn a_list_that_cannot_be_read_shuts_the_routes() {
        let family = |reader: &mut Reader<'_>| IpAccess::read(reader, &Globals::default());
        for bad in ["10.0.0.0/33", "all", "", "10.0.0.1;", "10.0.0.0/8\r\nallow all", "1.2.3"] {
            assert_eq!(
                denied(&[("whitelist-source-range", bad)], family),
                Some("InvalidAnnotation"),
                "{bad:?}"
            );
            assert_eq!(
                denied(&[("denylist-source-range", bad)], family),
                Some("InvalidAnnotation"),
                "{bad:?}"
            );
        }
        assert_eq!(denied(&[("allowlist-source-range", "10.0.0.0/8,::1")], family), None);
    }
}
