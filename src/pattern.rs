//! One PCRE-flavoured expression, and ordered sets of them: byte mode, as nginx compiles them.
//!
//! Patterns run on linear-time automata where they can; look-around and back-references run on a backtracking engine
//! with a step limit. `translate` rewrites PCRE text into the dialect of both engines. Route's regex locations,
//! rewrites, aliases, canary patterns and `~` values of the ConfigMap all come here; nobody else compiles expressions.

use std::fmt;
use std::sync::{Arc, OnceLock};

use regex_automata::meta;
use regex_automata::util::captures::Captures as Slots;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use smallvec::SmallVec;

mod set;
mod translate;

pub use set::PatternSet;
pub use translate::{escape, literal_prefix};

use translate::{Translated, translate};

/// Bytes of pattern text above which a pattern is refused.
pub const MAX_TEXT: usize = 2 * 1024;
/// Bytes of input above which a search gives up.
pub const MAX_INPUT: usize = 8 * 1024;
/// Groups inside groups.
const MAX_NEST: usize = 50;
/// Bytes of one compiled pattern.
const MAX_COMPILED: usize = 1024 * 1024;
/// Bytes of all patterns of one automaton (`D.2`).
const MAX_SET: usize = 256 * 1024 * 1024;
/// Steps of the backtracking engine in one search.
const MAX_STEPS: usize = 20_000;

/// Letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Case {
    /// ASCII letters match both cases.
    Insensitive,
    /// To the byte.
    Sensitive,
}

/// What stands before the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Anchor {
    /// Nothing: the match may start anywhere.
    None,
    /// A `^`, as nginx locations have it. It binds to the first alternative only: `/a|/b` finds `/b` anywhere.
    Start,
}

/// Why a pattern does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text breaks the grammar.
    #[error("{0}")]
    Syntax(String),
    /// A construct of PCRE that no engine here knows.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A limit on text, nesting or compiled size.
    #[error("the pattern is too large: {0}")]
    TooLarge(&'static str),
}

/// A search was given up: too many steps or too long an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pattern search went over its limit")]
pub struct StepLimit;

/// A compiled pattern. Equal when text, case and anchor are.
pub struct Pattern {
    text: Box<str>,
    case: Case,
    anchor: Anchor,
    translated: Translated,
    engine: Engine,
    /// For inputs that end in a newline, where `$` has two meanings at once; made on first need.
    newline: OnceLock<Option<Box<fancy_regex::Regex>>>,
    names: Arc<[Option<Box<str>>]>,
}

enum Engine {
    Linear(meta::Regex),
    Backtrack(Box<fancy_regex::Regex>),
}

/// Groups of a match.
#[derive(Debug, Clone)]
pub struct Captures<'h> {
    haystack: &'h [u8],
    spans: SmallVec<[Option<(usize, usize)>; 10]>,
    names: Arc<[Option<Box<str>>]>,
}

impl Pattern {
    /// Compiles PCRE text.
    ///
    /// # Errors
    /// [`PatternError`] for broken grammar, constructs that are not supported, and limits.
    pub fn compile(text: &str, case: Case, anchor: Anchor) -> Result<Self, PatternError> {
        if text.len() > MAX_TEXT {
            return Err(PatternError::TooLarge("more than 2048 bytes of text"));
        }
        let whole = match anchor {
            Anchor::None => text.to_owned(),
            Anchor::Start => format!("^{text}"),
        };
        let translated = translate(whole.as_bytes(), MAX_NEST)?;
        let engine = if translated.backtracks {
            Engine::Backtrack(Box::new(backtracking(&translated.exact, case)?))
        } else {
            Engine::Linear(linear(&[translated.linear.as_str()], case)?)
        };
        let names = match &engine {
            Engine::Linear(regex) => regex
                .group_info()
                .pattern_names(regex_automata::PatternID::ZERO)
                .map(|name| name.map(Into::into))
                .collect(),
            Engine::Backtrack(regex) => regex.capture_names().map(|name| name.map(Into::into)).collect(),
        };
        Ok(Self { text: text.into(), case, anchor, translated, engine, newline: OnceLock::new(), names })
    }

    /// The text it was made from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when searches take linear time for any input.
    pub fn is_linear(&self) -> bool {
        matches!(self.engine, Engine::Linear(_))
    }

    /// True when a group is called `name`.
    pub fn has_group(&self, name: &str) -> bool {
        self.names.iter().any(|group| group.as_deref() == Some(name))
    }

