//! A directory of manifests as a source of objects: reads it, notices changes, and fills in what no API server is there
//! to fill in. Publishes nothing; `control` does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::compile::Options;
use crate::diagnostic::Diagnostic;
use crate::manifest::{self, Manifest};
use crate::model::{IngressClass, Meta, ObjectKey, World};

mod merged;
mod scan;
mod watch;
mod writing;

pub use scan::{ScanError, manifest_paths};
pub use watch::{Notice, Stir, Watch, WatchHealth};

use merged::{Changed, Merged};
use scan::Scanned;
use writing::Writing;

/// Class and controller that are assumed where no IngressClass is declared.
const ASSUMED_CLASS: (&str, &str) = ("nginx", "k8s.io/ingress-nginx");
/// How often a directory is read again in the hope of two equal listings.
const ATTEMPTS: usize = 4;

/// A directory of manifests with the last good content of each file.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    files: BTreeMap<PathBuf, File>,
    listing: scan::Listing,
    writing: Writing,
    merged: Merged,
}

#[derive(Debug)]
struct File {
    scanned: Scanned,
    /// Content as it counts: of objects that cannot be read now, the last good version.
    manifest: Arc<Manifest>,
}

/// What a reading of the directory gave.
#[derive(Debug)]
pub struct Reading {
    /// Objects of all files.
    pub world: World,
    /// Findings of all files.
    pub diagnostics: Vec<Diagnostic>,
    /// How many files were parsed anew; 0 when nothing changed.
    pub parsed: usize,
    /// How many files vanished.
    pub gone: usize,
}

impl Directory {
    /// A directory that has not been read yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            files: BTreeMap::new(),
            listing: scan::Listing::default(),
            writing: Writing::default(),
            merged: Merged::default(),
        }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The listing that the last reading saw: what to watch.
    pub const fn listing(&self) -> &scan::Listing {
        &self.listing
    }

    /// Takes note of a change; true when it may change what the last reading gave.
    pub fn notice(&mut self, notice: &Notice, now: Instant) -> bool {
        let concerned = watch::concern(&self.listing, &notice.paths);
        if concerned {
            self.writing.note(notice, now);
        }
        concerned
    }

    /// When a file that is still being written is to be read all the same.
    pub fn overdue(&self, now: Instant) -> Option<Instant> {
        self.writing.due(now)
    }

    /// Reads what changed since the last reading; a file that is being written at `now` keeps its last content. The
    /// directory is listed before and after, and read again until both agree; a writer that never pauses cannot hold
    /// this up for long.
    ///
    /// # Errors
    /// When the directory itself cannot be read; the last content stays.
    pub fn read(&mut self, now: Instant) -> Result<Reading, ScanError> {
        let (mut parsed, mut gone) = (0, 0);
        let mut listing = scan::list(&self.root)?;
        for _ in 0..ATTEMPTS {
            let (more, less) = self.take(&listing, now);
            (parsed, gone) = (parsed + more, gone + less);
            let after = scan::list(&self.root)?;
            let stable = after.same_files(&listing);
            listing = after;
            if stable {
                break;
            }
        }
        self.listing = listing;
        let found = self.files.values().flat_map(|file| file.manifest.diagnostics.iter().cloned());
        let diagnostics = found.chain(self.merged.duplicates().iter().cloned()).collect();
        Ok(Reading { world: self.merged.world().clone(), diagnostics, parsed, gone })
    }

    /// Forgets what was read, so that the next reading parses every file; last good contents stay.
    pub fn distrust(&mut self) {
        for file in self.files.values_mut() {
            file.scanned.distrust();
        }
    }

    fn take(&mut self, listing: &scan::Listing, now: Instant) -> (usize, usize) {
        let held: BTreeSet<PathBuf> = self.writing.held(now).into_iter().map(Path::to_owned).collect();
        let gone = self.files.extract_if(.., |path, _| !listing.files.contains_key(path));
        let mut changes: Vec<Changed> =
            gone.map(|(_, file)| Changed { before: Some(file.manifest), now: None }).collect();
        let gone = changes.len();
        let mut parsed = 0;
        for (path, fingerprint) in &listing.files {
            if !held.is_empty() && std::path::absolute(path).is_ok_and(|path| held.contains(&*path)) {
                continue;
            }
            let last = self.files.get_mut(path);
            if last.as_ref().is_some_and(|file| file.scanned.is_settled(fingerprint)) {
                continue;
            }
            let shown = path.to_string_lossy();
            let read = scan::read(path);
            let had_objects = last.as_ref().is_some_and(|file| !file.manifest.objects.is_empty());
            let lost = had_objects && read.as_ref().is_ok_and(|(_, bytes)| bytes.is_empty());
            if std::path::absolute(path).is_ok_and(|path| self.writing.doubts(&path, lost, now)) {
                continue;
            }
            let (scanned, fresh) = match read {
                Ok((scanned, _)) if last.as_ref().is_some_and(|file| file.scanned.same_content(&scanned)) => {
                    (scanned, None)
                }
                Ok((scanned, bytes)) => (scanned, Some(manifest::read(&shown, &bytes))),
                // Vanished since it was listed: the next listing tells.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => (Scanned::unreadable(), Some(manifest::unreadable(&shown, &error.to_string()))),
            };
            parsed += usize::from(fresh.is_some());
            match (last, fresh) {
                (Some(file), None) => file.scanned = scanned,
                (Some(file), Some(fresh)) => {
                    let now = Arc::new(fresh.keeping(&file.manifest));
                    file.scanned = scanned;
                    let before = mem::replace(&mut file.manifest, Arc::clone(&now));
                    changes.push(Changed { before: Some(before), now: Some(now) });
                }
                (None, fresh) => {
                    let manifest = Arc::new(fresh.unwrap_or_else(|| manifest::read(&shown, &[])));
                    changes.push(Changed { before: None, now: Some(Arc::clone(&manifest)) });
                    self.files.insert(path.clone(), File { scanned, manifest });
                }
            }
        }
        self.merged.follow(&changes, self.files.values().map(|file| &*file.manifest));
        (parsed, gone)
    }
}

/// Fills in what an API server or a cluster would: the IngressClass where none is declared, and with it the default of
/// `--watch-ingress-without-class` (`given` is the flag).
pub fn complete(world: &mut World, options: &mut Options, given: Option<bool>) {
    let none = world.classes.is_empty();
    options.without_class = given.unwrap_or(none);
    if none {
        let (name, controller) = ASSUMED_CLASS;
        let key = ObjectKey::new("", name);
        let class =
            IngressClass { meta: Meta::named(key.clone()), controller: controller.into(), parameters: None };
        world.classes.insert(key, Arc::new(class));
    }
}

#[cfg(test)]
mod tests;
