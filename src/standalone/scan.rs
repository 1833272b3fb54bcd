//! Files of a directory tree: which there are, whether they changed, and their bytes. Symbolic links are followed, as
//! Kubernetes mounts ConfigMaps through them; names that start with a dot are left out, as those mounts need it.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::Hasher;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::manifest::MAX_FILE_BYTES;

/// Deepest directory below the root.
const MAX_DEPTH: usize = 32;
/// File times are this coarse on some systems: a file that changed within this time before it was read may change again
/// without a new time, so it is read once more.
const COARSE: Duration = Duration::from_millis(100);
/// Most links that one path may go through, as Linux has it.
const MAX_LINKS: usize = 40;

/// Why a directory cannot be read.
#[derive(Debug, Error)]
pub enum ScanError {
    /// It is not there.
    #[error("the directory {0} does not exist")]
    Missing(PathBuf),
    /// It is something else.
    #[error("{0} is no directory")]
    NoDirectory(PathBuf),
    /// The system says no.
    #[error("cannot read {path}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a file looks like from outside: changes whenever its content may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Scanned {
    /// `None` when the content must be looked at again.
    fingerprint: Option<Fingerprint>,
    content: Option<u64>,
}

impl Scanned {
    pub(super) fn is_settled(&self, now: &Fingerprint) -> bool {
        self.fingerprint.as_ref() == Some(now)
    }

    pub(super) fn same_content(&self, other: &Self) -> bool {
        self.content.is_some() && self.content == other.content
    }

    /// A file that the system does not hand out; it is tried again each time.
    pub(super) const fn unreadable() -> Self {
        Self { fingerprint: None, content: None }
    }

    pub(super) fn distrust(&mut self) {
        self.fingerprint = None;
    }
}

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// Manifest files, by path below the root as given.
    pub(super) files: BTreeMap<PathBuf, Fingerprint>,
    /// Directories that must be watched, absolute, with device and inode: those of the tree, and those that hold a link or the
    /// target of a link on the way.
    pub(super) directories: BTreeMap<PathBuf, (u64, u64)>,
    /// Absolute paths outside the tree whose change counts: links on the way to the root, the root itself, targets of links.
    pub(super) outposts: BTreeSet<PathBuf>,
    /// Directories of the tree itself, absolute: everything in them counts.
    pub(super) tree: BTreeSet<PathBuf>,
}

impl Listing {
    /// True when both saw the same files in the same state.
    pub(super) fn same_files(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

/// Lists the manifests below a directory.
pub(super) fn list(root: &Path) -> Result<Listing, ScanError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ScanError::Missing(root.to_owned()),
        io::ErrorKind::NotADirectory => ScanError::NoDirectory(root.to_owned()),
        _ => ScanError::Io { path: root.to_owned(), source },
    };
    let mut listing = Listing::default();
    listing.guard(root);
    let entries = fs::read_dir(root).map_err(failed)?;
    let mut parents = Vec::new();
    visit(root, entries, &mut parents, &mut listing)?;
    Ok(listing)
}

fn visit(
    directory: &Path,
    entries: fs::ReadDir,
    parents: &mut Vec<(u64, u64)>,
    listing: &mut Listing,
) -> Result<(), ScanError> {
    let failed = |source| ScanError::Io { path: directory.to_owned(), source };
    let metadata = fs::metadata(directory).map_err(failed)?;
    let identity = (metadata.dev(), metadata.ino());
    // A link that leads back up would never end.
    if parents.len() >= MAX_DEPTH || parents.contains(&identity) {
        return Ok(());
    }
    // Notifications name absolute paths.
    let absolute = std::path::absolute(directory).map_err(failed)?;
    listing.directories.insert(absolute.clone(), identity);
    listing.tree.insert(absolute);
    parents.push(identity);
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        // What vanishes while it is listed is simply not there.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            listing.guard(&path);
        }
        if metadata.is_dir() {
            if let Ok(entries) = fs::read_dir(&path) {
                visit(&path, entries, parents, listing)?;
            }
        } else if metadata.is_file() && is_manifest(&path) {
            listing.files.insert(path, Fingerprint::of(&metadata));
        }
    }
    parents.pop();
    Ok(())
}

impl Listing {
    /// Notes every link on the way to `path`, and what is at its end: whoever replaces one of them changes the content.
    fn guard(&mut self, path: &Path) {
        let mut current = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        for _ in 0..MAX_LINKS {
            self.outpost(&current);
            let Some((link, target, rest)) = first_link(&current) else { return };
            self.outpost(&link);
            let base = link.parent().map_or_else(PathBuf::new, Path::to_owned);
            current = base.join(target).join(rest);
        }
    }

    fn outpost(&mut self, path: &Path) {
        let Some(parent) = path.parent() else { return };
        if let Ok(metadata) = fs::metadata(parent) {
            self.outposts.insert(path.to_owned());
            self.directories.insert(parent.to_owned(), (metadata.dev(), metadata.ino()));
        }
    }
}

/// The first link on the way along `path`: itself, its target, and what follows it.
fn first_link(path: &Path) -> Option<(PathBuf, PathBuf, PathBuf)> {
    let mut walked = PathBuf::new();
    let mut components = path.components();
    while let Some(component) = components.next() {
        if component == std::path::Component::ParentDir {
            walked.pop();
            continue;
        }
        walked.push(component);
        if let Ok(target) = fs::read_link(&walked) {
            return Some((walked, target, components.as_path().to_owned()));
        }
    }
    None
}

/// Files that a path given to `check` means: itself, or the manifests below it.
///
/// # Errors
/// When the path cannot be read.
pub fn manifest_paths(path: &Path) -> Result<Vec<PathBuf>, ScanError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ScanError::Missing(path.to_owned()),
        _ => ScanError::Io { path: path.to_owned(), source },
    };
    if fs::metadata(path).map_err(failed)?.is_dir() {
        Ok(list(path)?.files.into_keys().collect())
    } else {
        Ok(vec![path.to_owned()])
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| {
        ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// Reads one file, no further than a little above the size that is taken (the reader of manifests then says so).
pub(super) fn read(path: &Path) -> io::Result<(Scanned, Vec<u8>)> {
    let mut file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let after = file.metadata()?;
    let settled = Fingerprint::of(&after) == Fingerprint::of(&metadata)
        && after
            .modified()
            .is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > COARSE));
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    let fingerprint = settled.then(|| Fingerprint::of(&metadata));
    Ok((Scanned { fingerprint, content: Some(hasher.finish()) }, bytes))
}
