//! Nonces of digest authentication: made by one worker and known to all by their signature, good for some minutes, and
//! good once for each count (RFC 7616 section 3.4), so that nothing heard on the way can be sent again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::policy::digest_auth::{DigestAuth, DigestResponse};
use crate::policy::satisfy::Verdict;
use crate::proxy::forward::Way;
use crate::reply::LocalReply;
use crate::wire::Fields;

/// Seconds a nonce is good for.
const LIFETIME: u64 = 300;
/// Nonces whose counts are remembered. When there are more, the oldest are good no longer.
const REMEMBERED: usize = 20_000;

/// The nonces of the process.
#[derive(Clone)]
pub struct Nonces(Arc<Inner>);

struct Inner {
    key: [u8; 32],
    /// Ages are told by the steady clock: a step of the time of day makes no nonce old, and no old one young.
    start: Instant,
    used: Mutex<Used>,
}

/// Counts of nonces that somebody has logged in with. Strangers leave nothing here.
#[derive(Default)]
struct Used {
    /// By time of making, then chance.
    counts: BTreeMap<Issue, Window>,
    /// Nonces made until then are good no longer.
    floor: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Issue {
    /// As [`Nonces::now`] says.
    made: u64,
    chance: u64,
}

/// Which counts were used: the highest, and the 64 below.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    highest: u32,
    below: u64,
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces")
    }
}

impl Default for Nonces {
    fn default() -> Self {
        let mut key = [0; 32];
        // Without chance from the system there would be no TLS either.
        let _ = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut key);
        Self(Arc::new(Inner { key, start: Instant::now(), used: Mutex::default() }))
    }
}

impl Nonces {
    /// Seconds since the first one could be made; never 0, which is below every nonce.
    fn now(&self) -> u64 {
        self.0.start.elapsed().as_secs().saturating_add(1)
    }

    /// A fresh nonce.
    fn issue(&self, now: u64, chance: u64) -> String {
        let issue = Issue { made: now, chance };
        format!("{:016x}{:016x}{}", issue.made, issue.chance, self.signature(issue))
    }

    /// The nonce if it is one of ours.
    fn read(&self, nonce: &str) -> Option<Issue> {
        let (made, rest) = nonce.split_at_checked(16)?;
        let (chance, signature) = rest.split_at_checked(16)?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let issue = Issue { made: number(made)?, chance: number(chance)? };
        let same: bool = self.signature(issue).as_bytes().ct_eq(signature.as_bytes()).into();
        same.then_some(issue)
    }

