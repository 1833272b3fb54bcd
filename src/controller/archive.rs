//! What was known last, on disk (`--snapshot-dir`): a process that starts while the API server is away serves it, after
//! having waited for the server a little. Secrets are no part of it, so no key ever lies there: hosts are served with the
//! default certificate, and routes whose guard needs a Secret answer 503, until the server is back.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::feed::Feed;
use super::link::Link;
use super::observed::observe;
use super::watcher::Sink;
use crate::control::Change;
use crate::model::{Kind, ObjectRef};

/// How long the server is waited for before what is on disk is served.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_secs(5);
/// What is older is not served: it is likelier wrong than useful.
const OLDEST: Duration = Duration::from_hours(7 * 24);
/// Name of the file.
const NAME: &str = "objects.json";
/// Name of the file before it, which stands in where it cannot be read.
const BEFORE: &str = "objects.before.json";
/// Form of the file.
const FORM: u32 = 1;
/// What the first line says; the digest of what follows it comes after (SHA-256, hexadecimal).
const MARK: &str = "narthex-snapshot sha256 ";

/// Collects objects and writes them. Cheap to clone; does nothing without a folder.
#[derive(Clone, Default)]
pub(super) struct Archive(Option<Arc<Shared>>);

struct Shared {
    folder: PathBuf,
    /// By the name of their feed.
    feeds: Mutex<BTreeMap<String, BTreeMap<ObjectRef, Json>>>,
    changed: Notify,
    /// A list is in doubt: what is on disk is likelier right.
    held: AtomicBool,
}

#[derive(Serialize, Deserialize)]
struct File {
    form: u32,
    /// Seconds since 1970.
    written: u64,
    feeds: BTreeMap<String, Vec<Json>>,
}

// === impl Archive ===

impl Archive {
    /// In a folder, which must be there.
    pub(super) fn new(folder: Option<&Path>) -> Self {
        Self(folder.map(|folder| {
            let (feeds, changed) = (Mutex::default(), Notify::new());
            Arc::new(Shared { folder: folder.to_owned(), feeds, changed, held: AtomicBool::new(false) })
        }))
    }

    /// While held, nothing is written.
    pub(super) fn hold(&self, held: bool) {
        let Some(shared) = &self.0 else { return };
        shared.held.store(held, Ordering::Relaxed);
        if !held {
            shared.changed.notify_one();
        }
    }

    /// True when objects are wanted.
    pub(super) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A feed has these objects and no others.
    pub(super) fn list(&self, feed: &Feed, objects: impl Iterator<Item = (ObjectRef, Json)>) {
        self.change(feed, |kept| *kept = objects.collect());
    }

    /// An object is new or another.
    pub(super) fn set(&self, feed: &Feed, reference: &ObjectRef, json: Json) {
        self.change(feed, |kept| drop(kept.insert(reference.clone(), json)));
    }

    /// An object is gone.
    pub(super) fn forget(&self, feed: &Feed, reference: &ObjectRef) {
        self.change(feed, |kept| drop(kept.remove(reference)));
    }

    fn change(&self, feed: &Feed, work: impl FnOnce(&mut BTreeMap<ObjectRef, Json>)) {
        let Some(shared) = self.0.as_ref().filter(|_| feed.kind != Kind::Secret) else { return };
        work(shared.feeds().entry(name(feed)).or_default());
        shared.changed.notify_one();
    }

    /// Writes what changes, while every feed follows: half of the world is no world.
    pub(super) async fn run(self, link: Link) {
        let Some(shared) = self.0 else { return };
        loop {
            shared.changed.notified().await;
            sleep(GATHER).await;
            // After a loss each feed that follows again brings a change.
            if link.is_whole()
                && !shared.held.load(Ordering::Relaxed)
                && let Err(error) = shared.write()
            {
                tracing::warn!(folder = %shared.folder.display(), %error, "the snapshot cannot be written");
            }
        }
    }

    /// Hands over what is on disk, when the server is not there in time.
    pub(super) async fn stand_in(self, feeds: Vec<Feed>, link: Link, sink: Sink) {
        let Some(shared) = self.0 else { return };
        sleep(PATIENCE).await;
        // A server that answers is slow at worst; what it lists is newer.
        if link.was_ever_up() {
            return;
        }
        let newest = read(&shared.folder.join(NAME), now());
        let file = match newest.or_else(|reason| {
            let older = read(&shared.folder.join(BEFORE), now());
            older
                .inspect(|_| tracing::warn!(reason, "the snapshot cannot be used, the one before it can"))
                .map_err(|_| reason)
        }) {
            Ok(file) => file,
            Err(reason) => {
                return tracing::warn!(
                    reason,
                    "the API server does not answer, and there is no snapshot to serve"
                );
            }
        };
        let age_seconds = now().saturating_sub(file.written);
        tracing::warn!(age_seconds, "the API server does not answer: serving the snapshot, without Secrets");
        for (id, feed) in feeds.iter().enumerate() {
            let objects = file.feeds.get(&name(feed)).cloned().unwrap_or_default();
            let objects = objects.into_iter().filter_map(|json| observe(feed.kind, json));
            let objects = objects.map(|observed| (observed.reference, observed.decoded)).collect();
            (sink)(Change::Listed { feed: id, objects });
        }
    }
}

