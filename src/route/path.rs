//! Path lookup of one server: whole paths, longest prefix, expressions in order. Built once per server, shared
//! between tables. What it must find is written down in `precedence`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::precedence::{Rank, Tier};
use super::{Location, LocationKind};
use crate::pattern::PatternSet;

/// Lookup over the locations of one server.
#[derive(Debug, Default)]
pub struct PathIndex {
    /// One per tier that has locations; nearly always one.
    tiers: SmallVec<[TierIndex; 1]>,
    regex_mode: bool,
    slash_redirects: bool,
}

/// What a path finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// This location takes it.
    Location(usize),
    /// This location would take it with a slash more: 301 (`routing.md` 4.3).
    LacksSlash(usize),
    /// The expression of this location went over its limit, so nobody knows: 500.
    OverLimit(usize),
}

#[derive(Debug)]
struct TierIndex {
    names: Names,
    expressions: Option<Box<Expressions>>,
    /// A path may be that of a location but for a slash at its end.
    may_lack_slash: bool,
}

#[derive(Debug)]
struct Expressions {
    /// Positions of the locations, as numbered in `patterns`.
    positions: Box<[u32]>,
    patterns: PatternSet,
}

/// Paths of exact and prefix locations in order: an [`Entry`] each, then their texts. All lie in one piece: whoever looks
/// among many hosts finds nothing of them in a cache, and what lies apart is waited for apart.
#[derive(Debug)]
struct Names {
    bytes: Box<[u8]>,
    /// Where the texts begin.
    texts_at: usize,
}

/// What is called so. Numbers are short for the same reason; no table has 4 GiB of paths.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// Where its text ends; that of the next one begins there.
    end: u32,
    /// Position of the exact location of this name.
    exact: Option<u32>,
    /// Position of the prefix location.
    prefix: Option<u32>,
    /// The longest other prefix that this name starts with.
    parent: Option<u32>,
}

/// Bytes of an [`Entry`].
const ENTRY: usize = 16;

/// Stands for none.
const NONE: u32 = u32::MAX;

// === impl PathIndex ===

impl PathIndex {
    /// Indexes `locations`. Where two have the same kind, tier and path, the first one counts.
    pub fn new(locations: &[Arc<Location>], regex_mode: bool, slash_redirects: bool) -> Self {
        let tiers = Tier::ALL.iter().filter_map(|tier| TierIndex::new(locations, *tier)).collect();
        Self { tiers, regex_mode, slash_redirects }
    }

    /// What takes a normalised path. `locations` are those the index was made of.
    pub fn find(&self, locations: &[Arc<Location>], path: &[u8]) -> Option<Found> {
        for tier in &self.tiers {
            let names = &tier.names;
            let after = names.after(path);
            let whole = names.whole(after, path);
            if let Some(position) = whole.and_then(|entry| entry.exact) {
                return Some(Found::Location(position as usize));
            }
            // Where a prefix is called `path` itself (of `//` and `/`, say), nginx redirects nobody.
            if self.slash_redirects
                && tier.may_lack_slash
                && whole.is_none()
                && let Some(position) = names.with_slash(after, path)
            {
                return Some(Found::LacksSlash(position as usize));
            }
            let prefix = names.longest(after, path).map(|position| position as usize);
            let expression = match tier.first_expression(path) {
                Ok(found) => found,
                Err(position) => return Some(Found::OverLimit(position)),
            };
            let rank = |position: usize| {
                locations.get(position).map(|location| Rank::unchecked(self.regex_mode, location, position))
            };
            if let Some(rank) = prefix.into_iter().chain(expression).filter_map(rank).min() {
                return Some(Found::Location(rank.position));
            }
        }
        None
    }
}

// === impl TierIndex ===

impl TierIndex {
    fn new(locations: &[Arc<Location>], tier: Tier) -> Option<Self> {
        let mut named: BTreeMap<&str, Entry> = BTreeMap::new();
        let mut positions = Vec::new();
        let mut patterns = Vec::new();
        for (position, location) in (0_u32..).zip(locations).filter(|(_, location)| location.tier == tier) {
            match (location.kind, &location.pattern) {
                (LocationKind::Exact, _) => {
                    _ = named.entry(&location.path).or_default().exact.get_or_insert(position)
                }
                (LocationKind::Prefix, _) => {
                    _ = named.entry(&location.path).or_default().prefix.get_or_insert(position)
                }
                (LocationKind::Regex, Some(pattern)) => {
                    positions.push(position);
                    patterns.push(Arc::clone(pattern));
                }
                // An expression that could not be compiled and takes nothing.
                (LocationKind::Regex, None) => {}
            }
        }
        if named.is_empty() && patterns.is_empty() {
            return None;
        }
        let expressions = (!patterns.is_empty()).then(|| {
            Box::new(Expressions { positions: positions.into(), patterns: PatternSet::new(patterns) })
        });
        Some(Self {
            may_lack_slash: named.keys().any(|path| path.len() > 1 && path.ends_with('/')),
            names: Names::new(named),
            expressions,
        })
    }

