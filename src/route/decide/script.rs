//! The part of snippets in a decision: the levels they stand at, in nginx's order, and locations of their own.
//! What a directive does is `policy::snippet`'s.

use std::sync::Arc;

use super::{Recorder, Unrecorded, said};
use crate::policy::app_root;
use crate::policy::redirect::RedirectStyle;
use crate::policy::satisfy::Verdict;
use crate::policy::snippet::script::{Matcher, Nested, Rival};
use crate::policy::snippet::{Outcome, Run, Script, Stage};
use crate::policy::template::{Facts, RouteFacts};
use crate::reply::LocalReply;
use crate::request::RequestView;
use crate::route::{Location, LocationKind, Server, Table};

/// What a location's snippets leave to do.
pub(super) enum Rewrites {
    /// Redirects and rewrites of annotations count.
    Go,
    /// They do not: `break`.
    Over,
    /// The location is chosen anew.
    Again,
}

/// What a location of a snippet led to.
pub(super) enum Own {
    Reply(LocalReply),
    Again,
}

/// The rewrite phase of a server: its own snippet, `app-root`, the ConfigMap's snippet.
pub(super) fn server(
    table: &Table,
    server: &Server,
    view: &RequestView<'_>,
    run: &mut Run<'_>,
    recorder: &mut impl Recorder,
) -> Option<LocalReply> {
    let snippets = &table.globals.snippets;
    let scripts = [&server.snippet, &snippets.server].map(Option::as_ref);
    let counts = server.redirect_to.is_none();
    let all = || scripts.into_iter().flatten().filter(|_| counts);
    if snippets.http.is_some() || all().next().is_some() {
        run.enter(0, &snippets.http);
        run.enter(1, all().map(|script| &script.settings));
    }
    // As in nginx, where this comes before the rewrite phase.
    let relayed = run.relayed(view, &table.globals, false);
    let view = relayed.as_deref().unwrap_or(view);
    let mut goes_on = true;
    let mut step = |script: Option<&Arc<Script>>, run: &mut Run<'_>, recorder: &mut _| {
        let script = script.filter(|script| counts && goes_on && !script.steps.is_empty())?;
        let route = RouteFacts { server_name: &view.host.name, ..facts(run) };
        match run.steps(script, &stage(table, view, route, style(table))) {
            Outcome::Reply(reply) => return Some(told(recorder, reply)),
            Outcome::Done | Outcome::Rewritten => {}
            Outcome::Break | Outcome::Again => goes_on = false,
        }
        None
    };
    let [own, global] = scripts;
    if let Some(reply) = step(own, run, recorder) {
        return Some(reply);
    }
    if let Some(reply) = server.app_root.as_deref().and_then(|root| app_root::decide(root, view)) {
        recorder.step("app-root", || said(&reply));
        return Some(reply);
    }
    step(global, run, recorder)
}

/// The location of a server's snippet that takes the path from the one of the Ingress.
pub(super) fn own_location(
    table: &Table,
    server: &Server,
    view: &RequestView<'_>,
    rival: Rival,
    run: &mut Run<'_>,
    recorder: &mut impl Recorder,
) -> Option<Own> {
    let relayed = run.relayed(view, &table.globals, false);
    let view = relayed.as_deref().unwrap_or(view);
    for script in [&server.snippet, &table.globals.snippets.server].into_iter().flatten() {
        match script.location(run.path(view).as_bytes(), rival) {
            Err(_) => return Some(Own::Reply(over_limit())),
            Ok(Some(nested)) => {
                let route = RouteFacts { server_name: &view.host.name, ..facts(run) };
                let stage = stage(table, view, route, style(table));
                return Some(nested_outcome(table, nested, &stage, 2, run, recorder));
            }
            Ok(None) => {}
        }
    }
    None
}

/// The answer of the location called `@name`, where error pages lead; `None` where there is none.
pub(super) fn named(
    table: &Table,
    server: &Server,
    view: &RequestView<'_>,
    run: &mut Run<'_>,
    name: &str,
) -> Option<LocalReply> {
    let scripts = || [&server.snippet, &table.globals.snippets.server].into_iter().flatten();
    let nested = scripts().find_map(|script| script.named(name))?;
    run.enter(1, scripts().map(|script| &script.settings));
    let relayed = run.relayed(view, &table.globals, false);
    let view = relayed.as_deref().unwrap_or(view);
    let route = RouteFacts { server_name: &view.host.name, ..facts(run) };
    let stage = stage(table, view, route, style(table));
    match nested_outcome(table, nested, &stage, 2, run, &mut Unrecorded) {
        Own::Reply(reply) => Some(reply),
        Own::Again => Some(LocalReply::RewriteFailed { reason: "a named location rewrote the path" }),
    }
}

/// A location of a snippet proxies nothing: it answers, refuses, or has no file to show.
fn nested_outcome(
    table: &Table,
    nested: &Nested,
    stage: &Stage<'_>,
    depth: usize,
    run: &mut Run<'_>,
    recorder: &mut impl Recorder,
) -> Own {
    let script = &nested.script;
    recorder.step("location", || format!("of a snippet: {:?}", nested.matcher));
    run.enter(depth, [&script.settings]);
    // Before the locations inside it: they inherit it.
    if script.settings.internal && !run.is_led() {
        return Own::Reply(told(recorder, LocalReply::NoRoute));
    }
    // Its groups count until another expression matches.
    if let Matcher::Expression(pattern) = &nested.matcher
        && let Err(reply) = run.capture(pattern, stage.facts.view)
    {
        return Own::Reply(reply);
    }
    match script.location(run.path(stage.facts.view).as_bytes(), Rival::Nothing) {
        // What was not searched to its end may have been a guard.
        Err(_) => return Own::Reply(over_limit()),
        Ok(Some(inner)) => return nested_outcome(table, inner, stage, depth + 1, run, recorder),
        Ok(None) => {}
    }
    match run.steps(script, stage) {
        Outcome::Reply(reply) => return Own::Reply(told(recorder, reply)),
        Outcome::Again | Outcome::Rewritten => return Own::Again,
        Outcome::Done | Outcome::Break => {}
    }
    let view = stage.facts.view;
    let relayed = run.relayed(view, &table.globals, true);
    let client = relayed.as_deref().unwrap_or(view).forwarded.client;
    let reply = match run.access(None, client, view.method) {
        Verdict::Refuse(reply) => reply,
        Verdict::Admit | Verdict::Abstain => LocalReply::NoRoute,
    };
    Own::Reply(told(recorder, reply))
}