impl Shared {
    fn feeds(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<ObjectRef, Json>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All or nothing: a torn file never has the name.
    fn write(&self) -> io::Result<()> {
        let copy = |(name, kept): (&String, &BTreeMap<ObjectRef, Json>)| {
            (name.clone(), kept.values().cloned().collect())
        };
        let feeds = self.feeds().iter().map(copy).collect();
        let bytes = serde_json::to_vec(&File { form: FORM, written: now(), feeds })?;
        let fresh = self.folder.join(format!("{NAME}.new"));
        let mut file = fs::File::create(&fresh)?;
        file.write_all(format!("{MARK}{}\n", digest(&bytes)).as_bytes())?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        let newest = self.folder.join(NAME);
        // There is none the first time.
        if let Err(error) = fs::rename(&newest, self.folder.join(BEFORE))
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        fs::rename(fresh, newest)
    }
}

/// A feed across processes.
fn name(feed: &Feed) -> String {
    format!("{}?{}&{}", feed.path(), feed.fields, feed.labels)
}

fn read(path: &Path, now: u64) -> Result<File, String> {
    let shown = path.display();
    let bytes = fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    let whole = verified(&bytes).ok_or_else(|| format!("{shown}: is not as it was written"))?;
    let file: File = serde_json::from_slice(whole).map_err(|error| format!("{shown}: {error}"))?;
    if file.form != FORM {
        return Err(format!("{shown}: form {} is of another version", file.form));
    }
    if now.saturating_sub(file.written) > OLDEST.as_secs() {
        return Err(format!("{shown}: older than seven days"));
    }
    Ok(file)
}

/// What follows the first line, if that has its digest.
fn verified(bytes: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b'\n', bytes)?;
    let told = bytes.get(..end)?.strip_prefix(MARK.as_bytes())?;
    let content = bytes.get(end.saturating_add(1)..)?;
    (told == digest(content).as_bytes()).then_some(content)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::feed::Reach;
    use crate::model::ObjectKey;

    fn feed(kind: Kind) -> Feed {
        Feed { kind, namespace: None, fields: String::new(), labels: String::new(), reach: Reach::Selected }
    }

    fn object(kind: Kind, name: &str) -> (ObjectRef, Json) {
        let meta = json!({"name": name, "namespace": "team", "resourceVersion": "1"});
        let reference = ObjectRef { kind, key: ObjectKey::new("team", name) };
        (reference, json!({"metadata": meta, "data": {"k": "v"}}))
    }

    #[test]
    fn what_is_written_is_read_again_and_holds_no_secret() {
        let folder = tempfile::TempDir::new().unwrap();
        let archive = Archive::new(Some(folder.path()));
        archive.list(&feed(Kind::Secret), std::iter::once(object(Kind::Secret, "key")));
        let (reference, json) = object(Kind::Secret, "other");
        archive.set(&feed(Kind::Secret), &reference, json);
        let maps = ["a", "b"].map(|name| object(Kind::ConfigMap, name));
        archive.list(&feed(Kind::ConfigMap), maps.into_iter());
        let (reference, json) = object(Kind::ConfigMap, "c");
        archive.set(&feed(Kind::ConfigMap), &reference, json);
        archive.forget(&feed(Kind::ConfigMap), &object(Kind::ConfigMap, "a").0);
        archive.0.as_ref().unwrap().write().unwrap();
        let file = read(&folder.path().join(NAME), now()).unwrap();
        assert_eq!(file.feeds.len(), 1, "Secrets are no part of it");
        let kept = &file.feeds[&name(&feed(Kind::ConfigMap))];
        let names: Vec<&str> = kept.iter().map(|json| json["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["b", "c"]);
    }

    #[test]
    fn what_is_old_foreign_or_torn_is_not_served() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join(NAME);
        assert!(read(&path, 0).is_err(), "there is none");
        let check = |text: &str, words: &str| {
            fs::write(&path, format!("{MARK}{}\n{text}", digest(text.as_bytes()))).unwrap();
            let reason = read(&path, 1_000_000_000).err().expect("it is not served");
            assert!(reason.contains(words), "{reason}");
        };
        check(r#"{"form": 1, "written": 1, "feeds": {}}"#, "older");
        check(r#"{"form": 2, "written": 1000000000, "feeds": {}}"#, "another version");
        check(r#"{"form": 1, "wri"#, "EOF");
        let sound = r#"{"form": 1, "written": 1000000000, "feeds": {"x": [{"kind": "ConfigMap"}]}}"#;
        let sound = format!("{MARK}{}\n{sound}", digest(sound.as_bytes())).into_bytes();
        fs::write(&path, &sound).unwrap();
        assert!(read(&path, 1_000_000_000).is_ok());
        for at in 0..sound.len() {
            fs::write(&path, &sound[..at]).unwrap();
            assert!(read(&path, 1_000_000_000).is_err(), "cut at {at}");
            let mut other = sound.clone();
            other[at] ^= 1;
            fs::write(&path, &other).unwrap();
            assert!(read(&path, 1_000_000_000).is_err(), "one bit at {at}");
        }
    }

    #[test]
    fn the_file_before_the_last_one_is_kept() {
        let folder = tempfile::TempDir::new().unwrap();
        let archive = Archive::new(Some(folder.path()));
        let write = |name: &str| {
            archive.list(&feed(Kind::ConfigMap), std::iter::once(object(Kind::ConfigMap, name)));
            archive.0.as_ref().unwrap().write().unwrap();
        };
        let first = |file: &str| {
            let file = read(&folder.path().join(file), now()).unwrap();
            file.feeds[&name(&feed(Kind::ConfigMap))][0]["metadata"]["name"].clone()
        };
        write("a");
        assert!(!folder.path().join(BEFORE).exists());
        write("b");
        write("c");
        assert_eq!((first(NAME), first(BEFORE)), (json!("c"), json!("b")));
    }

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let archive = Archive::new(None);
        assert!(!archive.is_on());
        archive.list(&feed(Kind::ConfigMap), std::iter::once(object(Kind::ConfigMap, "a")));
    }
}
