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
    /// Sorted by path.
    exact: Box<[Entry]>,
    /// Sorted by path; `parent` leads to the longest other prefix that the path starts with.
    prefixes: Box<[Prefix]>,
    /// Positions of the expressions, as numbered in `patterns`.
    pattern_positions: Box<[u32]>,
    patterns: Option<PatternSet>,
    /// A path may be that of a location but for a slash at its end.
    may_lack_slash: bool,
}

#[derive(Debug)]
struct Entry {
    path: Arc<str>,
    position: u32,
}

#[derive(Debug)]
struct Prefix {
    entry: Entry,
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
            if let Some(position) = tier.whole(path) {
                return Some(Found::Location(position));
            }
            if self.slash_redirects
                && tier.may_lack_slash
                && let Some(position) = tier.with_slash(path)
            {
                return Some(Found::LacksSlash(position));
            }
            let rank = |position: usize| {
                locations.get(position).map(|location| Rank::unchecked(self.regex_mode, location, position))
            };
            let prefix = tier.longest_prefix(path).and_then(rank);
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
            let entry = Entry { path: Arc::clone(&location.path), position };
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
        let lacks_slash = |entry: &Entry| entry.path.len() > 1 && entry.path.ends_with('/');
        Some(Self {
            may_lack_slash: exact.iter().chain(&prefixes).any(lacks_slash),
            exact: sorted(exact).into_boxed_slice(),
            prefixes: with_parents(sorted(prefixes)),
            pattern_positions: pattern_positions.into_boxed_slice(),
            patterns: (!patterns.is_empty()).then(|| PatternSet::new(patterns)),
        })
    }

    fn whole(&self, path: &[u8]) -> Option<usize> {
        let found = self.exact.binary_search_by(|entry| entry.path.as_bytes().cmp(path)).ok()?;
        self.exact.get(found).map(|entry| entry.position as usize)
    }

    /// The location called `path` and a slash; of a prefix and an exact one that which stands first. None where a
    /// prefix is called `path` itself (of `//` and `/`, say), as in nginx.
    fn with_slash(&self, path: &[u8]) -> Option<usize> {
        let exact = self.exact.binary_search_by(|entry| cmp_with_slash(&entry.path, path)).ok();
        let prefix = self.prefixes.binary_search_by(|prefix| cmp_with_slash(&prefix.entry.path, path)).ok();
        let exact = exact.and_then(|found| self.exact.get(found));
        let prefix = prefix.and_then(|found| self.prefixes.get(found)).map(|prefix| &prefix.entry);
        let found = exact.into_iter().chain(prefix).map(|entry| entry.position as usize).min()?;
        let itself = self.prefixes.binary_search_by(|prefix| prefix.entry.path.as_bytes().cmp(path));
        itself.is_err().then_some(found)
    }

    /// Binary search for the last prefix that sorts before `path`. The longest one that `path` starts with is that
    /// one or one of its parents: everything sorted between a prefix of `path` and `path` starts with that prefix.
    fn longest_prefix(&self, path: &[u8]) -> Option<usize> {
        let after = self.prefixes.partition_point(|prefix| prefix.entry.path.as_bytes() <= path);
        let mut candidate = self.prefixes.get(after.checked_sub(1)?)?;
        while !path.starts_with(candidate.entry.path.as_bytes()) {
            candidate = self.prefixes.get(candidate.parent? as usize)?;
        }
        Some(candidate.entry.position as usize)
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

/// Sorted by path, the first of equal ones kept.
fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| a.path.cmp(&b.path).then(a.position.cmp(&b.position)));
    entries.dedup_by(|later, first| later.path == first.path);
    entries
}

fn with_parents(entries: Vec<Entry>) -> Box<[Prefix]> {
    let mut prefixes: Vec<Prefix> = Vec::with_capacity(entries.len());
    let mut open: Vec<u32> = Vec::new();
    for (number, entry) in (0_u32..).zip(entries) {
        let is_prefix_of = |candidate: u32| {
            prefixes.get(candidate as usize).is_some_and(|above| entry.path.starts_with(&*above.entry.path))
        };
        while open.last().is_some_and(|last| !is_prefix_of(*last)) {
            open.pop();
        }
        let parent = open.last().copied();
        open.push(number);
        prefixes.push(Prefix { entry, parent });
    }
    prefixes.into_boxed_slice()
}

/// Compares `name` with `path` and a slash.
fn cmp_with_slash(name: &str, path: &[u8]) -> Ordering {
    match name.as_bytes().split_at_checked(path.len()) {
        Some((start, rest)) => start.cmp(path).then_with(|| rest.cmp(b"/")),
        // What it has too little of decides, or its end does.
        None => name.as_bytes().cmp(path),
    }
}
