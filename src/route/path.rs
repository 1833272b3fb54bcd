//! Path lookup of one server: whole paths, longest prefix, expressions in order. Built once per server, shared
//! between tables. What it must find is written down in `precedence`.

use std::cmp::Ordering;
use std::sync::Arc;

use super::precedence::{Rank, Tier};
use super::{Location, LocationKind};
use crate::pattern::PatternSet;

/// Lookup over the locations of one server.
#[derive(Debug, Default)]
pub struct PathIndex {
    /// One per tier that has locations; nearly always one.
    tiers: Box<[TierIndex]>,
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
    exact: Paths,
    prefixes: Paths,
    /// Positions of the expressions, as numbered in `patterns`.
    pattern_positions: Box<[u32]>,
    patterns: Option<PatternSet>,
    /// A path may be that of a location but for a slash at its end.
    may_lack_slash: bool,
}

/// Paths in order. Their texts lie side by side: whoever looks among many hosts finds none of them in a cache.
#[derive(Debug)]
struct Paths {
    entries: Box<[Entry]>,
    text: Box<[u8]>,
}

/// Numbers are short for the same reason; no table has 4 GiB of paths.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    end: u32,
    position: u32,
    /// The longest other entry that this path starts with.
    parent: Option<u32>,
}

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
            let exact = tier.exact.before(path);
            if let Some(entry) = tier.exact.whole(exact, path) {
                return Some(Found::Location(entry.position as usize));
            }
            let prefixes = tier.prefixes.before(path);
            if self.slash_redirects
                && tier.may_lack_slash
                && let Some(position) = tier.with_slash(path, exact, prefixes)
            {
                return Some(Found::LacksSlash(position));
            }
            let rank = |position: usize| {
                locations.get(position).map(|location| Rank::unchecked(self.regex_mode, location, position))
            };
            let prefix =
                tier.prefixes.longest(prefixes, path).and_then(|entry| rank(entry.position as usize));
            let expression = match tier.first_pattern(path) {
                Ok(found) => found.and_then(rank),
                Err(position) => return Some(Found::OverLimit(position)),
            };
            if let Some(rank) = prefix.into_iter().chain(expression).min() {
                return Some(Found::Location(rank.position));
            }
        }
        None
    }
}

// === impl TierIndex ===

impl TierIndex {
    fn new(locations: &[Arc<Location>], tier: Tier) -> Option<Self> {
        let mut exact = Vec::new();
        let mut prefixes = Vec::new();
        let mut pattern_positions = Vec::new();
        let mut patterns = Vec::new();
        for (position, location) in (0_u32..).zip(locations).filter(|(_, location)| location.tier == tier) {
            let entry = (&*location.path, position);
            match (location.kind, &location.pattern) {
                (LocationKind::Exact, _) => exact.push(entry),
                (LocationKind::Prefix, _) => prefixes.push(entry),
                (LocationKind::Regex, Some(pattern)) => {
                    pattern_positions.push(position);
                    patterns.push(Arc::clone(pattern));
                }
                // An expression that could not be compiled and takes nothing.
                (LocationKind::Regex, None) => {}
            }
        }
        if exact.is_empty() && prefixes.is_empty() && patterns.is_empty() {
            return None;
        }
        let lacks_slash = |(path, _): &(&str, u32)| path.len() > 1 && path.ends_with('/');
        Some(Self {
            may_lack_slash: exact.iter().chain(&prefixes).any(lacks_slash),
            exact: Paths::new(exact),
            prefixes: Paths::new(prefixes),
            pattern_positions: pattern_positions.into_boxed_slice(),
            patterns: (!patterns.is_empty()).then(|| PatternSet::new(patterns)),
        })
    }

    /// The location called `path` and a slash; of a prefix and an exact one that which stands first. None where a
    /// prefix is called `path` itself (of `//` and `/`, say), as in nginx. `exact` and `prefixes`: [`Paths::before`].
    fn with_slash(&self, path: &[u8], exact: usize, prefixes: usize) -> Option<usize> {
        let found = [self.exact.with_slash(exact, path), self.prefixes.with_slash(prefixes, path)];
        let first = found.into_iter().flatten().map(|entry| entry.position as usize).min()?;
        self.prefixes.whole(prefixes, path).is_none().then_some(first)
    }

    /// The first expression that matches; `Err` with the one whose search was given up.
    fn first_pattern(&self, path: &[u8]) -> Result<Option<usize>, usize> {
        let Some(patterns) = &self.patterns else { return Ok(None) };
        let position = |found: usize| self.pattern_positions.get(found).map(|position| *position as usize);
        match patterns.find(path) {
            Ok(found) => Ok(found.and_then(position)),
            Err((found, _)) => Err(position(found).unwrap_or_default()),
        }
    }
}

// === impl Paths ===

impl Paths {
    /// Sorted by path, the first of equal ones kept.
    fn new(mut named: Vec<(&str, u32)>) -> Self {
        named.sort_unstable();
        named.dedup_by_key(|(path, _)| *path);
        let mut entries: Vec<Entry> = Vec::with_capacity(named.len());
        let mut text = Vec::with_capacity(named.iter().map(|(path, _)| path.len()).sum());
        let mut open: Vec<u32> = Vec::new();
        let short = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        for (number, (path, position)) in (0_u32..).zip(&named) {
            let starts =
                |above: u32| named.get(above as usize).is_some_and(|(above, _)| path.starts_with(above));
            while open.last().is_some_and(|last| !starts(*last)) {
                open.pop();
            }
            let start = short(text.len());
            text.extend_from_slice(path.as_bytes());
            entries.push(Entry {
                start,
                end: short(text.len()),
                position: *position,
                parent: open.last().copied(),
            });
            open.push(number);
        }
        Self { entries: entries.into(), text: text.into() }
    }

    fn path(&self, entry: &Entry) -> &[u8] {
        self.text.get(entry.start as usize..entry.end as usize).unwrap_or_default()
    }

    /// How many sort before `path` or are called so.
    fn before(&self, path: &[u8]) -> usize {
        self.entries.partition_point(|entry| self.path(entry) <= path)
    }

    /// The last of those `before`.
    fn last(&self, before: usize) -> Option<&Entry> {
        self.entries.get(before.checked_sub(1)?)
    }

    /// The one called `path`.
    fn whole(&self, before: usize, path: &[u8]) -> Option<&Entry> {
        self.last(before).filter(|entry| self.path(entry) == path)
    }

    /// The one called `path` and a slash. All that start with `path` follow those `before`.
    fn with_slash(&self, before: usize, path: &[u8]) -> Option<&Entry> {
        let after = self.entries.get(before..)?;
        after.first().filter(|next| self.path(next).starts_with(path))?;
        let found = after.binary_search_by(|entry| cmp_with_slash(self.path(entry), path)).ok()?;
        after.get(found)
    }

    /// The longest one that `path` starts with: the last one `before` or one of its parents, because everything sorted
    /// between a prefix of `path` and `path` starts with that prefix.
    fn longest(&self, before: usize, path: &[u8]) -> Option<&Entry> {
        let mut candidate = self.last(before)?;
        while !path.starts_with(self.path(candidate)) {
            candidate = self.entries.get(candidate.parent? as usize)?;
        }
        Some(candidate)
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
