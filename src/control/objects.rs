//! The world as a stream of changes gives it: which parts of it were listed, what each object is now, and how much of the
//! table a change may touch. Pure; `control` drives it.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use super::guard::Toll;
use super::quarantine::find;
use crate::diagnostic::Diagnostic;
use crate::manifest::{Decoded, Object};
use crate::model::{Kind, ObjectRef, World};

/// A part of the world that is listed and followed by itself, by number.
pub type FeedId = usize;

/// What a feed says.
#[derive(Debug, Clone)]
pub enum Change {
    /// Everything there is in this feed: what it had before and is not here is gone.
    Listed {
        /// Which.
        feed: FeedId,
        /// All objects.
        objects: Vec<(ObjectRef, Decoded)>,
    },
    /// An object is new or another.
    Applied {
        /// Which.
        feed: FeedId,
        /// Its name.
        reference: ObjectRef,
        /// What it is now.
        decoded: Decoded,
    },
    /// An object is gone.
    Deleted {
        /// Which.
        feed: FeedId,
        /// Its name.
        reference: ObjectRef,
    },
    /// The node of this process lies in this zone; empty for none.
    Zone(Arc<str>),
    /// IngressClasses may not be read, or may be after all.
    ClassesHidden(bool),
}

/// How much a change may touch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing is different.
    #[default]
    Nothing,
    /// Only endpoints.
    Endpoints,
    /// Anything.
    Everything,
}

/// All objects of all feeds.
#[derive(Debug)]
pub struct Objects {
    world: World,
    feeds: Vec<Feed>,
    findings: BTreeMap<ObjectRef, Vec<Diagnostic>>,
    /// Whether a list that lacks most of what was there waits for a second one.
    guarded: bool,
}

#[derive(Debug, Clone, Default)]
struct Feed {
    listed: bool,
    /// Those in doubt included.
    members: BTreeSet<ObjectRef>,
    doubt: Option<Doubt>,
}

/// Members that the last list lacked, so many that a second one is waited for.
#[derive(Debug, Clone)]
struct Doubt {
    missing: BTreeSet<ObjectRef>,
    toll: Toll,
    /// The second list was asked for: the next one counts.
    asked: bool,
}

// === impl Objects ===

impl Objects {
    /// No objects yet, of this many feeds.
    pub fn new(feeds: usize) -> Self {
        Self {
            world: World::default(),
            feeds: vec![Feed::default(); feeds],
            findings: BTreeMap::new(),
            guarded: false,
        }
    }

    /// With a guard or without: see [`Objects::doubts`].
    #[must_use]
    pub fn guarded(self, guarded: bool) -> Self {
        Self { guarded, ..self }
    }

    /// Feeds whose last list lacked most of what was there. What it lacked stays until [`Objects::ask`] was called and
    /// another list came, or until it is deleted by name.
    pub fn doubts(&self) -> impl Iterator<Item = FeedId> {
        self.feeds.iter().enumerate().filter_map(|(id, feed)| feed.doubt.is_some().then_some(id))
    }

    /// The next list of this feed is believed, whatever it lacks.
    pub fn ask(&mut self, feed: FeedId) {
        if let Some(doubt) = self.feeds.get_mut(feed).and_then(|feed| feed.doubt.as_mut()) {
            doubt.asked = true;
        }
    }

    /// True once every feed was listed: only then is an object that is not here known not to exist.
    pub fn is_complete(&self) -> bool {
        self.feeds.iter().all(|feed| feed.listed)
    }

