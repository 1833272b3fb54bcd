//! `host-ownership` and `host-allow-list` of the ConfigMap: which namespaces may have a word in which host
//! (`security.md` B-13). Who holds a host is `compile::ownership`'s.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Who may add paths to a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HostOwnership {
    /// Every namespace, as with ingress-nginx; settings of the whole host are the oldest namespace's.
    #[default]
    Open,
    /// Only the namespace that has had the host longest.
    FirstNamespace,
    /// Only namespaces that the list names for it.
    AllowList(AllowList),
}

/// Host patterns by namespace: `a.example`, `*.a.example` for every host below it, `*` for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Arc<BTreeMap<Box<str>, Vec<Box<str>>>>);

// === impl HostOwnership ===

impl HostOwnership {
    /// The policy of `host-ownership` with the list of `host-allow-list`. What cannot be read lets nobody new in:
    /// the word counts as `first-namespace`.
    ///
    /// # Errors
    /// Says what the words are.
    pub fn parse(mode: &str, list: &AllowList) -> Result<Self, (Self, String)> {
        match mode {
            "open" => Ok(Self::Open),
            "first-namespace" => Ok(Self::FirstNamespace),
            "allow-list" => Ok(Self::AllowList(list.clone())),
            _ => Err((
                Self::FirstNamespace,
                "must be open, first-namespace or allow-list; it counts as first-namespace".into(),
            )),
        }
    }

    /// True when the list, if there is one, gives the host to the namespace.
    pub fn may_have(&self, namespace: &str, host: &str) -> bool {
        match self {
            Self::Open | Self::FirstNamespace => true,
            Self::AllowList(list) => list.covers(namespace, host),
        }
    }

    /// True when a host is one namespace's alone.
    pub const fn is_exclusive(&self) -> bool {
        matches!(self, Self::FirstNamespace)
    }
}

// === impl AllowList ===

impl AllowList {
    /// One namespace a line: `team-a: a.example *.a.example`. Lines that say nothing sound allow nothing.
    ///
    /// # Errors
    /// The list of the sound lines, and the first line that is not.
    pub fn parse(text: &str) -> Result<Self, (Self, String)> {
        let mut list: BTreeMap<Box<str>, Vec<Box<str>>> = BTreeMap::new();
        let mut fault = None;
        for line in text.split(['\n', ';']).map(str::trim).filter(|line| !line.is_empty()) {
            let sound = line.split_once(':').and_then(|(namespace, hosts)| {
                let hosts: Vec<&str> =
                    hosts.split([' ', '\t', ',']).filter(|host| !host.is_empty()).collect();
                (is_name(namespace.trim()) && !hosts.is_empty() && hosts.iter().all(|host| is_pattern(host)))
                    .then_some((namespace.trim(), hosts))
            });
            match sound {
                Some((namespace, hosts)) => {
                    let known = list.entry(namespace.into()).or_default();
                    known.extend(hosts.iter().map(|host| Box::from(host.to_ascii_lowercase())));
                }
                None => {
                    let shown: String = line.chars().take(80).collect();
                    fault.get_or_insert_with(|| {
                        format!("{shown:?} is no line such as \"team-a: a.example *.a.example\"")
                    });
                }
            }
        }
        let list = Self(Arc::new(list));
        fault.map_or_else(|| Ok(list.clone()), |fault| Err((list.clone(), fault)))
    }

    fn covers(&self, namespace: &str, host: &str) -> bool {
        let patterns = self.0.get(namespace).map(Vec::as_slice).unwrap_or_default();
        patterns.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some(end) => end.is_empty() || (host.len() > end.len() && host.ends_with(end)),
            None => **pattern == *host,
        })
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

fn is_pattern(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    text == "*" || is_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_hosts_to_namespaces() {
        let list = AllowList::parse("team-a: a.example, *.a.example\nops: *\n").unwrap();
        let policy = HostOwnership::parse("allow-list", &list).unwrap();
        let check = |namespace, host, expect| {
            assert_eq!(policy.may_have(namespace, host), expect, "{namespace} {host}");
        };
        check("team-a", "a.example", true);
        check("team-a", "x.a.example", true);
        check("team-a", "x.y.a.example", true);
        check("team-a", "*.a.example", true);
        check("team-a", "xa.example", false);
        check("team-a", "b.example", false);
        check("team-b", "a.example", false);
        check("ops", "whatever.example", true);
    }

    #[test]
    fn what_cannot_be_read_lets_nobody_in() {
        let (policy, _) = HostOwnership::parse("opne", &AllowList::default()).unwrap_err();
        assert_eq!(policy, HostOwnership::FirstNamespace);
        let (list, fault) = AllowList::parse("team-a a.example\nteam-b: b.example\nteam-c: c/d").unwrap_err();
        assert!(fault.contains("team-a a.example"), "{fault}");
        assert!(list.covers("team-b", "b.example"));
        assert!(!list.covers("team-a", "a.example") && !list.covers("team-c", "c/d"));
    }

    #[test]
    fn without_a_word_every_namespace_may_add_paths() {
        assert!(HostOwnership::default().may_have("any", "h.test"));
        assert!(!HostOwnership::default().is_exclusive());
    }
}
