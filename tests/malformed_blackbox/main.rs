//! Every case of the malformed-message corpora against the running binary: in one write, byte by byte, and over TLS,
//! with a backend that records exactly what it received.
//!
//! `conformance/malformed` judges the one-write run by a second implementation. Deviations stand with their reasons in
//! `tests/data/pins.yaml`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a failed expectation is a panic")]

mod backend;
mod case;
mod client;
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of the data plane")]
#[path = "../support/frames.rs"]
mod frames;
mod judge;
mod process;
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of the data plane")]
#[path = "../support/tls.rs"]
mod tls;

use std::sync::Mutex;
use std::time::Duration;

use case::{Case, Kind};
use judge::Lane;

/// Proxies, and cases at once.
const LANES: usize = 4;
/// A case that took longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the bytes of a case travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Travel {
    /// In one write.
    Write,
    /// One byte after the other.
    Bytes,
    /// In one write, over TLS.
    Tls,
}

impl Travel {
    fn word(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Bytes => "bytes",
            Self::Tls => "tls",
        }
    }
}

/// Runs all cases of a corpus; fails with a list of what went wrong.
fn run(kind: Kind, travel: Travel) {
    let (cases, pins) = (case::load(kind), case::pins());
    let queue = Mutex::new(cases.iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async {
                    let lane = Lane::start(travel).await;
                    loop {
                        let next = queue.lock().unwrap().next();
                        let Some(case) = next else { break };
                        let pinned =
                            pins.iter().any(|pin| pin.case == case.name && pin.holds_for(travel.word()));
                        if let Some(failure) = failure(&lane, kind, case, pinned).await {
                            failures.lock().unwrap().push(format!("{}: {failure}", case.name));
                        }
                    }
                    // A busy machine may need more than one look; a proxy that is gone never answers.
                    let mut alive = false;
                    for _ in 0..10 {
                        alive = alive || lane.is_alive().await;
                    }
                    assert!(alive, "the proxy serves no more");
                });
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} failed\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// What is wrong with the outcome of a case. A case that failed is judged once more: a busy machine may be slower than
/// the patience of a judge.
async fn failure(lane: &Lane, kind: Kind, case: &Case, pinned: bool) -> Option<String> {
    let mut outcome = once(lane, kind, case).await;
    if outcome.is_err() && !pinned {
        outcome = once(lane, kind, case).await;
    }
    match outcome {
        Ok(()) if pinned => Some("passes, so its pin in tests/data/pins.yaml is out of date".into()),
        Err(reason) if !pinned => Some(reason),
        _ => None,
    }
}

async fn once(lane: &Lane, kind: Kind, case: &Case) -> Result<(), String> {
    let judged = tokio::time::timeout(PATIENCE, lane.judge(kind, case)).await;
    judged.unwrap_or_else(|_| Err("no verdict in time".into()))
}

#[test]
fn requests_in_one_write() {
    run(Kind::Http1, Travel::Write);
}

#[test]
fn requests_byte_by_byte() {
    run(Kind::Http1, Travel::Bytes);
}

#[test]
fn requests_over_tls() {
    run(Kind::Http1, Travel::Tls);
}

#[test]
fn http_2_in_one_write() {
    run(Kind::Http2, Travel::Write);
}

#[test]
fn http_2_byte_by_byte() {
    run(Kind::Http2, Travel::Bytes);
}

#[test]
fn http_2_over_tls() {
    run(Kind::Http2, Travel::Tls);
}

#[test]
fn responses_in_one_write() {
    run(Kind::Response, Travel::Write);
}

#[test]
fn responses_byte_by_byte() {
    run(Kind::Response, Travel::Bytes);
}

#[test]
fn responses_over_tls() {
    run(Kind::Response, Travel::Tls);
}

#[test]
fn every_pin_names_a_case_and_a_reason() {
    let names: Vec<String> = [Kind::Http1, Kind::Http2, Kind::Response]
        .into_iter()
        .flat_map(|kind| case::load(kind).into_iter().map(|case| case.name))
        .collect();
    assert_eq!(names.len(), 255 + 850, "the corpora are whole");
    for pin in case::pins() {
        assert!(names.contains(&pin.case), "{} is no case", pin.case);
        assert!(pin.reason.len() > 20, "{} has no reason", pin.case);
    }
}
