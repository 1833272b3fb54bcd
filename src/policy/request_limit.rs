//! `limit-rps`, `limit-rpm`, `limit-connections`, `limit-burst-multiplier`, `limit-allowlist` (`limit-whitelist`): how
//! much one client may ask of the routes of an Ingress. The arithmetic is that of nginx's `limit_req`, to the integer.
//!
//! Counting over time and over all workers is `proxy::filter::limit`'s; here is what a count means.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::annotation::{Reader, Risk, Scope, Spec, parse_int};
use super::ip_access::contains;

const LOCATION: Scope = Scope::Location;

const CONNECTIONS: Spec = Spec::new("limit-connections", LOCATION, Risk::Low)
    .fail_closed()
    .values("0", "10")
    .doc("Requests of one client at once, over all paths of the Ingress; above it the answer is limit-conn-status-code.");
const PER_SECOND: Spec = Spec::new("limit-rps", LOCATION, Risk::Low)
    .fail_closed()
    .values("0", "5")
    .doc("Requests of one client per second, as a leaky bucket with a burst; above it the answer is limit-req-status-code.");
const PER_MINUTE: Spec = Spec::new("limit-rpm", LOCATION, Risk::Low)
    .fail_closed()
    .values("0", "300")
    .doc("Requests of one client per minute; with limit-rps both must pass.");
const MULTIPLIER: Spec = Spec::new("limit-burst-multiplier", LOCATION, Risk::Low)
    .values("5", "3")
    .doc("The burst of limit-rps and limit-rpm is this many times the limit.");
const ALLOW: Spec = Spec::new("limit-allowlist", LOCATION, Risk::Low)
    .aliases(&["limit-whitelist"])
    .values("no one", "10.0.0.0/8")
    .doc("Clients of these networks are not limited.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[CONNECTIONS, PER_SECOND, PER_MINUTE, MULTIPLIER, ALLOW];

/// Burst factor of ingress-nginx.
const DEFAULT_MULTIPLIER: u64 = 5;

/// Whose requests are counted together: all paths of one Ingress object. A new object of an old name starts anew.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ZoneName {
    /// Namespace of the Ingress.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
}

/// Limits of the routes of an Ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLimits {
    /// Where they are counted.
    pub zone: ZoneName,
    /// Clients that are not limited.
    pub exempt: Arc<[IpNet]>,
    /// Requests at once.
    pub connections: Option<u32>,
    /// Requests over time, in the order in which nginx asks.
    pub rates: SmallVec<[Rate; 2]>,
}

/// The time that a rate is told in; each has buckets of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// `limit-rps`.
    Second,
    /// `limit-rpm`.
    Minute,
}

/// A rate with its burst, in thousandths of a request as nginx counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Which buckets.
    pub unit: Unit,
    /// Thousandths of a request that leak away each second; a rate per minute is rounded down, as in nginx.
    pub leak: u64,
    /// Thousandths above which a request is refused.
    pub burst: u64,
}

/// What one client has asked for lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Thousandths of a request that have not leaked away.
    pub excess: u64,
    /// When that was so, in milliseconds of a clock that never goes back.
    pub last: u64,
}

impl RequestLimits {
    /// Reads the family; `None` when nothing is limited.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let connections = reader.read(&CONNECTIONS, limit).or_default();
        let per_second = reader.read(&PER_SECOND, limit).or_default();
        let per_minute = reader.read(&PER_MINUTE, limit).or_default();
        let multiplier = reader.count(&MULTIPLIER).map(u64::from).or(DEFAULT_MULTIPLIER);
        let exempt = reader.cidrs(&ALLOW).or_default();
        let rate = |unit, limit: Option<u32>| limit.map(|limit| Rate::new(unit, limit, multiplier));
        let rates: SmallVec<[Rate; 2]> =
            [rate(Unit::Second, per_second), rate(Unit::Minute, per_minute)].into_iter().flatten().collect();
        if connections.is_none() && rates.is_empty() {
            return None;
        }
        let meta = &reader.ingress().meta;
        let zone = ZoneName {
            namespace: Arc::clone(&meta.key.namespace),
            name: Arc::clone(&meta.key.name),
            uid: Arc::clone(&meta.uid),
        };
        Some(Self { zone, exempt, connections, rates })
    }

    /// True for a client that is not limited.
    pub fn exempts(&self, client: IpAddr) -> bool {
        contains(&self.exempt, client)
    }
}

impl Rate {
    fn new(unit: Unit, limit: u32, multiplier: u64) -> Self {
        let thousandths = u64::from(limit) * 1000;
        let leak = match unit {
            Unit::Second => thousandths,
            Unit::Minute => thousandths / 60,
        };
        Self { unit, leak, burst: thousandths.saturating_mul(multiplier) }
    }

