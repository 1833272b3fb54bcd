//! What the templates of snippets are expanded over: variables of one's own, maps, groups, the path as rewritten, the
//! answer. `run` makes one for each text.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::url::quote;
use super::{Run, Seen, Stage};
use crate::pattern::Captures;
use crate::policy::template::{Overlay, argument};
use crate::variable::{Fixed, Variable};

/// Maps that look at maps.
const MAX_DEPTH: u8 = 8;

/// Groups of the last expression that matched.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups(SmallVec<[Option<Box<[u8]>>; 4]>);

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
    pub(super) fn of(captures: &Captures<'_>) -> Self {
        Self((0..10).map(|number| captures.group(number).map(Into::into)).collect())
    }

    fn get(&self, number: u8) -> &[u8] {
        self.0.get(usize::from(number)).and_then(Option::as_deref).unwrap_or_default()
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
            Variable::Fixed(Fixed::Status | Fixed::UpstreamStatus) => {
                let status = self.answer.map(|answer| answer.status.to_string()).unwrap_or_default();
                Some(Cow::Owned(status.into_bytes()))
            }
            Variable::ResponseField(name) | Variable::UpstreamField(name) => field(name),
            _ => None,
        }
    }
}

impl Scene<'_> {
    fn own(&self, name: &str) -> Cow<'_, [u8]> {
        let authenticated = self.run.authenticated.borrow();
        if let Some((_, value)) = authenticated.iter().find(|(known, _)| **known == *name) {
            return Cow::Owned(value.clone());
        }
        if let Some((_, value)) = self.run.own.iter().find(|(known, _)| **known == *name) {
            return Cow::Borrowed(value);
        }
        let Some(map) = self.stage.maps.find(name).filter(|_| self.depth < MAX_DEPTH) else {
            return Cow::Borrowed(&[]);
        };
        let inner = Scene { depth: self.depth + 1, quoted: false, ..*self };
        let text = map.source.bytes(&self.stage.facts, &inner);
        let (template, captures) = map.look(&text);
        let Some(captures) = captures else { return Cow::Owned(template.bytes(&self.stage.facts, &inner)) };
        let groups = Groups::of(&captures);
        let found = Scene {
            run: self.run,
            stage: self.stage,
            groups: &groups,
            quoted: false,
            answer: self.answer,
            depth: self.depth + 1,
        };
        Cow::Owned(template.bytes(&self.stage.facts, &found))
    }
}
