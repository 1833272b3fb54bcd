//! One request going through snippets: variables, the path as rewritten so far, which settings count. `route::decide`
//! moves it along; `proxy` asks it about fields once there is an answer.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use smallvec::SmallVec;

use super::maps::Maps;
use super::script::{Condition, Return, Rewrite, Script, Step, Then};
use super::settings::{ErrorPage, PageStatus, Settings};
use crate::pattern::Pattern;
use crate::policy::redirect::RedirectStyle;
use crate::policy::rewrite::encode;
use crate::policy::rewrite::url::unescape;
use crate::policy::template::{Facts, Places, Rest, Template};
use crate::reply::LocalReply;
use crate::request::{NormPath, RequestView};
use crate::wire::Fields;
use crate::wire::fields::is_field_value;
use crate::wire::target::MAX_METHOD;

mod remains;
mod said;
mod scene;
mod url;

pub use remains::{Remains, Shown};
pub use said::Substitutions;

use scene::{Groups, Scene};
use url::content_type;

/// Steps of one request (`B-17`).
const MAX_STEPS: u32 = 1000;
/// Why a request is answered whose guard may have been in the part that was not searched.
const OVER_LIMIT: &str = "an expression of a snippet took too many steps";
/// Bytes that all variables of a request may hold together.
const MAX_BYTES: usize = 256 * 1024;

/// What came of a block's rewrite directives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// They ran to their end.
    Done,
    /// `break`: the location stays, and its own rewrite directives are over.
    Break,
    /// `last`: the location is chosen anew, at once.
    Again,
    /// They ran to their end and the path was rewritten: the location is chosen anew.
    Rewritten,
    /// An answer.
    Reply(LocalReply),
}

/// Where steps run.
#[derive(Clone, Copy)]
pub struct Stage<'s> {
    /// The request and its route.
    pub facts: Facts<'s>,
    /// `map` blocks.
    pub maps: &'s Maps,
    /// How redirects are written.
    pub style: RedirectStyle,
}

/// One request's way through snippets.
#[derive(Debug, Default)]
pub struct Run<'r> {
    /// Id of the request.
    pub request_id: &'r str,
    /// Since 1970.
    pub now: Duration,
    /// Where addresses are, where that is known.
    pub places: Option<&'r dyn Places>,
    /// What else is known of the request so far.
    pub rest: Option<&'r dyn Rest>,
    own: Vec<(Box<str>, Vec<u8>)>,
    /// Those of `auth_request_set`, which come when the rest stands already, and of maps once they were asked.
    late: RefCell<Vec<(Box<str>, Vec<u8>)>>,
    /// A map could not be searched to its end: what was made of its value must not decide anything.
    over: Cell<bool>,
    groups: Groups,
    path: Option<NormPath<'static>>,
    args: Option<Vec<u8>>,
    /// Settings by level: http, server, then locations from outside in.
    levels: SmallVec<[SmallVec<[Arc<Settings>; 2]>; 3]>,
    /// Settings of the last `if` of the location that held.
    branch: Option<Arc<Settings>>,
    /// It leads to an error page.
    turned: bool,
    /// A rewrite or an error page led here, and not the client alone.
    led: bool,
    rewritten: bool,
    steps: u32,
}

/// What stands in the place of an answer.
pub struct Page<'r> {
    /// Where it comes from.
    pub to: Turn,
    /// Its status.
    pub answer: PageStatus,
    /// The way there.
    pub run: Box<Run<'r>>,
}

/// Where an error page comes from.
pub enum Turn {
    /// The client is sent there.
    Elsewhere(String),
    /// A location of a snippet.
    Named(String),
    /// The path that `run` has now.
    Path,
}

/// An answer, as far as variables see it.
#[derive(Clone, Copy)]
pub struct Seen<'s> {
    /// Status.
    pub status: u16,
    /// Fields.
    pub fields: &'s Fields,
    /// It is the authentication service's: `$upstream_status` is its status.
    pub by_service: bool,
}

/// A method that may be written towards a backend: a token that opens no tunnel and echoes no credentials.
pub(super) fn sendable_method(method: &[u8]) -> Option<http::Method> {
    let method = http::Method::from_bytes(method).ok().filter(|_| method.len() <= MAX_METHOD)?;
    (!matches!(method, http::Method::CONNECT | http::Method::TRACE)).then_some(method)
}

