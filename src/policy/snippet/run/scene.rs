//! What the templates of snippets are expanded over: variables of one's own, maps, groups, the path as rewritten, the
//! answer. `run` makes one for each text.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::{Run, Seen, Stage};
use crate::pattern::{Captures, Pattern};
use crate::policy::rewrite::url::quote;
use crate::policy::snippet::maps::Map;
use crate::policy::snippet::names::CONNECTION_UPGRADE;
use crate::policy::template::{Overlay, argument};
use crate::variable::{Fixed, Variable};

/// Values of maps that one request keeps, and bytes of each; more are looked up again.
const MAX_KEPT: usize = 64;
const MAX_KEPT_BYTES: usize = 4096;
/// Maps that look at maps.
pub(super) const MAX_DEPTH: u8 = 8;

/// Groups of the last expression that matched.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups {
    numbered: SmallVec<[Option<Box<[u8]>>; 4]>,
    /// Those of an entry of a map, which count in its value.
    named: Vec<(Box<str>, Box<[u8]>)>,
}

/// What templates are expanded over.
pub(super) struct Scene<'s> {
    pub(super) run: &'s Run<'s>,
    pub(super) stage: Stage<'s>,
    pub(super) groups: &'s Groups,
    /// Groups are percent-encoded: they go into a URL.
    pub(super) quoted: bool,
    pub(super) answer: Option<Seen<'s>>,
    pub(super) depth: u8,
}

impl Groups {
    pub(super) fn of(captures: &Captures<'_>, pattern: &Pattern) -> Self {
        let named = pattern.group_names().map(|name| {
            let value = captures.name(name).unwrap_or_default();
            (Box::from(name), Box::from(value))
        });
        Self { named: named.collect(), ..Self::numbered(captures) }
    }

    /// Those without names: the names are kept elsewhere.
    pub(super) fn numbered(captures: &Captures<'_>) -> Self {
        let numbered = (0..10).map(|number| captures.group(number).map(Into::into)).collect();
        Self { numbered, named: Vec::new() }
    }

    pub(super) fn get(&self, number: u8) -> &[u8] {
        self.numbered.get(usize::from(number)).and_then(Option::as_deref).unwrap_or_default()
    }

    pub(super) fn named(&self, name: &str) -> Option<&[u8]> {
        self.named.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }
}

impl Overlay for Scene<'_> {
    fn value(&self, variable: &Variable) -> Option<Cow<'_, [u8]>> {
        let view = self.stage.facts.view;
        let field = |name: &str| {
            let value = self.answer.and_then(|answer| answer.fields.get(name)).unwrap_or_default();
            Some(Cow::Borrowed(value))
        };
        match variable {
            Variable::Own(name) => Some(self.own(name)),
            Variable::Group(number) if self.quoted => Some(Cow::Owned(quote(self.groups.get(*number)))),
            Variable::Group(number) => Some(Cow::Borrowed(self.groups.get(*number))),
            Variable::Fixed(Fixed::Uri) => self.run.path.as_ref().map(|path| Cow::Borrowed(path.as_bytes())),
            Variable::Fixed(Fixed::Args) => self.run.args.as_deref().map(Cow::Borrowed),
            Variable::Fixed(Fixed::IsArgs) => {
                let some = self.run.query(view).is_some_and(|query| !query.is_empty());
                Some(Cow::Borrowed(if some { b"?" } else { b"" }))
            }
            Variable::Argument(name) => {
                self.run.args.as_deref().map(|args| Cow::Borrowed(argument(args, name)))
            }
            Variable::Fixed(Fixed::UpstreamStatus) if self.answer.is_none_or(|answer| !answer.by_service) => {
                None
            }
            Variable::Fixed(Fixed::Status) if self.answer.is_none() => None,
            Variable::Fixed(Fixed::Status | Fixed::UpstreamStatus) => {
                let status = self.answer.map(|answer| answer.status.to_string()).unwrap_or_default();
                Some(Cow::Owned(status.into_bytes()))
            }
            Variable::RequestField(name) if **name == *"upgrade" => {
                self.upgrade().map(|protocol| Cow::Borrowed(protocol.as_bytes()))
            }
            Variable::ResponseField(name) | Variable::UpstreamField(name) => field(name),
            _ => None,
        }
    }
}

impl Scene<'_> {
    /// What the request asks to be upgraded to.
    fn upgrade(&self) -> Option<&str> {
        self.run.rest.and_then(|rest| rest.upgrade())
    }

    fn own(&self, name: &str) -> Cow<'_, [u8]> {
        if let Some(value) = self.groups.named(name) {
            return Cow::Owned(value.to_vec());
        }
        if let Some((_, value)) = self.run.late.borrow().iter().find(|(known, _)| **known == *name) {
            return Cow::Owned(value.clone());
        }
        if let Some((_, value)) = self.run.own.iter().find(|(known, _)| **known == *name) {
            return Cow::Borrowed(value);
        }
        let Some(map) = self.stage.maps.find(name).filter(|_| self.depth < MAX_DEPTH) else {
            let upgrades = || self.upgrade().is_some();
            return Cow::Borrowed(if name == CONNECTION_UPGRADE && upgrades() { b"upgrade" } else { b"" });
        };
        let inner = Scene { depth: self.depth + 1, quoted: false, ..*self };
        let text = map.source.bytes(&self.stage.facts, &inner);
        let Ok((template, captures)) = map.look(&text) else {
            self.run.over.set(true);
            return Cow::Borrowed(&[]);
        };
        let Some((pattern, captures)) = captures else {
            let value = template.bytes(&self.stage.facts, &inner);
            self.keep(map, &value);
            return Cow::Owned(value);
        };
        let groups = Groups::of(&captures, pattern);
        let found = Scene {
            run: self.run,
            stage: self.stage,
            groups: &groups,
            quoted: false,
            answer: self.answer,
            depth: self.depth + 1,
        };
        let value = template.bytes(&self.stage.facts, &found);
        self.keep(map, &value);
        Cow::Owned(value)
    }

    /// As nginx, what a map gave once it gives to the end of the request, unless it is `volatile`.
    fn keep(&self, map: &Map, value: &[u8]) {
        let mut late = self.run.late.borrow_mut();
        let room = late.len() < MAX_KEPT && value.len() <= MAX_KEPT_BYTES;
        if !map.volatile && room && late.iter().all(|(known, _)| *known != map.name) {
            late.push((map.name.clone(), value.to_vec()));
        }
    }
}
