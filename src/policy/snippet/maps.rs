//! `map`, `geo` and `split_clients` blocks of `http-snippet`: a variable whose value is looked up by a text, by an address,
//! or by chance that is always the same for the same text. `geo` and `split` are the last two.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::build::{Builder, pattern};
use super::directive::Context;
use super::lex::{Fault, Statement, Word};
use super::names::is_own;
use crate::pattern::{Captures, Case, Pattern, StepLimit};
use crate::policy::template::Template;

mod geo;
mod split;

use geo::Networks;
use split::Shares;

/// Entries of one map.
const MAX_ENTRIES: usize = 10_000;

/// One map.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Name of the variable.
    pub name: Box<str>,
    /// What is looked up.
    pub source: Template,
    /// `volatile`: looked up each time.
    pub volatile: bool,
    entries: Entries,
}

#[derive(Debug, Clone, PartialEq)]
enum Entries {
    Map(Texts),
    Geo(Networks),
    Split(Shares),
}

/// The entries of a `map`.
#[derive(Debug, Clone, PartialEq)]
struct Texts {
    texts: BTreeMap<Box<str>, Template>,
    expressions: Vec<(Arc<Pattern>, Template)>,
    /// `hostnames`: texts may be `*.x`, `x.*` or `.x`.
    hostnames: bool,
    volatile: bool,
    default: Template,
}

/// All of them, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Maps(BTreeMap<Box<str>, Map>);

impl Maps {
    /// Adds one.
    pub fn insert(&mut self, map: Map) {
        self.0.insert(map.name.clone(), map);
    }

    /// The map of a variable.
    pub fn find(&self, name: &str) -> Option<&Map> {
        self.0.get(name)
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The value for a text, and the expression and its groups where one found it.
type Found<'m, 'h> = (&'m Template, Option<(&'m Pattern, Captures<'h>)>);

/// True for a directive that defines a variable by looking it up: the names of its blocks.
pub(super) fn is_table(name: &str) -> bool {
    matches!(name, "geo" | "map" | "split_clients")
}

impl Map {
    /// Reads `map source $name { … }`, `geo [source] $name { … }` or `split_clients source $name { … }`.
    ///
    /// # Errors
    /// [`Fault`] for anything that nginx would refuse, and for `include`.
    pub(super) fn build(statement: &Statement, builder: &mut Builder<'_>) -> Result<Self, Fault> {
        builder.judge(statement, Context::Http)?;
        let client = Word { text: "$remote_addr".to_owned(), quoted: false, at: statement.at };
        let (source, name) = match statement.arguments() {
            [name] => (&client, name),
            [source, name] => (source, name),
            _ => {
                let reason = format!("{} has the wrong number of arguments", statement.name());
                return Err(Fault::new(statement.at, reason));
            }
        };
        let variable = name.text.strip_prefix('$').filter(|name| is_own(name));
        let variable = variable.ok_or_else(|| Fault::new(name.at, format!("{} cannot be set", name.text)))?;
        let source = builder.template(source)?;
        let lines = statement.block.as_deref().unwrap_or_default();
        if lines.len() > MAX_ENTRIES {
            return Err(Fault::new(statement.at, format!("a map has at most {MAX_ENTRIES} entries")));
        }
        let entries = match statement.name() {
            "geo" => Entries::Geo(Networks::read(lines)?),
            "split_clients" => Entries::Split(Shares::read(lines)?),
            _ => Entries::Map(Texts::read(lines, builder)?),
        };
        let volatile = matches!(&entries, Entries::Map(texts) if texts.volatile);
        Ok(Self { name: variable.into(), source, volatile, entries })
    }

    /// The value for a text, and the groups of the expression that found it.
    ///
    /// # Errors
    /// A search went over its limit, so nobody knows what the value is.
    pub fn look<'m, 'h>(&'m self, text: &'h [u8]) -> Result<Found<'m, 'h>, StepLimit> {
        match &self.entries {
            Entries::Map(texts) => texts.look(text),
            Entries::Geo(networks) => Ok((networks.look(text), None)),
            Entries::Split(shares) => Ok((shares.look(text), None)),
        }
    }
}

impl Texts {
    fn read(lines: &[Statement], builder: &Builder<'_>) -> Result<Self, Fault> {
        let mut texts = Self {
            texts: BTreeMap::new(),
            expressions: Vec::new(),
            hostnames: false,
            volatile: false,
            default: Template::plain(""),
        };
        for line in lines {
            texts.entry(line, builder)?;
        }
        Ok(texts)
    }

    fn entry(&mut self, entry: &Statement, builder: &Builder<'_>) -> Result<(), Fault> {
        let (key, value) = match entry.words.as_slice() {
            _ if entry.block.is_some() => return Err(Fault::new(entry.at, "an entry takes no block")),
            [word] if word.text == "hostnames" => {
                self.hostnames = true;
                return Ok(());
            }
            [word] if word.text == "volatile" => {
                self.volatile = true;
                return Ok(());
            }
            [key, value] => (key, value),
            _ => return Err(Fault::new(entry.at, "an entry is a text and a value")),
        };
        let template = builder.template(value)?;
        match (key.quoted, key.text.as_str()) {
            (_, "default") => self.default = template,
            (false, "include") => return Err(Fault::new(key.at, "include is not known: there are no files")),
            (_, text) => match text.strip_prefix('~') {
                Some(rest) => {
                    let (case, text) = match rest.strip_prefix('*') {
                        Some(text) => (Case::Insensitive, text),
                        None => (Case::Sensitive, rest),
                    };
                    let word = Word { text: text.to_owned(), ..key.clone() };
                    self.expressions.push((pattern(&word, case)?, template));
                }
                None => {
                    let text = text.strip_prefix('\\').unwrap_or(text);
                    let known = self.texts.insert(text.to_ascii_lowercase().into(), template);
                    if known.is_some() {
                        return Err(Fault::new(key.at, format!("{text} stands here twice")));
                    }
                }
            },
        }
        Ok(())
    }

    /// Texts come first, then expressions in order, then the default.
    fn look<'m, 'h>(&'m self, text: &'h [u8]) -> Result<Found<'m, 'h>, StepLimit> {
        let key = std::str::from_utf8(text).map(str::to_ascii_lowercase);
        if let Some(found) = key.ok().and_then(|key| self.text(&key)) {
            return Ok((found, None));
        }
        for (pattern, template) in &self.expressions {
            if let Some(captures) = pattern.find(text)? {
                return Ok((template, Some((pattern, captures))));
            }
        }
        Ok((&self.default, None))
    }

    fn text(&self, key: &str) -> Option<&Template> {
        if let Some(found) = self.texts.get(key) {
            return Some(found);
        }
        if !self.hostnames {
            return None;
        }
        // The longest `*.x` (and `.x`, which takes x itself too), then the longest `x.*`.
        if let Some(found) = self.texts.get(format!(".{key}").as_str()) {
            return Some(found);
        }
        let tails = key.match_indices('.').map(|(at, _)| key.get(at..).unwrap_or_default());
        for tail in tails {
            let found = self.texts.get(format!("*{tail}").as_str()).or_else(|| self.texts.get(tail));
            if found.is_some() {
                return found;
            }
        }
        let mut heads: Vec<&str> = key.match_indices('.').filter_map(|(at, _)| key.get(..at)).collect();
        heads.reverse();
        heads.into_iter().find_map(|head| self.texts.get(format!("{head}.*").as_str()))
    }
}
