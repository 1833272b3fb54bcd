//! Variables in the log formats of the ConfigMap that nobody knows. nginx refuses such a format; here the rest of the line
//! is worth having. The formats themselves are compiled by `telemetry`.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::nearest;
use crate::policy::snippet::GlobalSnippets;
use crate::variable::{FIXED, STREAM, Variable, names};

/// A variable without meaning.
pub(super) struct Unknown {
    /// Key of the format.
    pub(super) key: &'static str,
    /// With its `$`.
    pub(super) variable: String,
    /// What comes of it.
    pub(super) reason: String,
    /// What may have been meant.
    pub(super) hint: String,
}

/// Each unknown variable of each format, once. What snippets of the ConfigMap define is known; what those of Ingresses set
/// is known to `compile`, which leaves such findings out.
pub(super) fn unknown(data: &BTreeMap<String, String>, snippets: &GlobalSnippets) -> Vec<Unknown> {
    let of = |key: &str| data.get(key).map_or("", String::as_str);
    let nobodys = |name: &&str| Variable::parse(name).is_none() && !snippets.defines(name);
    let requests: BTreeSet<&str> = names(of("log-format-upstream")).filter(nobodys).collect();
    let streams: BTreeSet<&str> =
        names(of("log-format-stream")).filter(|name| !STREAM.contains(name)).collect();
    let requests = requests
        .iter()
        .map(|name| ("log-format-upstream", *name, nearest(name, FIXED.iter().map(|row| row.name))));
    let streams =
        streams.iter().map(|name| ("log-format-stream", *name, nearest(name, STREAM.iter().copied())));
    requests
        .chain(streams)
        .map(|(key, name, near)| Unknown {
            key,
            variable: format!("${name}"),
            reason: format!("there is no variable ${name} here; the log shows a dash for it"),
            hint: near.map(|near| format!("did you mean ${near}?")).unwrap_or_default(),
        })
        .collect()
}
