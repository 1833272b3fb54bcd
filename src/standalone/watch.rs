//! Tells when a directory of manifests may have changed: by the system's notifications where they work, else by looking
//! every second. Says "look again", never what changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::scan::Listing;

/// How often to look when notifications do not work.
const POLL: Duration = Duration::from_secs(1);
/// How often to look although they do: network file systems lose some.
const SAFETY_POLL: Duration = Duration::from_secs(5);

/// Whether notifications can be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchHealth {
    /// They work.
    Notified,
    /// They do not, for this reason.
    Polling(String),
}

/// Watches what a [`Listing`] names.
#[derive(Debug)]
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, (u64, u64)>,
    health: WatchHealth,
}

impl Watch {
    /// A watch that sends the paths of each change through `changes`, made into a message by `message`. Paths are empty
    /// when the system lost count.
    pub fn new<M: Send + 'static>(changes: Sender<M>, message: fn(Vec<PathBuf>) -> M) -> Self {
        let handler = move |event: notify::Result<notify::Event>| {
            let paths = match event {
                Ok(event) if counts(event.kind) => event.paths,
                Ok(_) => return,
                Err(_) => Vec::new(),
            };
            // The control loop has ended when nobody listens.
            drop(changes.send(message(paths)));
        };
        match notify::recommended_watcher(handler) {
            Ok(watcher) => {
                Self { watcher: Some(watcher), watched: BTreeMap::new(), health: WatchHealth::Notified }
            }
            Err(error) => Self {
                watcher: None,
                watched: BTreeMap::new(),
                health: WatchHealth::Polling(error.to_string()),
            },
        }
    }

    /// Watches exactly what `listing` names. True when something new is watched: the directory must then be read once
    /// more, since nobody looked in between.
    pub fn follow(&mut self, listing: &Listing) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        self.watched.retain(|path, identity| {
            let keep = listing.directories.get(path) == Some(identity);
            if !keep {
                // Fails when the directory is gone, and its watch with it.
                drop(watcher.unwatch(path));
            }
            keep
        });
        let mut grown = false;
        let mut health = WatchHealth::Notified;
        for (path, identity) in &listing.directories {
            if self.watched.contains_key(path) {
                continue;
            }
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.clone(), *identity);
                    grown = true;
                }
                Err(error) => health = WatchHealth::Polling(error.to_string()),
            }
        }
        self.health = health;
        grown
    }

    /// Forgets directories that a change names: one that was deleted and made again may have its old number, but not its
    /// old watch. Without paths it forgets all.
    pub fn doubt(&mut self, paths: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        self.watched.retain(|path, _| {
            let keep = !paths.is_empty() && !paths.contains(path);
            if !keep {
                drop(watcher.unwatch(path));
            }
            keep
        });
    }

    /// Whether notifications can be relied on.
    pub const fn health(&self) -> &WatchHealth {
        &self.health
    }

    /// How long to wait at most before looking again.
    pub const fn interval(&self) -> Duration {
        match self.health {
            WatchHealth::Notified => SAFETY_POLL,
            WatchHealth::Polling(_) => POLL,
        }
    }
}

/// Whether a change of these paths may change what `listing` shows. Directories on the way are shared with others
/// (`/tmp`), so that most of what happens there is nobody's business here.
pub(super) fn concern(listing: &Listing, paths: &[PathBuf]) -> bool {
    let inside = |path: &Path| {
        listing.tree.contains(path)
            || listing.outposts.contains(path)
            || path.parent().is_some_and(|parent| listing.tree.contains(parent))
    };
    paths.is_empty() || paths.iter().any(|path| inside(path))
}

/// Reading is no change; reading is what this process does itself all the time.
const fn counts(kind: EventKind) -> bool {
    !matches!(
        kind,
        EventKind::Access(
            AccessKind::Any
                | AccessKind::Read
                | AccessKind::Open(_)
                | AccessKind::Close(
                    AccessMode::Any | AccessMode::Read | AccessMode::Execute | AccessMode::Other
                )
                | AccessKind::Other
        )
    )
}
