//! One exchange from its first byte to its last: everything known about it, and the one place where it is accounted.
//!
//! `service` fills it in as it goes. When it is dropped, whatever the reason (answered, cut, client gone, panic), one
//! record goes to the access log and the metrics.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use smallvec::SmallVec;

use super::client_certificate::Standing;
use super::connection::ConnectionFacts;
use super::filter::Granted;
use super::filter::limit::Running;
use super::span::{self, Traced};
use super::worker::Worker;
use crate::limit::Held;
use crate::message::Meter;
use crate::places::Databases;
use crate::policy::compression::Compression;
use crate::policy::snippet::Remains;
use crate::policy::template::{Places, RouteFacts};
use crate::policy::tracing::context::TraceContext;
use crate::reply::{LocalReply, RedirectCause};
use crate::request::RequestView;
use crate::route::{Backend, Location, Server};
use crate::snapshot::Snapshot;
use crate::telemetry::LocalReason;
use crate::wire::{Fields, RequestHead};

mod account;
mod attempt;
mod lookup;
mod own;
mod words;

pub use attempt::Try;
use own::Rewritten;

/// One request, its way and its answer.
pub struct Exchange {
    /// Worker that serves it.
    pub worker: Rc<Worker>,
    /// Connection it came over.
    pub connection: Rc<ConnectionFacts>,
    /// The one snapshot it sees, to its end.
    pub snapshot: Rc<Arc<Snapshot>>,
    /// Head; hop-by-hop fields already removed.
    pub head: Box<RequestHead>,
    /// `$req_id`.
    pub request_id: String,
    /// Byte counts of the client's side.
    pub meter: Rc<Meter>,
    start: Instant,
    /// The same by the clock on the wall.
    began: SystemTime,
    number: u64,
    client: Cell<IpAddr>,
    host: RefCell<Names>,
    uri: RefCell<Path>,
    server: OnceCell<Arc<Server>>,
    location: OnceCell<Arc<Location>>,
    backend: RefCell<Option<Arc<Backend>>>,
    canary: RefCell<Option<Arc<Backend>>>,
    rare: OnceCell<Box<Rare>>,
    /// What holds for a page of a snippet instead, once there is one.
    turned: OnceCell<Box<Turned>>,
    /// The limits of a location were asked.
    counted: Cell<bool>,
    traced: OnceCell<Box<Traced>>,
    /// Variables that snippets set, where the log shows one.
    remains: RefCell<Option<Box<Remains>>>,
    /// How fast the answer goes, where its backend or a snippet says so.
    pub(super) pace: Cell<Pace>,
    /// What the request asks to be upgraded to.
    pub(super) upgrade: OnceCell<Box<str>>,
    /// How the answer is compressed, where snippets say other than the ConfigMap.
    pub(super) compression: Cell<Option<Box<Compression>>>,
    /// Path and query as rewritten, where they were.
    rewritten: RefCell<Option<Box<Rewritten>>>,
    tries: RefCell<SmallVec<[Try; 1]>>,
    local: Cell<Option<LocalReason>>,
    status: Cell<u16>,
    /// The last backend's own fields, where the log shows one.
    raw_answer: RefCell<Option<Box<Fields>>>,
    buffered: RefCell<Option<Held>>,
    places: Option<Arc<Databases>>,
}

/// What most requests never have; apart, so that they need no memory for it.
#[derive(Default)]
struct Rare {
    page: OnceCell<Page>,
    standing: OnceCell<Standing>,
    granted: OnceCell<Granted>,
    running: OnceCell<Running>,
    /// The answer's fields, where the log shows one.
    answer: RefCell<Fields>,
}

#[derive(Default)]
struct Names {
    host: Text,
    best: Text,
}

/// A host as text.
enum Text {
    /// The first bytes of the authority as it came.
    Came(usize),
    Own(Box<str>),
}

impl Default for Text {
    fn default() -> Self {
        Self::Came(0)
    }
}

/// The normalised path.
#[derive(Default)]
enum Path {
    /// The request was refused before.
    #[default]
    Unknown,
    /// Nothing was to be normalised.
    AsItCame,
    Normal(Vec<u8>),
}

/// Where an answer is made. Error pages and the redirect to a sign-in page are locations of their own to nginx: what
/// belongs to the location of the request does not count there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the location of the request.
    Location,
    /// In that of the redirect to the sign-in page, which has the fields of CORS and the cookies of the authentication
    /// service too.
    SignIn,
    /// In that of an error page.
    ErrorPage,
}

/// Bytes a second (0 for no limit), and bytes before they count; `None` where the location's own count.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    pub(super) bytes: Option<u64>,
    pub(super) after: Option<u64>,
}