    /// What is known.
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// Findings about objects as they were given.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let held = self.feeds.iter().filter_map(|feed| {
            let doubt = feed.doubt.as_ref()?;
            Some(doubt.toll.finding(doubt.missing.first()?.clone()))
        });
        self.findings.values().flatten().cloned().chain(held).collect()
    }

    /// Takes a change in. An object that is the same keeps its address.
    pub fn take(&mut self, change: Change) -> Effect {
        match change {
            Change::Listed { feed, objects } => self.list(feed, objects),
            Change::Applied { feed, reference, decoded } => {
                let Some(state) = self.feeds.get_mut(feed) else { return Effect::Nothing };
                state.members.insert(reference.clone());
                let cleared = state.clear(&reference);
                self.apply(reference, decoded).max(cleared)
            }
            Change::Deleted { feed, reference } => {
                let Some(state) = self.feeds.get_mut(feed) else { return Effect::Nothing };
                state.members.remove(&reference);
                let cleared = state.clear(&reference);
                self.forget(&reference).max(cleared)
            }
            Change::Zone(zone) if zone == self.world.zone => Effect::Nothing,
            Change::Zone(zone) => {
                self.world.zone = zone;
                Effect::Everything
            }
            Change::ClassesHidden(hidden) if hidden == self.world.classes_hidden => Effect::Nothing,
            Change::ClassesHidden(hidden) => {
                self.world.classes_hidden = hidden;
                Effect::Everything
            }
        }
    }

    fn list(&mut self, feed: FeedId, objects: Vec<(ObjectRef, Decoded)>) -> Effect {
        let Some(state) = self.feeds.get_mut(feed) else { return Effect::Nothing };
        state.listed = true;
        let members = objects.iter().map(|(reference, _)| reference.clone()).collect();
        let before = mem::replace(&mut state.members, members);
        let gone: BTreeSet<ObjectRef> = before.difference(&state.members).cloned().collect();
        let doubted = state.doubt.take();
        let mut effect = if doubted.is_some() { Effect::Everything } else { Effect::Nothing };
        let toll = Toll::of(&self.world, &gone, before.len());
        if self.guarded && toll.is_mass() && !doubted.is_some_and(|doubt| doubt.asked) {
            state.members.extend(gone.iter().cloned());
            state.doubt = Some(Doubt { missing: gone, toll, asked: false });
            effect = Effect::Everything;
        } else {
            for reference in &gone {
                effect = effect.max(self.forget(reference));
            }
        }
        for (reference, decoded) in objects {
            effect = effect.max(self.apply(reference, decoded));
        }
        effect
    }

    fn apply(&mut self, reference: ObjectRef, decoded: Decoded) -> Effect {
        let Decoded { object, diagnostics } = decoded;
        let told = self.findings.get(&reference).map_or(&[][..], Vec::as_slice) != diagnostics;
        // What cannot be read stays as it was.
        let fresh = object.filter(|object| find(&self.world, &reference).as_ref() != Some(object));
        let effect = match (&fresh, told) {
            (_, true) => Effect::Everything,
            (Some(object), false) => reach(object),
            (None, false) => Effect::Nothing,
        };
        if diagnostics.is_empty() {
            self.findings.remove(&reference);
        } else {
            self.findings.insert(reference, diagnostics);
        }
        if let Some(object) = fresh {
            object.insert_into(&mut self.world);
        }
        effect
    }

    /// Removes an object unless another feed has it too.
    fn forget(&mut self, reference: &ObjectRef) -> Effect {
        if self.feeds.iter().any(|feed| feed.members.contains(reference)) {
            return Effect::Nothing;
        }
        let told = self.findings.remove(reference).is_some();
        let before = find(&self.world, reference);
        self.world.remove(reference);
        match before {
            _ if told => Effect::Everything,
            Some(object) => reach(&object),
            None => Effect::Nothing,
        }
    }
}

// === impl Feed ===

impl Feed {
    /// An object was told of by name: there is no doubt about it any more.
    fn clear(&mut self, reference: &ObjectRef) -> Effect {
        let Some(doubt) = &mut self.doubt else { return Effect::Nothing };
        if !doubt.missing.remove(reference) || !doubt.missing.is_empty() {
            return Effect::Nothing;
        }
        self.doubt = None;
        Effect::Everything
    }
}