    /// Names of its groups.
    pub fn group_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(Option::as_deref)
    }

    /// Finds the first match with its groups.
    ///
    /// # Errors
    /// [`StepLimit`] when the search went over its bounds.
    pub fn find<'h>(&self, input: &'h [u8]) -> Result<Option<Captures<'h>>, StepLimit> {
        let spans = match self.engine_for(input)? {
            Active::Linear(regex) => {
                let mut slots: Slots = regex.create_captures();
                regex.captures(input, &mut slots);
                if !slots.is_match() {
                    return Ok(None);
                }
                (0..slots.group_len())
                    .map(|i| slots.get_group(i).map(|span| (span.start, span.end)))
                    .collect()
            }
            Active::Backtrack(regex) => {
                let Some(groups) = regex.captures(input).map_err(|_| StepLimit)? else { return Ok(None) };
                (0..groups.len()).map(|i| groups.get(i).map(|group| (group.start(), group.end()))).collect()
            }
        };
        Ok(Some(Captures { haystack: input, spans, names: Arc::clone(&self.names) }))
    }

    /// True when there is a match.
    ///
    /// # Errors
    /// [`StepLimit`] when the search went over its bounds.
    pub fn is_match(&self, input: &[u8]) -> Result<bool, StepLimit> {
        match self.engine_for(input)? {
            Active::Linear(regex) => Ok(regex.is_match(input)),
            Active::Backtrack(regex) => regex.is_match(input).map_err(|_| StepLimit),
        }
    }

    fn engine_for(&self, input: &[u8]) -> Result<Active<'_>, StepLimit> {
        if input.len() > MAX_INPUT {
            return Err(StepLimit);
        }
        let regex = match &self.engine {
            Engine::Backtrack(regex) => return Ok(Active::Backtrack(regex)),
            Engine::Linear(regex) => regex,
        };
        if !(self.translated.dollar && input.last() == Some(&b'\n')) {
            return Ok(Active::Linear(regex));
        }
        let exact =
            self.newline.get_or_init(|| backtracking(&self.translated.exact, self.case).ok().map(Box::new));
        exact.as_deref().map(Active::Backtrack).ok_or(StepLimit)
    }
}

enum Active<'p> {
    Linear(&'p meta::Regex),
    Backtrack(&'p fancy_regex::Regex),
}

fn syntax_config(case: Case) -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false).case_insensitive(case == Case::Insensitive)
}

/// One automaton over all of `patterns`; an earlier pattern wins over a later one at the same start.
fn linear(patterns: &[&str], case: Case) -> Result<meta::Regex, PatternError> {
    let config = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(MAX_COMPILED.saturating_mul(patterns.len()).min(MAX_SET)))
        .onepass_size_limit(Some(MAX_COMPILED));
    meta::Builder::new().configure(config).syntax(syntax_config(case)).build_many(patterns).map_err(|error| {
        if error.size_limit().is_some() {
            PatternError::TooLarge("more than 1 MiB compiled")
        } else {
            PatternError::Syntax(first_line(
                &error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string),
            ))
        }
    })
}

fn backtracking(pattern: &str, case: Case) -> Result<fancy_regex::Regex, PatternError> {
    fancy_regex::RegexBuilder::new(pattern)
        .bytes_mode(fancy_regex::BytesMode::Ascii)
        .case_insensitive(case == Case::Insensitive)
        .backtrack_limit(MAX_STEPS)
        .delegate_size_limit(MAX_COMPILED)
        .build()
        .map_err(|error| PatternError::Syntax(first_line(&error.to_string())))
}

/// The last line says what is wrong; those before it draw the pattern.
fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("broken grammar");
    line.trim_start_matches("error: ").to_owned()
}

fn anchored(input: &[u8]) -> Input<'_> {
    Input::new(input).anchored(Anchored::Yes)
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        (self.case, self.anchor, &self.text) == (other.case, other.anchor, &other.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?}, {:?}, {:?})", self.text, self.case, self.anchor)
    }
}

impl<'h> Captures<'h> {
    /// Text of a group by number, 0 being the whole match; `None` when it took no part or does not exist.
    pub fn group(&self, number: usize) -> Option<&'h [u8]> {
        let (start, end) = (*self.spans.get(number)?)?;
        self.haystack.get(start..end)
    }

    /// Text of a group by name.
    pub fn name(&self, name: &str) -> Option<&'h [u8]> {
        let number = self.names.iter().position(|group| group.as_deref() == Some(name))?;
        self.group(number)
    }

    /// Where the whole match lies.
    pub fn span(&self) -> (usize, usize) {
        self.spans.first().copied().flatten().unwrap_or((0, 0))
    }
}

#[cfg(test)]
mod tests;
