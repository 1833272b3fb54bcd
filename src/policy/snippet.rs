//! Snippets: `configuration-snippet`, `server-snippet`, `auth-snippet`, `stream-snippet`, and the ConfigMap's
//! `http-snippet`, `server-snippet`, `location-snippet`, `stream-snippet`. Text in nginx's language, read once into typed policy by a strict interpreter
//! for a closed list of directives (`directive`). No text of a snippet reaches anything that would run it.
//!
//! `lex` reads the language, `build` gives it meaning (`stream` for streams), `run` takes one request through it,
//! `heads` edits fields.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec, Value};
use super::global::Globals;
use crate::diagnostic::Severity;

mod answering;
mod build;
pub mod directive;
pub mod document;
mod fields;
pub mod heads;
mod lex;
pub mod maps;
mod names;
mod proxying;
mod rewriting;
pub mod run;
pub mod script;
pub mod settings;
pub mod stream;
mod unknown;

pub use names::Names;
pub use run::{Outcome, Page, Remains, Run, Seen, Stage, Substitutions, Turn};
pub use script::Script;
pub use settings::Settings;
pub use stream::StreamRule;

use build::Builder;
use directive::Context;
use lex::{Fault, Statement};

const CLOSED_LIST: Fidelity = Fidelity::Equivalent(
    "an interpreter for a closed list of directives (docs/snippets.md); needs annotations-risk-level Critical and allow-snippet-annotations, as there",
);

const CONFIGURATION: Spec = Spec::new("configuration-snippet", Scope::Location, Risk::Critical)
    .fidelity(CLOSED_LIST)
    .values("none", "more_set_headers \"X-Frame-Options: DENY\";")
    .doc("Directives of nginx for the locations of this Ingress.");
const SERVER: Spec = Spec::new("server-snippet", Scope::Server, Risk::Critical)
    .fidelity(CLOSED_LIST)
    .values("none", "location /metrics { deny all; }")
    .doc("Directives of nginx for the host.");
const AUTH: Spec = Spec::new("auth-snippet", Scope::Location, Risk::Critical)
    .fidelity(CLOSED_LIST)
    .values("none", "proxy_set_header X-Team blue;")
    .doc("Directives of nginx for the request to the authentication service: `proxy_set_header`.");
const STREAM: Spec = Spec::new("stream-snippet", Scope::Server, Risk::Critical)
    .fidelity(Fidelity::Equivalent(
        "an interpreter for `server` and `upstream` blocks (docs/snippets.md); targets are held to the rules for backends; same gates as there",
    ))
    .values("none", "server { listen 5432; proxy_pass db.prod.svc:5432; }")
    .doc("Directives of nginx for streams: TCP and UDP ports.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[CONFIGURATION, SERVER, AUTH, STREAM];

/// Bytes of one snippet of the ConfigMap.
const MAX_GLOBAL_TEXT: usize = 256 * 1024;
/// Directives of one snippet of the ConfigMap.
const MAX_GLOBAL_DIRECTIVES: usize = 2000;

/// The snippets of one Ingress.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snippets {
    /// `configuration-snippet`.
    pub location: Option<Arc<Script>>,
    /// `server-snippet`.
    pub server: Option<Arc<Script>>,
    /// `server-snippet` counts, or would have, and holds directives that protect.
    pub server_guards: bool,
    /// Those directives cannot be honoured: what they protect is the whole host.
    pub server_refused: Option<&'static str>,
    /// `auth-snippet`.
    pub auth: Option<Arc<Settings>>,
    /// `stream-snippet`.
    pub streams: Arc<[StreamRule]>,
    /// Variables that they set, for the log format: a text of the whole process.
    pub names: Names,
}

/// The snippets of the ConfigMap.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GlobalSnippets {
    /// `map`, `geo` and `split_clients` blocks of `http-snippet`.
    pub maps: maps::Maps,
    /// What else `http-snippet` says.
    pub http: Option<Arc<Settings>>,
    /// `server-snippet`.
    pub server: Option<Arc<Script>>,
    /// `location-snippet`.
    pub location: Option<Arc<Script>>,
    /// `stream-snippet`.
    pub streams: Arc<[StreamRule]>,
    /// `global-auth-snippet`.
    pub auth: Option<Arc<Settings>>,
    /// Names that they define.
    names: Names,
    /// Set when one that protects cannot be honoured: every route is shut.
    pub refused: Option<&'static str>,
}

/// What became of one snippet of the ConfigMap, for its owner.
pub struct GlobalNote {
    /// Key of the ConfigMap.
    pub key: &'static str,
    /// False for a directive that merely changes nothing.
    pub refused: bool,
    /// Where and why.
    pub reason: String,
}

