//! Host lookup: exact names, then alias wildcards, then expressions and Ingress wildcards (`routing.md` 3).
//!
//! Names stand in shards behind `Arc`s, so that a table with one changed host shares all but one shard with the
//! table before it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::Server;
use crate::pattern::Pattern;

/// How a name of a server compares with the host of a request. Order is precedence (`routing.md` 3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameKind {
    /// The whole host.
    Exact,
    /// Alias `*.foo`: any number of labels before `.foo`; the longest wins.
    AliasSuffix,
    /// Alias `foo.*`: any number of labels after `foo.`; the longest wins.
    AliasPrefix,
    /// Alias `~expression` or Ingress host `*.foo` (one label): the first in the order of servers.
    Expression,
}

/// Names to servers.
#[derive(Debug, Clone, Default)]
pub struct HostIndex {
    exact: Names,
    /// Ingress wildcard hosts, without `*.`.
    wildcards: Names,
    aliases: Arc<AliasNames>,
}

/// Aliases that are no plain names.
#[derive(Debug, Default)]
pub struct AliasNames {
    /// `*.foo`, by `foo`.
    pub suffixes: BTreeMap<Arc<str>, Arc<Server>>,
    /// `foo.*`, by `foo`.
    pub prefixes: BTreeMap<Arc<str>, Arc<Server>>,
    /// `~expression` in order of server names.
    pub expressions: Vec<(Arc<Pattern>, Arc<Server>)>,
}

/// How a name compares, its text as a user writes it, its server.
pub type Name<'i> = (NameKind, Cow<'i, str>, &'i Arc<Server>);

/// What became of names from one index to the next.
#[derive(Debug)]
pub struct Renamed<'i> {
    /// Names with the server that they have now.
    pub came: Vec<Name<'i>>,
    /// Names with the server that they had.
    pub left: Vec<Name<'i>>,
}

const SHARDS: usize = 256;
const SHARD_SEED: u64 = 0x6e61_7274_6865_7801;
const MAP_SEED: u64 = 0x6e61_7274_6865_7802;

#[derive(Clone)]
struct Names {
    shards: Box<[Arc<Shard>]>,
}

type Shard = HashMap<Arc<str>, Arc<Server>, FixedState>;

// === impl HostIndex ===

impl HostIndex {
    /// The server of a host (lower case, without port and trailing dot); `None` for the catch-all's.
    pub fn find(&self, host: &str) -> Option<&Arc<Server>> {
        if let Some(server) = self.exact.of(host) {
            return Some(server);
        }
        if !self.aliases.is_empty()
            && let Some(server) = self.aliases.by_suffix(host).or_else(|| self.aliases.by_prefix(host))
        {
            return Some(server);
        }
        let wildcard = self.by_wildcard(host);
        let expression = self.aliases.by_expression(host);
        match (wildcard, expression) {
            // nginx compares expressions in the order of its servers, which are sorted by name.
            (Some(wildcard), Some(expression)) => {
                Some(if wildcard.name <= expression.name { wildcard } else { expression })
            }
            (wildcard, expression) => wildcard.or(expression),
        }
    }

    /// Every name whose pattern takes `host`, in order of precedence, for `explain`.
    pub fn candidates(&self, host: &str) -> Vec<(NameKind, String, &Arc<Server>)> {
        // Names that are equal or none are looked up: of those there are many thousands.
        let exact = self.exact.of(host).map(|server| (NameKind::Exact, host.to_owned(), server));
        let wildcard = self.by_wildcard(host).zip(host.split_once('.'));
        let wildcard =
            wildcard.map(|(server, (_, rest))| (NameKind::Expression, format!("*.{rest}"), server));
        let aliases = self.aliases.names().filter(|(kind, text, _)| self.takes(kind, text, host)).map(owned);
        let mut all: Vec<_> = exact.into_iter().chain(wildcard).chain(aliases).collect();
        all.sort_by(|a, b| {
            let longest = b.1.len().cmp(&a.1.len());
            let order = match a.0 {
                NameKind::Expression => a.2.name.cmp(&b.2.name),
                _ => longest,
            };
            a.0.cmp(&b.0).then(order).then_with(|| (&a.2.name, &a.1).cmp(&(&b.2.name, &b.1)))
        });
        all
    }

