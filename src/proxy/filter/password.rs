//! Checking passwords: on a few blocking threads for the whole process, with a short memory of good ones, because one
//! bcrypt check costs as much as thousands of requests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::policy::basic_auth::{BasicAuth, Credentials, credentials};
use crate::policy::satisfy::Verdict;
use crate::proxy::forward::Way;
use crate::reply::LocalReply;
use crate::wire::Fields;

/// Checks that may wait for a thread (`D.2`).
const QUEUE: usize = 256;
/// Good passwords remembered by one worker.
const REMEMBERED: usize = 10_000;
/// For how long.
const MEMORY: Duration = Duration::from_secs(300);

/// Threads for checks, shared by all workers.
#[derive(Debug, Clone)]
pub struct Threads(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    permits: Semaphore,
    waiting: AtomicUsize,
}

/// Good passwords that one worker remembers, by a keyed digest: the passwords themselves are not kept.
pub struct Memory {
    threads: Threads,
    key: [u8; 32],
    known: RefCell<HashMap<[u8; 32], Instant, RandomState>>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({})", self.known.borrow().len())
    }
}

impl Threads {
    /// Half as many checks at once as there are workers, at least one.
    pub fn new(workers: usize) -> Self {
        Self(Arc::new(Inner { permits: Semaphore::new((workers / 2).max(1)), waiting: AtomicUsize::new(0) }))
    }

    /// Runs a check on a blocking thread; `None` when too many wait.
    async fn run(&self, check: impl FnOnce() -> bool + Send + 'static) -> Option<bool> {
        let _place = Place::take(&self.0.waiting)?;
        let permit = self.0.permits.acquire().await.ok()?;
        let checked = tokio::task::spawn_blocking(check).await.ok();
        drop(permit);
        checked
    }
}

/// A place among those that wait.
struct Place<'p>(&'p AtomicUsize);

impl<'p> Place<'p> {
    fn take(waiting: &'p AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < QUEUE).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Memory {
    /// An empty memory with a key of its own.
    pub fn new(threads: Threads) -> Self {
        let mut key = [0; 32];
        // Without chance from the system there would be no TLS either; a known key still keeps passwords out of reach.
        let _ = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut key);
        Self { threads, key, known: RefCell::default() }
    }

    /// True for the right password of a user; `None` when nobody has time to look.
    async fn check(&self, basic: &BasicAuth, given: Credentials) -> Option<bool> {
        let Some(hash) = basic.users.hash_of(&given.user) else { return Some(false) };
        let digest = self.digest(hash.identity(), &given);
        if self.knows(&digest) {
            return Some(true);
        }
        let hash = hash.clone();
        let good = self.threads.run(move || hash.matches(&given.password)).await?;
        if good {
            self.remember(digest);
        }
        Some(good)
    }

    fn digest(&self, hash: &[u8], given: &Credentials) -> [u8; 32] {
        let mut digest = Sha256::new().chain_update(self.key);
        for part in [hash, &given.user, &given.password] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    fn knows(&self, digest: &[u8; 32]) -> bool {
        self.known.borrow().get(digest).is_some_and(|until| *until > Instant::now())
    }

    fn remember(&self, digest: [u8; 32]) {
        let mut known = self.known.borrow_mut();
        let now = Instant::now();
        if known.len() >= REMEMBERED {
            known.retain(|_, until| *until > now);
            if known.len() >= REMEMBERED {
                known.clear();
            }
        }
        known.insert(digest, now + MEMORY);
    }
}

/// `$remote_user`: the name in basic credentials, right or wrong.
pub(super) fn user(fields: &Fields) -> Option<Vec<u8>> {
    fields.get("authorization").and_then(credentials).map(|given| given.user)
}

/// Asks for user name and password.
pub(super) async fn judge(way: &Way<'_>, basic: &BasicAuth) -> Verdict {
    let refused =
        || Verdict::Refuse(LocalReply::Unauthorized { challenges: vec![basic.challenge.to_string()] });
    let Some(given) = way.view.fields.get_only("authorization").ok().flatten().and_then(credentials) else {
        return refused();
    };
    match way.exchange.worker.passwords.check(basic, given).await {
        Some(true) => Verdict::Admit,
        Some(false) => refused(),
        None => Verdict::Refuse(LocalReply::Overloaded { what: "threads for passwords" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::basic_auth::htpasswd::Users;

    fn given(password: &str) -> Credentials {
        Credentials { user: b"ann".to_vec(), password: password.as_bytes().to_vec() }
    }

    fn users(text: &str) -> BasicAuth {
        BasicAuth { users: Users::from_file(text.as_bytes()).unwrap(), challenge: "Basic".into() }
    }

    #[test]
    fn a_good_password_is_remembered_and_a_changed_one_is_forgotten() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let memory = Memory::new(Threads::new(1));
            let before = users("ann:{PLAIN}one");
            assert_eq!(memory.check(&before, given("two")).await, Some(false));
            assert!(memory.known.borrow().is_empty(), "a wrong password is not remembered");
            assert_eq!(memory.check(&before, given("one")).await, Some(true));
            assert_eq!(memory.known.borrow().len(), 1);
            assert_eq!(memory.check(&before, given("one")).await, Some(true));
            assert_eq!(memory.check(&users("ann:{PLAIN}two"), given("one")).await, Some(false));
            assert_eq!(memory.check(&users("bob:{PLAIN}one"), given("one")).await, Some(false));
        });
    }

    #[test]
    fn more_checks_than_may_wait_are_turned_away() {
        let waiting = AtomicUsize::new(0);
        let places: Vec<_> = (0..QUEUE).map(|_| Place::take(&waiting).unwrap()).collect();
        assert!(Place::take(&waiting).is_none());
        drop(places);
        assert!(Place::take(&waiting).is_some());
    }
}