/// Reads the snippets of an Ingress, as far as the ConfigMap lets them count.
pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Snippets {
    let streams = streams(reader, globals);
    let trees = [CONFIGURATION, SERVER, AUTH].map(|spec| admitted(reader, &spec, globals));
    let mut own = Names::default();
    for tree in trees.iter().flatten().flatten() {
        own.collect(tree);
    }
    // The expression that took the path has groups too.
    for path in reader.ingress().rules.iter().flat_map(|rule| rule.paths.iter().flatten()) {
        own.groups(&path.path);
    }
    let names = globals.snippets.names.with(&own);
    let [location, server, auth] = trees;
    let server_guards = match &server {
        Ok(tree) => tree.iter().flatten().any(guards),
        Err(Unguarded) => true,
    };
    let mut make = |spec: &Spec, tree: Result<Option<Vec<Statement>>, Unguarded>, context| {
        let Some(tree) = tree? else { return Ok(None) };
        let mut builder = Builder::new(&names, build::MAX_DIRECTIVES);
        match builder.script(&tree, context) {
            Ok(script) => {
                note(reader, spec, &builder.notes);
                Ok(Some(Arc::new(script)).filter(|script| !script.is_empty()))
            }
            Err(fault) => refuse(reader, spec, &fault, tree.iter().any(guards)).map(|()| None),
        }
    };
    let location = make(&CONFIGURATION, location, Context::Location);
    let server = make(&SERVER, server, Context::Server);
    let auth = make(&AUTH, auth, Context::Auth).ok().flatten();
    Snippets {
        location: location.ok().flatten(),
        server_guards,
        server_refused: server.as_ref().err().map(|Unguarded| REFUSED),
        server: server.ok().flatten(),
        auth: auth.map(|script| Arc::clone(&script.settings)),
        streams,
        names: own,
    }
}

/// A snippet that counts cannot be honoured, and what it protects would stand open.
struct Unguarded;

/// The code of routes that such a snippet shuts.
const REFUSED: &str = "SnippetRefused";

/// The statements of a snippet that counts.
fn admitted(
    reader: &mut Reader<'_>,
    spec: &Spec,
    globals: &Globals,
) -> Result<Option<Vec<Statement>>, Unguarded> {
    let Some((_, text)) = reader.raw(spec) else { return Ok(None) };
    if reader.read_lines(spec, |_| Ok(())) == Value::Invalid {
        // A snippet that would have counted is not left out when it protects something.
        let counts = globals.allow_snippet_annotations && spec.risk <= globals.annotations_risk_level;
        if counts && guards_text(text) {
            reader.deny(REFUSED);
            return Err(Unguarded);
        }
        return Ok(None);
    }
    if text.trim().is_empty() || spec.risk > globals.annotations_risk_level {
        return Ok(None);
    }
    if !globals.allow_snippet_annotations {
        if guards_text(text) {
            reader.deny("SnippetIgnored");
            let reason = "is ignored, since allow-snippet-annotations is false, and holds directives that protect, so \
                          the routes answer 503";
            reader.report(
                spec.name,
                Severity::Error,
                "SnippetIgnored",
                reason,
                "remove it, or allow snippets",
            );
            return Ok(None);
        }
        let reason = "is ignored: allow-snippet-annotations is false";
        reader.report(spec.name, Severity::Warning, "SnippetIgnored", reason, "");
        return Ok(None);
    }
    match lex::parse(text, lex::MAX_TEXT) {
        Ok(tree) => Ok(Some(tree)),
        Err(fault) => refuse(reader, spec, &fault, guards_text(text)).map(|()| None),
    }
}

fn refuse(reader: &mut Reader<'_>, spec: &Spec, fault: &Fault, guards: bool) -> Result<(), Unguarded> {
    let hint = "docs/snippets.md lists what is known";
    if guards {
        reader.deny(REFUSED);
        let whose = if spec.scope == Scope::Server { "all routes of its hosts" } else { "the routes" };
        let reason =
            format!("cannot be honoured and holds directives that protect, so {whose} answer 503: {fault}");
        reader.report(spec.name, Severity::Error, REFUSED, reason, hint);
        return Err(Unguarded);
    }
    let reason = format!("is left out as a whole: {fault}");
    reader.report(spec.name, Severity::Warning, REFUSED, reason, hint);
    Ok(())
}

/// The ports of a `stream-snippet`. One that is left out opens none, so it never leaves anything open.
fn streams(reader: &mut Reader<'_>, globals: &Globals) -> Arc<[StreamRule]> {
    let Ok(Some(tree)) = admitted(reader, &STREAM, globals) else { return Arc::default() };
    match stream::read(&tree) {
        Ok((rules, notes)) => {
            note(reader, &STREAM, &notes);
            rules
        }
        Err(fault) => {
            let _guards_nothing = refuse(reader, &STREAM, &fault, false);
            Arc::default()
        }
    }
}