    /// Every name in stable order: how it compares, its text as a user writes it, its server.
    pub fn names(&self) -> Vec<(NameKind, String, &Arc<Server>)> {
        let exact = self.exact.iter().map(|(name, server)| (NameKind::Exact, name.to_string(), server));
        let wildcards = self
            .wildcards
            .iter()
            .map(|(suffix, server)| (NameKind::Expression, format!("*.{suffix}"), server));
        let mut all: Vec<_> = exact.chain(wildcards).chain(self.aliases.names().map(owned)).collect();
        all.sort_by(|a, b| (&a.2.name, &a.0, &a.1).cmp(&(&b.2.name, &b.0, &b.1)));
        all
    }

    /// Names that have another server than in `before`, or none there: with the server that they have, and with the one
    /// that they had. What both share costs nothing.
    pub fn since<'i>(&'i self, before: &'i Self) -> Renamed<'i> {
        let (mut came, mut left) = (Vec::new(), Vec::new());
        let exact =
            |(name, server): (&'i Arc<str>, &'i Arc<Server>)| (NameKind::Exact, Cow::from(&**name), server);
        for (now, old) in self.exact.changed(&before.exact) {
            came.extend(unlike(now, old).map(exact));
            left.extend(unlike(old, now).map(exact));
        }
        let wildcard = |(suffix, server): (&'i Arc<str>, &'i Arc<Server>)| {
            (NameKind::Expression, Cow::from(format!("*.{suffix}")), server)
        };
        for (now, old) in self.wildcards.changed(&before.wildcards) {
            came.extend(unlike(now, old).map(wildcard));
            left.extend(unlike(old, now).map(wildcard));
        }
        if !Arc::ptr_eq(&self.aliases, &before.aliases) {
            came.extend(self.aliases.names());
            left.extend(before.aliases.names());
        }
        Renamed { came, left }
    }

    /// Frees it piece by piece, `pause` between them: all at once takes a large one some ten milliseconds.
    pub fn free(self, pause: fn()) {
        for shard in self.exact.shards.into_iter().chain(self.wildcards.shards) {
            drop(shard);
            pause();
        }
    }

    /// Gives a whole name a server.
    pub fn set_exact(&mut self, name: &Arc<str>, server: &Arc<Server>) {
        self.exact.set(name, server);
    }

    /// Forgets a whole name.
    pub fn remove_exact(&mut self, name: &str) {
        self.exact.remove(name);
    }

    /// Gives the Ingress host `*.suffix` a server.
    pub fn set_wildcard(&mut self, suffix: &str, server: &Arc<Server>) {
        self.wildcards.set(&Arc::from(suffix), server);
    }

    /// Forgets the Ingress host `*.suffix`.
    pub fn remove_wildcard(&mut self, suffix: &str) {
        self.wildcards.remove(suffix);
    }

    /// Replaces all aliases that are no plain names.
    pub fn set_aliases(&mut self, aliases: AliasNames) {
        if !(aliases.is_empty() && self.aliases.is_empty()) {
            self.aliases = Arc::new(aliases);
        }
    }

    /// `*.foo` of an Ingress takes exactly one label of letters, digits, `-` and `_` (`routing.md` 3).
    fn by_wildcard(&self, host: &str) -> Option<&Arc<Server>> {
        let (label, rest) = host.split_once('.')?;
        is_label(label).then(|| self.wildcards.of(rest)).flatten()
    }

    fn takes(&self, kind: &NameKind, text: &str, host: &str) -> bool {
        let dotted = |text: Option<&str>| text.is_some_and(|text| host.len() > text.len());
        match kind {
            NameKind::Exact => text == host,
            NameKind::AliasSuffix => {
                text.strip_prefix('*').is_some_and(|end| host.ends_with(end) && dotted(Some(end)))
            }
            NameKind::AliasPrefix => {
                text.strip_suffix('*').is_some_and(|start| host.starts_with(start) && dotted(Some(start)))
            }
            NameKind::Expression => match text.strip_prefix('~') {
                Some(text) => {
                    let mut expressions = self.aliases.expressions.iter();
                    expressions.any(|(pattern, _)| pattern.as_str() == text && takes(pattern, host))
                }
                None => host
                    .split_once('.')
                    .is_some_and(|(label, rest)| is_label(label) && text.strip_prefix("*.") == Some(rest)),
            },
        }
    }
}

