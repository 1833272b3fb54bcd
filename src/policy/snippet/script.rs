//! A snippet as typed policy: what happens in order, what is declared, and locations of its own.

use std::sync::Arc;

use http::StatusCode;

use super::settings::Settings;
use crate::pattern::Pattern;
use crate::policy::template::Template;

/// One block: a server, a location, or what stands at their level.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Script {
    /// Rewrite directives, in order.
    pub steps: Vec<Step>,
    /// The others.
    pub settings: Arc<Settings>,
    /// Locations inside it.
    pub locations: Vec<Nested>,
}

/// One rewrite directive.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// `set $name value`.
    Set(Box<str>, Template),
    /// `set $args value`.
    SetArgs(Template),
    /// `if`.
    If(Condition, Branch),
    /// `return`.
    Return(Return),
    /// `rewrite`.
    Rewrite(Rewrite),
    /// `break`.
    Break,
}

/// The block of an `if`.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// Rewrite directives.
    pub steps: Vec<Step>,
    /// The others; they count over those around the block.
    pub settings: Arc<Settings>,
}

/// What an `if` asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// A variable that is neither empty nor `0`.
    Set(Template),
    /// `=` (true) or `!=`.
    Equal(Template, Template, bool),
    /// A test for a file, of which there are none: `-f` and the like (false), `!-f` and the like.
    Fixed(bool),
    /// `~`, `~*` (true) or `!~`, `!~*`.
    Match(Template, Arc<Pattern>, bool),
}

/// `return`.
#[derive(Debug, Clone, PartialEq)]
pub struct Return {
    /// Status.
    pub status: StatusCode,
    /// A URL for statuses of redirects, else the body.
    pub text: Option<Template>,
}

/// `rewrite`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rewrite {
    /// What the path must match.
    pub pattern: Arc<Pattern>,
    /// New path, or URL.
    pub path: Template,
    /// New query, before which `?` stood.
    pub query: Option<Template>,
    /// The old query is appended (no final `?`).
    pub keep_query: bool,
    /// What follows.
    pub then: Then,
}

/// What follows a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next directive; the location is chosen anew at the end.
    Next,
    /// `last`: the location is chosen anew at once.
    Last,
    /// `break`: no more rewrite directives; the location stays.
    Break,
    /// `redirect`, `permanent`, or a URL: an answer.
    Redirect(StatusCode),
}

/// A location of a snippet. It proxies nothing: it answers by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Nested {
    /// Which paths.
    pub matcher: Matcher,
    /// Its block.
    pub script: Arc<Script>,
}

/// Which paths a location takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Matcher {
    /// `=`.
    Exact(Box<str>),
    /// A start of the path; `^~` (true) beats expressions.
    Prefix(Box<str>, bool),
    /// `~`, `~*`.
    Expression(Arc<Pattern>),
    /// `@name`, without the sign: only error pages lead there.
    Named(Box<str>),
}

/// How the location of an Ingress compares, as far as those of a snippet care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rival {
    /// None takes the path.
    Nothing,
    /// An exact one.
    Exact,
    /// A start of this many bytes.
    Prefix(usize),
    /// An expression. Those of snippets stand before it.
    Expression,
}

impl Script {
    /// True when it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.locations.is_empty() && *self.settings == Settings::default()
    }

    /// The location called `@name`.
    pub fn named(&self, name: &str) -> Option<&Nested> {
        self.locations.iter().find(|nested| matches!(&nested.matcher, Matcher::Named(own) if **own == *name))
    }

    /// The location that takes `path` from the one of the Ingress, in nginx's order: exact, the longest `^~`, the first
    /// expression, the longest start. `Err` when the search for an expression went over its limit.
    ///
    /// # Errors
    /// The search went over its limit.
    pub fn location(&self, path: &[u8], rival: Rival) -> Result<Option<&Nested>, crate::pattern::StepLimit> {
        let exact =
            |nested: &&Nested| matches!(&nested.matcher, Matcher::Exact(text) if text.as_bytes() == path);
        if let Some(found) = self.locations.iter().find(exact) {
            return Ok(Some(found));
        }
        if rival == Rival::Exact {
            return Ok(None);
        }
        let longest = self
            .locations
            .iter()
            .filter_map(|nested| match &nested.matcher {
                Matcher::Prefix(text, firm) if path.starts_with(text.as_bytes()) => {
                    Some((text.len(), *firm, nested))
                }
                _ => None,
            })
            .max_by_key(|(length, _, _)| *length)
            .filter(|(length, _, _)| !matches!(rival, Rival::Prefix(other) if other >= *length));
        if let Some((_, true, nested)) = longest {
            return Ok(Some(nested));
        }
        for nested in &self.locations {
            if let Matcher::Expression(pattern) = &nested.matcher
                && pattern.is_match(path)?
            {
                return Ok(Some(nested));
            }
        }
        Ok(match rival {
            Rival::Expression => None,
            _ => longest.map(|(_, _, nested)| nested),
        })
    }
}
