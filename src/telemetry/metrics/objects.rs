//! What is told of every Ingress of the table: that it exists, and whether it leads nowhere. Kept as it changes and written
//! when somebody scrapes: as ordinary gauges of a library ten thousand Ingresses took twenty thousand values with all of
//! their labels, more memory than their routes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::names;
use super::text::{Text, push_label};

/// How many Ingresses are looked at under one lock: about as many as fill a piece of a scrape.
const AT_ONCE: usize = 32;

/// Namespace and name of an Ingress.
pub type IngressName = (Arc<str>, Arc<str>);

/// Whether the rules of an Ingress lead to Services that exist and have endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Orphaned {
    /// Some lead to a Service that does not exist.
    pub no_service: bool,
    /// Some lead to a Service without endpoints; `None` where no Service exists.
    pub no_endpoint: Option<bool>,
}

/// Hosts and Ingresses that came into the table, or that left it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveObjects {
    /// Hosts as they stand in [`crate::telemetry::record::HostLabel::Configured`]. One may stand here several times: it is
    /// there until it left as often as it came.
    pub hosts: Vec<Arc<str>>,
    /// Every Ingress that owns a location, once, and never among those that come and those that leave at the same time.
    pub ingresses: Vec<IngressName>,
}

/// What exists at the moment.
#[derive(Debug, Default)]
pub(super) struct Live {
    hosts: BTreeMap<Arc<str>, usize>,
    ingresses: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

/// What is known of orphans, by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Orphans(Mutex<BTreeMap<IngressName, Orphaned>>);

// === impl Live ===

impl Live {
    pub(super) fn has_host(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    pub(super) fn has_ingress(&self, namespace: &str, name: &str) -> bool {
        self.ingresses.get(namespace).is_some_and(|names| names.contains(name))
    }

    /// Takes in what came and what left; true when anything is there now that was not, or the other way round.
    pub(super) fn change(&mut self, came: LiveObjects, left: LiveObjects) -> bool {
        let mut differs = false;
        for host in came.hosts {
            let count = self.hosts.entry(host).or_default();
            differs |= *count == 0;
            *count += 1;
        }
        for host in left.hosts {
            let Some(count) = self.hosts.get_mut(&host) else { continue };
            *count -= 1;
            if *count == 0 {
                self.hosts.remove(&host);
                differs = true;
            }
        }
        for (namespace, name) in left.ingresses {
            let Some(names) = self.ingresses.get_mut(&namespace) else { continue };
            differs |= names.remove(&name);
            if names.is_empty() {
                self.ingresses.remove(&namespace);
            }
        }
        for (namespace, name) in came.ingresses {
            differs |= self.ingresses.entry(namespace).or_default().insert(name);
        }
        differs
    }
}

// === impl Orphans ===

impl Orphans {
    /// What is known of an Ingress now; `None` forgets it.
    pub(super) fn change(&self, changes: impl IntoIterator<Item = (IngressName, Option<Orphaned>)>) {
        let mut known = self.lock();
        for (name, orphaned) in changes {
            match orphaned {
                Some(orphaned) => known.insert(name, orphaned),
                None => known.remove(&name),
            };
        }
    }

    /// Writes some of those that come after `last`, and says which was the last one of them; `None` at the end. As
    /// ingress-nginx tells it: 0 for those that lead somewhere, and nothing about endpoints where there is no Service.
    /// Not locked while it pauses: the control plane does not wait for who scrapes.
    pub(super) fn render_after(
        &self,
        last: Option<&IngressName>,
        text: &mut Text,
        constant: &str,
        pause: fn(),
    ) -> Option<IngressName> {
        let mut labels = String::new();
        let some = self.after(last);
        if last.is_none() && !some.is_empty() {
            text.family(&names::ORPHAN);
        }
        for ((namespace, ingress), orphaned) in &some {
            pause();
            let kinds = [("no-endpoint", orphaned.no_endpoint), ("no-service", Some(orphaned.no_service))];
            for (kind, is) in kinds {
                let Some(is) = is else { continue };
                labels.clear();
                labels.push_str(constant);
                push_label(&mut labels, "ingress", ingress);
                push_label(&mut labels, "namespace", namespace);
                push_label(&mut labels, "type", kind);
                text.sample(names::ORPHAN.name, "", &labels, u8::from(is));
            }
        }
        some.into_iter().next_back().map(|(name, _)| name)
    }

    /// Some of those that come after `last`, in order; none at the end.
    fn after(&self, last: Option<&IngressName>) -> Vec<(IngressName, Orphaned)> {
        let begin = last.map_or(Bound::Unbounded, Bound::Excluded);
        let known = self.lock();
        known.range((begin, Bound::Unbounded)).take(AT_ONCE).map(|(name, it)| (name.clone(), *it)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IngressName, Orphaned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(hosts: &[&str], ingresses: &[&str]) -> LiveObjects {
        LiveObjects {
            hosts: hosts.iter().map(|&host| host.into()).collect(),
            ingresses: ingresses.iter().map(|&name| ("ns".into(), name.into())).collect(),
        }
    }

    #[test]
    fn a_host_that_leaves_and_comes_at_once_is_there_as_before() {
        let mut known = Live::default();
        assert!(known.change(live(&["a", "b"], &["i"]), LiveObjects::default()));
        assert!(!known.change(live(&["a"], &[]), live(&["a"], &[])));
        assert!(known.has_host("a") && known.has_host("b") && known.has_ingress("ns", "i"));
        assert!(!known.has_host("c") && !known.has_ingress("ns", "j") && !known.has_ingress("other", "i"));
    }

    #[test]
    fn more_orphans_than_are_looked_at_at_once_are_told_once_each() {
        let orphans = Orphans::default();
        let name = |number: usize| ("ns".into(), format!("i{number:04}").into());
        for count in [0, 1, AT_ONCE, AT_ONCE * 2 + 1] {
            let nowhere = Orphaned { no_service: true, no_endpoint: None };
            orphans.change((0..count).map(|number| (name(number), Some(nowhere))));
            let mut text = Text::default();
            let mut last = None;
            while let Some(name) = orphans.render_after(last.as_ref(), &mut text, "", || {}) {
                last = Some(name);
            }
            let text = text.take(0);
            let told: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            assert_eq!(told.len(), count);
            assert!(told.is_sorted() && told.iter().all(|line| line.ends_with(" 1")), "{told:?}");
            assert_eq!(text.matches("# TYPE").count(), usize::from(count > 0));
        }
    }

    #[test]
    fn a_host_of_two_servers_is_there_until_both_left() {
        let mut known = Live::default();
        known.change(live(&["a", "a"], &[]), LiveObjects::default());
        assert!(!known.change(LiveObjects::default(), live(&["a"], &[])) && known.has_host("a"));
        assert!(
            known.change(LiveObjects::default(), live(&["a", "unknown"], &["unknown"]))
                && !known.has_host("a")
        );
    }
}
