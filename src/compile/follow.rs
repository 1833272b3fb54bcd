//! What changed between two worlds, without comparing what did not: unchanged objects keep their address.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::SharedMap;

/// One change; `before` is what was known.
#[derive(Debug)]
pub(super) struct Change<K, T> {
    pub(super) key: K,
    pub(super) before: Option<T>,
}

/// Makes `known` equal to `now` and lists the keys whose values differ, in order.
pub(super) fn follow<K: Ord + Clone, T: PartialEq>(
    known: &mut SharedMap<K, Arc<T>>,
    now: &SharedMap<K, Arc<T>>,
) -> Vec<Change<K, Arc<T>>> {
    let mut changes = Vec::new();
    for key in now.differences(known, Arc::ptr_eq) {
        let before = known.get(key);
        let unchanged = matches!((before, now.get(key)), (Some(before), Some(value)) if **before == **value);
        if !unchanged {
            changes.push(Change { key: key.clone(), before: before.cloned() });
        }
    }
    // From now on both share what comes to be known.
    *known = now.clone();
    changes
}

/// The same for maps that share nothing and values of any kind: `same` is quick, may say no to equal ones and yes only under one key; `equal` decides.
pub(super) fn follow_by<K: Ord + Clone, V: Clone>(
    known: &mut BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
    same: impl Fn((&K, &V), (&K, &V)) -> bool,
    equal: impl Fn(&V, &V) -> bool,
) -> Vec<Change<K, V>> {
    let mut differing: Vec<K> = Vec::new();
    let mut old = known.iter().peekable();
    for (key, value) in now {
        // An object stands under its own key, so in the usual case no key is looked at.
        if let Some(before) = old.peek()
            && same(*before, (key, value))
        {
            old.next();
            continue;
        }
        while let Some((gone, _)) = old.next_if(|(known, _)| *known < key) {
            differing.push(gone.clone());
        }
        old.next_if(|(known, _)| *known == key);
        differing.push(key.clone());
    }
    differing.extend(old.map(|(gone, _)| gone.clone()));

    let mut changes = Vec::with_capacity(differing.len());
    for key in differing {
        let before = match now.get(&key) {
            Some(value) => known.insert(key.clone(), value.clone()),
            None => known.remove(&key),
        };
        let unchanged =
            matches!((&before, now.get(&key)), (Some(before), Some(value)) if equal(before, value));
        if !unchanged {
            changes.push(Change { key, before });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(u8, u8)]) -> SharedMap<u8, Arc<u8>> {
        pairs.iter().map(|(key, value)| (*key, Arc::new(*value))).collect()
    }

    fn check(before: &[(u8, u8)], now: &[(u8, u8)], expected: &[u8]) {
        let mut known = map(before);
        let now = map(now);
        let changed: Vec<u8> = follow(&mut known, &now).into_iter().map(|change| change.key).collect();
        assert_eq!(changed, expected);
        assert_eq!(known, now);
        assert!(follow(&mut known, &now).is_empty(), "following twice finds nothing");
    }

    /// Two keys may have equal values where these say nothing of their key.
    #[test]
    fn a_new_key_with_the_value_of_the_next_one_is_found() {
        let mut known = BTreeMap::from([(2, "x")]);
        let now = BTreeMap::from([(1, "x"), (2, "x")]);
        let changed = follow_by(&mut known, &now, |a, b| a == b, |a, b| a == b);
        assert_eq!(changed.into_iter().map(|change| change.key).collect::<Vec<_>>(), [1]);
        assert_eq!(known, now);
    }

    #[test]
    fn additions_changes_and_removals_are_found_and_equal_copies_are_not() {
        check(&[], &[], &[]);
        check(&[(1, 1), (2, 2)], &[(1, 1), (2, 2)], &[]);
        check(&[], &[(1, 1), (3, 3)], &[1, 3]);
        check(&[(1, 1), (2, 2), (3, 3)], &[(2, 9)], &[1, 2, 3]);
        check(&[(1, 1), (3, 3), (9, 9)], &[(0, 0), (1, 1), (2, 2), (9, 9)], &[0, 2, 3]);
    }
}
