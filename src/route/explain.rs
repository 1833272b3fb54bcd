//! Why a request goes where it goes: the data plane's own decision, with every candidate and why it lost.

use std::fmt::Write;

use super::decide::{Decision, Forward, Recorder, Sticky, access, choose, decide};
use super::host::NameKind;
use super::path::Found;
use super::precedence::{Extent, Rank};
use super::{Backend, EndpointMap, Location, LocationKind, Server, Table};
use crate::policy::canary::Ground;
use crate::policy::satisfy::Satisfy;
use crate::policy::snippet::Run;
use crate::reply::LocalReply;
use crate::request::RequestView;

/// A decision and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Name of the virtual host.
    pub server: String,
    /// True when its paths are expressions.
    pub regex_mode: bool,
    /// The normalised path that locations were compared with.
    pub path: String,
    /// Names that take the host, the winner first.
    pub servers: Vec<Candidate>,
    /// Every location of the server in its order.
    pub locations: Vec<Candidate>,
    /// What was looked at, in order, and what came of it.
    pub steps: Vec<Step>,
    /// What happens.
    pub outcome: Outcome,
}

/// Something that could have taken the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Host name or location.
    pub name: String,
    /// Ingress that owns it, with the field; empty where there is none.
    pub owner: String,
    /// True for the one that took it.
    pub won: bool,
    /// Why it won or lost.
    pub because: String,
}

/// One step of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was looked at.
    pub what: &'static str,
    /// What came of it.
    pub outcome: String,
}

/// What happens to the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// We answer.
    Reply {
        /// Status.
        status: u16,
        /// `Location` of a redirect.
        location: Option<String>,
    },
    /// A backend answers.
    Forward {
        /// Name of the backend that is asked.
        backend: String,
        /// True for a canary.
        canary: bool,
        /// Path and query as the backend sees them.
        target: String,
        /// Its endpoints.
        endpoints: Vec<String>,
        /// The canary that gets a part of such requests instead, when its weight alone decides.
        split: Option<Split>,
    },
}

/// A canary that takes some of many equal requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Name of its backend.
    pub backend: String,
    /// Requests of `total` that it takes.
    pub weight: u32,
    /// See `weight`.
    pub total: u32,
    /// Its endpoints.
    pub endpoints: Vec<String>,
}

/// What the location asks of clients beside their address. With `satisfy: any` a refused address may still pass by it.
fn asked_further(
    table: &Table,
    location: &Location,
    refused: Option<LocalReply>,
    steps: &mut Steps,
) -> Option<LocalReply> {
    let policies = &location.policies;
    let free = location.is_acme() || table.globals.is_free_of_auth(&location.path);
    if free || (policies.password_auth.is_none() && policies.external_auth.is_none()) {
        return refused;
    }
    let any = policies.satisfy == Satisfy::Any;
    let enough = if any { "; one check that admits is enough" } else { "" };
    if policies.password_auth.is_some() {
        steps.step("password", || format!("asked for, 401 without{enough}"));
    }
    if let Some(auth) = &policies.external_auth {
        steps.step("external authentication", || format!("{} is asked{enough}", auth.url.without_query()));
    }
    refused.filter(|_| !any)
}

