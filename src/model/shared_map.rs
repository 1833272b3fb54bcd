//! An ordered map whose copies share what they have in common: a copy takes a pointer for every few dozen entries, a
//! change of one copies the piece around it, and comparing two costs what is different. That is what makes following a
//! world of ten thousand objects cheap. Not for look-ups of the data plane: a table is made for those.
//!
//! (The persistent maps of `imbl` and `rpds` come under a licence that this project does not take in.)

use std::borrow::Borrow;
use std::fmt;
use std::iter::FlatMap;
use std::ops::Index;
use std::slice;
use std::sync::Arc;

/// Most entries of a piece: what a change copies.
const MOST: usize = 64;
/// Neighbours that together have fewer become one, so that many removals leave no long row of nearly empty pieces.
const FEW: usize = MOST / 2;

/// An ordered map, cheap to copy and to compare with its copies.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    /// None is empty; keys ascend within each and from one to the next.
    pieces: Vec<Arc<Piece<K, V>>>,
    len: usize,
}

type Piece<K, V> = Vec<(K, V)>;

/// Entries in the order of their keys.
pub type Iter<'m, K, V> = FlatMap<
    slice::Iter<'m, Arc<Piece<K, V>>>,
    std::iter::Map<slice::Iter<'m, (K, V)>, fn(&'m (K, V)) -> (&'m K, &'m V)>,
    fn(&'m Arc<Piece<K, V>>) -> std::iter::Map<slice::Iter<'m, (K, V)>, fn(&'m (K, V)) -> (&'m K, &'m V)>,
>;

// === impl SharedMap ===

impl<K, V> SharedMap<K, V> {
    /// Nothing.
    pub const fn new() -> Self {
        Self { pieces: Vec::new(), len: 0 }
    }

    /// Number of entries.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True without entries.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries in the order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.pieces.iter().flat_map(|piece| piece.iter().map(|(key, value)| (key, value)))
    }

    /// Keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// Values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let piece = self.pieces.get(self.place(key)?)?;
        let at = piece.binary_search_by(|(known, _)| known.borrow().cmp(key)).ok()?;
        piece.get(at).map(|(_, value)| value)
    }

    /// True when there is a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The piece that has a key or is to have it: the last one that begins at or before it, else the first.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
    {
        let begins_after =
            |piece: &Arc<Piece<K, V>>| piece.first().is_some_and(|(first, _)| first.borrow() > key);
        let after = self.pieces.partition_point(|piece| !begins_after(piece));
        (!self.pieces.is_empty()).then(|| after.saturating_sub(1))
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// Gives a key a value; the one before it is given back.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some((place, piece)) =
            self.place(&key).and_then(|place| Some((place, self.pieces.get_mut(place)?)))
        else {
            self.pieces.push(Arc::new(vec![(key, value)]));
            self.len += 1;
            return None;
        };
        let found = piece.binary_search_by(|(known, _)| known.cmp(&key));
        let piece = Arc::make_mut(piece);
        let at = match found {
            Ok(at) => return piece.get_mut(at).map(|(_, old)| std::mem::replace(old, value)),
            Err(at) => at,
        };
        self.len += 1;
        if piece.len() < MOST {
            piece.insert(at, (key, value));
            return None;
        }
        // Keys that come in order fill one piece after the other.
        let mut rest = piece.split_off(if at == MOST { MOST } else { MOST / 2 });
        match at.checked_sub(piece.len()) {
            Some(at) if at > 0 || rest.is_empty() => rest.insert(at, (key, value)),
            _ => piece.insert(at, (key, value)),
        }
        self.pieces.insert(place + 1, Arc::new(rest));
        None
    }

    /// Takes a key out, and gives its value back.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key)?;
        let piece = self.pieces.get_mut(place)?;
        let at = piece.binary_search_by(|(known, _)| known.borrow().cmp(key)).ok()?;
        let (_, value) = Arc::make_mut(piece).remove(at);
        self.len -= 1;
        self.tidy(place);
        Some(value)
    }

    /// Drops a piece that became empty, else joins one that became small with its neighbours.
    fn tidy(&mut self, place: usize) {
        if self.pieces.get(place).is_some_and(|piece| piece.is_empty()) {
            self.pieces.remove(place);
        } else {
            self.join(place);
        }
        if let Some(before) = place.checked_sub(1) {
            self.join(before);
        }
    }

    /// Makes a piece and the next one a single piece, where together they are small.
    fn join(&mut self, place: usize) {
        let length = |place: usize| self.pieces.get(place).map_or(MOST, |piece| piece.len());
        if length(place) + length(place + 1) < FEW {
            let next = self.pieces.remove(place + 1);
            if let Some(piece) = self.pieces.get_mut(place) {
                Arc::make_mut(piece).extend(next.iter().cloned());
            }
        }
    }

    /// Keeps what `keep` says; pieces that lose nothing stay shared.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let mut pieces: Vec<Arc<Piece<K, V>>> = Vec::with_capacity(self.pieces.len());
        for piece in self.pieces.drain(..) {
            let kept: Vec<bool> = piece.iter().map(|(key, value)| keep(key, value)).collect();
            if kept.iter().all(|kept| *kept) {
                pieces.push(piece);
                continue;
            }
            let left = piece.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(entry, _)| entry.clone());
            let left: Piece<K, V> = left.collect();
            match pieces.last_mut() {
                Some(last) if last.len() + left.len() < FEW => Arc::make_mut(last).extend(left),
                _ if left.is_empty() => {}
                _ => pieces.push(Arc::new(left)),
            }
        }
        self.len = pieces.iter().map(|piece| piece.len()).sum();
        self.pieces = pieces;
    }

    /// Keys whose values differ between two maps, in order: `same` is asked about the values of one key. Pieces that
    /// both share are passed over.
    pub fn differences<'m>(&'m self, before: &'m Self, same: impl Fn(&V, &V) -> bool) -> Vec<&'m K> {
        let mut differing = Vec::new();
        let (mut now, mut old) = (Cursor::new(&self.pieces), Cursor::new(&before.pieces));
        loop {
            Cursor::skip_shared(&mut now, &mut old);
            match (now.entry(), old.entry()) {
                (None, None) => return differing,
                (Some((key, _)), None) => {
                    differing.push(key);
                    now.step();
                }
                (None, Some((gone, _))) => {
                    differing.push(gone);
                    old.step();
                }
                (Some((key, value)), Some((known, before))) => match key.cmp(known) {
                    std::cmp::Ordering::Less => {
                        differing.push(key);
                        now.step();
                    }
                    std::cmp::Ordering::Greater => {
                        differing.push(known);
                        old.step();
                    }
                    std::cmp::Ordering::Equal => {
                        if !same(value, before) {
                            differing.push(key);
                        }
                        now.step();
                        old.step();
                    }
                },
            }
        }
    }
}

