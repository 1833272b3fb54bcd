//! Which Ingress looks at which Secret or ConfigMap, so that it is compiled again when that changes.

use super::{Arc, BTreeMap, BTreeSet, ConfigMap, ObjectKey};
use crate::model::{Secret, World};

/// What was seen, by key of the object referred to.
#[derive(Debug, Default)]
pub(super) struct References {
    seen: BTreeMap<ObjectKey, Seen>,
}

#[derive(Debug)]
struct Seen {
    secret: Option<Arc<Secret>>,
    config_map: Option<Arc<ConfigMap>>,
    /// Ingresses that look at it.
    users: BTreeSet<ObjectKey>,
}

impl References {
    /// Notes what an Ingress was compiled with.
    pub(super) fn watch(&mut self, ingress: &ObjectKey, keys: &BTreeSet<ObjectKey>, world: &World) {
        for key in keys {
            let seen = self.seen.entry(key.clone()).or_insert_with(|| Seen {
                secret: world.secrets.get(key).cloned(),
                config_map: world.config_maps.get(key).cloned(),
                users: BTreeSet::new(),
            });
            seen.users.insert(ingress.clone());
        }
    }

    /// Forgets what an Ingress looked at.
    pub(super) fn forget(&mut self, ingress: &ObjectKey) {
        self.seen.retain(|_, seen| {
            seen.users.remove(ingress);
            !seen.users.is_empty()
        });
    }

    /// Ingresses that look at something that came, went or changed.
    pub(super) fn changes(&mut self, world: &World) -> BTreeSet<ObjectKey> {
        let mut users = BTreeSet::new();
        for (key, seen) in &mut self.seen {
            let (secret, config_map) = (world.secrets.get(key), world.config_maps.get(key));
            if !same(seen.secret.as_ref(), secret) || !same(seen.config_map.as_ref(), config_map) {
                users.extend(seen.users.iter().cloned());
            }
            seen.secret = secret.cloned();
            seen.config_map = config_map.cloned();
        }
        users
    }
}

/// An unchanged object keeps its address; one that was read again may still say the same.
fn same<T: PartialEq>(before: Option<&Arc<T>>, now: Option<&Arc<T>>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => Arc::ptr_eq(before, now) || before == now,
        (None, None) => true,
        _ => false,
    }
}
