//! Findings about manifests as lines of the log: each once when it appears, so that somebody who edits a file and
//! watches the log reads what is wrong with it. `narthex check` and the admin port have them all at any time.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::control::Hook;
use crate::diagnostic::{Diagnostic, Severity};

/// Findings that one publication logs; the rest is counted.
const MOST: usize = 20;

/// What a publication has to say that the one before it had not.
#[derive(Debug, Default)]
struct Findings {
    known: BTreeSet<String>,
}

/// New findings, as many as are shown, and how many more there are.
#[derive(Debug, PartialEq, Eq)]
struct News {
    shown: Vec<String>,
    more: usize,
    mended: usize,
}

impl Findings {
    fn news(&mut self, diagnostics: &[Diagnostic]) -> News {
        let told = diagnostics.iter().filter(|found| found.severity > Severity::Info);
        let now: BTreeSet<String> = told.map(line).collect();
        let mut fresh: Vec<String> = now.difference(&self.known).cloned().collect();
        let mended = self.known.difference(&now).count();
        let more = fresh.len().saturating_sub(MOST);
        fresh.truncate(MOST);
        self.known = now;
        News { shown: fresh, more, mended }
    }
}

/// One line, whatever a manifest holds.
fn line(found: &Diagnostic) -> String {
    found.to_string().replace(char::is_control, " ")
}

/// Logs what is new with each publication.
pub(super) fn hook() -> Hook {
    let mut findings = Findings::default();
    let mut last: Option<Arc<[Diagnostic]>> = None;
    Box::new(move |snapshot, _report| {
        let now = &snapshot.diagnostics;
        if last.replace(Arc::clone(now)).is_some_and(|last| Arc::ptr_eq(&last, now)) {
            return;
        }
        let News { shown, more, mended } = findings.news(&snapshot.diagnostics);
        for finding in shown {
            tracing::warn!("{finding}");
        }
        if more > 0 {
            tracing::warn!(more, "there are more findings: narthex check shows them all");
        }
        if mended > 0 {
            tracing::info!(findings = mended, "mended");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, Meta, ObjectKey, ObjectRef, Origin};

    fn finding(name: &str, severity: Severity) -> Diagnostic {
        let meta = Meta::named(ObjectKey::new("default", name));
        Diagnostic {
            object: ObjectRef { kind: Kind::Ingress, key: meta.key },
            code: "Test",
            severity,
            field: String::new(),
            value: String::new(),
            reason: "one\nline".into(),
            hint: String::new(),
            origin: Arc::new(Origin::default()),
        }
    }

    #[test]
    fn a_finding_is_told_once_and_its_end_is_told() {
        let mut findings = Findings::default();
        let (a, b) = (finding("a", Severity::Error), finding("b", Severity::Warning));
        let first = findings.news(std::slice::from_ref(&a));
        assert!(first.shown[0].contains("default/a") && first.shown[0].contains("one line"), "{first:?}");
        let second = findings.news(&[a, b.clone()]);
        assert!(second.shown.len() == 1 && second.shown[0].contains("default/b"), "{second:?}");
        assert_eq!(findings.news(&[b]), News { shown: Vec::new(), more: 0, mended: 1 });
        assert_eq!(
            findings.news(&[finding("c", Severity::Info)]),
            News { shown: Vec::new(), more: 0, mended: 1 }
        );
    }

    #[test]
    fn many_findings_are_counted() {
        let many: Vec<_> = (0..MOST + 5).map(|n| finding(&format!("i{n}"), Severity::Error)).collect();
        let news = Findings::default().news(&many);
        assert_eq!((news.shown.len(), news.more), (MOST, 5));
    }
}