fn note(reader: &mut Reader<'_>, spec: &Spec, notes: &[(lex::At, String)]) {
    for (at, what) in notes {
        let reason = format!("holds a directive without effect here: {at}: {what}");
        reader.report(spec.name, Severity::Info, "NoEffect", reason, "");
    }
}

/// True for a statement that keeps requests out, by itself or inside.
fn guards(statement: &Statement) -> bool {
    let error = |word: &lex::Word| word.text.starts_with(['4', '5']);
    // Who is sent elsewhere on a condition is kept out as well: to a page of signing in, for one.
    let turns_away = |inner: &Statement| matches!(inner.name(), "return" | "rewrite");
    directive::protects(statement.name())
        || (statement.name() == "if" && statement.block.iter().flatten().any(turns_away))
        || (statement.name() == "return" && statement.arguments().first().is_some_and(error))
        || statement.block.iter().flatten().any(guards)
}

/// As [`guards`] for text that is not even read.
fn guards_text(text: &str) -> bool {
    let mut words = text.split(|c: char| c.is_whitespace() || matches!(c, ';' | '{' | '}' | '"' | '\''));
    words.any(|word| directive::protects(word) || word == "return")
}

impl GlobalSnippets {
    /// True for a variable that one of them defines.
    pub fn defines(&self, name: &str) -> bool {
        self.names.knows(name)
    }

    /// Reads the snippets of the ConfigMap. They are the operator's and need no switch.
    pub fn read(data: &BTreeMap<String, String>) -> (Self, Vec<GlobalNote>) {
        let mut found = Self::default();
        let mut notes = Vec::new();
        found.read_streams(data, &mut notes);
        let keys = ["global-auth-snippet", "http-snippet", "location-snippet", "server-snippet"];
        let mut trees = BTreeMap::new();
        for key in keys {
            let Some(text) = data.get(key).filter(|text| !text.trim().is_empty()) else { continue };
            match lex::parse(text, MAX_GLOBAL_TEXT) {
                Ok(tree) => {
                    found.names.collect(&tree);
                    trees.insert(key, tree);
                }
                Err(fault) => found.refuse(key, &fault, guards_text(text), &mut notes),
            }
        }
        for (key, tree) in trees {
            let names = found.names.clone();
            let mut builder = Builder::new(&names, MAX_GLOBAL_DIRECTIVES);
            if let Err(fault) = found.build(key, &tree, &mut builder) {
                found.refuse(key, &fault, tree.iter().any(guards), &mut notes);
            }
            notes.extend(builder.notes.iter().map(|(at, what)| GlobalNote {
                key,
                refused: false,
                reason: format!("holds a directive without effect here: {at}: {what}"),
            }));
        }
        (found, notes)
    }

    fn read_streams(&mut self, data: &BTreeMap<String, String>, notes: &mut Vec<GlobalNote>) {
        let key = STREAM.name;
        let Some(text) = data.get(key).filter(|text| !text.trim().is_empty()) else { return };
        match lex::parse(text, MAX_GLOBAL_TEXT).and_then(|tree| stream::read(&tree)) {
            Ok((rules, idle)) => {
                self.streams = rules;
                notes.extend(idle.iter().map(|(at, what)| GlobalNote {
                    key,
                    refused: false,
                    reason: format!("holds a directive without effect here: {at}: {what}"),
                }));
            }
            Err(fault) => self.refuse(key, &fault, false, notes),
        }
    }

    fn build(&mut self, key: &str, tree: &[Statement], builder: &mut Builder<'_>) -> Result<(), Fault> {
        let full = |script: Script| Some(Arc::new(script)).filter(|script| !script.is_empty());
        match key {
            "http-snippet" => {
                let (tables, rest): (Vec<Statement>, Vec<Statement>) =
                    tree.iter().cloned().partition(|statement| maps::is_table(statement.name()));
                let mut maps = maps::Maps::default();
                for table in &tables {
                    maps.insert(maps::Map::build(table, builder)?);
                }
                let settings = builder.script(&rest, Context::Http)?.settings;
                self.http = Some(settings).filter(|settings| **settings != Settings::default());
                self.maps = maps;
            }
            "global-auth-snippet" => {
                let settings = builder.script(tree, Context::Auth)?.settings;
                self.auth = Some(settings).filter(|settings| **settings != Settings::default());
            }
            "server-snippet" => self.server = full(builder.script(tree, Context::Server)?),
            _ => self.location = full(builder.script(tree, Context::Location)?),
        }
        Ok(())
    }

    fn refuse(&mut self, key: &'static str, fault: &Fault, guards: bool, notes: &mut Vec<GlobalNote>) {
        let reason = if guards {
            self.refused = Some(REFUSED);
            format!(
                "cannot be honoured and holds directives that protect, so every route answers 503: {fault}"
            )
        } else {
            format!("is left out as a whole: {fault}")
        };
        notes.push(GlobalNote { key, refused: true, reason });
    }
}

#[cfg(test)]
mod tests;