// === impl Run ===

impl<'r> Run<'r> {
    /// A request that has met no snippet yet.
    pub fn new(request_id: &'r str, now: Duration) -> Self {
        Self { request_id, now, ..Self::default() }
    }

    /// The variables set so far, for the log; `None` where there are none.
    pub fn remains(&self) -> Option<Remains> {
        let late = self.late.borrow();
        if self.own.is_empty() && late.is_empty() {
            return None;
        }
        let own = late.iter().chain(&self.own).cloned().collect();
        Some(Remains { own, groups: self.groups.clone() })
    }

    /// True on the way to an error page.
    pub fn is_turned(&self) -> bool {
        self.turned
    }

    /// True where `internal` lets through: as in nginx after any rewrite that took hold, and on the way to an error page.
    pub fn is_led(&self) -> bool {
        self.led
    }

    /// True when an answer of a backend with `status` is replaced by an error page of a snippet; `intercepts` where
    /// custom-http-errors has statuses of backends looked at anyway.
    pub fn turns(&self, status: StatusCode, intercepts: bool) -> bool {
        let says = self.all().rev().find_map(|settings| settings.replaced.intercept);
        says.unwrap_or(intercepts) && self.error_page(status).is_some()
    }

    fn error_page(&self, status: StatusCode) -> Option<&ErrorPage> {
        let pages = self.innermost(|settings| &settings.error_pages);
        pages.into_iter().find(|page| page.statuses.contains(&status))
    }

    /// What stands in the place of an answer with `status`.
    pub fn page(&self, status: StatusCode, stage: &Stage<'_>) -> Option<Page<'r>> {
        let page = self.error_page(status).filter(|_| !self.turned)?;
        let text = self.expand(&page.target, stage, None);
        let mut run = Self {
            places: self.places,
            rest: self.rest,
            own: self.own.clone(),
            late: self.late.clone(),
            groups: self.groups.clone(),
            path: self.path.clone(),
            args: self.args.clone(),
            turned: true,
            led: true,
            steps: self.steps,
            ..Self::new(self.request_id, self.now)
        };
        let to = match text.split_first() {
            Some((b'/', _)) => {
                let (path, query) = crate::request::split_target(&text);
                run.path = Some(NormPath::rewritten(path).ok()?);
                run.args = Some(query.unwrap_or_default().to_vec());
                Turn::Path
            }
            Some((b'@', name)) => Turn::Named(String::from_utf8(name.to_vec()).ok()?),
            _ => Turn::Elsewhere(self.place(text, stage)?),
        };
        Some(Page { to, answer: page.answer, run: Box::new(run) })
    }

    /// True when no settings count.
    pub fn is_idle(&self) -> bool {
        self.levels.iter().all(SmallVec::is_empty)
    }

    /// Goes into a level whose blocks are `scripts` and whose depth is `depth` (0 is http, 1 a server); deeper ones are
    /// left.
    pub fn enter<'s>(&mut self, depth: usize, settings: impl IntoIterator<Item = &'s Arc<Settings>>) {
        self.levels.truncate(depth);
        while self.levels.len() < depth {
            self.levels.push(SmallVec::new());
        }
        self.levels.push(settings.into_iter().cloned().collect());
        self.branch = None;
    }

    /// Leaves the levels from `depth` on.
    pub fn leave(&mut self, depth: usize) {
        self.levels.truncate(depth);
        self.branch = None;
    }

