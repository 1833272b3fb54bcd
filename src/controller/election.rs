//! Who leads: one process at a time holds a Lease (coordination.k8s.io/v1), and only that one writes.
//!
//! A lease of somebody else counts as given up when it did not change for its duration *as seen from here*: clocks of
//! other machines have no part in it. Who cannot renew for half the duration leads no more, well before anybody else may
//! begin to. The rules are pure; [`Candidacy`] is the loop around them.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::api::{self, ApiError};
use super::backoff::chance;
use crate::config::Election;
use crate::telemetry::Metrics;

/// The state of one candidate.
#[derive(Debug)]
struct Candidate {
    identity: String,
    ttl: Duration,
    /// The spec of somebody's lease, and when it was first seen like this.
    seen: Option<(Json, Instant)>,
    /// When our own lease was renewed last.
    renewed: Option<Instant>,
}

/// What to do about a lease.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// There is none: create one with this spec.
    Create(Json),
    /// It is ours, or free: write this spec.
    Write(Json),
    /// Somebody leads.
    Wait,
}

// === impl Candidate ===

impl Candidate {
    fn new(identity: &str, ttl: Duration) -> Self {
        Self { identity: identity.to_owned(), ttl, seen: None, renewed: None }
    }

    /// What to do about the lease as it is now. `time` is the time of day, for people who read the Lease.
    fn step(&mut self, lease: Option<&Json>, now: Instant, time: &str) -> Step {
        let Some(lease) = lease else { return Step::Create(self.spec(None, time)) };
        let nothing = json!({});
        let spec = lease.get("spec").unwrap_or(&nothing);
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != spec) {
            self.seen = Some((spec.clone(), now));
        }
        let holder = spec.get("holderIdentity").and_then(Json::as_str).unwrap_or_default();
        let seconds = spec.get("leaseDurationSeconds").and_then(Json::as_u64);
        let duration = seconds.map_or(self.ttl, Duration::from_secs);
        let idle =
            self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(*since));
        if holder == self.identity || holder.is_empty() || idle > duration {
            return Step::Write(self.spec(Some(spec), time));
        }
        self.renewed = None;
        Step::Wait
    }

    /// Our lease over what was there.
    fn spec(&self, before: Option<&Json>, time: &str) -> Json {
        let text =
            |name: &str| before.and_then(|spec| spec.get(name)).and_then(Json::as_str).unwrap_or_default();
        let transitions = before.and_then(|spec| spec.get("leaseTransitions")).and_then(Json::as_u64);
        let (holder, acquired) = (text("holderIdentity"), text("acquireTime"));
        let ours = holder == self.identity && !acquired.is_empty();
        json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.ttl.as_secs().max(1),
            "acquireTime": if ours { acquired } else { time },
            "renewTime": time,
            "leaseTransitions": match transitions {
                Some(count) if ours => count,
                Some(count) => count.saturating_add(1),
                None => 0,
            },
        })
    }

    /// A lease that is nobody's, for whoever asks next.
    fn released(&self, before: &Json, time: &str) -> Option<Json> {
        let spec = before.get("spec")?;
        let ours = spec.get("holderIdentity").and_then(Json::as_str) == Some(&self.identity);
        ours.then(|| {
            let mut spec = spec.clone();
            spec["holderIdentity"] = json!("");
            spec["leaseDurationSeconds"] = json!(1);
            spec["renewTime"] = json!(time);
            spec
        })
    }

    /// Our lease was written. It counts from when the request was sent, not from when the answer came.
    fn wrote(&mut self, sent: Instant) {
        self.renewed = Some(sent);
    }

    /// Whether we lead.
    fn leads(&self, now: Instant) -> bool {
        self.renewed.is_some_and(|at| now.saturating_duration_since(at) < self.ttl / 2)
    }
}

/// A part taken in an election.
pub(super) struct Candidacy {
    pub(super) client: Client,
    /// Where the Lease is.
    pub(super) namespace: String,
    /// Who we are; nobody else may have this name.
    pub(super) identity: String,
    pub(super) election: Election,
    /// Told what came of it.
    pub(super) leads: watch::Sender<bool>,
    pub(super) metrics: Metrics,
}

// === impl Candidacy ===