/// What stands in for an answer (`custom-http-errors`).
struct Page {
    /// Who gives it; `None` is the built-in page.
    by: Option<Arc<Backend>>,
    /// Tries that came before.
    after: usize,
}

/// What holds for the location of a page.
#[derive(Default)]
struct Turned {
    location: OnceCell<Arc<Location>>,
    granted: OnceCell<Granted>,
}

impl Exchange {
    /// Starts the clock.
    pub fn begin(
        worker: Rc<Worker>,
        connection: Rc<ConnectionFacts>,
        snapshot: Rc<Arc<Snapshot>>,
        head: Box<RequestHead>,
        request_id: String,
        meter: Rc<Meter>,
    ) -> Self {
        let client = connection.client();
        let places = if snapshot.table.globals.geoip { worker.places.current() } else { None };
        worker.metrics.request_began();
        worker.requests.set(worker.requests.get() + 1);
        let number = connection.next_request();
        connection.presence.begin();
        Self {
            worker,
            connection,
            snapshot,
            head,
            request_id,
            meter,
            start: Instant::now(),
            began: SystemTime::now(),
            number,
            client: Cell::new(client),
            host: RefCell::default(),
            uri: RefCell::default(),
            server: OnceCell::new(),
            location: OnceCell::new(),
            backend: RefCell::new(None),
            canary: RefCell::new(None),
            rare: OnceCell::new(),
            turned: OnceCell::new(),
            counted: Cell::new(false),
            traced: OnceCell::new(),
            remains: RefCell::default(),
            pace: Cell::default(),
            upgrade: OnceCell::new(),
            compression: Cell::default(),
            rewritten: RefCell::default(),
            tries: RefCell::default(),
            local: Cell::new(None),
            status: Cell::new(0),
            raw_answer: RefCell::default(),
            buffered: RefCell::default(),
            places,
        }
    }

    /// The client after trust was judged, `$host`, `$best_http_host` and the normalised path. `came`: the host is the
    /// authority of the head as it stands there.
    pub fn identified(&self, view: &RequestView<'_>, came: bool) {
        self.client.set(view.forwarded.client);
        let (raw, best) = (&*view.host.raw, &*view.forwarded.host);
        let host = match &view.host.name {
            // Cut off its end only.
            Cow::Borrowed(name) if came => Text::Came(name.len()),
            name => Text::Own((&**name).into()),
        };
        let best =
            if came && std::ptr::eq(raw, best) { Text::Came(raw.len()) } else { Text::Own(best.into()) };
        *self.host.borrow_mut() = Names { host, best };
        let uri = view.path.as_bytes();
        *self.uri.borrow_mut() =
            if uri == self.came().0 { Path::AsItCame } else { Path::Normal(uri.to_vec()) };
    }

    fn rare(&self) -> Option<&Rare> {
        self.rare.get().map(|rare| &**rare)
    }

    fn made_rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    fn page(&self) -> Option<&Page> {
        self.rare()?.page.get()
    }

    fn text<'t>(&'t self, text: &'t Text) -> &'t str {
        match text {
            Text::Came(0) => "",
            Text::Came(length) => {
                let came = self.head.authority.as_deref().or_else(|| self.head.fields.get_str("host"));
                came.and_then(|came| came.get(..*length)).unwrap_or_default()
            }
            Text::Own(text) => text,
        }
    }

    /// Path and query of the target as it came.
    fn came(&self) -> (&[u8], Option<&[u8]>) {
        let target = &self.head.target;
        let path = target.iter().position(|byte| *byte == b'?').and_then(|at| target.split_at_checked(at));
        path.map_or((target, None), |(path, query)| (path, query.get(1..)))
    }

    /// A proxy in front tells who the client is.
    pub fn client_is(&self, client: IpAddr) {
        self.client.set(client);
    }

    /// The server and location that took it.
    pub fn routed(&self, server: &Arc<Server>, location: Option<&Arc<Location>>) {
        let _first_counts = self.server.set(Arc::clone(server));
        if let Some(location) = location {
            let place = self.turned.get().map_or(&self.location, |turned| &turned.location);
            let _first_counts = place.set(Arc::clone(location));
        }
    }

    /// A snippet's `error_page` leads to another location: what its checks grant counts from here on, and nothing of
    /// what was granted before.
    pub fn turns(&self) {
        let _first_counts = self.turned.set(Box::default());
    }

    /// The location that a snippet's `error_page` led to.
    pub fn turned_to(&self) -> Option<&Arc<Location>> {
        self.turned.get()?.location.get()
    }

    /// True when a page of a snippet is the answer, which has all of its fields by then.
    pub fn has_turned(&self) -> bool {
        self.turned.get().is_some()
    }

