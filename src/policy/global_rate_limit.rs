//! `global-rate-limit`, `-window`, `-key`, `-ignored-cidrs`: removed from ingress-nginx in 1.12, where all replicas
//! counted in one memcached. Here each replica counts for itself, and the owner is told.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec, Value, parse_duration, parse_int};
use super::ip_access::contains;
use super::request_limit::ZoneName;
use super::template::Template;
use crate::diagnostic::Severity;

const PER_REPLICA: Fidelity =
    Fidelity::Equivalent("removed from ingress-nginx 1.12; each replica counts for itself");

const LIMIT: Spec = Spec::new("global-rate-limit", Scope::Location, Risk::Low)
    .fail_closed()
    .fidelity(PER_REPLICA)
    .values("0", "100")
    .doc("Requests with the same key in a window; above it the answer is 429.");
const WINDOW: Spec = Spec::new("global-rate-limit-window", Scope::Location, Risk::Low)
    .fail_closed()
    .fidelity(PER_REPLICA)
    .values("none", "1m")
    .doc("Length of the window; needed beside global-rate-limit.");
const KEY: Spec = Spec::new("global-rate-limit-key", Scope::Location, Risk::High)
    .fail_closed()
    .fidelity(PER_REPLICA)
    .values("$remote_addr", "$http_x_api_key")
    .doc("What requests are counted by; variables as in upstream-hash-by. Requests with an empty key are not limited.");
const IGNORED: Spec = Spec::new("global-rate-limit-ignored-cidrs", Scope::Location, Risk::Medium)
    .fidelity(PER_REPLICA)
    .values("no one", "10.0.0.0/8")
    .doc("Clients of these networks are not limited.");

/// Annotations of this family; not among the 136 of the last ingress-nginx.
pub const SPECS: &[Spec] = &[LIMIT, WINDOW, KEY, IGNORED];

/// Greatest window.
const MAX_WINDOW: Duration = Duration::from_secs(86_400);

/// A limit over a sliding window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalRateLimit {
    /// Where it is counted.
    pub zone: ZoneName,
    /// Requests in a window.
    pub limit: u64,
    /// Length of the window in milliseconds, not zero.
    pub window: u64,
    /// What requests are counted by.
    pub key: Template,
    /// Clients that are not limited.
    pub ignored: Arc<[IpNet]>,
}

/// What was counted for a key: this window and the one before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Number of the window since the clock's zero.
    pub number: u64,
    /// Requests admitted in it.
    pub count: u64,
    /// Requests admitted in the one before.
    pub before: u64,
}

impl GlobalRateLimit {
    /// Reads the family; `None` when nothing is limited.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let limit =
            reader.read(&LIMIT, |text| u64::try_from(parse_int(text)?.max(0)).map_err(|_| String::new()));
        let window = reader.read(&WINDOW, window);
        let key = reader.read(&KEY, |text| Template::parse(text).map_err(|error| error.to_string()));
        let ignored = reader.cidrs(&IGNORED).or_default();
        let limit = limit.ok().filter(|limit| *limit > 0)?;
        let window = match window {
            Value::Present(window) => window,
            Value::Invalid => return None,
            Value::Absent => {
                reader.deny("WindowMissing");
                let (reason, hint) = ("has no global-rate-limit-window beside it", "add one, such as 1m");
                reader.report(LIMIT.name, Severity::Error, "WindowMissing", reason, hint);
                return None;
            }
        };
        let key = match key {
            Value::Present(key) => key,
            Value::Invalid => return None,
            Value::Absent => Template::parse("$remote_addr").ok()?,
        };
        let reason = "is counted by each replica for itself: ingress-nginx removed the annotation in 1.12";
        let hint = "divide the limit by the number of replicas, or use limit-rps";
        reader.report(LIMIT.name, Severity::Info, "CountedPerReplica", reason, hint);
        let meta = &reader.ingress().meta;
        let zone = ZoneName {
            namespace: Arc::clone(&meta.key.namespace),
            name: Arc::clone(&meta.key.name),
            uid: Arc::clone(&meta.uid),
        };
        Some(Self { zone, limit, window, key, ignored })
    }

    /// True for a client that is not limited.
    pub fn ignores(&self, client: IpAddr) -> bool {
        contains(&self.ignored, client)
    }

    /// The count after one more request at `now` (milliseconds); `None` when that is too many. The window before
    /// counts by the part of it that still lies within the last `window` milliseconds.
    pub fn admit(&self, seen: Option<Window>, now: u64) -> Option<Window> {
        let length = self.window.max(1);
        let (number, within) = (now / length, now % length);
        let mut window = match seen {
            Some(seen) if seen.number == number => seen,
            Some(seen) if seen.number + 1 == number => Window { number, count: 0, before: seen.count },
            _ => Window { number, count: 0, before: 0 },
        };
        let weight = u128::from(window.before) * u128::from(length - within) / u128::from(length);
        let sum = weight.saturating_add(u128::from(window.count));
        window.count += 1;
        (sum < u128::from(self.limit)).then_some(window)
    }
}

fn window(text: &str) -> Result<u64, String> {
    let length = parse_duration(text)?;
    if length.is_zero() || length > MAX_WINDOW {
        return Err("must lie between 1ms and 1d".into());
    }
    u64::try_from(length.as_millis()).map_err(|_| "is too long".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{denied, diagnostics, read};

    const ON: [(&str, &str); 2] = [("global-rate-limit", "2"), ("global-rate-limit-window", "1s")];

    #[test]
    fn the_owner_hears_that_replicas_count_for_themselves() {
        assert_eq!(diagnostics(&ON, GlobalRateLimit::read), ["CountedPerReplica"]);
        assert_eq!(read(&ON, GlobalRateLimit::read).unwrap().key.as_str(), "$remote_addr");
    }

    #[test]
    fn a_limit_without_a_window_or_with_a_broken_part_shuts_the_routes() {
        for annotations in [
            vec![("global-rate-limit", "x"), ON[1]],
            vec![ON[0], ("global-rate-limit-window", "0s")],
            vec![ON[0], ON[1], ("global-rate-limit-key", "$secret")],
        ] {
            assert_eq!(
                denied(&annotations, GlobalRateLimit::read),
                Some("InvalidAnnotation"),
                "{annotations:?}"
            );
        }
        assert_eq!(denied(&[ON[0]], GlobalRateLimit::read), Some("WindowMissing"));
        assert_eq!(denied(&[("global-rate-limit", "0")], GlobalRateLimit::read), None);
    }

    #[test]
    fn the_window_slides() {
        let limit = read(&ON, GlobalRateLimit::read).unwrap();
        let mut seen = None;
        let mut ask = |now| {
            let admitted = limit.admit(seen, now);
            seen = admitted.or(seen);
            admitted.is_some()
        };
        let at = [0, 10, 20, 1000, 1500, 1600, 3500].map(&mut ask);
        assert_eq!(at, [true, true, false, false, true, true, true]);
    }
}
