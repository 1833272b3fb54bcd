//! Answers of authentication services that locations asked to keep (`auth-cache-key`), for all workers: a client that
//! one worker knows is known to the others, and a key is asked about by one request at a time.
//!
//! Bounded by count and bytes (`security.md` D.2); the oldest leave first. No lock is held while anybody waits.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use foldhash::fast::RandomState;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::policy::external_auth::Heard;
use crate::policy::external_auth::lifetime::names_of_vary;
use crate::wire::Fields;

/// Locks among which keys are spread.
const SHARDS: usize = 16;
/// Answers of one shard: 50,000 in all.
const ENTRIES: usize = 50_000 / SHARDS;
/// Bytes of one shard: 64 MiB in all.
const BYTES: usize = (64 << 20) / SHARDS;

/// What requests must share to share an answer: a digest, so that no credential is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity([u8; 32]);

impl Identity {
    /// Digest of parts that cannot run into each other.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self(digest.finalize().into())
    }

    fn shard(&self) -> usize {
        self.0.first().map_or(0, |byte| usize::from(*byte)) % SHARDS
    }
}

/// The answers of the process.
#[derive(Clone, Default)]
pub struct Answers(Arc<[Mutex<Shard>; SHARDS]>);

#[derive(Default)]
struct Shard {
    known: HashMap<Identity, Entry, RandomState>,
    asking: HashMap<Identity, Arc<Semaphore>, RandomState>,
    /// Order of arrival; an entry that was replaced stands here twice, told apart by its stamp.
    order: VecDeque<(Identity, u64)>,
    bytes: usize,
    stamps: u64,
}

struct Entry {
    heard: Arc<Heard>,
    until: Instant,
    /// Fields of the request that the answer depends on (`Vary`), and what they were.
    vary: Vec<(Box<str>, Vec<Vec<u8>>)>,
    size: usize,
    stamp: u64,
}

/// Where a request stands.
pub(super) enum Place {
    /// The answer is known.
    Known(Arc<Heard>),
    /// It is to ask; others wait until the ticket is dropped.
    Ask(Ticket),
    /// Another asks; the semaphore is closed when that ends.
    Wait(Arc<Semaphore>),
}

/// The duty to ask. Dropping it, whatever the reason, lets the others go on.
pub(super) struct Ticket {
    answers: Answers,
    identity: Identity,
    end: Arc<Semaphore>,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answers")
    }
}

impl Answers {
    fn shard(&self, identity: &Identity) -> MutexGuard<'_, Shard> {
        let shards: &[Mutex<Shard>; SHARDS] = &self.0;
        let shard = shards.get(identity.shard()).unwrap_or(&shards[0]);
        // A panic elsewhere leaves no half-made entry behind.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks an answer up for a request with these fields, or hands out the duty to ask.
    pub(super) fn place(&self, identity: &Identity, request: &Fields, now: Instant) -> Place {
        let mut shard = self.shard(identity);
        if let Some(entry) = shard.known.get(identity)
            && entry.until > now
            && entry.is_for(request)
        {
            return Place::Known(Arc::clone(&entry.heard));
        }
        if let Some(end) = shard.asking.get(identity) {
            return Place::Wait(Arc::clone(end));
        }
        let end = Arc::new(Semaphore::new(0));
        shard.asking.insert(*identity, Arc::clone(&end));
        Place::Ask(Ticket { answers: self.clone(), identity: *identity, end })
    }

    /// Keeps an answer until `until`.
    pub(super) fn keep(
        &self,
        identity: &Identity,
        heard: &Arc<Heard>,
        answer: &Fields,
        request: &Fields,
        until: Instant,
    ) {
        let vary: Vec<_> = names_of_vary(answer).map(|name| (name.into(), values(request, name))).collect();
        let varying: usize = vary
            .iter()
            .map(|(name, values): &(Box<str>, Vec<Vec<u8>>)| {
                name.len() + values.iter().map(|value| value.len() + 24).sum::<usize>() + 40
            })
            .sum();
        let size = heard.size() + varying + 160;
        let mut shard = self.shard(identity);
        let stamp = shard.stamps;
        shard.stamps += 1;
        let entry = Entry { heard: Arc::clone(heard), until, vary, size, stamp };
        if let Some(old) = shard.known.insert(*identity, entry) {
            shard.bytes = shard.bytes.saturating_sub(old.size);
        }
        shard.bytes += size;
        shard.order.push_back((*identity, stamp));
        shard.shrink();
    }
}