    /// The limits of a location are asked: true for the first time. nginx asks once for each request of a client.
    pub fn is_first_count(&self) -> bool {
        !self.counted.replace(true)
    }

    /// Begins its span, where the location that took it is traced.
    pub fn traces(&self, view: &RequestView<'_>) {
        if let Some(traced) = span::begin(self, view) {
            let _first_counts = self.traced.set(traced);
        }
    }

    /// Where addresses are, where that is known.
    pub fn places(&self) -> Option<&dyn Places> {
        self.places.as_deref().map(|places| places as &dyn Places)
    }

    /// Its span as others are told of it.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.traced.get().map(|traced| &traced.context)
    }

    /// What the client's certificate is worth here.
    pub fn stands(&self, standing: Standing) {
        let _first_counts = self.made_rare().standing.set(standing);
    }

    /// What the client's certificate is worth, where the host asks for one.
    pub fn standing(&self) -> Option<&Standing> {
        self.rare()?.standing.get()
    }

    /// It counts as one of the client's requests until its end.
    pub fn counts(&self, running: Running) {
        let _first_counts = self.made_rare().running.set(running);
    }

    /// Access was granted with these consequences.
    pub fn grant(&self, granted: Granted) {
        let place = self.turned.get().map_or_else(|| &self.made_rare().granted, |turned| &turned.granted);
        let _first_counts = place.set(granted);
    }

    /// What granting access led to, once it was asked for.
    pub fn granted(&self) -> Option<&Granted> {
        match self.turned.get() {
            Some(turned) => turned.granted.get(),
            None => self.rare()?.granted.get(),
        }
    }

    /// The virtual host that took it, once there is one.
    pub fn server(&self) -> Option<&Arc<Server>> {
        self.server.get()
    }

    /// The location that took it, once there is one.
    pub fn location(&self) -> Option<&Arc<Location>> {
        self.location.get()
    }

    /// The route as variables show it.
    pub fn facts<'a>(&'a self, host: &'a str, now: Duration) -> RouteFacts<'a> {
        let location = self.location.get();
        let owner = location.and_then(|location| location.owner.as_ref());
        let backend = location.and_then(|location| location.backend());
        RouteFacts {
            request_id: &self.request_id,
            namespace: owner.map_or("", |owner| &owner.namespace),
            ingress: owner.map_or("", |owner| &owner.name),
            service: backend.map_or("", |backend| &backend.key.service),
            service_port: backend.map_or("", |backend| &backend.key.port),
            location_path: location.map_or("", |location| &location.rule_path),
            upstream_name: backend.map_or("", |backend| &backend.name),
            server_name: host,
            places: self.places(),
            trace: self.trace(),
            now,
            rest: Some(self),
        }
    }

    /// Name of the virtual host that took it.
    pub fn server_name(&self) -> &str {
        self.server.get().map_or("_", |server| &server.name)
    }

    /// `$proxy_upstream_name` and, when a canary takes it, `$proxy_alternative_upstream_name`.
    pub fn chosen(&self, primary: &Arc<Backend>, canary: Option<&Arc<Backend>>) {
        *self.backend.borrow_mut() = Some(Arc::clone(primary));
        *self.canary.borrow_mut() = canary.map(Arc::clone);
    }

    /// From here on `by` is asked for a page instead of the answer; `None` is the built-in default backend.
    pub fn turns_to_page(&self, by: Option<&Arc<Backend>>) {
        let page = Page { by: by.map(Arc::clone), after: self.tries() };
        let _first_counts = self.made_rare().page.set(page);
    }

    /// When the request came, since 1970.
    pub fn since_epoch(&self) -> Duration {
        self.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// Where the answer is made.
    pub fn place(&self) -> Place {
        const SIGN_IN: &str = words::cause_word(RedirectCause::SignIn);
        match (self.page(), self.local.get()) {
            (Some(_), _) => Place::ErrorPage,
            (None, Some(LocalReason { rule: SIGN_IN, .. })) => Place::SignIn,
            _ => Place::Location,
        }
    }

    /// Since the request came.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The answer is ours, and why.
    pub fn local(&self, reply: &LocalReply) {
        self.local.set(Some(words::reason(reply)));
    }

    /// The answer's head as it goes out.
    pub fn answered(&self, status: u16, fields: &Fields) {
        self.status.set(status);
        if self.worker.log.wants_response_fields() {
            self.made_rare().answer.borrow_mut().clone_from(fields);
        }
    }

    /// Bytes of the request body that stay in memory until the exchange ends.
    pub fn hold(&self, bytes: Held) {
        *self.buffered.borrow_mut() = Some(bytes);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.worker.metrics.request_ended();
        self.account();
    }
}
