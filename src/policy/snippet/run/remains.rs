//! What is left of a request's way through snippets once it is over: the variables they set, for its line in the access log.
//! Maps are looked up then, as nginx does, over values that only the end knows.

use super::scene::{Groups, MAX_DEPTH};
use crate::policy::snippet::maps::Maps;
use crate::policy::template::Template;
use crate::variable::Variable;

/// Variables of a request's own, kept beyond its snippets.
#[derive(Debug, Default)]
pub struct Remains {
    pub(super) own: Vec<(Box<str>, Vec<u8>)>,
    pub(super) groups: Groups,
}

/// Shows a variable of the finished request.
pub type Shown<'s> = dyn Fn(&Variable) -> Option<Vec<u8>> + 's;

impl Remains {
    /// The value of `$name`: as it was set, else as its map has it. Empty where nobody set it for this request.
    pub fn value(&self, name: &str, maps: &Maps, shown: &Shown<'_>) -> Vec<u8> {
        Ending { remains: self, maps, shown }.own(name, &self.groups, 0)
    }
}

/// One look at a finished request.
struct Ending<'e> {
    remains: &'e Remains,
    maps: &'e Maps,
    shown: &'e Shown<'e>,
}

impl Ending<'_> {
    fn own(&self, name: &str, groups: &Groups, depth: u8) -> Vec<u8> {
        if let Some(value) = groups.named(name) {
            return value.to_vec();
        }
        if let Some((_, value)) = self.remains.own.iter().find(|(known, _)| **known == *name) {
            return value.clone();
        }
        let Some(map) = self.maps.find(name).filter(|_| depth < MAX_DEPTH) else { return Vec::new() };
        let text = self.fill(&map.source, groups, depth + 1);
        // In a log line nothing depends on it.
        let Ok((template, found)) = map.look(&text) else { return Vec::new() };
        let found = found.map(|(pattern, captures)| Groups::of(&captures, pattern));
        self.fill(template, found.as_ref().unwrap_or(groups), depth + 1)
    }

    fn fill(&self, template: &Template, groups: &Groups, depth: u8) -> Vec<u8> {
        template.fill(|variable| match variable {
            Variable::Own(name) => self.own(name, groups, depth),
            Variable::Group(number) => groups.get(*number).to_vec(),
            variable => (self.shown)(variable).unwrap_or_default(),
        })
    }
}
