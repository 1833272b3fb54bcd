//! Tells when a directory of manifests may have changed: by the system's notifications where they work, else by looking
//! every second. Says "look again", never what changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher, WatcherKind};

use super::scan::Listing;

/// How often to look when notifications do not work.
const POLL: Duration = Duration::from_secs(1);
/// How often to look although they do: network file systems lose some.
const SAFETY_POLL: Duration = Duration::from_secs(5);

/// That something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// In which way.
    pub stir: Stir,
    /// What; nothing when the system lost count.
    pub paths: Vec<PathBuf>,
}

/// What a change means for the content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stir {
    /// It is being written, and who writes it will be heard of once more.
    Write,
    /// It is as it is meant to be: closed, moved, or gone.
    Settle,
    /// Nothing.
    Other,
    /// The system lost count.
    Lost,
}

/// Whether notifications can be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchHealth {
    /// They work.
    Notified,
    /// They do not, for this reason.
    Polling(String),
}

/// Watches what a listing names.
#[derive(Debug)]
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, (u64, u64)>,
    health: WatchHealth,
}

impl Watch {
    /// A watch that sends a notice of each change through `changes`, made into a message by `message`.
    pub fn new<M: Send + 'static>(changes: Sender<M>, message: fn(Notice) -> M) -> Self {
        let handler = move |event: notify::Result<notify::Event>| {
            let notice = match event {
                Ok(event) => match stir(event.kind, RecommendedWatcher::kind()) {
                    Some(stir) => Notice { stir, paths: event.paths },
                    None => return,
                },
                Err(_) => Notice { stir: Stir::Lost, paths: Vec::new() },
            };
            // The control loop has ended when nobody listens.
            drop(changes.send(message(notice)));
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

/// What an event means; `None` for reading, which is no change and what this process does itself all the time.
fn stir(kind: EventKind, watcher: WatcherKind) -> Option<Stir> {
    Some(match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Stir::Settle,
        EventKind::Access(_) => return None,
        // Only inotify tells when a writer is done.
        EventKind::Modify(ModifyKind::Data(_)) if watcher == WatcherKind::Inotify => Stir::Write,
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => Stir::Settle,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other => Stir::Other,
    })
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, MetadataKind, RemoveKind, RenameMode};

    use super::*;

    #[test]
    fn a_write_counts_until_the_file_is_closed_moved_or_gone() {
        let check = |kind, expect| assert_eq!(stir(kind, WatcherKind::Inotify), expect, "{kind:?}");
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        check(written, Some(Stir::Write));
        assert_eq!(stir(written, WatcherKind::Fsevent), Some(Stir::Other), "it does not tell of closing");
        check(EventKind::Access(AccessKind::Close(AccessMode::Write)), Some(Stir::Settle));
        check(EventKind::Modify(ModifyKind::Name(RenameMode::To)), Some(Stir::Settle));
        check(EventKind::Remove(RemoveKind::File), Some(Stir::Settle));
        check(EventKind::Create(CreateKind::File), Some(Stir::Other));
        check(EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), Some(Stir::Other));
        for reading in
            [AccessKind::Read, AccessKind::Open(AccessMode::Any), AccessKind::Close(AccessMode::Read)]
        {
            check(EventKind::Access(reading), None);
        }
    }
}
