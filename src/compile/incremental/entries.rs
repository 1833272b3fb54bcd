//! Which Ingresses count, and into which lists each of them goes: hosts, backends, canaries, names, streams.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Compiler, Judged, Work, hosts_of};
use crate::compile::class::{Classes, Verdict};
use crate::compile::finding::Finding;
use crate::compile::follow::follow;
use crate::compile::merge::Entry;
use crate::compile::{Inputs, object};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{Meta, ObjectKey};
use crate::policy::annotation::Objects;

impl Compiler {
    pub(super) fn follow_ingresses(&mut self, inputs: &Inputs<'_>, work: &mut Work) {
        let mut changed: BTreeSet<ObjectKey> = follow(&mut self.ingresses, &inputs.world.ingresses)
            .into_iter()
            .map(|change| change.key)
            .collect();
        let first = self.table.is_none();
        let hidden = inputs.world.classes_hidden != self.classes.are_hidden();
        if !follow(&mut self.seen_classes, &inputs.world.classes).is_empty() || hidden || first {
            let classes = Classes::new(inputs.world, inputs.options);
            if classes != self.classes {
                self.classes = classes;
                changed = self.ingresses.keys().cloned().chain(changed).collect();
            }
        }
        changed.extend(self.references.changes(inputs.world));
        let objects = Objects { secrets: &inputs.world.secrets, config_maps: &inputs.world.config_maps };
        let mut added = Vec::new();
        for key in self.pause.among(changed) {
            if let Some(Judged::Ours(entry)) = self.judged.remove(&key) {
                self.remove_entry(&entry, work);
            }
            self.told.ingress(&key, false);
            self.references.forget(&key);
            let Some(ingress) = self.ingresses.get(&key) else { continue };
            let judged = match self.classes.judge(ingress, inputs.options) {
                Verdict::Ours(semantics) => {
                    let settings = self.settings();
                    let mut contribution =
                        object::contribution(ingress, semantics, &settings.globals, inputs.options, objects);
                    // Most Ingresses say nothing special: they share one value.
                    let policies = &mut contribution.policies;
                    share(&mut policies.route, &settings.base);
                    share(&mut policies.server, &settings.plain_server);
                    share(&mut policies.backend, &settings.plain_backend);
                    self.references.watch(&key, &contribution.policies.references, inputs.world);
                    let slots = contribution.backends.iter_mut().map(|named| {
                        let slot = self.slots.intern(&named.id);
                        // All who name a backend share its name.
                        if let Some(state) = self.slots.state(slot) {
                            named.id = state.id.clone();
                        }
                        slot
                    });
                    let slots = slots.collect();
                    let entry = Arc::new(Entry { contribution, slots });
                    added.push(Arc::clone(&entry));
                    Judged::Ours(entry)
                }
                Verdict::Foreign { field, value, reason } => {
                    Judged::Foreign(Box::new(class_finding(&ingress.meta, field, &value, reason)))
                }
                Verdict::OutOfScope => Judged::OutOfScope,
            };
            self.told.ingress(&key, judged.has_findings());
            self.judged.insert(key, judged);
        }
        // Oldest first, so that each lands at the end of the lists it joins when all are new.
        added.sort_by(|a, b| a.contribution.age.cmp(&b.contribution.age));
        for entry in self.pause.among(added) {
            self.add_entry(entry, work);
        }
    }

    fn add_entry(&mut self, entry: Arc<Entry>, work: &mut Work) {
        for host in hosts_of(&entry.contribution) {
            insert_by_age(&mut self.hosts.entry(Arc::clone(&host)).or_default().entries, &entry);
            work.plans.insert(host);
        }
        for slot in entry.slots.iter() {
            if let Some(state) = self.slots.state_mut(*slot) {
                insert_by_age(&mut state.users, &entry);
                if entry.contribution.policies.backend.affinity.is_some() {
                    insert_by_age(&mut state.sticky, &entry);
                }
            }
            work.backends.insert(*slot);
        }
        if entry.contribution.is_canary() {
            insert_by_age(&mut self.canaries, &entry);
            return;
        }
        let server = &entry.contribution.policies.server;
        if !server.streams.is_empty() {
            insert_by_age(&mut self.streamers, &entry);
        }
        if server.from_to_www || !server.aliases.is_empty() {
            insert_by_age(&mut self.namers, &entry);
        }
    }

    fn remove_entry(&mut self, entry: &Arc<Entry>, work: &mut Work) {
        for host in hosts_of(&entry.contribution) {
            if let Some(state) = self.hosts.get_mut(&host) {
                remove(&mut state.entries, entry);
            }
            work.plans.insert(host);
        }
        for slot in entry.slots.iter() {
            if let Some(state) = self.slots.state_mut(*slot) {
                remove(&mut state.users, entry);
                remove(&mut state.sticky, entry);
            }
            work.backends.insert(*slot);
        }
        remove(&mut self.canaries, entry);
        remove(&mut self.streamers, entry);
        remove(&mut self.namers, entry);
    }
}

fn share<T: PartialEq>(value: &mut Arc<T>, known: &Arc<T>) {
    if **value == **known {
        *value = Arc::clone(known);
    }
}

fn insert_by_age(entries: &mut Vec<Arc<Entry>>, entry: &Arc<Entry>) {
    let at = entries.partition_point(|other| other.contribution.age < entry.contribution.age);
    if !entries.get(at).is_some_and(|other| Arc::ptr_eq(other, entry)) {
        entries.insert(at, Arc::clone(entry));
    }
}

fn remove(entries: &mut Vec<Arc<Entry>>, entry: &Arc<Entry>) {
    let at = entries.partition_point(|other| other.contribution.age < entry.contribution.age);
    if entries.get(at).is_some_and(|other| Arc::ptr_eq(other, entry)) {
        entries.remove(at);
    }
}

fn class_finding(meta: &Meta, field: &str, value: &str, reason: String) -> Diagnostic {
    Finding { severity: Severity::Info, code: "ClassNotOurs", field, value, reason, hint: "" }
        .about_ingress(meta)
}
