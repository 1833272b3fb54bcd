//! `ssl-passthrough` of a host: an Ingress of the namespace that has had the host longest may ask, the backend of `/`
//! takes the connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::expand::Draft;
use crate::compile::finding::Finding;
use crate::compile::merge::{Entry, HostPlan};
use crate::compile::object::CATCH_ALL;
use crate::diagnostic::{Diagnostic, Severity};
use crate::policy::{RoutePolicies, ssl_passthrough};
use crate::route::{Location, LocationTarget, Passthrough};

/// Where the TLS connections of a host go, if they are to go unopened. Its locations with the same backend then speak
/// TLS to it, in clear-text requests and, as with ingress-nginx, in all where the flag for passing through is not given.
pub(super) fn find(
    plan: &HostPlan,
    drafts: &[Draft<'_>],
    locations: &mut [Arc<Location>],
    enabled: bool,
) -> (Option<Passthrough>, Vec<Diagnostic>) {
    let mut askers: BTreeMap<_, &Arc<Entry>> = BTreeMap::new();
    for owner in drafts.iter().filter_map(|draft| draft.rule.owner.as_ref()) {
        if owner.contribution.policies.server.ssl_passthrough {
            askers.insert(&owner.contribution.age, owner);
        }
    }
    if askers.is_empty() {
        return (None, Vec::new());
    }
    let tell = |severity, reason: &str, hint| {
        let say = |owner: &&Arc<Entry>| {
            let finding = Finding {
                severity,
                code: "SslPassthrough",
                field: "metadata.annotations",
                value: &plan.host,
                reason: reason.to_owned(),
                hint,
            };
            finding.about(&owner.contribution)
        };
        askers.values().map(say).collect()
    };
    let disabled = || {
        let reason = "TLS of this host ends here without --enable-ssl-passthrough, and begins anew to the backend of /";
        (None, tell(Severity::Warning, reason, "start with --enable-ssl-passthrough"))
    };
    if *plan.host == *CATCH_ALL {
        let reason = "has no effect on rules without host: there is no server name to tell them by";
        return (None, tell(Severity::Warning, reason, "give the rule a host"));
    }
    let root = locations.iter().find(|location| *location.rule_path == *"/" && !location.implicit);
    let Some((backend, policies)) = root.and_then(|root| match &root.target {
        LocationTarget::Backend(backend) => Some((Arc::clone(backend), Arc::clone(&root.policies))),
        _ => None,
    }) else {
        let reason =
            "has no effect: the host has no rule for the path / whose backend could take connections";
        return (None, tell(Severity::Warning, reason, "add a rule for /"));
    };
    // Whoever opens a host to its backend voids every guard of it, so the host has to be theirs (B-13).
    let oldest = drafts
        .iter()
        .filter_map(|draft| draft.rule.owner.as_ref())
        .min_by_key(|owner| &owner.contribution.age);
    let holder = oldest.map(|owner| &owner.contribution.key.namespace);
    let of_root = root.and_then(|root| root.owner.as_ref()).map(|owner| &owner.namespace);
    if of_root != holder || !askers.values().any(|asker| Some(&asker.contribution.key.namespace) == holder) {
        let reason = "has no effect: the host belongs to an older Ingress of another namespace";
        return (
            None,
            tell(
                Severity::Warning,
                reason,
                "let the namespace that has had the host longest ask for it, and own /",
            ),
        );
    }
    for location in locations.iter_mut() {
        if location.backend().is_some_and(|other| other.slot == backend.slot) {
            *location = Arc::new(by_tls(location));
        }
    }
    if !enabled {
        return disabled();
    }
    let others = locations.iter().any(|location| *location.rule_path != *"/");
    let found = if others {
        let reason = "TLS connections of this host go to the backend of / whatever their path: other paths and all \
                      annotations but address lists count for clear text only";
        tell(Severity::Warning, reason, "leave only the path / on this host")
    } else {
        Vec::new()
    };
    (Some(Passthrough { backend, policies }), found)
}

fn by_tls(location: &Location) -> Location {
    let policies = RoutePolicies {
        protocol: ssl_passthrough::backend_protocol(location.policies.protocol),
        ..RoutePolicies::clone(&location.policies)
    };
    Location {
        kind: location.kind,
        path: Arc::clone(&location.path),
        rule_path: Arc::clone(&location.rule_path),
        owner: location.owner.clone(),
        field: Arc::clone(&location.field),
        implicit: location.implicit,
        tier: location.tier,
        pattern: location.pattern.clone(),
        target: location.target.clone(),
        policies: Arc::new(policies),
        default_backend: location.default_backend.clone(),
        rewrite_pattern: location.rewrite_pattern.clone(),
        sets_cookie: location.sets_cookie,
    }
}
