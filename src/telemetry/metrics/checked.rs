//! Admission checks by Ingress: those that exist have their names in the counters, and a bounded number of those that are
//! to be, whose names are whatever anybody tries. Read when somebody scrapes, some at a time.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Ingresses that do not exist and are named.
const MAX_NEWCOMERS: usize = 500;

/// How many Ingresses are looked at under one lock: about as many as fill a piece of a scrape.
const AT_ONCE: usize = 64;

/// Namespace and name; both empty for all that are not named.
pub(super) type Key = (String, String);

/// What was said of an Ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may come.
    Allow,
    /// It may not.
    Deny,
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Checked {
    all: BTreeMap<Key, Counts>,
    newcomers: usize,
}

/// Checks of one Ingress, since it has its name here.
#[derive(Debug, Clone, Copy)]
struct Counts {
    standing: Standing,
    allowed: u64,
    denied: u64,
}

/// Whether an Ingress was there when it was last looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Exists,
    /// It was to be.
    Newcomer,
    /// All that are not named.
    Others,
}

// === impl Checked ===

impl Checked {
    /// Counts a check; `known` tells that the Ingress exists.
    pub(super) fn count(&mut self, namespace: &str, ingress: &str, known: bool, verdict: Verdict) {
        let mut key = (namespace.to_owned(), ingress.to_owned());
        let standing = match self.all.get(&key) {
            Some(counts) if !known => counts.standing,
            Some(_) => {
                self.exists(&key);
                Standing::Exists
            }
            None if known => Standing::Exists,
            None if self.newcomers < MAX_NEWCOMERS => {
                self.newcomers += 1;
                Standing::Newcomer
            }
            None => {
                key = Key::default();
                Standing::Others
            }
        };
        let counts = self.all.entry(key).or_insert(Counts { standing, allowed: 0, denied: 0 });
        let count = match verdict {
            Verdict::Allow => &mut counts.allowed,
            Verdict::Deny => &mut counts.denied,
        };
        *count = count.wrapping_add(1);
    }

    /// All that are named.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.all.keys().cloned().collect()
    }

    /// An Ingress that was there and is not any more is forgotten, with its counts.
    pub(super) fn look_again(&mut self, key: &Key, known: bool) {
        if known {
            self.exists(key);
        } else if self.all.get(key).is_some_and(|counts| counts.standing == Standing::Exists) {
            self.all.remove(key);
        }
    }

    /// Some of those that come after `last`, in order, with their counts of one kind; none at the end.
    pub(super) fn after(&self, last: Option<&Key>, verdict: Verdict) -> Vec<(Key, u64)> {
        let begin = last.map_or(Bound::Unbounded, Bound::Excluded);
        let count = |counts: &Counts| match verdict {
            Verdict::Allow => counts.allowed,
            Verdict::Deny => counts.denied,
        };
        let some = self.all.range((begin, Bound::Unbounded)).take(AT_ONCE);
        some.map(|(key, counts)| (key.clone(), count(counts))).collect()
    }

    /// A newcomer that came makes room for another.
    fn exists(&mut self, key: &Key) {
        if let Some(counts) = self.all.get_mut(key)
            && std::mem::replace(&mut counts.standing, Standing::Exists) == Standing::Newcomer
        {
            self.newcomers = self.newcomers.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether an Ingress is named once it was checked.
    fn names(checked: &mut Checked, name: &str, known: bool) -> bool {
        checked.count("a", name, known, Verdict::Allow);
        checked.all.contains_key(&("a".to_owned(), name.to_owned()))
    }

    #[test]
    fn newcomers_have_bounded_room_and_leave_it_when_they_come() {
        let mut checked = Checked::default();
        for number in 0..MAX_NEWCOMERS {
            assert!(names(&mut checked, &number.to_string(), false));
        }
        assert!(!names(&mut checked, "late", false) && names(&mut checked, "there", true));
        assert!(names(&mut checked, "0", true) && names(&mut checked, "late", false));
        assert!(!names(&mut checked, "later", false));
        let others = checked.after(None, Verdict::Allow).into_iter().next();
        assert_eq!(others, Some((Key::default(), 2)), "those that were not named");
    }

    #[test]
    fn who_was_there_and_is_gone_is_forgotten_and_who_never_was_stays() {
        let mut checked = Checked::default();
        let key = |name: &str| ("a".to_owned(), name.to_owned());
        assert!(names(&mut checked, "old", true) && names(&mut checked, "try", false));
        checked.look_again(&key("try"), false);
        checked.look_again(&key("old"), false);
        assert_eq!(checked.keys(), [key("try")]);
        checked.look_again(&key("try"), true);
        checked.look_again(&key("try"), false);
        assert!(checked.keys().is_empty());
    }
}