impl Shard {
    /// The oldest leave until the bounds hold.
    fn shrink(&mut self) {
        while self.known.len() > ENTRIES || self.bytes > BYTES || self.order.len() > 2 * ENTRIES {
            let Some((identity, stamp)) = self.order.pop_front() else { return };
            if self.known.get(&identity).is_some_and(|entry| entry.stamp == stamp)
                && let Some(old) = self.known.remove(&identity)
            {
                self.bytes = self.bytes.saturating_sub(old.size);
            }
        }
    }
}

impl Entry {
    fn is_for(&self, request: &Fields) -> bool {
        self.vary.iter().all(|(name, known)| *known == values(request, name))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.answers.shard(&self.identity).asking.remove(&self.identity);
        self.end.close();
    }
}

fn values(fields: &Fields, name: &str) -> Vec<Vec<u8>> {
    fields.get_all(name).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::external_auth::Said;

    fn heard(name: &str) -> Arc<Heard> {
        let fields = vec![("X-User".into(), Some(name.as_bytes().to_vec()))];
        Arc::new(Heard { said: Said::Admit, fields, cookies: Vec::new(), challenges: Vec::new() })
    }

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.append(name, value.as_bytes()).unwrap();
        }
        fields
    }

    #[test]
    fn one_asks_the_others_wait_and_all_know() {
        let (answers, key, none, now) =
            (Answers::default(), Identity::of(&[b"k"]), fields(&[]), Instant::now());
        let Place::Ask(ticket) = answers.place(&key, &none, now) else { panic!("nobody asks yet") };
        let Place::Wait(end) = answers.place(&key, &none, now) else { panic!("somebody asks") };
        assert!(matches!(answers.place(&Identity::of(&[b"other"]), &none, now), Place::Ask(_)));
        answers.keep(&key, &heard("ann"), &none, &none, now + Duration::from_secs(5));
        assert!(!end.is_closed());
        drop(ticket);
        assert!(end.is_closed());
        assert!(matches!(answers.place(&key, &none, now), Place::Known(known) if known == heard("ann")));
        let later = now + Duration::from_secs(5);
        assert!(matches!(answers.place(&key, &none, later), Place::Ask(_)), "its time is over");
    }

    #[test]
    fn a_question_given_up_is_asked_by_the_next() {
        let (answers, key, none) = (Answers::default(), Identity::of(&[b"k"]), fields(&[]));
        drop(answers.place(&key, &none, Instant::now()));
        assert!(matches!(answers.place(&key, &none, Instant::now()), Place::Ask(_)));
    }

    #[test]
    fn an_answer_that_varies_is_for_the_same_fields_only() {
        let (answers, key, now) = (Answers::default(), Identity::of(&[b"k"]), Instant::now());
        let ann = fields(&[("Cookie", "ann")]);
        let varies = fields(&[("Vary", "Accept, cookie")]);
        answers.keep(&key, &heard("ann"), &varies, &ann, now + Duration::from_secs(5));
        assert!(matches!(answers.place(&key, &ann, now), Place::Known(_)));
        assert!(matches!(answers.place(&key, &fields(&[("Cookie", "bob")]), now), Place::Ask(_)));
    }

    #[test]
    fn the_oldest_leave_when_there_are_too_many() {
        let (answers, none, now) = (Answers::default(), fields(&[]), Instant::now());
        let until = now + Duration::from_secs(5);
        let of_one_shard =
            || (0_u32..).map(|n| Identity::of(&[&n.to_be_bytes()])).filter(|id| id.shard() == 0);
        for key in of_one_shard().take(ENTRIES + 10) {
            answers.keep(&key, &heard("x"), &none, &none, until);
        }
        let known = |key: &Identity| matches!(answers.place(key, &none, now), Place::Known(_));
        let keys: Vec<_> = of_one_shard().take(ENTRIES + 10).collect();
        assert!(!known(&keys[0]) && !known(&keys[9]) && known(&keys[10]) && known(&keys[ENTRIES + 9]));
        // Replacing one for ever does not grow the order.
        for _ in 0..3 * ENTRIES {
            answers.keep(&keys[20], &heard("y"), &none, &none, until);
        }
        assert!(answers.shard(&keys[20]).order.len() <= 2 * ENTRIES);
        let huge = Arc::new(Heard {
            said: Said::Unauthorized,
            fields: Vec::new(),
            cookies: Vec::new(),
            challenges: vec!["x".repeat(BYTES)],
        });
        answers.keep(&keys[30], &huge, &none, &none, until);
        assert!(answers.shard(&keys[30]).bytes <= BYTES, "one answer cannot take more than its share");
    }
}