/// A search that was given up took nothing.
fn takes(pattern: &Pattern, host: &str) -> bool {
    pattern.is_match(host.as_bytes()).unwrap_or(false)
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn owned((kind, text, server): Name<'_>) -> (NameKind, String, &Arc<Server>) {
    (kind, text.into_owned(), server)
}

/// Names of `one` that have another server in `other`, or none.
fn unlike<'s>(one: &'s Shard, other: &'s Shard) -> impl Iterator<Item = (&'s Arc<str>, &'s Arc<Server>)> {
    one.iter().filter(|(name, server)| !other.get(*name).is_some_and(|other| Arc::ptr_eq(other, server)))
}

// === impl AliasNames ===

impl AliasNames {
    /// All of them, as users write them.
    fn names(&self) -> impl Iterator<Item = Name<'_>> {
        let suffixes = self.suffixes.iter();
        let suffixes = suffixes
            .map(|(suffix, server)| (NameKind::AliasSuffix, Cow::from(format!("*.{suffix}")), server));
        let prefixes = self.prefixes.iter();
        let prefixes = prefixes
            .map(|(prefix, server)| (NameKind::AliasPrefix, Cow::from(format!("{prefix}.*")), server));
        let expressions = self.expressions.iter();
        let expressions = expressions.map(|(pattern, server)| {
            (NameKind::Expression, Cow::from(format!("~{}", pattern.as_str())), server)
        });
        suffixes.chain(prefixes).chain(expressions)
    }

    fn is_empty(&self) -> bool {
        self.suffixes.is_empty() && self.prefixes.is_empty() && self.expressions.is_empty()
    }

    fn by_suffix(&self, host: &str) -> Option<&Arc<Server>> {
        if self.suffixes.is_empty() {
            return None;
        }
        let dots = host.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'.');
        dots.map(|(dot, _)| host.get(dot + 1..)).find_map(|rest| self.suffixes.get(rest?))
    }

    fn by_prefix(&self, host: &str) -> Option<&Arc<Server>> {
        if self.prefixes.is_empty() {
            return None;
        }
        let last = host.len().saturating_sub(1);
        let dots = host.bytes().enumerate().rev().filter(|(at, byte)| *byte == b'.' && *at < last);
        dots.map(|(dot, _)| host.get(..dot)).find_map(|start| self.prefixes.get(start?))
    }

    fn by_expression(&self, host: &str) -> Option<&Arc<Server>> {
        let mut expressions = self.expressions.iter();
        expressions.find_map(|(pattern, server)| takes(pattern, host).then_some(server))
    }
}

// === impl Names ===

impl Names {
    fn shard_number(name: &str) -> usize {
        // The remainder is below SHARDS, so it fits.
        (FixedState::with_seed(SHARD_SEED).hash_one(name) % SHARDS as u64) as usize
    }

    fn of(&self, name: &str) -> Option<&Arc<Server>> {
        self.shards.get(Self::shard_number(name))?.get(name)
    }

    fn set(&mut self, name: &Arc<str>, server: &Arc<Server>) {
        if self.of(name).is_some_and(|old| Arc::ptr_eq(old, server)) {
            return;
        }
        if let Some(shard) = self.shards.get_mut(Self::shard_number(name)) {
            Arc::make_mut(shard).insert(Arc::clone(name), Arc::clone(server));
        }
    }

    fn remove(&mut self, name: &str) {
        if self.of(name).is_some()
            && let Some(shard) = self.shards.get_mut(Self::shard_number(name))
        {
            Arc::make_mut(shard).remove(name);
        }
    }

    /// Shards that are not those of `before`.
    fn changed<'n>(&'n self, before: &'n Self) -> impl Iterator<Item = (&'n Shard, &'n Shard)> {
        let pairs = self.shards.iter().zip(&before.shards);
        pairs.filter(|(now, old)| !Arc::ptr_eq(now, old)).map(|(now, old)| (&**now, &**old))
    }

    /// In no stable order.
    fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Server>)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

impl Default for Names {
    fn default() -> Self {
        let empty = Arc::new(Shard::with_hasher(FixedState::with_seed(MAP_SEED)));
        Self { shards: (0..SHARDS).map(|_| Arc::clone(&empty)).collect() }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Names({})", self.shards.iter().map(|shard| shard.len()).sum::<usize>())
    }
}

#[cfg(test)]
mod tests;