/// Explains a request. Sticky cookies are not looked at: they are bound by a balancer's state.
pub fn explain(table: &Table, endpoints: &EndpointMap, view: &RequestView<'_>) -> Explanation {
    let mut steps = Steps(Vec::new());
    let mut run = Run::default();
    let decision = decide(table, endpoints, view, &mut run, &mut steps);
    let (server, location, outcome) = match &decision {
        Decision::Reply { server, location, reply } => (*server, *location, replied(reply)),
        Decision::Forward(forward) => {
            let told = run.relayed(view, &table.globals, true);
            let view = told.as_deref().unwrap_or(view);
            let refused = access(forward.location, view, &run);
            steps.step("client address", || {
                let verdict = if refused.is_some() { "refused" } else { "admitted" };
                format!("{} is {verdict}", view.forwarded.client)
            });
            let refused = asked_further(table, forward.location, refused, &mut steps);
            let outcome = match refused {
                Some(reply) => replied(&reply),
                None => forwarded(forward, endpoints, view, &mut steps),
            };
            (forward.server, Some(forward.location), outcome)
        }
    };
    Explanation {
        server: server.name.to_string(),
        regex_mode: server.regex_mode,
        path: String::from_utf8_lossy(view.path.as_bytes()).into_owned(),
        servers: servers(table, &view.host.name),
        locations: locations(server, view.path.as_bytes(), location.map(|location| &**location)),
        steps: steps.0,
        outcome,
    }
}

/// Where a request goes. No number is drawn for it: where the weight of a canary decides, both backends are told.
fn forwarded(
    forward: &Forward<'_>,
    endpoints: &EndpointMap,
    view: &RequestView<'_>,
    steps: &mut Steps,
) -> Outcome {
    let canary = forward.backend.canary.as_ref();
    // The highest number that can be drawn: a canary takes it only when it takes all.
    let roll = canary.map_or(0, |canary| canary.policy.total.saturating_sub(1));
    let view = RequestView { roll, ..view.clone() };
    let chosen = choose(forward.backend, endpoints, &view, Sticky::Unbound, steps);
    let ready =
        |backend: &Backend| endpoints.of(backend.slot).ready.iter().map(ToString::to_string).collect();
    let split = canary.filter(|canary| {
        let alive = !endpoints.of(canary.backend.slot).ready.is_empty();
        alive && canary.policy.splits() && canary.policy.decide(&view).1 == Ground::Weight
    });
    Outcome::Forward {
        backend: chosen.backend.name.to_string(),
        canary: chosen.canary,
        target: String::from_utf8_lossy(&forward.target).into_owned(),
        endpoints: ready(chosen.backend),
        split: split.map(|canary| Split {
            backend: canary.backend.name.to_string(),
            weight: canary.policy.weight,
            total: canary.policy.total,
            endpoints: ready(&canary.backend),
        }),
    }
}

struct Steps(Vec<Step>);

impl Recorder for Steps {
    fn step(&mut self, what: &'static str, outcome: impl FnOnce() -> String) {
        self.0.push(Step { what, outcome: outcome() });
    }
}

fn replied(reply: &LocalReply) -> Outcome {
    let location = match reply {
        LocalReply::Redirect { location, .. } => Some(location.clone()),
        LocalReply::Scripted { location, .. } => location.clone(),
        _ => None,
    };
    Outcome::Reply { status: reply.status().as_u16(), location }
}

fn servers(table: &Table, host: &str) -> Vec<Candidate> {
    let mut all = Vec::new();
    for (kind, name, server) in table.hosts.candidates(host) {
        let won = all.is_empty();
        let how = match kind {
            NameKind::Exact => "the name is equal",
            NameKind::AliasSuffix => "the alias takes any labels before it",
            NameKind::AliasPrefix => "the alias takes any labels after it",
            NameKind::Expression if name.starts_with('~') => "the alias matches",
            NameKind::Expression => "the wildcard takes one label",
        };
        let because =
            if won { how.to_owned() } else { format!("{how}, but a name before it in precedence does too") };
        all.push(Candidate { name, owner: format!("server {}", server.name), won, because });
    }
    let won = all.is_empty();
    let because = if won { "no name takes the host" } else { "only asked when no name takes the host" };
    all.push(Candidate { name: "_".into(), owner: "server _".into(), won, because: because.into() });
    all
}

