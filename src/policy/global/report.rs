//! What is told of a ConfigMap whose keys cannot be read or have no effect, and what counts for a broken key meanwhile.

use std::sync::Arc;

use super::{Effect, KEYS, Key};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{ConfigMap, Kind, ObjectRef};
use crate::policy::annotation::shown;
use crate::policy::registry::{gone, nearest};
use crate::policy::snippet::GlobalNote;

/// What counts for a key whose text cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// Nothing may pass that it guards.
    Shut,
    /// Nobody is let in whom it would have named.
    Nobody,
    /// The last text that could be read, else the entries of the list that can be read.
    OtherEntries,
    /// The last text that could be read, else the default.
    Default,
}

impl Otherwise {
    pub(super) fn of(key: &Key) -> Self {
        match key.name {
            name if name.starts_with("global-auth-") => Self::Shut,
            name if name.starts_with("host-") => Self::Nobody,
            "bind-address"
            | "block-cidrs"
            | "block-referers"
            | "block-user-agents"
            | "custom-http-errors"
            | "denylist-source-range"
            | "proxy-real-ip-cidr"
            | "skip-access-log-urls"
            | "whitelist-source-range" => Self::OtherEntries,
            _ => Self::Default,
        }
    }

    pub(super) fn keeps_the_last(self) -> bool {
        matches!(self, Self::OtherEntries | Self::Default)
    }
}

/// Findings about a ConfigMap, as its keys are read.
pub(super) struct Report<'c> {
    pub(super) config_map: &'c ConfigMap,
    pub(super) found: Vec<Diagnostic>,
    /// See [`Globals::unread`].
    pub(super) unread: Vec<&'static str>,
}

impl Report<'_> {
    pub(super) fn add(&mut self, code: &'static str, key: &str, value: &str, reason: String, hint: String) {
        self.at(self.config_map, code, key, value, reason, hint);
    }

    pub(super) fn at(
        &mut self,
        object: &ConfigMap,
        code: &'static str,
        key: &str,
        value: &str,
        reason: String,
        hint: String,
    ) {
        self.found.push(Diagnostic {
            object: ObjectRef { kind: Kind::ConfigMap, key: object.meta.key.clone() },
            code,
            severity: Severity::Warning,
            field: format!("data[{key}]"),
            value: value.chars().take(200).collect(),
            reason,
            hint,
            origin: Arc::clone(&object.meta.origin),
        });
    }

    pub(super) fn unknown(&mut self, key: &str) {
        let near =
            || nearest(key, KEYS.iter().map(|key| key.name)).map(|name| format!("did you mean {name}?"));
        let hint = gone::find(gone::KEYS, key).map(|gone| gone.hint.to_owned()).or_else(near);
        self.add("UnknownKey", key, "", "is no key of this ConfigMap".into(), hint.unwrap_or_default());
    }

    /// `last` is the text that counts meanwhile, where there is one.
    pub(super) fn invalid(&mut self, key: &Key, value: &str, reason: String, last: Option<&str>) {
        // A key is shown to nobody, not even a broken one.
        let shown_of = |text: &str| match key.name {
            "ssl-session-ticket-key" => String::new(),
            name => shown(name, text),
        };
        let hint = match (Otherwise::of(key), last) {
            (Otherwise::Shut, _) => {
                "until it is mended every route that global-auth-url guards answers 503".to_owned()
            }
            (Otherwise::Nobody, _) => "until it is mended what cannot be read lets nobody in".to_owned(),
            (Otherwise::OtherEntries, None) => "the other entries count".to_owned(),
            (Otherwise::OtherEntries | Otherwise::Default, Some(last)) => {
                let last: String = shown_of(last).chars().take(200).collect();
                format!("until it is mended its last good value counts: {last}")
            }
            (Otherwise::Default, None) => {
                let default = if key.default.is_empty() { "none" } else { key.default };
                format!("until it is mended the default counts: {default}")
            }
        };
        if Otherwise::of(key).keeps_the_last() {
            self.unread.push(key.name);
        }
        self.add("InvalidConfigMapValue", key.name, &shown_of(value), reason, hint);
    }

    /// The value of a field is often what only a backend should know, and is not shown (H-2).
    pub(super) fn field(&mut self, object: &ConfigMap, name: &str, reason: &str) {
        self.at(object, "InvalidConfigMapValue", name, "", reason.into(), "the entry is left out".into());
    }

    pub(super) fn firewall(&mut self) {
        let reason = "turns requests away (SecRuleEngine On), and there is no web application firewall, so every route \
                      answers 503";
        let hint = "say SecRuleEngine DetectionOnly if it is not missed, or enable-modsecurity: \"false\" on Ingresses";
        self.add("NotSupported", "modsecurity-snippet", "", reason.into(), hint.into());
        if let Some(last) = self.found.last_mut() {
            last.severity = Severity::Error;
        }
    }

    pub(super) fn snippets(&mut self, notes: Vec<GlobalNote>) {
        for note in notes {
            let (code, hint) = if note.refused {
                ("SnippetRefused", "docs/snippets.md lists what is known")
            } else {
                ("NoEffect", "")
            };
            self.add(code, note.key, "", note.reason, hint.into());
            if let Some(last) = self.found.last_mut().filter(|_| !note.refused) {
                last.severity = Severity::Info;
            }
        }
    }

    /// True for a key that does something; others get a finding.
    pub(super) fn effective(&mut self, key: &Key, text: &str) -> bool {
        match key.effect {
            Effect::Applied => true,
            Effect::NoMeaning => {
                let reason = "has no meaning in this proxy and is accepted".into();
                self.add("NoEffect", key.name, "", reason, String::new());
                if let Some(last) = self.found.last_mut() {
                    last.severity = Severity::Info;
                }
                false
            }
            // What is switched off anyway is no news.
            Effect::Refused(_) if text == key.default => false,
            Effect::Refused(why) => {
                self.add("NotSupported", key.name, "", format!("is not honoured: {why}"), String::new());
                false
            }
        }
    }
}
