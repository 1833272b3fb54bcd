//! The one loop that owns the world: collects changes of a directory or of an API server, holds off, compiles, publishes,
//! reports. One thread of its own; a request never waits for it.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use crate::compile::{Options, named};
use crate::config::{Config, Selector, Source};
use crate::diagnostic::Diagnostic;
use crate::limit::priority::step_back;
use crate::model::{Kind, ObjectKey, ObjectRef, World};
use crate::snapshot::{Reader, Snapshot};
use crate::standalone::{Directory, Notice, Reading, ScanError, Watch, WatchHealth};

mod guard;
mod objects;
mod output;
mod pace;
mod quarantine;
mod rebuild;
mod stream;

pub use guard::HELD;
pub use objects::{Change, Effect, FeedId, Objects};
pub use pace::{LONGEST, Pace, QUIET};
pub use quarantine::Compile;
pub use rebuild::{CompilerFailed, Outcome, Rebuild, Report, Sources};
pub use stream::{Changes, Suspect, Suspicion, start_stream};

use guard::Toll;
use output::Output;
use stream::SECOND_LOOK;

/// How long to wait before a directory that could not be read is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How often a directory is read again because new places of it came under watch.
const FOLLOWS: usize = 4;

/// What decides how objects are read; fixed at start.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Flags that change what objects mean.
    pub options: Options,
    /// `--watch-ingress-without-class` as given.
    pub without_class: Option<bool>,
    /// `--watch-namespace-selector`.
    pub namespace_selector: Option<Selector>,
    /// Whether objects are filled in that a cluster would have.
    pub completion: Completion,
    /// `--mass-removal-guard`: whether the loss of most hosts at once waits for a second look.
    pub mass_removal_guard: bool,
}

/// Whether the objects that are given are all that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// Files: an IngressClass is assumed where none is declared.
    Assume,
    /// A cluster: what is not there is not there.
    AsGiven,
}

impl Settings {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            options: config.options.clone(),
            without_class: config.without_class,
            namespace_selector: config.namespace_selector.clone(),
            completion: match config.source {
                Source::Demo(_) | Source::Directory(_) => Completion::Assume,
                Source::Cluster(_) => Completion::AsGiven,
            },
            mass_removal_guard: config.mass_removal_guard,
        }
    }

    /// Removes the Ingresses of namespaces that `--watch-namespace-selector` does not select.
    pub fn restrict(&self, world: &mut World) {
        let Some(selector) = &self.namespace_selector else { return };
        let World { ingresses, namespaces, .. } = world;
        ingresses.retain(|key, _| {
            namespaces.iter().any(|(name, namespace)| {
                name.name == key.namespace && selector.selects(&namespace.meta.labels)
            })
        });
    }
}

/// Objects that a world names and that may have to be followed by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Secrets.
    pub secrets: BTreeSet<ObjectKey>,
    /// Services of TCP and UDP services.
    pub stream_services: BTreeSet<ObjectKey>,
}

impl Settings {
    /// What a world names; of Secrets, Services and EndpointSlices it needs to know nothing.
    pub fn named(&self, mut world: World) -> Named {
        let without_class = self.without_class.unwrap_or(false);
        let options = Options { without_class, ..self.options.clone() };
        self.restrict(&mut world);
        Named {
            secrets: named::secrets(&world, &options),
            stream_services: named::stream_services(&world, &options),
        }
    }
}

/// Called with each published snapshot, the first one included, on the control thread.
pub type Hook = Box<dyn FnMut(&Arc<Snapshot>, &Report) + Send>;