fn reach(object: &Object) -> Effect {
    if object.kind() == Kind::EndpointSlice { Effect::Endpoints } else { Effect::Everything }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Severity;
    use crate::model::{ConfigMap, EndpointSlice, Meta, ObjectKey, Origin};

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("team", name)
    }

    fn map(name: &str, value: &str) -> (ObjectRef, Decoded) {
        let data = [("k".to_owned(), value.to_owned())].into();
        let object = Object::ConfigMap(Arc::new(ConfigMap { meta: Meta::named(key(name)), data }));
        (object.reference(), Decoded { object: Some(object), diagnostics: Vec::new() })
    }

    fn slice(name: &str, service: &str) -> (ObjectRef, Decoded) {
        let object = EndpointSlice {
            meta: Meta::named(key(name)),
            service: service.into(),
            ports: Vec::new(),
            endpoints: Vec::new(),
        };
        let object = Object::EndpointSlice(Arc::new(object));
        (object.reference(), Decoded { object: Some(object), diagnostics: Vec::new() })
    }

    fn broken(name: &str) -> (ObjectRef, Decoded) {
        let reference = ObjectRef { kind: Kind::ConfigMap, key: key(name) };
        let diagnostic = Diagnostic {
            object: reference.clone(),
            code: "InvalidField",
            severity: Severity::Error,
            field: String::new(),
            value: String::new(),
            reason: "broken".into(),
            hint: String::new(),
            origin: Arc::new(Origin::default()),
        };
        (reference, Decoded { object: None, diagnostics: vec![diagnostic] })
    }

    fn applied(feed: FeedId, (reference, decoded): (ObjectRef, Decoded)) -> Change {
        Change::Applied { feed, reference, decoded }
    }

    fn values(objects: &Objects) -> Vec<(String, String)> {
        let maps = objects.world().config_maps.values();
        maps.map(|map| (map.meta.key.name.to_string(), map.data["k"].clone())).collect()
    }

    fn pairs(expect: &[(&str, &str)]) -> Vec<(String, String)> {
        expect.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn many(from: usize, to: usize) -> Vec<(ObjectRef, Decoded)> {
        (from..to).map(|number| map(&format!("m{number:03}"), "1")).collect()
    }

    /// A guarded world of forty, and its next list.
    fn listed_again(next: Vec<(ObjectRef, Decoded)>) -> Objects {
        let mut objects = Objects::new(1).guarded(true);
        objects.take(Change::Listed { feed: 0, objects: many(0, 40) });
        objects.take(Change::Listed { feed: 0, objects: next });
        objects
    }

    #[test]
    fn a_list_that_lacks_most_takes_nothing_away_before_a_second_one_agrees() {
        let mut objects = listed_again(vec![map("m000", "2"), map("new", "1")]);
        assert_eq!(objects.doubts().collect::<Vec<_>>(), [0]);
        assert_eq!(values(&objects).len(), 41, "what is new is there, what is missing stays");
        assert!(values(&objects).contains(&("m000".into(), "2".into())));
        let found = objects.diagnostics();
        assert_eq!((found.len(), found[0].code, &*found[0].object.key.name), (1, "RemovalHeld", "m001"));
        assert!(found[0].reason.contains("39 of 40"), "{}", found[0].reason);
        // A list that nobody asked for proves nothing.
        objects.take(Change::Listed { feed: 0, objects: Vec::new() });
        assert_eq!((values(&objects).len(), objects.doubts().count()), (41, 1));
        objects.ask(0);
        assert_eq!(objects.take(Change::Listed { feed: 0, objects: many(0, 2) }), Effect::Everything);
        assert_eq!(
            (values(&objects).len(), objects.doubts().count(), objects.diagnostics().len()),
            (2, 0, 0)
        );
    }

    #[test]
    fn a_second_list_that_has_them_again_ends_the_doubt() {
        let mut objects = listed_again(Vec::new());
        assert_eq!(objects.take(Change::Listed { feed: 0, objects: many(0, 40) }), Effect::Everything);
        assert_eq!(
            (values(&objects).len(), objects.doubts().count(), objects.diagnostics().len()),
            (40, 0, 0)
        );
    }

    #[test]
    fn what_is_deleted_or_told_by_name_is_in_no_doubt() {
        let mut objects = listed_again(Vec::new());
        for number in 0..39 {
            let reference = map(&format!("m{number:03}"), "").0;
            assert_eq!(objects.take(Change::Deleted { feed: 0, reference }), Effect::Everything);
        }
        assert_eq!((values(&objects).len(), objects.doubts().count()), (1, 1));
        assert_eq!(objects.take(applied(0, map("m039", "1"))), Effect::Everything, "the finding is gone");
        assert_eq!((values(&objects).len(), objects.doubts().count()), (1, 0));
    }

    #[test]
    fn half_of_them_a_few_and_an_unguarded_world_go_at_once() {
        let check = |had: usize, left: usize, guarded: bool, held: bool| {
            let mut objects = Objects::new(1).guarded(guarded);
            objects.take(Change::Listed { feed: 0, objects: many(0, had) });
            objects.take(Change::Listed { feed: 0, objects: many(0, left) });
            assert_eq!(objects.doubts().count() == 1, held, "{left} of {had}, guarded: {guarded}");
            assert_eq!(values(&objects).len(), if held { had } else { left });
        };
        check(20, 0, true, false);
        check(21, 0, true, true);
        check(60, 30, true, false);
        check(60, 29, true, true);
        check(60, 0, false, false);
    }

    #[test]
    fn the_world_is_complete_when_every_feed_was_listed_and_stays_so() {
        let mut objects = Objects::new(2);
        assert!(!objects.is_complete());
        objects.take(applied(0, map("a", "1")));
        objects.take(Change::Listed { feed: 1, objects: Vec::new() });
        assert!(!objects.is_complete(), "an object alone is no list");
        objects.take(Change::Listed { feed: 0, objects: vec![map("a", "1")] });
        assert!(objects.is_complete());
        objects.take(Change::Listed { feed: 0, objects: Vec::new() });
        assert!(objects.is_complete());
    }

    #[test]
    fn a_list_replaces_what_its_feed_had_and_nothing_else() {
        let mut objects = Objects::new(2);
        objects.take(Change::Listed { feed: 0, objects: vec![map("a", "1"), map("b", "1")] });
        objects.take(Change::Listed { feed: 1, objects: vec![map("c", "1")] });
        let effect = objects.take(Change::Listed { feed: 0, objects: vec![map("b", "2"), map("d", "1")] });
        assert_eq!(effect, Effect::Everything);
        assert_eq!(values(&objects), pairs(&[("b", "2"), ("c", "1"), ("d", "1")]));
    }

    #[test]
    fn an_object_in_two_feeds_goes_when_both_lost_it() {
        let mut objects = Objects::new(2);
        objects.take(Change::Listed { feed: 0, objects: vec![map("a", "1")] });
        objects.take(Change::Listed { feed: 1, objects: vec![map("a", "1")] });
        let reference = map("a", "1").0;
        assert_eq!(objects.take(Change::Deleted { feed: 0, reference: reference.clone() }), Effect::Nothing);
        assert_eq!(values(&objects), pairs(&[("a", "1")]));
        assert_eq!(objects.take(Change::Deleted { feed: 1, reference }), Effect::Everything);
        assert_eq!(values(&objects), []);
    }

    #[test]
    fn the_same_object_again_is_nothing_and_keeps_its_address() {
        let mut objects = Objects::new(1);
        assert_eq!(objects.take(applied(0, map("a", "1"))), Effect::Everything);
        let before = Arc::clone(&objects.world().config_maps[&key("a")]);
        assert_eq!(objects.take(applied(0, map("a", "1"))), Effect::Nothing);
        assert_eq!(objects.take(Change::Listed { feed: 0, objects: vec![map("a", "1")] }), Effect::Nothing);
        assert!(Arc::ptr_eq(&before, &objects.world().config_maps[&key("a")]));
    }

    #[test]
    fn slices_touch_endpoints_only() {
        let mut objects = Objects::new(1);
        assert_eq!(objects.take(applied(0, slice("a", "s"))), Effect::Endpoints);
        assert_eq!(objects.take(applied(0, slice("a", "s"))), Effect::Nothing);
        assert_eq!(objects.take(applied(0, slice("a", "t"))), Effect::Endpoints);
        let reference = slice("a", "t").0;
        assert_eq!(
            objects.take(Change::Deleted { feed: 0, reference: reference.clone() }),
            Effect::Endpoints
        );
        assert_eq!(objects.take(Change::Deleted { feed: 0, reference }), Effect::Nothing);
    }

    #[test]
    fn what_cannot_be_read_stays_as_it_was_and_is_told() {
        let mut objects = Objects::new(1);
        objects.take(applied(0, map("a", "1")));
        assert_eq!(objects.take(applied(0, broken("a"))), Effect::Everything);
        assert_eq!(values(&objects), pairs(&[("a", "1")]));
        assert_eq!(objects.diagnostics().len(), 1);
        assert_eq!(objects.take(applied(0, broken("a"))), Effect::Nothing);
        assert_eq!(objects.take(applied(0, map("a", "1"))), Effect::Everything, "the finding is gone");
        assert_eq!(objects.diagnostics(), []);
        objects.take(Change::Listed { feed: 0, objects: vec![broken("b")] });
        assert_eq!((values(&objects).len(), objects.diagnostics().len()), (0, 1));
        objects.take(Change::Deleted { feed: 0, reference: broken("b").0 });
        assert_eq!(objects.diagnostics(), []);
    }

    #[test]
    fn another_zone_touches_everything_and_the_same_one_nothing() {
        let mut objects = Objects::new(0);
        assert_eq!(objects.take(Change::Zone("a".into())), Effect::Everything);
        assert_eq!(objects.take(Change::Zone("a".into())), Effect::Nothing);
        assert_eq!(&*objects.world().zone, "a");
        assert_eq!(objects.take(Change::Zone("".into())), Effect::Everything);
    }
}
