//! `upstream-hash-by-subset`: the hash chooses one of several fixed groups, chance the endpoint in it.

use std::net::SocketAddr;

use super::chash::Ring;
use crate::upstream::rng::Rng;

/// Endpoints in groups of equal size under names `set1`, `set2`, …; the last group is filled up from the start.
#[derive(Debug)]
pub struct Subsets {
    size: u32,
    ring: Ring<usize>,
    sets: Vec<Vec<SocketAddr>>,
}

impl Subsets {
    /// Groups of `size` (at least 1) over `peers` in their order.
    pub fn new(peers: &[SocketAddr], size: u32) -> Self {
        let width = (size.max(1) as usize).min(peers.len().max(1));
        let count = peers.len().div_ceil(width);
        let mut members = peers.iter().cycle().copied();
        let sets: Vec<Vec<SocketAddr>> = (0..count).map(|_| members.by_ref().take(width).collect()).collect();
        let ring = Ring::new((0..count).collect(), |index| format!("set{}", index.saturating_add(1)));
        Self { size, ring, sets }
    }

    /// The group size asked for.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// A member of the group that `key` hashes to.
    pub fn find(&self, key: &str, rng: &Rng) -> Option<SocketAddr> {
        let set = self.sets.get(self.ring.find(key)?)?;
        set.get(rng.below(set.len())).copied()
    }
}