/// The rewrite phase of a location: the snippet of its Ingress, then the ConfigMap's. `Err` is an answer.
pub(super) fn location(
    table: &Table,
    location: &Location,
    view: &RequestView<'_>,
    run: &mut Run<'_>,
    recorder: &mut impl Recorder,
) -> Result<Rewrites, LocalReply> {
    let all = || scripts_of(table, location);
    if run.is_idle() && all().next().is_none() {
        return Ok(Rewrites::Go);
    }
    run.enter(2, all().map(|script| &script.settings));
    if location.is_acme() {
        return Ok(Rewrites::Go);
    }
    let relayed = run.relayed(view, &table.globals, false);
    let view = relayed.as_deref().unwrap_or(view);
    if all().any(|script| script.settings.internal) && !run.is_led() {
        return Err(told(recorder, LocalReply::NoRoute));
    }
    let stage = stage(table, view, facts_of(location, view, run), location.policies.redirect_style);
    if let Some(pattern) = location.pattern.as_deref().filter(|_| all().next().is_some()) {
        run.capture(pattern, view)?;
    }
    for script in all() {
        match script.location(run.path(view).as_bytes(), Rival::Nothing) {
            Err(_) => return Err(over_limit()),
            Ok(Some(nested)) => {
                return match nested_outcome(table, nested, &stage, 3, run, recorder) {
                    Own::Reply(reply) => Err(reply),
                    Own::Again => Ok(Rewrites::Again),
                };
            }
            Ok(None) => {}
        }
    }
    // Both are one block to nginx: what the first rewrites, the second sees, and the choice is made at the end.
    let mut again = false;
    for script in all() {
        match run.steps(script, &stage) {
            Outcome::Reply(reply) => return Err(told(recorder, reply)),
            Outcome::Again => return Ok(Rewrites::Again),
            Outcome::Rewritten => again = true,
            Outcome::Break => return Ok(Rewrites::Over),
            Outcome::Done => {}
        }
    }
    Ok(if again { Rewrites::Again } else { Rewrites::Go })
}

/// The snippets of a location, its own first.
fn scripts_of<'t>(table: &'t Table, location: &'t Location) -> impl Iterator<Item = &'t Arc<Script>> {
    [&location.policies.snippet, &table.globals.snippets.location].into_iter().flatten()
}

/// Goes into the level of a location for what its snippets say about the answer.
pub(super) fn settings(table: &Table, location: &Location, run: &mut Run<'_>) {
    run.enter(2, scripts_of(table, location).map(|script| &script.settings));
}

/// How the location of an Ingress compares.
pub(super) fn rival(location: &Location) -> Rival {
    match location.kind {
        LocationKind::Exact => Rival::Exact,
        LocationKind::Prefix => Rival::Prefix(location.path.len()),
        LocationKind::Regex => Rival::Expression,
    }
}

/// The path that counts, for people.
pub(super) fn path(run: &Run<'_>, view: &RequestView<'_>) -> String {
    format!("a snippet makes it {}", String::from_utf8_lossy(run.path(view).as_bytes()))
}

/// What variables know inside a location.
pub(super) fn facts_of<'f>(
    location: &'f Location,
    view: &'f RequestView<'_>,
    run: &Run<'f>,
) -> RouteFacts<'f> {
    let owner = location.owner.as_ref();
    let backend = location.backend();
    RouteFacts {
        namespace: owner.map_or("", |owner| &owner.namespace),
        ingress: owner.map_or("", |owner| &owner.name),
        service: backend.map_or("", |backend| &backend.key.service),
        service_port: backend.map_or("", |backend| &backend.key.port),
        location_path: &location.rule_path,
        upstream_name: backend.map_or("", |backend| &backend.name),
        server_name: &view.host.name,
        ..facts(run)
    }
}

fn facts<'r>(run: &Run<'r>) -> RouteFacts<'r> {
    RouteFacts {
        request_id: run.request_id,
        now: run.now,
        places: run.places,
        rest: run.rest,
        ..RouteFacts::default()
    }
}

fn stage<'s>(
    table: &'s Table,
    view: &'s RequestView<'_>,
    route: RouteFacts<'s>,
    style: RedirectStyle,
) -> Stage<'s> {
    Stage { facts: Facts { view, route }, maps: &table.globals.snippets.maps, style }
}

fn style(table: &Table) -> RedirectStyle {
    RedirectStyle {
        relative: table.globals.relative_redirects,
        with_port: table.globals.use_port_in_redirects,
    }
}

fn told(recorder: &mut impl Recorder, reply: LocalReply) -> LocalReply {
    recorder.step("snippet", || said(&reply));
    reply
}

fn over_limit() -> LocalReply {
    LocalReply::RewriteFailed { reason: "an expression of a snippet took too many steps" }
}
