//! What clients have asked for lately, for `limit-rps`, `limit-rpm`, `limit-connections` and `global-rate-limit`: one
//! value of the whole process, shared by all workers as nginx's zones are. Arithmetic and meaning are `policy`'s.
//!
//! Bounded as nginx's zones: the client that was not seen for longest is forgotten first, and a new client never pays
//! for it. A lock is held for one look-up only.

use std::collections::BTreeMap;
use std::collections::hash_map::{HashMap, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lru::LruCache;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::policy::global_rate_limit::{GlobalRateLimit, Window};
use crate::policy::request_limit::{Bucket, Rate, RequestLimits, Unit, ZoneName};

/// Clients of one kind of limit of one Ingress: as many as nginx holds in the 5 MB that ingress-nginx gives a zone.
const ZONE_KEYS: usize = 81_920;
/// Clients over all zones (`D.2`).
const ALL_KEYS: usize = 1_048_576;
/// A zone may hold so many whatever the others hold.
const ZONE_SHARE: usize = 64;
/// Milliseconds after which a client that owes nothing is forgotten, as in nginx.
const STALE: u64 = 60_000;
/// Bytes of the longest key that is kept as it is.
const LONGEST_KEY: usize = 64;
/// Milliseconds after which a zone that nobody asked is forgotten.
const ZONE_STALE: u64 = 3_600_000;

/// Whom a request counts for: an address, or what `limit-conn-zone-variable` gives.
pub type Key = SmallVec<[u8; 16]>;

/// The key of a client address.
pub fn address_key(client: IpAddr) -> Key {
    match client.to_canonical() {
        IpAddr::V4(address) => SmallVec::from_slice(&address.octets()),
        IpAddr::V6(address) => SmallVec::from_slice(&address.octets()),
    }
}

/// The key of a text; a long one by its digest, so that a key has a bound.
pub fn text_key(text: &str) -> Key {
    if text.len() <= LONGEST_KEY {
        return SmallVec::from_slice(text.as_bytes());
    }
    SmallVec::from_slice(&Sha256::digest(text))
}

/// All zones. Cheap to clone.
#[derive(Clone)]
pub struct Limits(Arc<Shared>);

struct Shared {
    start: Instant,
    zones: Mutex<BTreeMap<ZoneName, Arc<Zone>>>,
    keys: Arc<AtomicUsize>,
}

struct Zone(Mutex<Counts>);

struct Counts {
    touched: u64,
    seconds: Recent<Bucket>,
    minutes: Recent<Bucket>,
    windows: Recent<Window>,
    connections: HashMap<Key, u32, RandomState>,
}

/// A request that counts towards `limit-connections` until this is dropped.
pub struct Running {
    zone: Arc<Zone>,
    key: Key,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

impl Limits {
    /// Nobody asked for anything yet.
    pub fn new() -> Self {
        let (zones, keys) = (Mutex::default(), Arc::default());
        Self(Arc::new(Shared { start: Instant::now(), zones, keys }))
    }

    /// Milliseconds of the clock that the other methods are told.
    pub fn now(&self) -> u64 {
        u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Counts a request towards the rates; false when it is one too many. As nginx: asked in order, and a request that
    /// one rate refuses costs nothing with the others.
    pub fn admit(&self, limits: &RequestLimits, key: &Key, now: u64) -> bool {
        if limits.rates.is_empty() {
            return true;
        }
        let zone = self.zone(&limits.zone, now);
        let mut counts = zone.counts();
        counts.touched = now;
        let mut admitted: SmallVec<[(Rate, Bucket); 2]> = SmallVec::new();
        for rate in &limits.rates {
            let Some(bucket) = rate.admit(counts.buckets(rate.unit).get(key), now) else { return false };
            admitted.push((*rate, bucket));
        }
        for (rate, bucket) in admitted {
            let is_stale = |old: &Bucket| now.saturating_sub(old.last) >= STALE && rate.is_drained(*old, now);
            counts.buckets(rate.unit).put(key, bucket, is_stale);
        }
        true
    }

    /// Counts a request towards `global-rate-limit`; false when it is one too many.
    pub fn admit_in_window(&self, limit: &GlobalRateLimit, key: &Key, now: u64) -> bool {
        let zone = self.zone(&limit.zone, now);
        let mut counts = zone.counts();
        counts.touched = now;
        let Some(window) = limit.admit(counts.windows.get(key), now) else { return false };
        let is_stale = |old: &Window| old.number + 1 < window.number;
        counts.windows.put(key, window, is_stale);
        true
    }

    /// Counts a request that begins; `None` when there are `limit` already.
    pub fn enter(&self, zone: &ZoneName, limit: u32, key: &Key, now: u64) -> Option<Running> {
        let zone = self.zone(zone, now);
        {
            let mut counts = zone.counts();
            counts.touched = now;
            let running = counts.connections.entry(key.clone()).or_default();
            if *running >= limit {
                return None;
            }
            *running += 1;
        }
        Some(Running { zone, key: key.clone() })
    }

    /// The zone of a name. Making one, which is rare, also forgets those of objects that are gone.
    fn zone(&self, name: &ZoneName, now: u64) -> Arc<Zone> {
        let mut zones = self.0.zones.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(zone) = zones.get(name) {
            return Arc::clone(zone);
        }
        zones.retain(|_, zone| {
            let counts = zone.counts();
            !counts.connections.is_empty() || now.saturating_sub(counts.touched) < ZONE_STALE
        });
        let keys = &self.0.keys;
        let zone = Arc::new(Zone(Mutex::new(Counts {
            touched: now,
            seconds: Recent::new(keys),
            minutes: Recent::new(keys),
            windows: Recent::new(keys),
            connections: HashMap::default(),
        })));
        zones.insert(name.clone(), Arc::clone(&zone));
        zone
    }
}

// === impl Zone ===

impl Zone {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn buckets(&mut self, unit: Unit) -> &mut Recent<Bucket> {
        match unit {
            Unit::Second => &mut self.seconds,
            Unit::Minute => &mut self.minutes,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut counts = self.zone.counts();
        if let Some(running) = counts.connections.get_mut(&self.key) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                counts.connections.remove(&self.key);
            }
        }
    }
}

/// Values by key; the one that was not asked for longest goes first.
struct Recent<V> {
    values: LruCache<Key, V, RandomState>,
    all: Arc<AtomicUsize>,
}

impl<V: Copy> Recent<V> {
    fn new(all: &Arc<AtomicUsize>) -> Self {
        Self { values: LruCache::unbounded_with_hasher(RandomState::new()), all: Arc::clone(all) }
    }

    fn get(&mut self, key: &Key) -> Option<V> {
        self.values.get(key).copied()
    }

    fn put(&mut self, key: &Key, value: V, is_stale: impl Fn(&V) -> bool) {
        if let Some(known) = self.values.get_mut(key) {
            *known = value;
            return;
        }
        // As nginx: each new client looks at the two oldest.
        for _ in 0..2 {
            if self.values.peek_lru().is_some_and(|(_, value)| is_stale(value)) {
                self.forget_oldest();
            }
        }
        let held = self.values.len();
        if held >= ZONE_KEYS || (held >= ZONE_SHARE && self.all.load(Ordering::Relaxed) >= ALL_KEYS) {
            self.forget_oldest();
        }
        self.values.put(key.clone(), value);
        self.all.fetch_add(1, Ordering::Relaxed);
    }

    fn forget_oldest(&mut self) {
        if self.values.pop_lru().is_some() {
            self.all.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<V> Drop for Recent<V> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.values.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rates: &[(Unit, u64, u64)]) -> RequestLimits {
        RequestLimits {
            zone: zone("a"),
            exempt: Arc::from([]),
            connections: None,
            rates: rates
                .iter()
                .map(|(unit, leak, burst)| Rate { unit: *unit, leak: *leak, burst: *burst })
                .collect(),
        }
    }

    fn zone(name: &str) -> ZoneName {
        ZoneName { namespace: "default".into(), name: name.into(), uid: "".into() }
    }

    fn client(number: u32) -> Key {
        address_key(IpAddr::from(number.to_be_bytes()))
    }

    #[test]
    fn clients_and_zones_are_counted_apart() {
        let all = Limits::new();
        let one = limits(&[(Unit::Second, 1000, 0)]);
        let other = RequestLimits { zone: zone("b"), ..one.clone() };
        assert!(all.admit(&one, &client(1), 0) && !all.admit(&one, &client(1), 0));
        assert!(all.admit(&one, &client(2), 0) && all.admit(&other, &client(1), 0));
        assert!(all.admit(&one, &client(1), 1000));
    }

    #[test]
    fn what_the_second_rate_refuses_costs_nothing_with_the_first() {
        let all = Limits::new();
        let both = limits(&[(Unit::Second, 1000, 3000), (Unit::Minute, 1000, 1000)]);
        let asked: Vec<bool> = (0..6).map(|_| all.admit(&both, &client(1), 0)).collect();
        assert_eq!(asked, [true, true, false, false, false, false]);
        let seconds = limits(&[(Unit::Second, 1000, 3000)]);
        let rest: Vec<bool> = (0..3).map(|_| all.admit(&seconds, &client(1), 0)).collect();
        assert_eq!(rest, [true, true, false], "two of four were used");
    }

    #[test]
    fn a_zone_is_bounded_and_forgets_the_oldest_first() {
        let all = Limits::new();
        let one = limits(&[(Unit::Second, 1, 0)]);
        let many = u32::try_from(ZONE_KEYS).unwrap();
        for number in 0..=many {
            assert!(all.admit(&one, &client(number), 0), "a new client is always admitted");
        }
        assert_eq!(all.0.keys.load(Ordering::Relaxed), ZONE_KEYS);
        assert!(!all.admit(&one, &client(many), 1), "known");
        assert!(all.admit(&one, &client(0), 1), "forgotten");
    }

    #[test]
    fn clients_that_owe_nothing_leave_after_a_minute() {
        let all = Limits::new();
        let one = limits(&[(Unit::Second, 1000, 0)]);
        for number in 0..10 {
            assert!(all.admit(&one, &client(number), 0));
        }
        for number in 10..15 {
            assert!(all.admit(&one, &client(number), STALE));
        }
        assert_eq!(all.0.keys.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn requests_at_once_end_with_their_guard() {
        let all = Limits::new();
        let enter = |number| all.enter(&zone("a"), 2, &client(number), 0);
        let (first, second) = (enter(1).unwrap(), enter(1).unwrap());
        assert!(enter(1).is_none() && enter(2).is_some());
        drop(first);
        let third = enter(1);
        assert!(third.is_some() && enter(1).is_none());
        drop((second, third));
        assert!(all.zone(&zone("a"), 0).counts().connections.is_empty());
    }

    #[test]
    fn zones_that_nobody_asks_are_forgotten_when_another_comes() {
        let all = Limits::new();
        assert!(all.admit(&limits(&[(Unit::Second, 1, 0)]), &client(1), 0));
        let other = RequestLimits { zone: zone("b"), ..limits(&[(Unit::Second, 1, 0)]) };
        assert!(all.admit(&other, &client(1), ZONE_STALE));
        assert_eq!((all.0.zones.lock().unwrap().len(), all.0.keys.load(Ordering::Relaxed)), (1, 1));
    }
}
