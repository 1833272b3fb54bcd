//! Objects that others name, followed one by one: Secrets with `--secrets-by-reference`, and the Services of TCP and UDP
//! services outside the namespace that is watched. `controller` feeds it what names them; what it finds goes to `control`
//! as the feeds with [`Reach::Referenced`]. Not a judge: who may use what it refers to is `policy`'s and `compile`'s.
//!
//! The first table waits for these objects too: nothing is ever served without a guard that its Secret would have been.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::feed::{Feed, Reach};
use super::link::Link;
use super::watcher::{Reports, Sink, Watcher};
use crate::control::{Change, FeedId, Objects, Settings};
use crate::manifest::Decoded;
use crate::model::{Kind, ObjectRef};

/// After a change of what names: a burst of new Ingresses is looked through once.
const GATHER: Duration = Duration::from_millis(20);

/// Follows what is named. Cheap to clone; does nothing when no feed is of [`Reach::Referenced`].
#[derive(Clone)]
pub(super) struct Referenced(Option<Arc<Shared>>);

struct Shared {
    settings: Settings,
    /// The feeds that this is.
    parents: BTreeMap<Kind, FeedId>,
    /// Feeds whose objects name others.
    naming: BTreeSet<FeedId>,
    /// Objects that name others.
    known: Mutex<Objects>,
    followed: Mutex<Followed>,
    changed: Notify,
}

#[derive(Default)]
struct Followed {
    /// Everything that was named at first is known, and handed over.
    open: bool,
    /// What each feed has, once it was listed.
    held: BTreeMap<Feed, BTreeMap<ObjectRef, Decoded>>,
}

// === impl Referenced ===

impl Referenced {
    /// Of these feeds, in their order.
    pub(super) fn new(feeds: &[Feed], settings: Settings) -> Self {
        let referenced = |feed: &Feed| feed.reach == Reach::Referenced;
        if !feeds.iter().any(referenced) {
            return Self(None);
        }
        let numbered = || feeds.iter().enumerate();
        let names =
            |kind| matches!(kind, Kind::Ingress | Kind::IngressClass | Kind::ConfigMap | Kind::Namespace);
        let naming: BTreeSet<FeedId> =
            numbered().filter(|(_, feed)| names(feed.kind)).map(|(id, _)| id).collect();
        // What is in doubt still names what it needs.
        let mut known = Objects::new(feeds.len()).guarded(settings.mass_removal_guard);
        for (feed, _) in numbered().filter(|(id, _)| !naming.contains(id)) {
            known.take(Change::Listed { feed, objects: Vec::new() });
        }
        let parents = numbered().filter(|(_, feed)| referenced(feed)).map(|(id, feed)| (feed.kind, id));
        Self(Some(Arc::new(Shared {
            settings,
            parents: parents.collect(),
            naming,
            known: Mutex::new(known),
            followed: Mutex::default(),
            changed: Notify::new(),
        })))
    }

    /// The next list of this feed is believed, whatever it lacks: `control` asked for it.
    pub(super) fn ask(&self, feed: FeedId) {
        let Some(shared) = &self.0 else { return };
        shared.known().ask(feed);
    }

    /// Looks at a change on its way to `control`.
    pub(super) fn see(&self, change: &Change) {
        let Some(shared) = &self.0 else { return };
        let (Change::Listed { feed, .. } | Change::Applied { feed, .. } | Change::Deleted { feed, .. }) =
            change
        else {
            return;
        };
        if shared.naming.contains(feed) {
            shared.known().take(change.clone());
            shared.changed.notify_one();
        }
    }