impl Candidacy {
    /// Takes part until told to `leave`. Gives the Lease back at the end, so that the next leader need not wait.
    pub(super) async fn run(&mut self, mut leave: watch::Receiver<bool>) {
        let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace);
        let lease = format!("{leases}/{}", self.election.lease);
        let pause = self.election.ttl / 4;
        let mut candidate = Candidate::new(&self.identity, self.election.ttl);
        let mut told = None;
        while !*leave.borrow() {
            let attempt = attempt(&self.client, &leases, &lease, &self.election.lease, &mut candidate);
            // A server that does not answer must not keep a leader in office.
            match timeout(pause, attempt).await {
                Ok(Err(error)) => complain(&lease, &error),
                Err(_) => tracing::warn!(lease, "no answer about the Lease in time"),
                Ok(Ok(())) => {}
            }
            let now = candidate.leads(Instant::now());
            if told.replace(now) != Some(now) {
                tracing::info!(leads = now, lease, identity = self.identity, "election");
            }
            self.tell(now);
            tokio::select! {
                () = sleep(pause) => {}
                _ = leave.changed() => {}
            }
        }
        // Whoever writes ends before the lease does.
        self.tell(false);
        if candidate.renewed.is_some() && release(&self.client, &lease, &candidate).await {
            tracing::info!(lease, "gave the Lease back");
        }
    }

    fn tell(&self, leads: bool) {
        self.metrics.control().set_leader(&self.election.lease, leads);
        self.leads.send_if_modified(|before| std::mem::replace(before, leads) != leads);
    }
}

fn complain(lease: &str, error: &ApiError) {
    match error.code() {
        // Somebody was faster.
        Some(409) => {}
        Some(403) => {
            tracing::error!(lease, %error, "not allowed to use the Lease; grant get, create and update")
        }
        _ => tracing::warn!(lease, error = api::causes(error), "the Lease cannot be read or written"),
    }
}

/// A name for a process that has none.
pub(super) fn made_up() -> String {
    format!("narthex-{:016x}", chance())
}

async fn attempt(
    client: &Client,
    leases: &str,
    lease: &str,
    name: &str,
    candidate: &mut Candidate,
) -> Result<(), ApiError> {
    let current = match api::get(client, lease).await {
        Ok(current) => Some(current),
        Err(error) if error.code() == Some(404) => None,
        Err(error) => return Err(error),
    };
    let sent = Instant::now();
    match candidate.step(current.as_ref(), sent, &time_of_day()) {
        Step::Wait => return Ok(()),
        Step::Create(spec) => {
            let body = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec,
            });
            api::post(client, leases, &body).await?;
        }
        Step::Write(spec) => {
            let mut body = current.unwrap_or_default();
            body["spec"] = spec;
            // The resourceVersion in it makes the server refuse what somebody else overtook.
            api::put(client, lease, &body).await?;
        }
    }
    candidate.wrote(sent);
    Ok(())
}

async fn release(client: &Client, lease: &str, candidate: &Candidate) -> bool {
    let Ok(mut current) = api::get(client, lease).await else { return false };
    let Some(spec) = candidate.released(&current, &time_of_day()) else { return false };
    current["spec"] = spec;
    api::put(client, lease, &current).await.is_ok()
}

