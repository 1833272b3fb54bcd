//! Which Ingresses the counters of admission checks name: those that exist, and a bounded number of those that are to be,
//! whose names are whatever anybody tries. Counts nothing itself; `control` does.

use std::collections::BTreeMap;

/// Ingresses that do not exist and are named.
const MAX_NEWCOMERS: usize = 500;

/// Namespace and name.
pub(super) type Key = (String, String);

/// The Ingresses that are named.
#[derive(Debug, Default)]
pub(super) struct Checked {
    all: BTreeMap<Key, Standing>,
    newcomers: usize,
}

/// Whether an Ingress was there when it was last looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Exists,
    /// It was to be.
    Newcomer,
}

impl Checked {
    /// True when an Ingress that is checked gets its name into the counters; `known` tells that it exists.
    pub(super) fn names(&mut self, namespace: &str, ingress: &str, known: bool) -> bool {
        let key = (namespace.to_owned(), ingress.to_owned());
        if self.all.contains_key(&key) {
            if known {
                self.exists(&key);
            }
            return true;
        }
        let standing = if known { Standing::Exists } else { Standing::Newcomer };
        if standing == Standing::Newcomer {
            if self.newcomers >= MAX_NEWCOMERS {
                return false;
            }
            self.newcomers += 1;
        }
        self.all.insert(key, standing);
        true
    }

    /// All that are named.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.all.keys().cloned().collect()
    }

    /// False when an Ingress was there and is not any more: its name is forgotten.
    pub(super) fn keeps(&mut self, key: &Key, known: bool) -> bool {
        if known {
            self.exists(key);
            return true;
        }
        let gone = self.all.get(key) == Some(&Standing::Exists);
        if gone {
            self.all.remove(key);
        }
        !gone
    }

    /// A newcomer that came makes room for another.
    fn exists(&mut self, key: &Key) {
        if let Some(standing) = self.all.get_mut(key)
            && std::mem::replace(standing, Standing::Exists) == Standing::Newcomer
        {
            self.newcomers = self.newcomers.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_have_bounded_room_and_leave_it_when_they_come() {
        let mut checked = Checked::default();
        for number in 0..MAX_NEWCOMERS {
            assert!(checked.names("a", &number.to_string(), false));
        }
        assert!(!checked.names("a", "late", false) && checked.names("a", "there", true));
        assert!(checked.names("a", "0", true) && checked.names("a", "late", false));
        assert!(!checked.names("a", "later", false));
    }

    #[test]
    fn who_was_there_and_is_gone_is_forgotten_and_who_never_was_stays() {
        let mut checked = Checked::default();
        let key = |name: &str| ("a".to_owned(), name.to_owned());
        checked.names("a", "old", true);
        checked.names("a", "try", false);
        assert!(checked.keeps(&key("try"), false) && !checked.keeps(&key("old"), false));
        assert_eq!(checked.keys(), [key("try")]);
        assert!(checked.keeps(&key("try"), true) && !checked.keeps(&key("try"), false));
    }
}
