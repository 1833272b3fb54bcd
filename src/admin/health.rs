//! Ready and alive: what the probes of Kubernetes ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::drain::{DrainWatcher, Phase};

/// Facts that `app` sets as they become true. Cheap to clone. An outage of the API server changes none of them.
#[derive(Debug, Clone)]
pub struct Health {
    facts: Arc<Facts>,
    drain: DrainWatcher,
}

#[derive(Debug)]
struct Facts {
    bound: AtomicBool,
    published: AtomicBool,
    alive: AtomicBool,
}

impl Health {
    /// Alive, and not ready yet.
    pub fn new(drain: DrainWatcher) -> Self {
        let facts = Facts {
            bound: AtomicBool::new(false),
            published: AtomicBool::new(false),
            alive: AtomicBool::new(true),
        };
        Self { facts: Arc::new(facts), drain }
    }

    /// Every listener is bound: http, https, webhook, tcp and udp.
    pub fn listeners_bound(&self) {
        self.facts.bound.store(true, Ordering::Release);
    }

    /// The first table is published.
    pub fn table_published(&self) {
        self.facts.published.store(true, Ordering::Release);
    }

    /// The control loop ended by a panic (`F-18`): nothing is followed any more.
    pub fn control_lost(&self) {
        self.facts.alive.store(false, Ordering::Release);
    }

    /// What is missing for being ready; `None` when nothing is.
    pub fn not_ready(&self) -> Option<&'static str> {
        if self.drain.phase() > Phase::Serving {
            Some("shutting down")
        } else if !self.is_alive() {
            Some("the control loop is lost")
        } else if !self.facts.bound.load(Ordering::Acquire) {
            Some("listeners are not bound yet")
        } else if !self.facts.published.load(Ordering::Acquire) {
            Some("no routing table is published yet")
        } else {
            None
        }
    }

    /// Whether the control loop lives.
    pub fn is_alive(&self) -> bool {
        self.facts.alive.load(Ordering::Acquire)
    }
}