    /// The path that counts.
    pub fn path<'p>(&'p self, view: &'p RequestView<'_>) -> &'p NormPath<'p> {
        self.path.as_ref().unwrap_or(&view.path)
    }

    /// The query that counts.
    pub fn query<'p>(&'p self, view: &'p RequestView<'_>) -> Option<&'p [u8]> {
        self.args.as_deref().or(view.query)
    }

    /// Path and query for the backend, where they are not those of the request.
    pub fn target(&self, view: &RequestView<'_>) -> Option<Vec<u8>> {
        if self.path.is_none() && self.args.is_none() {
            return None;
        }
        let mut target = Vec::new();
        encode(self.path(view).as_bytes(), &mut target);
        if let Some(query) = self.query(view).filter(|query| !query.is_empty()) {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        Some(target)
    }

    /// Runs the rewrite directives of a block.
    pub fn steps(&mut self, script: &Script, stage: &Stage<'_>) -> Outcome {
        self.rewritten = false;
        match self.walk(&script.steps, stage) {
            Some(outcome) => outcome,
            None if self.rewritten => Outcome::Rewritten,
            None => Outcome::Done,
        }
    }

    /// `None` goes on after the steps.
    fn walk(&mut self, steps: &[Step], stage: &Stage<'_>) -> Option<Outcome> {
        for step in steps {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Some(failed("the snippets took too many steps"));
            }
            let outcome = self.step(step, stage);
            if self.over.get() {
                return Some(failed(OVER_LIMIT));
            }
            if outcome.is_some() {
                return outcome;
            }
        }
        None
    }

    fn step(&mut self, step: &Step, stage: &Stage<'_>) -> Option<Outcome> {
        match step {
            Step::Set(name, value) => {
                let value = self.text(value, stage);
                if !self.keep(name, value) {
                    return Some(failed("the variables of the snippets are too long"));
                }
            }
            Step::SetArgs(value) => self.args = Some(self.text(value, stage)),
            Step::Break => return Some(Outcome::Break),
            Step::Return(answer) => return Some(self.answer(answer, stage)),
            Step::If(condition, branch) => match self.holds(condition, stage) {
                Err(outcome) => return Some(outcome),
                Ok(false) => {}
                Ok(true) => {
                    self.branch = Some(Arc::clone(&branch.settings));
                    return self.walk(&branch.steps, stage);
                }
            },
            Step::Rewrite(rewrite) => match self.rewrite(rewrite, stage) {
                Err(outcome) => return Some(outcome),
                Ok(None) => {}
                Ok(Some(Then::Last)) => return Some(Outcome::Again),
                Ok(Some(Then::Break)) => return Some(Outcome::Break),
                Ok(Some(Then::Next | Then::Redirect(_))) => self.rewritten = true,
            },
        }
        None
    }

    /// Keeps the groups of the expression that took the path to its location, as nginx does until another one matches.
    ///
    /// # Errors
    /// An answer: they cannot be had.
    pub fn capture(&mut self, pattern: &Pattern, view: &RequestView<'_>) -> Result<(), LocalReply> {
        let path = self.path(view).as_bytes().to_vec();
        match self.matches(pattern, &path) {
            Err(Outcome::Reply(reply)) => Err(reply),
            _ => Ok(()),
        }
    }

    fn text(&self, template: &Template, stage: &Stage<'_>) -> Vec<u8> {
        template.bytes(&stage.facts, &self.scene(stage, None, false))
    }

    fn scene<'s>(&'s self, stage: &Stage<'s>, answer: Option<Seen<'s>>, quoted: bool) -> Scene<'s> {
        Scene { run: self, stage: *stage, groups: &self.groups, quoted, answer, depth: 0 }
    }

    /// False when the variables grow too long.
    fn keep(&mut self, name: &str, value: Vec<u8>) -> bool {
        let total: usize = self.own.iter().map(|(_, value)| value.len()).sum();
        if total.saturating_add(value.len()) > MAX_BYTES {
            return false;
        }
        match self.own.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, kept)) => *kept = value,
            None => self.own.push((name.into(), value)),
        }
        true
    }

    fn holds(&mut self, condition: &Condition, stage: &Stage<'_>) -> Result<bool, Outcome> {
        match condition {
            Condition::Set(value) => {
                let value = self.text(value, stage);
                Ok(!value.is_empty() && value != b"0")
            }
            Condition::Equal(value, other, wanted) => {
                Ok((self.text(value, stage) == self.text(other, stage)) == *wanted)
            }
            Condition::Fixed(holds) => Ok(*holds),
            Condition::Match(value, pattern, wanted) => {
                let value = self.text(value, stage);
                Ok(self.matches(pattern, &value)? == *wanted)
            }
        }
    }

    /// Keeps the groups of a match. A search over its limit is an answer: it may have been a guard.
    fn matches(&mut self, pattern: &Pattern, text: &[u8]) -> Result<bool, Outcome> {
        let found = pattern.find(text).map_err(|_| failed(OVER_LIMIT))?;
        let Some(captures) = found else { return Ok(false) };
        self.groups = Groups::numbered(&captures);
        for name in pattern.group_names() {
            let value = captures.name(name).unwrap_or_default().to_vec();
            if !self.keep(name, value) {
                return Err(failed("the variables of the snippets are too long"));
            }
        }
        Ok(true)
    }

    fn answer(&self, answer: &Return, stage: &Stage<'_>) -> Outcome {
        let status = answer.status;
        // As nginx, where the status stands before the text is made.
        let none = Fields::default();
        let seen = Some(Seen { status: status.as_u16(), fields: &none, by_service: false });
        let text = answer.text.as_ref().map(|text| self.expand(text, stage, seen));
        let redirects = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let reply = match text {
            Some(url) if redirects => match self.place(url, stage) {
                Some(location) => LocalReply::Scripted { status, location: Some(location), body: None },
                None => return failed("the URL of a return cannot be sent"),
            },
            None if redirects || status.as_u16() >= 400 => {
                LocalReply::Scripted { status, location: None, body: None }
            }
            text => {
                let own = || self.all().rev().find_map(|settings| settings.default_type.clone());
                let kind = content_type(self.path(stage.facts.view).as_bytes()).map(Into::into);
                let kind = kind.or_else(own).unwrap_or_else(|| "text/html".into());
                let body = Some((kind, Bytes::from(text.unwrap_or_default())));
                LocalReply::Scripted { status, location: None, body }
            }
        };
        Outcome::Reply(reply)
    }

    /// `Location` of a URL or a path; `None` for bytes that a field cannot hold.
    fn place(&self, url: Vec<u8>, stage: &Stage<'_>) -> Option<String> {
        let url = String::from_utf8(url).ok().filter(|url| is_field_value(url.as_bytes()))?;
        let said = self.all().rev().find_map(|settings| settings.absolute_redirect);
        let style =
            RedirectStyle { relative: said.map_or(stage.style.relative, |said| !said), ..stage.style };
        Some(if url.starts_with('/') { style.local(stage.facts.view, &url) } else { url })
    }

    /// `Ok(None)` when the path does not match.
    fn rewrite(&mut self, rewrite: &Rewrite, stage: &Stage<'_>) -> Result<Option<Then>, Outcome> {
        let view = stage.facts.view;
        let path = self.path(view).as_bytes().to_vec();
        if !self.matches(&rewrite.pattern, &path)? {
            return Ok(None);
        }
        let redirects = matches!(rewrite.then, Then::Redirect(_));
        // As nginx: what the client had to encode is encoded again in a URL or a query.
        let (sent, _) = crate::request::split_target(view.target);
        let quoted = sent.iter().any(|byte| matches!(byte, b'%' | b'+'));
        let new = rewrite.path.bytes(&stage.facts, &self.scene(stage, None, redirects && quoted));
        let query = rewrite.query.as_ref();
        let query = query.map(|query| query.bytes(&stage.facts, &self.scene(stage, None, quoted)));
        let old = self.query(view).filter(|old| !old.is_empty() && rewrite.keep_query).map(<[u8]>::to_vec);
        let args = match (query, old) {
            (Some(mut query), Some(old)) => {
                query.push(b'&');
                query.extend_from_slice(&old);
                Some(query)
            }
            (Some(query), None) | (None, Some(query)) => Some(query),
            (None, None) => None,
        };
        if let Then::Redirect(status) = rewrite.then {
            let mut url = unescape(&new);
            if let Some(args) = args {
                url.push(b'?');
                url.extend_from_slice(&args);
            }
            let location =
                self.place(url, stage).ok_or_else(|| failed("the URL of a rewrite cannot be sent"))?;
            let reply = LocalReply::Scripted { status, location: Some(location), body: None };
            return Err(Outcome::Reply(reply));
        }
        let path = NormPath::rewritten(&new).map_err(|_| failed("the rewritten path is no path"))?;
        self.path = Some(path);
        self.args = Some(args.unwrap_or_default());
        self.led = true;
        Ok(Some(rewrite.then))
    }
}

fn failed(reason: &'static str) -> Outcome {
    Outcome::Reply(LocalReply::RewriteFailed { reason })
}
