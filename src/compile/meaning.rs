//! Which paths mean something else with the Kubernetes meaning than with nginx's: what `check` tells people who
//! think of switching, or who wrote paths with the documentation in mind.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::finding::Finding;
use super::object::{CATCH_ALL, Contribution, PathLine, RuleKind, contribution};
use super::options::{Options, PathSemantics};
use super::{Compiled, Inputs, compile};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{Ingress, IngressClass};
use crate::policy::annotation::Objects;
use crate::route::{Server, Table};

/// A finding (info, `PathMeaningDiffers`) for every path of our Ingresses that takes other requests with one meaning
/// than with the other. Classes that choose a meaning of their own are looked at under both all the same.
pub fn semantics_differences(inputs: &Inputs<'_>) -> Vec<Diagnostic> {
    let options = Options { path_semantics: PathSemantics::Nginx, ..inputs.options.clone() };
    let mut world = inputs.world.clone();
    for (key, class) in &inputs.world.classes {
        if class.parameters.as_ref().is_some_and(|(kind, _)| kind == "PathSemantics") {
            let without = IngressClass { parameters: None, ..IngressClass::clone(class) };
            world.classes.insert(key.clone(), Arc::new(without));
        }
    }
    let compiled = compile(&Inputs { world: &world, options: &options, ..*inputs });
    let classes = super::class::Classes::new(&world, &options);
    let ours =
        |ingress: &&Arc<Ingress>| matches!(classes.judge(ingress, &options), super::class::Verdict::Ours(_));
    let mut all = Vec::new();
    for ingress in world.ingresses.values().filter(ours) {
        let objects = Objects { secrets: &world.secrets, config_maps: &world.config_maps };
        let one = contribution(ingress, PathSemantics::Nginx, &compiled.table.globals, &options, objects);
        if one.is_canary() {
            continue;
        }
        for rule in &one.rules {
            let Some(server) = server_called(&compiled, &rule.host) else { continue };
            all.extend(rule.paths.iter().filter_map(|line| difference(&one, &rule.host, line, server)));
        }
    }
    all
}

fn server_called<'c>(compiled: &'c Compiled, host: &str) -> Option<&'c Arc<Server>> {
    let table: &Table = &compiled.table;
    let name = match host.strip_prefix("*.") {
        Some(rest) => format!("label.{rest}"),
        None => host.to_owned(),
    };
    if host == CATCH_ALL { Some(&table.catch_all) } else { table.hosts.find(&name) }
}

fn difference(one: &Contribution, host: &str, line: &PathLine, server: &Server) -> Option<Diagnostic> {
    let path = &*line.path;
    let stays_expression = !line.literal && one.policies.route.use_regex;
    let mut differences: BTreeMap<&str, &str> = BTreeMap::new();
    let plain = |location: &Arc<crate::route::Location>| !location.implicit && !location.policies.use_regex;
    if server.regex_mode && stays_expression && !server.locations.iter().any(plain) {
        return None;
    }
    if server.regex_mode && stays_expression {
        differences.insert(
            "order",
            "nginx asks expressions by length of their text alone, before equal or longer plain paths",
        );
    } else if server.regex_mode && line.kind == RuleKind::Exact {
        differences.insert(
            "expression",
            "nginx takes it as a case-insensitive expression without end, so it takes longer paths too",
        );
    } else if server.regex_mode && path.len() > 1 {
        differences.insert(
            "expression",
            "nginx takes it as a case-insensitive expression without end, so element boundaries do not count",
        );
    }
    if !server.regex_mode && path.len() > 1 && path.ends_with('/') {
        let why = match line.kind {
            RuleKind::Prefix => "nginx redirects the path without its last slash (301), Kubernetes serves it",
            RuleKind::Exact => {
                "nginx redirects the path without its last slash (301), for Kubernetes it does not match"
            }
        };
        differences.insert("slash", why);
    }
    if host == CATCH_ALL {
        differences.insert(
            "hostless",
            "nginx asks rules without host for unknown hosts only, Kubernetes for every host",
        );
    }
    if differences.is_empty() {
        return None;
    }
    let reasons: Vec<&str> = differences.into_values().collect();
    let finding = Finding {
        severity: Severity::Info,
        code: "PathMeaningDiffers",
        field: &format!("{}.path", line.field),
        value: path,
        reason: reasons.join("; "),
        hint: "",
    };
    Some(finding.about(one))
}
