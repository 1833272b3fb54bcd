//! Where addresses are: `$geoip2_*` from databases in MaxMind's format on this machine (`use-geoip2`).
//!
//! All `*.mmdb` of one directory are read, and which variables each fills is told by its type, as ingress-nginx has it.
//! A thread reads them, and again when they changed (`geoip2-autoreload-in-minutes`); nothing is ever downloaded. Workers
//! take the databases of the moment with each request.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use maxminddb::{PathElement, Reader};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use crate::policy::template;

mod table;

/// Databases of one directory that are read.
const MAX_FILES: usize = 16;
/// Bytes of one database.
const MAX_BYTES: u64 = 512 << 20;

/// The databases, and the thread that reads them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    current: ArcSwapOption<Databases>,
    wish: Mutex<Wish>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wish {
    on: bool,
    reload: Option<Duration>,
    started: bool,
}

/// The databases that were read.
pub struct Databases(Vec<Database>);

struct Database {
    /// Type as it says itself, such as `GeoLite2-City`.
    kind: String,
    reader: Reader<Vec<u8>>,
}

/// Sizes and times of files: what tells that they changed.
type Seen = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

impl Places {
    /// Databases of this directory; nothing is read before it is asked for.
    pub fn new(directory: PathBuf) -> Self {
        let (current, wish) = (ArcSwapOption::empty(), Mutex::default());
        Self(Arc::new(Shared { directory, current, wish, changed: Condvar::new() }))
    }

    /// The databases of the moment.
    pub fn current(&self) -> Option<Arc<Databases>> {
        self.0.current.load_full()
    }

    /// Follows the ConfigMap: whether databases are read, and how often they are looked at again.
    pub fn configure(&self, on: bool, reload: Option<Duration>) {
        let mut wish = self.0.wish.lock().unwrap_or_else(PoisonError::into_inner);
        if wish.on == on && wish.reload == reload {
            return;
        }
        (wish.on, wish.reload) = (on, reload);
        if wish.started {
            self.0.changed.notify_all();
            return;
        }
        // The first time, what comes next already finds them.
        let mut seen = Seen::new();
        self.0.read_again(&mut seen);
        let shared = Arc::clone(&self.0);
        let thread = std::thread::Builder::new().name("geoip".into()).spawn(move || shared.follow(seen));
        match thread {
            Ok(_) => wish.started = true,
            Err(error) => tracing::error!(%error, "the GeoIP databases are not read again"),
        }
    }
}

impl Shared {
    fn follow(&self, mut seen: Seen) {
        loop {
            let wish = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
            let pause = wish.reload.filter(|_| wish.on).unwrap_or(Duration::from_hours(24));
            let waited = self.changed.wait_timeout(wish, pause).unwrap_or_else(PoisonError::into_inner);
            let (on, again) = (waited.0.on, !waited.1.timed_out() || waited.0.reload.is_some());
            drop(waited);
            if on && again {
                self.read_again(&mut seen);
            }
        }
    }

    /// Reads the files if they are not those that were seen.
    fn read_again(&self, seen: &mut Seen) {
        let now = files(&self.directory);
        if now == *seen && self.current.load().is_some() {
            return;
        }
        let databases: Vec<Database> = now.keys().filter_map(|path| Database::open(path)).collect();
        *seen = now;
        let kinds: Vec<&str> = databases.iter().map(|database| &*database.kind).collect();
        if databases.is_empty() {
            let directory = self.directory.display();
            tracing::warn!(%directory, "use-geoip2: there is no database, so the variables stay empty");
        } else {
            tracing::info!(?kinds, "GeoIP databases read");
        }
        self.current.store(Some(Arc::new(Databases(databases))));
    }
}

fn files(directory: &Path) -> Seen {
    let Ok(entries) = std::fs::read_dir(directory) else { return Seen::new() };
    let database = |path: &PathBuf| path.extension().is_some_and(|end| end == "mmdb");
    let found = entries.flatten().map(|entry| entry.path()).filter(database);
    let mut all: Vec<PathBuf> = found.collect();
    all.sort();
    all.truncate(MAX_FILES);
    let facts = |path: PathBuf| {
        let facts = std::fs::metadata(&path).ok()?;
        Some((path, (facts.len(), facts.modified().ok())))
    };
    all.into_iter().filter_map(facts).collect()
}

impl Database {
    fn open(path: &Path) -> Option<Self> {
        let bytes = std::fs::metadata(path).map_or(0, |facts| facts.len());
        if bytes > MAX_BYTES {
            tracing::warn!(path = %path.display(), "the GeoIP database is too large");
            return None;
        }
        match Reader::open_readfile(path) {
            Ok(reader) => Some(Self { kind: reader.metadata().database_type.clone(), reader }),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the GeoIP database cannot be read");
                None
            }
        }
    }

    fn value(&self, path: &[PathElement<'_>], client: IpAddr) -> Option<String> {
        let found = self.reader.lookup(client).ok()?;
        found.decode_path::<Scalar>(path).ok().flatten().map(|scalar| scalar.0)
    }
}

/// A value of a database as a variable has it, whatever its type: nginx's module prints numbers and `1` or `0`.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Printed)
    }
}

struct Printed;

impl Visitor<'_> for Printed {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number or a truth value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(text.to_owned()))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Scalar, E> {
        Ok(Scalar(if truth { "1" } else { "0" }.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }
}

impl template::Places for Databases {
    fn value(&self, name: &str, client: IpAddr) -> Option<String> {
        let client = client.to_canonical();
        table::sources(name).find_map(|source| {
            let of_kind = self.0.iter().filter(|database| database.kind.contains(source.kind));
            of_kind.into_iter().find_map(|database| database.value(source.path, client))
        })
    }
}

impl fmt::Debug for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|database| &database.kind)).finish()
    }
}

#[cfg(test)]
mod tests;