/// A place in a map.
struct Cursor<'m, K, V> {
    pieces: &'m [Arc<Piece<K, V>>],
    /// In the first of `pieces`.
    at: usize,
}

impl<'m, K, V> Cursor<'m, K, V> {
    const fn new(pieces: &'m [Arc<Piece<K, V>>]) -> Self {
        Self { pieces, at: 0 }
    }

    fn entry(&self) -> Option<&'m (K, V)> {
        self.pieces.first()?.get(self.at)
    }

    fn step(&mut self) {
        self.at += 1;
        if let Some((first, rest)) = self.pieces.split_first()
            && self.at >= first.len()
        {
            (self.pieces, self.at) = (rest, 0);
        }
    }

    /// Passes over pieces that both begin and share.
    fn skip_shared(now: &mut Self, old: &mut Self) {
        while let (Some((first, rest)), Some((known, others))) =
            (now.pieces.split_first(), old.pieces.split_first())
            && (now.at, old.at) == (0, 0)
            && Arc::ptr_eq(first, known)
        {
            (now.pieces, old.pieces) = (rest, others);
        }
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.differences(other, |a, b| a == b).is_empty()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone, V: Clone> Extend<(K, V)> for SharedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord + Clone, V: Clone, const N: usize> From<[(K, V); N]> for SharedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<'m, K, V> IntoIterator for &'m SharedMap<K, V> {
    type Item = (&'m K, &'m V);
    type IntoIter = Iter<'m, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// For what is known to be there.
///
/// # Panics
/// Where it is not, as other maps do.
impl<K: Ord + Borrow<Q>, Q: Ord + ?Sized, V> Index<&Q> for SharedMap<K, V> {
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("the caller knows that the key is there")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Numbers without chance.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    fn check(map: &SharedMap<u64, u64>, model: &BTreeMap<u64, u64>) {
        assert_eq!(map.len(), model.len());
        assert!(map.iter().eq(model.iter()));
        assert!(map.pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= MOST));
    }

    fn differences(a: &BTreeMap<u64, u64>, b: &BTreeMap<u64, u64>) -> Vec<u64> {
        let mut keys: Vec<u64> =
            a.keys().chain(b.keys()).copied().filter(|key| a.get(key) != b.get(key)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    #[test]
    fn it_holds_what_an_ordinary_map_holds_and_tells_what_changed_since_a_copy() {
        for room in [3, 40, 1000, 1_000_000] {
            let (mut state, mut map, mut model) = (room, SharedMap::new(), BTreeMap::new());
            let mut copies: Vec<(SharedMap<u64, u64>, BTreeMap<u64, u64>)> = Vec::new();
            for round in 0..3000_u64 {
                let key = next(&mut state) % room;
                match next(&mut state) % 8 {
                    0..5 => assert_eq!(map.insert(key, round), model.insert(key, round)),
                    5..7 => assert_eq!(map.remove(&key), model.remove(&key)),
                    _ if round % 50 == 0 => {
                        let keep = |key: &u64, _: &u64| !key.is_multiple_of(3);
                        map.retain(keep);
                        model.retain(|key, value| keep(key, value));
                    }
                    _ => assert_eq!(map.get(&key), model.get(&key)),
                }
                if round % 300 == 0 {
                    copies.push((map.clone(), model.clone()));
                }
            }
            check(&map, &model);
            for (copy, of) in &copies {
                check(copy, of);
                let told = map.differences(copy, |a, b| a == b).into_iter().copied().collect::<Vec<_>>();
                assert_eq!(told, differences(&model, of));
                assert_eq!(map == *copy, model == *of);
            }
        }
    }

    #[test]
    fn keys_that_come_in_order_fill_their_pieces() {
        let map: SharedMap<usize, ()> = (0..MOST * 10).map(|key| (key, ())).collect();
        assert_eq!(map.pieces.len(), 10);
    }

    #[test]
    fn a_copy_shares_all_that_did_not_change() {
        let before: SharedMap<usize, usize> = (0..MOST * 10).map(|key| (key, 0)).collect();
        let mut after = before.clone();
        after.insert(MOST * 4, 1);
        let shared = after.pieces.iter().zip(&before.pieces).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, 9);
        assert_eq!(after.differences(&before, |a, b| a == b), [&(MOST * 4)]);
    }

    #[test]
    fn many_removals_leave_no_row_of_small_pieces() {
        for backwards in [false, true] {
            let mut map: SharedMap<usize, usize> = (0..MOST * 40).map(|key| (key, 0)).collect();
            let mut gone: Vec<usize> = (0..MOST * 40).filter(|key| !key.is_multiple_of(MOST)).collect();
            if backwards {
                gone.reverse();
            }
            for key in gone {
                map.remove(&key);
            }
            assert_eq!(map.len(), 40);
            assert!(
                map.pieces.windows(2).all(|two| two[0].len() + two[1].len() >= FEW),
                "{}",
                map.pieces.len()
            );
        }
    }

    #[test]
    fn what_is_emptied_has_no_pieces() {
        let mut map: SharedMap<usize, usize> = (0..MOST * 4).map(|key| (key, 0)).collect();
        for key in 0..MOST * 4 {
            assert_eq!(map.remove(&key), Some(0));
        }
        assert!(map.is_empty() && map.pieces.is_empty());
    }
}