/// Why the loop cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The directory cannot be read. Exit code 2: the command line names it.
    #[error(transparent)]
    Directory(#[from] ScanError),
    /// No certificate can be made.
    #[error("cannot make the default certificate: {0}")]
    Certificate(String),
    /// See there.
    #[error(transparent)]
    Compiler(#[from] CompilerFailed),
    /// No thread.
    #[error("cannot start the control thread")]
    Thread(#[source] io::Error),
}

/// The running loop. Dropping it stops the loop and waits for its end.
#[derive(Debug)]
pub struct Control {
    wakes: Sender<Wake>,
    beside: Beside,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Wake {
    Files(Notice),
    Change(Instant, Change),
    Reread,
    /// What is found beside the objects has changed.
    Beside,
    Stop,
}

/// Findings about objects that nobody makes who reads or compiles them: what came of doing as they say. They are
/// published with the others.
#[derive(Debug, Clone)]
pub struct Beside {
    found: Arc<Mutex<Vec<Diagnostic>>>,
    wakes: Sender<Wake>,
}

impl Beside {
    fn of(wakes: &Sender<Wake>) -> Self {
        Self { found: Arc::default(), wakes: wakes.clone() }
    }

    /// Replaces all of them.
    pub fn tell(&self, found: Vec<Diagnostic>) {
        let last = std::mem::replace(&mut *self.lock(), found.clone());
        if last != found {
            // The loop ends only when told to.
            drop(self.wakes.send(Wake::Beside));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Diagnostic>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the directory, publishes the first snapshot, and keeps following from then on.
///
/// # Errors
/// See [`StartError`]; after a successful start nothing stops the loop but [`Control`].
pub fn start(
    directory: PathBuf,
    settings: Settings,
    hooks: Vec<Hook>,
) -> Result<(Control, Reader), StartError> {
    let (wakes, woken) = mpsc::channel();
    let mut directory = Directory::new(directory);
    let mut watch = Watch::new(wakes.clone(), Wake::Files);
    let began = Instant::now();
    let reading = read(&mut directory, &mut watch)?;
    let Reading { world, diagnostics, .. } = reading;
    let (guarded, published) = (settings.mass_removal_guard, world.clone());
    let name = directory.root().to_string_lossy().into_owned();
    let beside = Beside::of(&wakes);
    let (output, reader) = Output::start(settings, &beside, (world, diagnostics), hooks, began, &name)?;
    let guard = guarded.then_some(Held { last: published, until: None });
    let follower = Loop { directory, watch, output, unreadable: false, guard };
    let thread = thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            step_back();
            follower.run(&woken);
        })
        .map_err(StartError::Thread)?;
    Ok((Control { wakes, beside, thread: Some(thread) }, reader))
}

impl Control {
    /// Reads every file again, whatever it looks like from outside (SIGHUP).
    pub fn reread(&self) {
        // The loop ends only when told to.
        drop(self.wakes.send(Wake::Reread));
    }

    /// Where to say what is found beside the objects.
    pub fn beside(&self) -> Beside {
        self.beside.clone()
    }

    /// True while the loop runs.
    #[cfg(test)]
    fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.wakes.send(Wake::Stop));
        if let Some(thread) = self.thread.take() {
            // A panic of the loop was reported when it happened.
            drop(thread.join());
        }
    }
}

struct Loop {
    directory: Directory,
    watch: Watch,
    output: Output,
    /// The directory could not be read the last time; said once.
    unreadable: bool,
    guard: Option<Held>,
}

/// For `--mass-removal-guard`: what was published last, and until when a reading that lacks most of it waits.
struct Held {
    last: World,
    until: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Only when files changed.
    IfChanged,
    /// In any case.
    Always,
}

impl Loop {
    fn run(mut self, wakes: &Receiver<Wake>) {
        let mut pace = Pace::default();
        let mut looked = Instant::now();
        loop {
            let look = looked + if self.unreadable { RETRY } else { self.watch.interval() };
            let review = self.output.review_at().map(|at| Instant::now() + seconds_until(at));
            let second_look = self.guard.as_ref().and_then(|guard| guard.until);
            let overdue = self.directory.overdue(Instant::now());
            let deadline = [pace.due(), overdue, review, second_look, self.output.free_at()]
                .into_iter()
                .flatten()
                .fold(look, Instant::min);
            match wakes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Wake::Files(notice)) => {
                    let arrived = Instant::now();
                    if self.directory.notice(&notice, arrived) {
                        self.watch.doubt(&notice.paths);
                        pace.note(arrived);
                    }
                }
                Ok(Wake::Reread) => {
                    tracing::info!("reading all manifests again");
                    self.directory.distrust();
                    self.follow(Instant::now(), Need::Always);
                }
                Ok(Wake::Beside) => self.follow(Instant::now(), Need::Always),
                Ok(Wake::Change(..)) | Err(RecvTimeoutError::Timeout) => {}
            }
            let present = Instant::now();
            self.output.free(present);
            if let Some(first) = pace.take(present) {
                self.follow(first, Need::IfChanged);
                looked = Instant::now();
            } else if present >= look || overdue.is_some_and(|due| present >= due) {
                self.follow(present, Need::IfChanged);
                looked = Instant::now();
            } else if self.output.review_at().is_some_and(|at| at <= now())
                || second_look.is_some_and(|at| at <= present)
            {
                self.follow(present, Need::Always);
            }
        }
    }

    /// Reads what changed and publishes what comes of it.
    fn follow(&mut self, since: Instant, need: Need) {
        let reading = match read(&mut self.directory, &mut self.watch) {
            Ok(reading) => reading,
            Err(error) => {
                if !self.unreadable {
                    tracing::warn!(error = %error, "the manifests cannot be read, the last ones stay");
                }
                self.unreadable = true;
                return;
            }
        };
        if std::mem::take(&mut self.unreadable) {
            tracing::info!("the manifests can be read again");
        }
        if need == Need::IfChanged && reading.parsed == 0 && reading.gone == 0 {
            return;
        }
        let Reading { mut world, mut diagnostics, .. } = reading;
        if let Some(finding) = self.guard.as_mut().and_then(|guard| guard.judge(&world, Instant::now())) {
            diagnostics.push(finding);
            world = self.guard.as_ref().map(|guard| guard.last.clone()).unwrap_or(world);
        }
        self.output.world(world, diagnostics, since);
    }
}

