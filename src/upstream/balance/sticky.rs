//! Cookie affinity: the key in the client's cookie leads to the same endpoint again.
//!
//! *Balanced*: an opaque key is hashed onto the ring. *Persistent*: the key is the MD5 of backend name and endpoint.
//! What the cookie looks like is `policy::session_cookie`'s.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use md5::{Digest, Md5};

use super::chash::Ring;
use super::{PickFacts, Picked};
use crate::upstream::rng::Rng;

/// Keys drawn before giving up on one that leads to an endpoint not tried yet.
const DRAWS: u64 = 20;

/// Endpoints by the key that stands for them. Ordered, so that equal sets draw equally.
#[derive(Debug)]
pub struct NodeMap {
    nodes: BTreeMap<String, SocketAddr>,
}

impl NodeMap {
    /// Keys of `peers`, salted with the backend's name so that they tell nobody the cluster's addresses.
    pub fn new(peers: &[SocketAddr], salt: &str) -> Self {
        let nodes = peers.iter().map(|peer| (md5_hex(&format!("{salt}{peer}")), *peer)).collect();
        Self { nodes }
    }

    fn find(&self, key: &str) -> Option<SocketAddr> {
        self.nodes.get(key).copied()
    }

    /// One of those for which `refused` does not hold.
    fn draw(&self, refused: impl Fn(&SocketAddr) -> bool, rng: &Rng) -> Option<Picked> {
        let open = || self.nodes.iter().filter(|(_, peer)| !refused(peer));
        let (key, address) = open().nth(rng.below(open().count()))?;
        Some(Picked { address: *address, set_cookie_key: Some(key.clone()) })
    }
}

/// Balanced mode. The endpoint of the cookie stays, also after a failed try, unless `session-cookie-change-on-failure`.
pub(super) fn balanced(
    ring: &Ring,
    facts: &PickFacts<'_>,
    change_on_failure: bool,
    rng: &Rng,
) -> Option<Picked> {
    let known = facts.sticky_key.and_then(|key| ring.find(key));
    if let Some(address) = known
        && (!change_on_failure || facts.tried.is_empty())
    {
        return Some(Picked { address, set_cookie_key: None });
    }
    let mut last = None;
    for draw in 1..=DRAWS {
        let key = opaque_key(draw, rng);
        let address = ring.find(&key)?;
        let picked = Picked { address, set_cookie_key: Some(key) };
        if !facts.tried.contains(&address) {
            return Some(picked);
        }
        last = Some(picked);
    }
    // Every endpoint was tried: better one of them again than none.
    known.map(|address| Picked { address, set_cookie_key: None }).or(last)
}

/// Persistent mode: as [`balanced`], but a key of an endpoint that is gone leads nowhere and a new one is set.
pub(super) fn persistent(
    map: &NodeMap,
    facts: &PickFacts<'_>,
    change_on_failure: bool,
    rng: &Rng,
) -> Option<Picked> {
    let known = facts.sticky_key.and_then(|key| map.find(key));
    if let Some(address) = known
        && (!change_on_failure || facts.tried.is_empty())
    {
        return Some(Picked { address, set_cookie_key: None });
    }
    map.draw(|peer| facts.tried.contains(peer), rng)
        .or_else(|| known.map(|address| Picked { address, set_cookie_key: None }))
        .or_else(|| map.draw(|_| false, rng))
}

/// A key in the form that ingress-nginx makes: seconds with milliseconds, process, random number.
fn opaque_key(draw: u64, rng: &Rng) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = now.as_secs().saturating_add(draw);
    let random = rng.below(999_999).saturating_add(1);
    format!("{seconds}.{:03}.{}.{random}", now.subsec_millis(), std::process::id())
}

/// Lower-case hexadecimal MD5.
pub(crate) fn md5_hex(text: &str) -> String {
    let mut hex = String::with_capacity(32);
    for byte in Md5::digest(text.as_bytes()) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
