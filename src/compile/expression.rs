//! Compiled expressions, shared between locations: many hosts have the same paths.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::pattern::{self, Anchor, Case, Pattern};

/// Patterns by text. Those that no location holds any more are forgotten now and then.
#[derive(Debug, Default)]
pub(super) struct Expressions {
    known: BTreeMap<(Arc<str>, bool), Weak<Pattern>>,
    /// Size at which the next clearing out is due.
    limit: usize,
}

/// The expression of a location in regex mode.
pub(super) struct Expression {
    /// What takes requests; `None` takes nothing.
    pub(super) pattern: Option<Arc<Pattern>>,
    /// Why the text does not compile: the location must answer 503.
    pub(super) fault: Option<String>,
}

impl Expressions {
    /// The pattern of a text.
    pub(super) fn get(&mut self, text: &Arc<str>, anchor: Anchor) -> Result<Arc<Pattern>, String> {
        let key = (Arc::clone(text), anchor == Anchor::Start);
        if let Some(pattern) = self.known.get(&key).and_then(Weak::upgrade) {
            return Ok(pattern);
        }
        let pattern = Pattern::compile(text, Case::Insensitive, anchor).map_err(|error| error.to_string())?;
        let pattern = Arc::new(pattern);
        self.known.insert(key, Arc::downgrade(&pattern));
        self.clear_out();
        Ok(pattern)
    }

    /// The pattern of a location. A text that does not compile keeps its place with its literal start (`B-12`);
    /// where that is only `/` it takes nothing, unless it protects something.
    pub(super) fn location(&mut self, text: &Arc<str>, protective: bool) -> Expression {
        let fault = match self.get(text, Anchor::Start) {
            Ok(pattern) => return Expression { pattern: Some(pattern), fault: None },
            Err(fault) => fault,
        };
        let start = pattern::literal_prefix(text);
        let pattern = if start.len() > 1 || protective {
            self.get(&Arc::from(pattern::escape(&start)), Anchor::Start).ok()
        } else {
            None
        };
        Expression { pattern, fault: Some(fault) }
    }

    fn clear_out(&mut self) {
        if self.known.len() > self.limit.max(1024) {
            self.known.retain(|_, pattern| pattern.strong_count() > 0);
            self.limit = self.known.len() * 2;
        }
    }
}