/// Now, as `MicroTime` wants it.
fn time_of_day() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::fake::{FakeApi, PATIENCE};

    const TTL: Duration = Duration::from_secs(30);

    fn held_by(holder: &str, renewed: &str) -> Json {
        json!({"spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 30, "acquireTime": "t0", "renewTime": renewed,
            "leaseTransitions": 4,
        }})
    }

    fn written(step: Step) -> Json {
        match step {
            Step::Write(spec) | Step::Create(spec) => spec,
            Step::Wait => panic!("somebody leads"),
        }
    }

    #[test]
    fn a_lease_that_is_missing_or_free_is_taken() {
        let now = Instant::now();
        let mut candidate = Candidate::new("a", TTL);
        let Step::Create(spec) = candidate.step(None, now, "t1") else { panic!("created") };
        assert_eq!((&spec["holderIdentity"], &spec["leaseTransitions"]), (&json!("a"), &json!(0)));
        assert!(!candidate.leads(now), "asking is not having");
        candidate.wrote(now);
        assert!(candidate.leads(now));
        let spec = written(Candidate::new("a", TTL).step(Some(&held_by("", "t1")), now, "t2"));
        assert_eq!((&spec["holderIdentity"], &spec["leaseTransitions"]), (&json!("a"), &json!(5)));
        assert_eq!((&spec["acquireTime"], &spec["renewTime"]), (&json!("t2"), &json!("t2")));
    }

    #[test]
    fn our_lease_is_renewed_and_keeps_its_beginning() {
        let spec = written(Candidate::new("a", TTL).step(Some(&held_by("a", "t1")), Instant::now(), "t2"));
        assert_eq!((&spec["acquireTime"], &spec["renewTime"]), (&json!("t0"), &json!("t2")));
        assert_eq!(spec["leaseTransitions"], json!(4));
    }

    #[test]
    fn a_lease_is_taken_over_only_when_it_did_not_change_for_its_duration_as_seen_from_here() {
        let start = Instant::now();
        let mut candidate = Candidate::new("b", TTL);
        // Times in the lease are from another clock and mean nothing.
        assert_eq!(candidate.step(Some(&held_by("a", "1970")), start, "t"), Step::Wait);
        assert_eq!(candidate.step(Some(&held_by("a", "1970")), start + TTL, "t"), Step::Wait);
        assert_eq!(candidate.step(Some(&held_by("a", "1971")), start + TTL, "t"), Step::Wait);
        let later = start + TTL * 2;
        assert_eq!(candidate.step(Some(&held_by("a", "1971")), later, "t"), Step::Wait);
        let spec = written(candidate.step(Some(&held_by("a", "1971")), later + Duration::from_secs(1), "t"));
        assert_eq!(spec["holderIdentity"], json!("b"));
    }

    #[test]
    fn who_cannot_renew_leads_no_more_long_before_anybody_else_may() {
        let start = Instant::now();
        let mut candidate = Candidate::new("a", TTL);
        candidate.wrote(start);
        assert!(candidate.leads(start + TTL / 2 - Duration::from_millis(1)));
        assert!(!candidate.leads(start + TTL / 2));
        candidate.wrote(start + TTL);
        assert!(candidate.leads(start + TTL));
        assert_eq!(candidate.step(Some(&held_by("b", "t")), start + TTL, "t"), Step::Wait);
        assert!(!candidate.leads(start + TTL), "somebody else holds it");
    }

    #[test]
    fn only_our_own_lease_is_given_back() {
        let candidate = Candidate::new("a", TTL);
        assert_eq!(candidate.released(&held_by("b", "t1"), "t2"), None);
        let spec = candidate.released(&held_by("a", "t1"), "t2").unwrap();
        assert_eq!((&spec["holderIdentity"], &spec["leaseDurationSeconds"]), (&json!(""), &json!(1)));
    }

    #[test]
    fn times_are_written_with_microseconds() {
        let text = time_of_day();
        assert_eq!(
            (text.len(), &text[text.len() - 1..]),
            ("2026-01-01T00:00:00.000000Z".len(), "Z"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_candidate_creates_the_lease_leads_and_gives_it_back() {
        let mut api = FakeApi::start().await;
        let (leads, mut led) = watch::channel(false);
        let (leave, leaving) = watch::channel(false);
        let mut candidacy = Candidacy {
            client: api.client.clone(),
            namespace: "edge".into(),
            identity: "a".into(),
            election: Election { lease: "leader".into(), ttl: TTL },
            leads,
            metrics: Metrics::new(crate::telemetry::metrics::MetricsConfig::default()),
        };
        let task = tokio::spawn(async move { candidacy.run(leaving).await });
        api.expect("GET", &["/namespaces/edge/leases/leader"]).await.refuse(404, "NotFound").await;
        let call = api.expect("POST", &["/namespaces/edge/leases"]).await;
        assert!(!*led.borrow(), "not before the server agreed");
        let mut lease = call.body.clone();
        assert_eq!(lease["spec"]["holderIdentity"], json!("a"));
        call.reply(201, &lease).await;
        timeout(PATIENCE, led.wait_for(|leads| *leads)).await.unwrap().unwrap();
        leave.send_replace(true);
        timeout(PATIENCE, led.wait_for(|leads| !*leads)).await.unwrap().unwrap();
        lease["metadata"]["resourceVersion"] = json!("7");
        api.expect("GET", &["/leases/leader"]).await.reply(200, &lease).await;
        let call = api.expect("PUT", &["/leases/leader"]).await;
        assert_eq!(
            (&call.body["spec"]["holderIdentity"], &call.body["metadata"]["resourceVersion"]),
            (&json!(""), &json!("7"))
        );
        call.reply(200, &json!({})).await;
        timeout(PATIENCE, task).await.unwrap().unwrap();
    }
}