    /// Half a digest over key and numbers, all of fixed length.
    fn signature(&self, issue: Issue) -> String {
        let digest = Sha256::new()
            .chain_update(self.0.key)
            .chain_update(issue.made.to_be_bytes())
            .chain_update(issue.chance.to_be_bytes())
            .finalize();
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Uses a count of a nonce; false when it is not good (any longer). Only for responses that were right.
    fn spend(&self, nonce: &str, count: u32, now: u64) -> bool {
        let Some(issue) = self.read(nonce) else { return false };
        if now.saturating_sub(issue.made) >= LIFETIME || issue.made > now.saturating_add(LIFETIME) {
            return false;
        }
        let mut used = self.0.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.forget(now);
        if issue.made <= used.floor {
            return false;
        }
        used.counts.entry(issue).or_default().spend(count)
    }
}

impl Used {
    /// Nonces that are over go, and the oldest when there are too many.
    fn forget(&mut self, now: u64) {
        let over = now.saturating_sub(LIFETIME);
        while let Some((oldest, _)) = self.counts.first_key_value() {
            let full = self.counts.len() >= REMEMBERED;
            if oldest.made > over && !full {
                return;
            }
            if full {
                self.floor = self.floor.max(oldest.made);
            }
            self.counts.pop_first();
        }
    }
}

impl Window {
    fn spend(&mut self, count: u32) -> bool {
        if count == 0 {
            return false;
        }
        if count > self.highest {
            let ahead = count - self.highest;
            let was_used = u64::from(self.highest > 0);
            self.below = match ahead {
                1..=63 => (self.below << ahead) | (was_used << (ahead - 1)),
                64 => was_used << 63,
                _ => 0,
            };
            self.highest = count;
            return true;
        }
        let bit = match self.highest - count {
            back @ 1..=64 => 1_u64 << (back - 1),
            _ => return false,
        };
        let fresh = self.below & bit == 0;
        self.below |= bit;
        fresh
    }
}

/// The name in a digest response, right or wrong.
pub(super) fn user(fields: &Fields) -> Option<Vec<u8>> {
    fields.get("authorization").and_then(DigestResponse::parse).map(|given| given.user)
}

/// Asks for user name and password.
pub(super) fn judge(way: &Way<'_>, auth: &DigestAuth) -> Verdict {
    let worker = &way.exchange.worker;
    let now = worker.nonces.now();
    let given = way.view.fields.get_only("authorization").ok().flatten().and_then(DigestResponse::parse);
    let right =
        given.as_ref().is_some_and(|given| auth.is_right(given, way.view.method.as_str(), way.view.target));
    if right && given.is_some_and(|given| worker.nonces.spend(&given.nonce, given.count, now)) {
        return Verdict::Admit;
    }
    // Who was right and only late is to try again without asking its user.
    let nonce = worker.nonces.issue(now, worker.rng.next_u64());
    Verdict::Refuse(LocalReply::Unauthorized { challenges: vec![auth.challenge(&nonce, right)] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_time_in_any_worker_and_nobody_else_makes_one() {
        let (nonces, others) = (Nonces::default(), Nonces::default());
        let nonce = nonces.issue(1000, 7);
        assert!(nonces.spend(&nonce, 1, 1000));
        assert!(nonces.spend(&nonce, 2, 1000 + LIFETIME - 1));
        assert!(!nonces.spend(&nonce, 3, 1000 + LIFETIME));
        assert!(!others.spend(&nonce, 1, 1000));
        for bad in ["", "x", &nonce[1..], &nonce.replace('7', "8"), &format!("{nonce}0"), &"é".repeat(40)] {
            assert!(!nonces.spend(bad, 9, 1000), "{bad}");
        }
    }

    #[test]
    fn the_first_second_of_a_process_makes_good_nonces_and_its_clock_is_the_steady_one() {
        let nonces = Nonces::default();
        let now = nonces.now();
        assert!((1..60).contains(&now), "{now}: not the time of day, which may step");
        assert!(nonces.spend(&nonces.issue(now, 7), 1, nonces.now()));
    }

    #[test]
    fn a_count_is_good_once_in_any_order() {
        let (nonces, now) = (Nonces::default(), 1000);
        let nonce = nonces.issue(now, 7);
        for (count, good) in [
            (0, false),
            (1, true),
            (1, false),
            (3, true),
            (2, true),
            (2, false),
            (3, false),
            (67, true),
            (66, true),
            (4, true),
            (4, false),
            (3, false),
            (1, false),
            (67, false),
            (200, true),
            (67, false),
            (136, true),
            (135, false),
            (u32::MAX, true),
            (u32::MAX, false),
            (u32::MAX - 64, true),
        ] {
            assert_eq!(nonces.spend(&nonce, count, now), good, "{count}");
        }
    }

    #[test]
    fn a_forgotten_nonce_is_good_no_longer() {
        let nonces = Nonces::default();
        let first = nonces.issue(1000, 0);
        assert!(nonces.spend(&first, 1, 1000));
        for chance in 0..u64::try_from(REMEMBERED).unwrap() {
            assert!(nonces.spend(&nonces.issue(1001, chance), 1, 1001));
        }
        assert!(!nonces.spend(&first, 1, 1001), "its counts are forgotten");
        assert!(nonces.0.used.lock().unwrap().counts.len() <= REMEMBERED);
    }
}
