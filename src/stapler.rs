//! Keeps OCSP answers beside the certificates that are served (`enable-ocsp`): asks responders from a thread of its own,
//! early enough, so that a handshake never waits for one.
//!
//! What is asked and what may be shown is `cert::ocsp`. Responders are asked over clear HTTP, as their URLs say, and
//! only at addresses that a backend may have. Started by `app`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::{StreamExt, stream};
use tokio::sync::Notify;

use crate::cert::{Pair, ocsp};
use crate::route::CertificateChoice;
use crate::route::reach::Reach;
use crate::snapshot::{Reader, Snapshot};

mod fetch;

/// Questions under way at once.
const AT_ONCE: usize = 8;
/// Time for one question.
const TIMEOUT: Duration = Duration::from_secs(10);
/// First pause after a failure; each further one doubles it.
const PAUSE: Duration = Duration::from_secs(30);
/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// An answer is asked for again after half its life, within these bounds.
const RENEWAL: (Duration, Duration) = (Duration::from_secs(60), Duration::from_hours(24 * 3));

/// Wakes the thread. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Call>);

#[derive(Debug, Default)]
struct Call {
    notify: Notify,
    over: AtomicBool,
}

impl Bell {
    /// Something was published.
    pub fn ring(&self) {
        self.0.notify.notify_one();
    }

    /// The thread is to end.
    pub fn stop(&self) {
        self.0.over.store(true, Ordering::Relaxed);
        self.ring();
    }
}

/// Starts the thread.
///
/// # Errors
/// When thread or runtime cannot be made.
pub fn start(reader: Reader, reach: Arc<Reach>, bell: Bell) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stapler = Stapler { reader, reach, plans: BTreeMap::new() };
    std::thread::Builder::new()
        .name("ocsp".into())
        .spawn(move || runtime.block_on(stapler.run(&bell)))
        .map(drop)
}

struct Stapler {
    reader: Reader,
    reach: Arc<Reach>,
    /// By the pair's id.
    plans: BTreeMap<[u8; 32], Plan>,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    next: Instant,
    failures: u32,
}

impl Stapler {
    async fn run(mut self, bell: &Bell) {
        while !bell.0.over.load(Ordering::Relaxed) {
            let next = self.round().await;
            let pause = next.saturating_duration_since(Instant::now());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = bell.0.notify.notified() => {}
            }
        }
    }

    /// Asks for everything that is due; when to do so again.
    async fn round(&mut self) -> Instant {
        let idle = Instant::now() + LONGEST_PAUSE;
        let snapshot = self.reader.load();
        if !snapshot.table.globals.enable_ocsp {
            self.plans.clear();
            return idle;
        }
        let pairs = pairs(&snapshot);
        self.plans.retain(|id, _| pairs.contains_key(id));
        let (now, date) = (Instant::now(), unix_now());
        // A Secret that went and came back is a pair without the answer that its former self had.
        let lost = |pair: &Pair, plan: &Plan| plan.failures == 0 && !pair.is_stapled(date);
        let due = pairs
            .iter()
            .filter(|(id, pair)| self.plans.get(*id).is_none_or(|plan| plan.next <= now || lost(pair, plan)));
        let questions = due.filter_map(|(id, pair)| Some((id, pair, ocsp::question(&pair.key.cert)?)));
        let this = &*self;
        let asked = questions.map(|(id, pair, question)| async move {
            let failures = this.plans.get(id).map_or(0, |plan| plan.failures);
            (*id, this.ask(pair, &question, failures).await)
        });
        let plans: Vec<([u8; 32], Plan)> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        self.plans.extend(plans);
        self.plans.values().map(|plan| plan.next).min().unwrap_or(idle).min(idle)
    }

    async fn ask(&self, pair: &Pair, question: &ocsp::Question, failures: u32) -> Plan {
        let mut reason = String::new();
        for url in &question.responders {
            let permitted = |address: SocketAddr| self.reach.check(address);
            let asked = fetch::post(url, &question.request, permitted);
            let answer = match tokio::time::timeout(TIMEOUT, asked).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => {
                    reason = error;
                    continue;
                }
                Err(_) => {
                    reason = "the responder does not answer".into();
                    continue;
                }
            };
            let now = unix_now();
            match ocsp::judge(&answer, question, &pair.key.cert, now) {
                Ok(validity) => {
                    pair.staple(answer, validity.until);
                    let left = u64::try_from(validity.until - now).unwrap_or(0);
                    let pause = Duration::from_secs(left / 2).clamp(RENEWAL.0, RENEWAL.1);
                    return Plan { next: Instant::now() + pause, failures: 0 };
                }
                Err(error) => reason = error.to_string(),
            }
        }
        let subject = &pair.info.subject_common_name;
        if failures == 0 {
            tracing::warn!(subject, reason, "no OCSP answer to staple");
        }
        let pause = PAUSE.saturating_mul(1 << failures.min(7)).min(LONGEST_PAUSE);
        Plan { next: Instant::now() + pause, failures: failures.saturating_add(1) }
    }
}

/// Every pair that a host shows; what merely lies in a Secret asks nobody.
fn pairs(snapshot: &Snapshot) -> BTreeMap<[u8; 32], Arc<Pair>> {
    let chosen = snapshot.table.tls.values().filter_map(|choice| match choice {
        CertificateChoice::Secret(key) => snapshot.certs.pairs.get(key),
        CertificateChoice::Default => None,
    });
    let all = chosen.chain(std::iter::once(&snapshot.certs.default));
    all.map(|pair| (pair.info.id, Arc::clone(pair))).collect()
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