    /// Position of the first expression that matches; `Err` with that of the one whose search was given up.
    fn first_expression(&self, path: &[u8]) -> Result<Option<usize>, usize> {
        let Some(expressions) = &self.expressions else { return Ok(None) };
        let position = |found: usize| expressions.positions.get(found).map(|position| *position as usize);
        match expressions.patterns.find(path) {
            Ok(found) => Ok(found.and_then(position)),
            Err((found, _)) => Err(position(found).unwrap_or_default()),
        }
    }
}

// === impl Names ===

impl Names {
    /// `end` and `parent` of the entries are not looked at.
    fn new(named: BTreeMap<&str, Entry>) -> Self {
        let texts_at = named.len() * ENTRY;
        let mut bytes = Vec::with_capacity(texts_at + named.keys().map(|path| path.len()).sum::<usize>());
        let mut texts = Vec::new();
        // Prefixes that the name may start with, each a start of the next.
        let mut open: Vec<(&str, u32)> = Vec::new();
        for (number, (path, entry)) in (0_u32..).zip(named) {
            while open.last().is_some_and(|(above, _)| !path.starts_with(above)) {
                open.pop();
            }
            texts.extend_from_slice(path.as_bytes());
            let end = u32::try_from(texts.len()).unwrap_or(NONE);
            let parent = open.last().map(|(_, number)| *number);
            bytes.extend_from_slice(&Entry { end, parent, ..entry }.to_bytes());
            if entry.prefix.is_some() {
                open.push((path, number));
            }
        }
        bytes.append(&mut texts);
        Self { bytes: bytes.into(), texts_at }
    }

    fn parts(&self) -> (&[[u8; ENTRY]], &[u8]) {
        let (entries, texts) = self.bytes.split_at_checked(self.texts_at).unwrap_or_default();
        (entries.as_chunks().0, texts)
    }

    /// An entry and its name.
    fn get(&self, number: usize) -> Option<(Entry, &[u8])> {
        let (entries, texts) = self.parts();
        let entry = Entry::from_bytes(entries.get(number)?);
        let before = number.checked_sub(1).and_then(|before| entries.get(before));
        let start = before.map_or(0, |before| Entry::from_bytes(before).end);
        Some((entry, texts.get(start as usize..entry.end as usize)?))
    }

    /// Where those begin, from `low` on, for which `is_before` is false; it is false for all that follow one.
    fn partition(&self, mut low: usize, is_before: impl Fn(&[u8]) -> bool) -> usize {
        let mut high = self.parts().0.len();
        while low < high {
            let middle = low.midpoint(high);
            if self.get(middle).is_some_and(|(_, name)| is_before(name)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Number of the first one that sorts after `path`.
    fn after(&self, path: &[u8]) -> usize {
        self.partition(0, |name| name <= path)
    }

    /// The one called `path`.
    fn whole(&self, after: usize, path: &[u8]) -> Option<Entry> {
        let (entry, name) = self.get(after.checked_sub(1)?)?;
        (name == path).then_some(entry)
    }

    /// Position of the location called `path` and a slash; of a prefix and an exact one that which stands first. All
    /// that start with `path` follow it.
    fn with_slash(&self, after: usize, path: &[u8]) -> Option<u32> {
        self.get(after).filter(|(_, next)| next.starts_with(path))?;
        let found = self.partition(after, |name| cmp_with_slash(name, path).is_lt());
        let (entry, _) = self.get(found).filter(|(_, name)| cmp_with_slash(name, path).is_eq())?;
        entry.exact.into_iter().chain(entry.prefix).min()
    }

    /// Position of the longest prefix that `path` starts with: the last one before `after` or one of its parents,
    /// because everything sorted between a prefix of `path` and `path` starts with that prefix.
    fn longest(&self, after: usize, path: &[u8]) -> Option<u32> {
        let mut number = after.checked_sub(1)?;
        loop {
            let (entry, name) = self.get(number)?;
            if let Some(position) = entry.prefix.filter(|_| path.starts_with(name)) {
                return Some(position);
            }
            number = entry.parent? as usize;
        }
    }
}

// === impl Entry ===

impl Entry {
    fn to_bytes(self) -> [u8; ENTRY] {
        let words = [Some(self.end), self.exact, self.prefix, self.parent];
        let packed = words
            .iter()
            .rev()
            .fold(0, |packed: u128, word| (packed << 32) | u128::from(word.unwrap_or(NONE)));
        packed.to_le_bytes()
    }

    fn from_bytes(bytes: &[u8; ENTRY]) -> Self {
        let packed = u128::from_le_bytes(*bytes);
        let word = |number: u32| (packed >> (32 * number)) as u32;
        let some = |number: u32| Some(word(number)).filter(|word| *word != NONE);
        Self { end: word(0), exact: some(1), prefix: some(2), parent: some(3) }
    }
}

/// Compares `name` with `path` and a slash.
fn cmp_with_slash(name: &[u8], path: &[u8]) -> Ordering {
    match name.split_at_checked(path.len()) {
        Some((start, rest)) => start.cmp(path).then_with(|| rest.cmp(b"/")),
        // What it has too little of decides, or its end does.
        None => name.cmp(path),
    }
}