// === impl Held ===

impl Held {
    /// The finding, when a world lacks most hosts of the last one and was not seen so for long enough; else it is the last
    /// one from now on.
    fn judge(&mut self, world: &World, present: Instant) -> Option<Diagnostic> {
        let toll = Toll::between(&self.last, world);
        let waits = match self.until {
            Some(until) => present < until,
            None => true,
        };
        if !toll.is_mass() || !waits {
            (self.last, self.until) = (world.clone(), None);
            return None;
        }
        if self.until.is_none() {
            tracing::warn!("most hosts are gone from the manifests at once; they stay for a second look");
            self.until = Some(present + SECOND_LOOK);
        }
        let missing = self.last.ingresses.keys().find(|key| !world.ingresses.contains_key(*key));
        let key = missing.or_else(|| self.last.ingresses.keys().next())?;
        Some(toll.finding(ObjectRef { kind: Kind::Ingress, key: key.clone() }))
    }
}

/// Reads a directory and puts all its places under watch; again while that brings new ones.
fn read(directory: &mut Directory, watch: &mut Watch) -> Result<Reading, ScanError> {
    let before = watch.health().clone();
    let mut reading = directory.read(Instant::now())?;
    for _ in 0..FOLLOWS {
        if !watch.follow(directory.listing()) {
            break;
        }
        let again = directory.read(Instant::now())?;
        reading = Reading { parsed: reading.parsed + again.parsed, gone: reading.gone + again.gone, ..again };
    }
    if let (WatchHealth::Polling(reason), true) = (watch.health(), *watch.health() != before) {
        tracing::warn!(reason, "file notifications do not work, looking every second");
    }
    Ok(reading)
}

/// Seconds since 1970.
fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or_default()
}

fn seconds_until(moment: i64) -> Duration {
    Duration::from_secs(u64::try_from(moment.saturating_sub(now())).unwrap_or_default())
}

#[cfg(test)]
mod tests;
