//! One request going through snippets: variables, the path as rewritten so far, which settings count. `route::decide`
//! moves it along; `proxy` asks it about fields once there is an answer.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use smallvec::SmallVec;

use super::maps::Maps;
use super::script::{Condition, Return, Rewrite, Script, Step, Then};
use super::settings::{ErrorPage, Expires, Gzip, PageStatus, Rule, Settings};
use crate::pattern::Pattern;
use crate::policy::annotation::parse_size;
use crate::policy::compression::Compression;
use crate::policy::forwarded::{RealIp, with_client};
use crate::policy::global::Globals;
use crate::policy::ip_access::IpAccess;
use crate::policy::redirect::RedirectStyle;
use crate::policy::rewrite::encode;
use crate::policy::rewrite::url::unescape;
use crate::policy::satisfy::Verdict;
use crate::policy::template::{Facts, Places, Rest, Template};
use crate::reply::LocalReply;
use crate::request::{NormPath, RequestView};
use crate::wire::Fields;
use crate::wire::fields::is_field_value;
use crate::wire::target::MAX_METHOD;

mod remains;
mod scene;
mod url;

pub use remains::{Remains, Shown};

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

    /// All settings that count, from outside in.
    fn all(&self) -> impl DoubleEndedIterator<Item = &Settings> {
        self.levels.iter().flatten().chain(&self.branch).map(|settings| &**settings)
    }

    /// The innermost level that says something.
    fn innermost<T>(&self, get: impl Fn(&Settings) -> &[T]) -> Vec<&T> {
        if let Some(branch) = &self.branch
            && !get(branch).is_empty()
        {
            return get(branch).iter().collect();
        }
        let says = |level: &&SmallVec<[Arc<Settings>; 2]>| level.iter().any(|one| !get(one).is_empty());
        let level = self.levels.iter().rev().find(says);
        level.into_iter().flatten().flat_map(|settings| get(settings)).collect()
    }

    /// What the address of a client leads to: the lists of the location's annotations first, then `allow` and `deny` of
    /// its snippets, or of the server's where the location has neither.
    pub fn access(&self, lists: Option<&IpAccess>, client: IpAddr, method: &http::Method) -> Verdict {
        // As in nginx, where the block is a location of its own: its rules stand for those around it.
        let except = self.levels.iter().skip(2).rev().flatten().find_map(|one| one.except.as_ref());
        let except = except.filter(|except| !except.access.is_empty());
        if let Some(except) =
            except.filter(|except| except.methods.iter().all(|one| **one != *method.as_str()))
        {
            return verdict(&except.access, client);
        }
        if let Some(lists) = lists {
            match lists.verdict(client) {
                Verdict::Abstain => {}
                verdict => return verdict,
            }
        }
        let own = |level: usize| lists.is_none() || level >= 2;
        let has = |level: &SmallVec<[Arc<Settings>; 2]>| level.iter().any(|one| !one.access.is_empty());
        let level = self.levels.iter().enumerate().rev().find(|(_, level)| has(level));
        let Some((_, level)) = level.filter(|(depth, _)| own(*depth)) else { return Verdict::Abstain };
        verdict(level.iter().flat_map(|settings| &settings.access), client)
    }

    /// Bytes a second and bytes before they count, as far as snippets say: `set $limit_rate` before `limit_rate`.
    pub fn rate(&self, stage: &Stage<'_>, answer: Seen<'_>) -> (Option<u64>, Option<u64>) {
        let size = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| parse_size(text).ok());
        let of = |get: fn(&Settings) -> Option<&Template>| {
            let template = self.all().rev().find_map(get)?;
            size(&self.expand(template, stage, Some(answer)))
        };
        let set = self.own.iter().find(|(name, _)| **name == *"limit_rate");
        let rate = set.and_then(|(_, value)| size(value));
        (rate.or_else(|| of(|one| one.rate.as_ref())), of(|one| one.rate_after.as_ref()))
    }

    /// True when addresses may be refused by snippets.
    pub fn has_access(&self) -> bool {
        self.all().any(|settings| !settings.access.is_empty() || settings.except.is_some())
    }

    /// `auth_request off` of the location.
    pub fn auth_off(&self) -> bool {
        self.levels.iter().skip(2).flatten().any(|settings| settings.auth_off)
    }

    /// True when variables are to be set from the answer of the authentication service.
    pub fn sets_from_auth(&self) -> bool {
        self.all().any(|settings| !settings.auth_set.is_empty())
    }

    /// Sets the variables of `auth_request_set` from the answer of the authentication service.
    pub fn authenticated(&self, stage: &Stage<'_>, answer: Seen<'_>) {
        let wanted = self.innermost(|settings| &settings.auth_set).into_iter();
        let values = wanted.map(|(name, template)| {
            (name.clone(), template.bytes(&stage.facts, &self.scene(stage, Some(answer), false)))
        });
        let values: Vec<_> = values.collect();
        let mut late = self.late.borrow_mut();
        late.retain(|(known, _)| values.iter().all(|(name, _)| name != known));
        late.extend(values);
    }

    /// The TLS settings that snippets change, in place of those of the location.
    pub fn backend_tls(&self, tls: &mut crate::policy::backend_tls::BackendTls, server: &str) {
        use super::settings::SslName;
        for settings in self.all() {
            tls.server_name = settings.ssl_server_name.unwrap_or(tls.server_name);
            tls.verify = settings.ssl_verify.unwrap_or(tls.verify);
            (tls.tls12, tls.tls13) = settings.ssl_protocols.unwrap_or((tls.tls12, tls.tls13));
            tls.ciphers = settings.ssl_ciphers.clone().or_else(|| tls.ciphers.take());
            match &settings.ssl_name {
                Some(SslName::Fixed(name)) => tls.name = Some(Arc::clone(name)),
                // A pattern of hosts has no name to give.
                Some(SslName::Host) if !server.contains(['*', '_', '~']) => {
                    tls.name = Some(Arc::from(server))
                }
                Some(SslName::Host) | None => {}
            }
        }
    }

    /// True when [`Run::backend_tls`] changes anything.
    pub fn has_backend_tls(&self) -> bool {
        self.all().any(|one| {
            let set = [one.ssl_server_name.is_some(), one.ssl_name.is_some(), one.ssl_verify.is_some()];
            set.contains(&true) || one.ssl_protocols.is_some() || one.ssl_ciphers.is_some()
        })
    }

    /// `limit_req_status`.
    pub fn limit_req_status(&self) -> Option<StatusCode> {
        self.all().rev().find_map(|settings| settings.replaced.limit_req_status)
    }

    /// `limit_conn_status`.
    pub fn limit_conn_status(&self) -> Option<StatusCode> {
        self.all().rev().find_map(|settings| settings.replaced.limit_conn_status)
    }

    /// `proxy_method`, with its variables filled in: `Err` where they give none that may be sent.
    ///
    /// # Errors
    /// Says so; the request is answered 500.
    pub fn method(&self, stage: &Stage<'_>) -> Result<Option<http::Method>, &'static str> {
        let Some(template) = self.all().rev().find_map(|settings| settings.method.as_ref()) else {
            return Ok(None);
        };
        let method = self.expand(template, stage, None);
        sendable_method(&method).map(Some).ok_or("proxy_method gives no method that may be sent")
    }

    /// Names that clients do not see (lower case), and names that they see though they are hidden by default.
    pub fn shown(&self) -> (Vec<&str>, Vec<&str>) {
        let names =
            |get: fn(&Settings) -> &[Box<str>]| self.all().flat_map(get).map(|name| &**name).collect();
        (names(|settings| &settings.hide), names(|settings| &settings.pass))
    }

    /// `proxy_set_header` of the innermost location that has any.
    pub(super) fn set_header(&self) -> impl Iterator<Item = &(Box<str>, Template)> {
        let levels = self.levels.iter().skip(2).rev();
        let level = levels.into_iter().find(|level| level.iter().any(|one| !one.set_header.is_empty()));
        level.into_iter().flatten().flat_map(|settings| &settings.set_header)
    }

    /// Edits of headers-more, from outside in: every level counts.
    pub(super) fn edits(
        &self,
        get: fn(&Settings) -> &[super::settings::FieldEdit],
    ) -> impl Iterator<Item = &super::settings::FieldEdit> {
        self.all().flat_map(get)
    }

    pub(super) fn add_header(&self) -> Vec<&super::settings::AddHeader> {
        self.innermost(|settings| &settings.add_header)
    }

    pub(super) fn expires(&self) -> Option<&Expires> {
        self.all().rev().find_map(|settings| settings.expires.as_ref())
    }

    /// `charset` and the types that get it, where one counts: not for `off`.
    pub(super) fn charset(&self) -> Option<(&str, Option<&[Box<str>]>)> {
        let charset = self.all().rev().find_map(|settings| settings.charset.as_deref())?;
        let types = self.all().rev().find_map(|settings| settings.charset_types.as_deref());
        Some((charset, types)).filter(|_| charset != "off")
    }

    /// The request with its client as a proxy in front tells it, where snippets say who may; `None` where that changes
    /// nothing. Before the access phase (`inside` false) only what is said up to the server counts. As in nginx the
    /// address is told once: by the server's networks, then by the location's, and where neither holds it is the
    /// connection's, whatever the ConfigMap's networks would let tell.
    pub fn relayed<'v>(
        &self,
        view: &RequestView<'v>,
        globals: &Globals,
        inside: bool,
    ) -> Option<Box<RequestView<'v>>> {
        if self.is_idle() {
            return None;
        }
        let outer = self.real_ip(globals, 2);
        let inner = if inside { self.real_ip(globals, usize::MAX) } else { None };
        if outer.is_none() && inner.is_none() {
            return None;
        }
        let outer = outer.unwrap_or_else(|| RealIp::over(globals, Vec::new(), Vec::new(), None, None));
        let client = outer.client(view).or_else(|| inner?.client(view));
        with_client(view, client.unwrap_or(view.forwarded.source))
    }

    /// Who may tell the client's address, and how, where the outermost `depth` levels say other than the ConfigMap.
    fn real_ip(&self, globals: &Globals, depth: usize) -> Option<RealIp> {
        let levels = || self.levels.iter().take(depth);
        let said = || levels().flatten().rev();
        let header = said().find_map(|settings| settings.real_ip_header.clone());
        let recursive = said().find_map(|settings| settings.real_ip_recursive);
        let from = |level: &SmallVec<[Arc<Settings>; 2]>| -> Vec<_> {
            level.iter().flat_map(|settings| settings.real_ip_from.iter().copied()).collect()
        };
        let http = self.levels.first().map(from).unwrap_or_default();
        let own = levels().skip(1).rev().map(from).find(|from| !from.is_empty()).unwrap_or_default();
        if header.is_none() && recursive.is_none() && http.is_empty() && own.is_empty() {
            return None;
        }
        Some(RealIp::over(globals, http, own, header, recursive))
    }

    /// How answers are compressed, where snippets say other than the ConfigMap.
    pub fn compression(&self, globals: &Compression) -> Option<Compression> {
        let mut said = Gzip::default();
        for settings in self.all() {
            said.take(&settings.gzip);
        }
        (said != Gzip::default()).then(|| said.over(globals))
    }

    /// `sub_filter` with its texts filled in; whether only the first occurrence counts; content types.
    pub fn substitutions(&self, stage: &Stage<'_>) -> Option<Substitutions> {
        let pairs = self.innermost(|settings| &settings.substitutions);
        if pairs.is_empty() {
            return None;
        }
        let text = |template: &Template| self.text(template, stage);
        Some(Substitutions {
            pairs: pairs.into_iter().map(|(from, to)| (text(from), text(to))).collect(),
            once: self.all().rev().find_map(|settings| settings.substitute_once).unwrap_or(true),
            types: self.all().rev().find_map(|settings| settings.substitute_types.clone()),
        })
    }

    pub(super) fn expand(&self, template: &Template, stage: &Stage<'_>, answer: Option<Seen<'_>>) -> Vec<u8> {
        template.bytes(&stage.facts, &self.scene(stage, answer, false))
    }
}

