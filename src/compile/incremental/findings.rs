//! All findings of a compilation, in one order.

use super::{Arc, BTreeSet, Compiler, Diagnostic, Finding, Host, Judged, ObjectKey, Problem, Work};
use crate::compile::merge::Entry;
use crate::model::{Kind, ObjectRef};
use crate::policy::global::UNKNOWN_VARIABLE;

/// Where findings are: most Ingresses and hosts have none, and need not be asked.
#[derive(Debug, Default)]
pub(super) struct Told {
    ingresses: BTreeSet<ObjectKey>,
    hosts: BTreeSet<Arc<str>>,
}

impl Told {
    pub(super) fn ingress(&mut self, key: &ObjectKey, has: bool) {
        if !has {
            self.ingresses.remove(key);
        } else if !self.ingresses.contains(key) {
            self.ingresses.insert(key.clone());
        }
    }

    fn host(&mut self, name: &Arc<str>, has: bool) {
        if !has {
            self.hosts.remove(name);
        } else if !self.hosts.contains(name) {
            self.hosts.insert(Arc::clone(name));
        }
    }
}

impl Judged {
    pub(super) fn has_findings(&self) -> bool {
        match self {
            Self::Ours(entry) => !entry.contribution.diagnostics.is_empty(),
            Self::Foreign(_) => true,
            Self::OutOfScope => false,
        }
    }
}

impl Host {
    fn has_findings(&self) -> bool {
        let of_host = [&self.server_findings, &self.tls_findings, &self.claim_findings];
        of_host.into_iter().any(|found| !found.is_empty())
            || self.plan.as_ref().is_some_and(|plan| !plan.diagnostics.is_empty())
    }
}

impl Compiler {
    /// Notes which of the hosts that were looked at have findings.
    pub(super) fn note_findings(&mut self, work: &Work) {
        for name in work.plans.iter().chain(&work.servers).chain(&work.certificates) {
            let has = self.hosts.get(name).is_some_and(|host| host.has_findings());
            self.told.host(name, has);
        }
    }

    pub(super) fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut all = Vec::new();
        if let Some(settings) = &self.settings {
            let findings = settings.globals_findings.iter();
            all.extend(findings.filter(|finding| !self.is_set(finding)).cloned());
        }
        for judged in
            self.pause.among_light(self.told.ingresses.iter().filter_map(|key| self.judged.get(key)))
        {
            match judged {
                Judged::Ours(entry) => all.extend(entry.contribution.diagnostics.iter().cloned()),
                Judged::Foreign(diagnostic) => all.push((**diagnostic).clone()),
                Judged::OutOfScope => {}
            }
        }
        for host in self.pause.among_light(self.told.hosts.iter().filter_map(|name| self.hosts.get(name))) {
            all.extend(host.plan.iter().flat_map(|plan| &plan.diagnostics).cloned());
            all.extend(host.server_findings.iter().chain(&host.tls_findings).cloned());
            all.extend(host.claim_findings.iter().cloned());
        }
        all.extend(self.overlay.diagnostics.iter().chain(&self.canary_findings).cloned());
        for (slot, problem) in &self.endpoints.problems {
            let Some(state) = self.slots.state(*slot) else { continue };
            for user in &state.users {
                all.extend(
                    named_fields(user, *slot).map(|field| told(user, &field, &state.id.key.service, problem)),
                );
            }
        }
        all.extend(self.stream_problems());
        all.extend(self.settings.iter().flat_map(|settings| self.stream_snippets(settings).1));
        all.sort_by(|a, b| {
            (&a.object, &a.field, a.code, &a.value, &a.reason)
                .cmp(&(&b.object, &b.field, b.code, &b.value, &b.reason))
        });
        all.dedup();
        all
    }
}

impl Compiler {
    /// True for a finding about a variable of the log format that a snippet of some Ingress sets.
    fn is_set(&self, finding: &Diagnostic) -> bool {
        finding.code == UNKNOWN_VARIABLE
            && finding.field.ends_with("[log-format-upstream]")
            && finding.value.strip_prefix('$').is_some_and(|name| {
                self.judged.values().any(|judged| match judged {
                    Judged::Ours(entry) => entry.contribution.policies.server.names.knows(name),
                    Judged::Foreign(_) | Judged::OutOfScope => false,
                })
            })
    }

    /// What the owners of the TCP and UDP services should know of the Services they name.
    fn stream_problems(&self) -> impl Iterator<Item = Diagnostic> {
        let entries = self.settings.iter().flat_map(|settings| &settings.streams);
        entries.filter_map(|(entry, slot)| {
            let problem = self.endpoints.problems.get(slot)?;
            Some(Diagnostic {
                object: ObjectRef { kind: Kind::ConfigMap, key: entry.object.clone() },
                code: problem.code,
                severity: problem.severity,
                field: format!("data[{}]", entry.port),
                value: Diagnostic::shorten(&entry.value),
                reason: problem.reason.clone(),
                hint: problem.hint.to_owned(),
                origin: Arc::clone(&entry.origin),
            })
        })
    }
}

/// Fields of an Ingress that lead to a slot.
fn named_fields(user: &Entry, slot: crate::route::BackendSlot) -> impl Iterator<Item = String> {
    let leads = move |backend: usize| user.slot(backend) == Some(slot);
    let contribution = &user.contribution;
    let default = contribution
        .default_backend
        .filter(|backend| leads(*backend))
        .map(|_| "spec.defaultBackend".to_owned());
    let fallback =
        contribution.fallback.filter(|backend| leads(*backend)).map(|_| "metadata.annotations".to_owned());
    let lines =
        contribution.rules.iter().flat_map(|rule| &rule.paths).filter(move |line| leads(line.backend));
    let lines = lines.map(|line| format!("{}.backend.service", line.field));
    default.into_iter().chain(fallback).chain(lines)
}

fn told(user: &Entry, field: &str, service: &str, problem: &Problem) -> Diagnostic {
    let finding = Finding {
        severity: problem.severity,
        code: problem.code,
        field,
        value: service,
        reason: problem.reason.clone(),
        hint: problem.hint,
    };
    finding.about(&user.contribution)
}
