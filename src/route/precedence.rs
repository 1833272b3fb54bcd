//! Which location takes a path, written as a type: the smallest [`Rank`] wins. This file is the specification; the
//! lookup of `path` must always agree with [`linear`], which tests and `explain` use. No data plane code calls it.

use std::cmp::Reverse;

use super::{Location, LocationKind, Server};

/// Groups of locations that are asked one after the other: a later group is only asked when no location of an
/// earlier one matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Rules for this very host. With nginx's meaning of paths everything is here, the root location included.
    #[default]
    Own,
    /// Rules without a host, which with the Kubernetes meaning apply to every host of their namespace.
    Hostless,
    /// The default backend, with the Kubernetes meaning.
    Default,
}

impl Tier {
    /// All tiers in the order they are asked.
    pub const ALL: [Self; 3] = [Self::Own, Self::Hostless, Self::Default];
}

/// Whether a location means the whole path or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extent {
    /// The path to the last byte.
    Whole,
    /// The start of the path, or wherever an expression matches.
    Part,
}

/// Place of a matching location among all that match; the smallest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// Own rules before hostless ones before the default.
    pub tier: Tier,
    /// `routing.md` 4.2: an exact match beats every prefix.
    pub extent: Extent,
    /// `routing.md` 4.2: the longest prefix wins. In regex mode (4.4) all have the same length, so that only the
    /// position counts.
    pub length: Reverse<usize>,
    /// Position in the server: the order of `routing.md` 4.4.
    pub position: usize,
}

impl Rank {
    /// The rank of the location at `position` for `path`; `None` when it does not match.
    pub fn of(server: &Server, position: usize, path: &[u8]) -> Option<Self> {
        let location = server.locations.get(position)?;
        let matches = match location.kind {
            LocationKind::Exact => location.path.as_bytes() == path,
            LocationKind::Prefix => path.starts_with(location.path.as_bytes()),
            LocationKind::Regex => {
                location.pattern.as_ref().is_some_and(|pattern| pattern.is_match(path).unwrap_or(false))
            }
        };
        matches.then(|| Self::unchecked(server.regex_mode, location, position))
    }

    /// The rank of a location that is known to match.
    pub(super) fn unchecked(regex_mode: bool, location: &Location, position: usize) -> Self {
        Self {
            tier: location.tier,
            extent: match location.kind {
                LocationKind::Exact => Extent::Whole,
                LocationKind::Prefix | LocationKind::Regex => Extent::Part,
            },
            length: Reverse(if regex_mode { 0 } else { location.path.len() }),
            position,
        }
    }
}

/// The location that takes `path`, found by looking at all of them.
pub fn linear(server: &Server, path: &[u8]) -> Option<usize> {
    let ranks = (0..server.locations.len()).filter_map(|position| Rank::of(server, position, path));
    ranks.min().map(|rank| rank.position)
}

/// The location whose missing trailing slash the path has, found by looking at all of them (`routing.md` 4.3).
pub fn linear_slash_redirect(server: &Server, path: &[u8]) -> Option<usize> {
    let matches_whole = |location: &&std::sync::Arc<Location>| {
        location.kind != LocationKind::Regex && location.path.as_bytes() == path
    };
    if !server.slash_redirects || server.locations.iter().any(|location| matches_whole(&location)) {
        return None;
    }
    server.locations.iter().position(|location| {
        location.kind != LocationKind::Regex && location.path.as_bytes().strip_suffix(b"/") == Some(path)
    })
}