    /// The bucket after one more request at `now`; `None` when that is too many. A client that was not seen lately
    /// (`None`) starts empty: the first request costs nothing.
    pub fn admit(&self, bucket: Option<Bucket>, now: u64) -> Option<Bucket> {
        let excess = bucket.map_or(0, |bucket| (self.left(bucket, now) + 1000).max(0));
        let excess = u64::try_from(excess).unwrap_or(0);
        (excess <= self.burst).then_some(Bucket { excess, last: now })
    }

    /// True when a bucket holds nothing any more.
    pub fn is_drained(&self, bucket: Bucket, now: u64) -> bool {
        self.left(bucket, now) <= 0
    }

    /// What is left at `now`, below zero when more time passed than was needed.
    fn left(&self, bucket: Bucket, now: u64) -> i64 {
        let leaked = self.leak.saturating_mul(now.saturating_sub(bucket.last)) / 1000;
        let narrow = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX / 2).min(i64::MAX / 2);
        narrow(bucket.excess) - narrow(leaked)
    }
}

/// A limit; zero and less mean none, as in ingress-nginx.
fn limit(text: &str) -> Result<Option<u32>, String> {
    match parse_int(text)? {
        number if number <= 0 => Ok(None),
        number => u32::try_from(number).map(Some).map_err(|_| "is too large".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{denied, read};

    fn limits(annotations: &[(&str, &str)]) -> Option<RequestLimits> {
        read(annotations, RequestLimits::read)
    }

    /// Feeds requests at these milliseconds; says which pass.
    fn passes(limit: &str, unit: &str, times: &[u64]) -> Vec<bool> {
        let rate = limits(&[(unit, limit), ("limit-burst-multiplier", "2")]).unwrap().rates[0];
        let mut bucket = None;
        let ask = |now: &u64| {
            let admitted = rate.admit(bucket, *now);
            bucket = admitted.or(bucket);
            admitted.is_some()
        };
        times.iter().map(ask).collect()
    }

    #[test]
    fn nothing_is_limited_without_a_limit_above_zero() {
        for annotations in [
            &[][..],
            &[("limit-rps", "0"), ("limit-rpm", "-1")],
            &[("limit-burst-multiplier", "3"), ("limit-whitelist", "10.0.0.0/8")],
        ] {
            assert_eq!(limits(annotations), None, "{annotations:?}");
        }
    }

    #[test]
    fn rates_and_bursts_are_nginx_s() {
        let all = limits(&[("limit-rps", "3"), ("limit-rpm", "1"), ("limit-connections", "2")]).unwrap();
        let [second, minute] = all.rates[..] else { panic!("two rates") };
        assert_eq!((second.leak, second.burst, all.connections), (3000, 15_000, Some(2)));
        assert_eq!((minute.leak, minute.burst), (16, 5000), "1000 / 60, rounded down");
        let flat = limits(&[("limit-rps", "3"), ("limit-burst-multiplier", "0")]).unwrap();
        assert_eq!(flat.rates[0].burst, 0);
    }

    #[test]
    fn a_burst_and_one_pass_at_once_then_the_rate() {
        assert_eq!(passes("1", "limit-rps", &[0, 0, 0, 0, 0]), [true, true, true, false, false]);
        assert_eq!(
            passes("1", "limit-rps", &[0, 0, 0, 999, 1000, 1001]),
            [true, true, true, false, true, false]
        );
        assert_eq!(passes("1", "limit-rpm", &[0, 0, 0, 60_000, 62_500]), [true, true, true, false, true]);
    }

    #[test]
    fn a_long_silence_forgives_all_and_a_clock_that_stands_still_nothing() {
        assert_eq!(passes("1", "limit-rps", &[5, 5, 5, u64::MAX, u64::MAX]), [true; 5]);
        assert_eq!(passes("1", "limit-rps", &[5000, 4000, 3000, 2000]), [true, true, true, false]);
    }

    #[test]
    fn exempt_clients_are_found_under_both_names() {
        for name in ["limit-allowlist", "limit-whitelist"] {
            let limits = limits(&[("limit-rps", "1"), (name, "10.0.0.0/8")]).unwrap();
            assert!(limits.exempts([10, 1, 2, 3].into()) && !limits.exempts([11, 1, 2, 3].into()), "{name}");
        }
    }

    #[test]
    fn a_broken_limit_shuts_the_routes_and_a_broken_detail_does_not() {
        for (name, value) in [("limit-rps", "many"), ("limit-rpm", ""), ("limit-connections", "9999999999")] {
            assert_eq!(
                denied(&[(name, value)], RequestLimits::read),
                Some("InvalidAnnotation"),
                "{name} {value}"
            );
        }
        let broken = [("limit-rps", "2"), ("limit-burst-multiplier", "x"), ("limit-allowlist", "all")];
        assert_eq!(denied(&broken, RequestLimits::read), None);
        let kept = limits(&broken).unwrap();
        assert_eq!((kept.rates[0].burst, kept.exempt.len()), (10_000, 0));
    }
}