/// `sub_filter`, ready for one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substitutions {
    /// Text to find (ASCII letters of either case), and what stands there instead.
    pub pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Only the first occurrence of each.
    pub once: bool,
    /// Content types beside `text/html`.
    pub types: Option<Arc<[Box<str>]>>,
}

impl Substitutions {
    /// True for an answer that is searched: of a content type that counts, and not compressed.
    pub fn apply_to(&self, fields: &Fields) -> bool {
        let kind = fields.get_str("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let listed = |name: &str| name == "*" || name.eq_ignore_ascii_case(kind);
        let counts = kind.eq_ignore_ascii_case("text/html")
            || self.types.as_ref().is_some_and(|types| types.iter().any(|name| listed(name)));
        let coded = fields
            .get_str("content-encoding")
            .is_some_and(|coding| !coding.trim().eq_ignore_ascii_case("identity"));
        counts && !coded
    }
}

/// The first rule that takes the client.
fn verdict<'r>(rules: impl IntoIterator<Item = &'r Rule>, client: IpAddr) -> Verdict {
    let address = client.to_canonical();
    let found = rules.into_iter().find(|rule| rule.net.is_none_or(|net| net.contains(&address)));
    match found {
        Some(rule) if rule.allow => Verdict::Admit,
        Some(_) => Verdict::Refuse(LocalReply::Forbidden { client }),
        None => Verdict::Abstain,
    }
}

fn failed(reason: &'static str) -> Outcome {
    Outcome::Reply(LocalReply::RewriteFailed { reason })
}
