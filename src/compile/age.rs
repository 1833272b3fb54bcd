//! The one order there is between Ingresses (`routing.md` 2.1).

use std::cmp::Reverse;
use std::sync::Arc;

use crate::model::{Meta, Timestamp};

/// Older sorts first: `creationTimestamp` ascending, objects without one last; ties by the text `namespace/name`
/// descending. The joined text orders only, it identifies nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Age {
    unborn: bool,
    created: Timestamp,
    text: Reverse<Arc<str>>,
}

impl Age {
    /// The age of an object.
    pub fn of(meta: &Meta) -> Self {
        Self {
            unborn: meta.created.is_none(),
            created: meta.created.unwrap_or(Timestamp(0)),
            text: Reverse(Arc::from(format!("{}/{}", meta.key.namespace, meta.key.name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectKey;

    fn age(namespace: &str, name: &str, created: Option<i64>) -> Age {
        let mut meta = Meta::named(ObjectKey::new(namespace, name));
        meta.created = created.map(Timestamp);
        Age::of(&meta)
    }

    #[test]
    fn older_objects_come_first_and_objects_without_age_last() {
        assert!(age("a", "a", Some(1)) < age("z", "z", Some(2)));
        assert!(age("a", "a", Some(-5)) < age("a", "a", Some(0)));
        assert!(age("a", "a", Some(i64::MAX)) < age("z", "z", None));
    }

    #[test]
    fn of_equal_ages_the_greater_text_comes_first() {
        assert!(age("default", "zzz", Some(1)) < age("default", "aaa", Some(1)));
        assert!(age("b", "a", None) < age("a", "z", None));
        // The joined text counts: '/' is greater than '-'.
        assert!(age("a", "x", Some(1)) < age("a-b", "x", Some(1)));
    }
}
