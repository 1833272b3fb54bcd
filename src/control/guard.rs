//! Whether a list that lacks things is to be believed at once: an API server that restarts, or a cache that is half full,
//! may list next to nothing, and the routes of a whole cluster would go. Pure; says what goes, `objects` and the loops hold
//! it back. Not for objects that were deleted one by one: those are told by name.

use std::collections::BTreeSet;

use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{Kind, ObjectRef, Origin, World};

/// Fewer than this many never count as a mass.
const FEW: usize = 20;
/// Code of the finding about what is held back; the metrics count it.
pub const HELD: &str = "RemovalHeld";

/// What would go, and of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Toll {
    lost: usize,
    of: usize,
    what: &'static str,
}

impl Toll {
    /// What a world loses with these objects: hosts, where the objects decide about hosts, else objects. All are of one
    /// kind; `of` is how many the list had before.
    pub(super) fn of(world: &World, missing: &BTreeSet<ObjectRef>, of: usize) -> Self {
        let Some(kind) = missing.first().map(|one| one.kind) else {
            return Self { lost: 0, of, what: "objects" };
        };
        let stays: Box<dyn Fn(&crate::model::Ingress) -> bool> = match kind {
            Kind::Ingress => {
                let gone: BTreeSet<_> = missing.iter().map(|one| &one.key).collect();
                Box::new(move |ingress| !gone.contains(&ingress.meta.key))
            }
            Kind::IngressClass => {
                let gone: BTreeSet<&str> = missing.iter().map(|one| &*one.key.name).collect();
                Box::new(move |ingress| {
                    !ingress.class_name.as_deref().is_some_and(|name| gone.contains(name))
                })
            }
            Kind::Namespace => {
                let gone: BTreeSet<&str> = missing.iter().map(|one| &*one.key.name).collect();
                Box::new(move |ingress| !gone.contains(&*ingress.meta.key.namespace))
            }
            _ => return Self { lost: missing.len(), of, what: kind.as_str() },
        };
        let (mut all, mut left) = (BTreeSet::new(), BTreeSet::new());
        for ingress in world.ingresses.values() {
            let hosts = ingress.rules.iter().map(|rule| rule.host.as_str());
            all.extend(hosts.clone());
            if stays(ingress) {
                left.extend(hosts);
            }
        }
        Self { lost: all.len() - left.len(), of: all.len(), what: "hosts" }
    }

    /// What is lost from one world to the next.
    pub(super) fn between(before: &World, after: &World) -> Self {
        let hosts = |world: &World| -> BTreeSet<String> {
            let rules = world.ingresses.values().flat_map(|ingress| &ingress.rules);
            rules.map(|rule| rule.host.clone()).collect()
        };
        let (before, after) = (hosts(before), hosts(after));
        Self { lost: before.difference(&after).count(), of: before.len(), what: "hosts" }
    }

    /// More than half, and more than a few (`spec F-6`).
    pub(super) const fn is_mass(self) -> bool {
        self.lost > FEW && self.lost > self.of / 2
    }

    /// The finding, about one of the objects that are held back.
    pub(super) fn finding(self, object: ObjectRef) -> Diagnostic {
        let Self { lost, of, what } = self;
        Diagnostic {
            object,
            code: HELD,
            severity: Severity::Warning,
            field: String::new(),
            value: String::new(),
            reason: format!(
                "this and others were missing all at once, {lost} of {of} ({what}): they stay until a second look finds the same"
            ),
            hint: "nothing to do if they were deleted; --mass-removal-guard=off believes at once".into(),
            origin: std::sync::Arc::new(Origin::default()),
        }
    }
}