fn locations(server: &Server, path: &[u8], winner: Option<&Location>) -> Vec<Candidate> {
    let winning =
        server.locations.iter().position(|one| winner.is_some_and(|winner| std::ptr::eq(&**one, winner)));
    let best = winning.and_then(|position| Rank::of(server, position, path));
    let lacks_slash = matches!(server.index.find(&server.locations, path), Some(Found::LacksSlash(_)));
    let numbered = server.locations.iter().enumerate();
    let candidates = numbered.map(|(position, location)| {
        let won = winning == Some(position);
        let because = match (Rank::of(server, position, path), best) {
            (Some(_), Some(_)) if won => why_it_matches(location).to_owned(),
            _ if won && lacks_slash => "the path lacks only its trailing slash".to_owned(),
            (None, _) if won => "its expression took too many steps".to_owned(),
            (None, _) => why_not(location).to_owned(),
            (Some(rank), Some(best)) => {
                format!("{}, but {}", why_it_matches(location), why_later(rank, best, server))
            }
            (Some(_), None) => format!("{}, but the answer came before", why_it_matches(location)),
        };
        let owner = match &location.owner {
            Some(owner) if location.implicit => format!("Ingress {owner}, no rule"),
            Some(owner) => format!("Ingress {owner}, {}", location.field),
            None => String::new(),
        };
        Candidate { name: location.text(), owner, won, because }
    });
    candidates.collect()
}

fn why_it_matches(location: &Location) -> &'static str {
    match location.kind {
        LocationKind::Exact => "the path is equal",
        LocationKind::Prefix => "the path starts so",
        LocationKind::Regex => "the expression matches",
    }
}

fn why_not(location: &Location) -> &'static str {
    match location.kind {
        LocationKind::Exact => "the path is not equal",
        LocationKind::Prefix => "the path does not start so",
        LocationKind::Regex if location.pattern.is_none() => "the expression is not valid",
        LocationKind::Regex => "the expression does not match",
    }
}

fn why_later(rank: Rank, best: Rank, server: &Server) -> &'static str {
    if rank.tier != best.tier {
        "rules of the host itself go before"
    } else if server.regex_mode {
        "another expression stands before it"
    } else if rank.extent != best.extent && best.extent == Extent::Whole {
        "an exact location goes before"
    } else if rank.length != best.length {
        "a longer location goes before"
    } else {
        "an equal location stands before it"
    }
}

// === impl Explanation ===

impl Explanation {
    /// Text for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mode = if self.regex_mode { " (regex mode: every path is an expression)" } else { "" };
        // Writing into a String cannot fail.
        let _ = match &self.outcome {
            Outcome::Reply { status, location: Some(location) } => writeln!(text, "{status} to {location}"),
            Outcome::Reply { status, location: None } => writeln!(text, "{status}, answered here"),
            Outcome::Forward { backend, canary, target, endpoints, split } => {
                let canary = if *canary { " (canary)" } else { "" };
                let _ =
                    writeln!(text, "to {backend}{canary} as {target}\n  endpoints {}", endpoints.join(" "));
                split.as_ref().map_or(Ok(()), |split| {
                    let Split { backend, weight, total, endpoints } = split;
                    let endpoints = endpoints.join(" ");
                    writeln!(
                        text,
                        "or, {weight} of {total} requests, to {backend} (canary)\n  endpoints {endpoints}"
                    )
                })
            }
        };
        let _ = writeln!(text, "\nserver {}{mode}", self.server);
        list(&mut text, &self.servers);
        let _ = writeln!(text, "\nlocations for {}", self.path);
        list(&mut text, &self.locations);
        text.push_str("\nsteps\n");
        for step in &self.steps {
            let _ = writeln!(text, "  {}: {}", step.what, step.outcome);
        }
        text
    }
}

fn list(text: &mut String, candidates: &[Candidate]) {
    for candidate in candidates {
        let mark = if candidate.won { "->" } else { "  " };
        let owner =
            if candidate.owner.is_empty() { String::new() } else { format!(" [{}]", candidate.owner) };
        let _ = writeln!(text, "  {mark} {}{owner}: {}", candidate.name, candidate.because);
    }
}