    /// Follows what is named until dropped.
    pub(super) async fn run(self, client: Client, link: Link, reports: Reports, sink: Sink) {
        let Some(shared) = self.0 else { return };
        let aside = link.aside();
        let mut tasks = JoinSet::new();
        let mut running: BTreeMap<Feed, AbortHandle> = BTreeMap::new();
        loop {
            shared.changed.notified().await;
            sleep(GATHER).await;
            let Some(wanted) = shared.wanted() else { continue };
            running.retain(|feed, task| {
                let stays = wanted.contains(feed);
                if !stays {
                    task.abort();
                    shared.drop_feed(feed, &sink);
                }
                stays
            });
            for feed in &wanted {
                if running.contains_key(feed) {
                    continue;
                }
                let own = (Arc::clone(&shared), feed.clone(), Arc::clone(&sink));
                let taker: Sink = Arc::new(move |change| own.0.take(&own.1, change, &own.2));
                // Its number is that of nothing: changes are renamed on their way.
                let (client, aside, reports) = (client.clone(), aside.clone(), reports.clone());
                // Nobody asks one object for a second list.
                let (_, again) = watch::channel(0);
                let watcher = Watcher::new(client, feed.clone(), 0, taker, aside, reports, again);
                running.insert(feed.clone(), tasks.spawn(watcher.run()));
            }
            shared.open(&wanted, &link, &sink);
            while tasks.try_join_next().is_some() {}
        }
    }
}

// === impl Shared ===

impl Shared {
    fn known(&self) -> MutexGuard<'_, Objects> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followed(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Feeds to follow; `None` before everything that names others was listed.
    fn wanted(&self) -> Option<BTreeSet<Feed>> {
        let world = {
            let known = self.known();
            known.is_complete().then(|| known.world().clone())?
        };
        let named = self.settings.named(world);
        let mut wanted = BTreeSet::new();
        if self.parents.contains_key(&Kind::Secret) {
            wanted.extend(named.secrets.iter().map(|key| Feed::single(Kind::Secret, key)));
        }
        if self.parents.contains_key(&Kind::Service) {
            // What lies in the namespace that is watched is followed anyway.
            let scope = &*self.settings.options.namespace;
            for key in named.stream_services.iter().filter(|key| *key.namespace != *scope) {
                wanted.extend([Feed::single(Kind::Service, key), Feed::slices_of(key)]);
            }
        }
        Some(wanted)
    }

    /// Hands everything over once it is known.
    fn open(&self, wanted: &BTreeSet<Feed>, link: &Link, sink: &Sink) {
        let mut followed = self.followed();
        if followed.open || !wanted.iter().all(|feed| followed.held.contains_key(feed)) {
            return;
        }
        followed.open = true;
        for (kind, parent) in &self.parents {
            let held = followed.held.iter().filter(|(feed, _)| feed.kind == *kind);
            let objects = held.flat_map(|(_, objects)| objects.clone()).collect();
            link.up(*parent);
            sink(Change::Listed { feed: *parent, objects });
        }
    }

    /// What a feed says.
    fn take(&self, feed: &Feed, change: Change, sink: &Sink) {
        let Some(&parent) = self.parents.get(&feed.kind) else { return };
        let mut followed = self.followed();
        let open = followed.open;
        let held = followed.held.entry(feed.clone()).or_default();
        let (applied, deleted) = match change {
            Change::Listed { objects, .. } => {
                let objects: BTreeMap<ObjectRef, Decoded> = objects.into_iter().collect();
                let before = mem::replace(held, objects.clone());
                let gone = before.into_keys().filter(|reference| !objects.contains_key(reference)).collect();
                (objects.into_iter().collect(), gone)
            }
            Change::Applied { reference, decoded, .. } => {
                held.insert(reference.clone(), decoded.clone());
                (vec![(reference, decoded)], Vec::new())
            }
            Change::Deleted { reference, .. } => {
                held.remove(&reference);
                (Vec::new(), vec![reference])
            }
            Change::Zone(_) | Change::ClassesHidden(_) => return,
        };
        if open {
            tell(parent, applied, deleted, sink);
        } else {
            self.changed.notify_one();
        }
    }

    /// A feed is followed no more.
    fn drop_feed(&self, feed: &Feed, sink: &Sink) {
        let mut followed = self.followed();
        let gone = followed.held.remove(feed).unwrap_or_default();
        if followed.open
            && let Some(&parent) = self.parents.get(&feed.kind)
        {
            tell(parent, Vec::new(), gone.into_keys().collect(), sink);
        }
    }
}

fn tell(feed: FeedId, applied: Vec<(ObjectRef, Decoded)>, deleted: Vec<ObjectRef>, sink: &Sink) {
    for (reference, decoded) in applied {
        sink(Change::Applied { feed, reference, decoded });
    }
    for reference in deleted {
        sink(Change::Deleted { feed, reference });
    }
}

#[cfg(test)]
mod tests;
