//! Which endpoint takes a try. State lives per worker and backend and outlives snapshots (F-2).
//!
//! The arithmetic is that of ingress-nginx's balancers, so that consistent hashes and sticky cookies lead to the same
//! endpoints after the change-over. Affinity wins over `upstream-hash-by`, and that over `load-balance`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::budget::RetryBudget;
use super::health::Health;
use super::rng::Rng;
use crate::policy::affinity::Mode;
use crate::policy::load_balance::LoadBalance;
use crate::route::{Backend, BackendKey, EndpointAddress, EndpointSet};

pub mod chash;
pub mod ewma;
pub mod round_robin;
pub mod sticky;
pub mod subset;

use chash::Ring;
use ewma::Ewma;
use round_robin::RoundRobin;
use sticky::NodeMap;
use subset::Subsets;

/// What the request says about the choice.
#[derive(Debug, Clone, Copy, Default)]
pub struct PickFacts<'r> {
    /// Expansion of `upstream-hash-by`; needed when the backend has one (absent counts as empty).
    pub hash_key: Option<&'r str>,
    /// First part of the sticky cookie's value (before `|`), if the client sent one.
    pub sticky_key: Option<&'r str>,
    /// Endpoints that this request has already tried, in order.
    pub tried: &'r [SocketAddr],
    /// The ConfigMap's `load-balance`, for backends that have none of their own.
    pub default_balance: LoadBalance,
}

/// The endpoint for one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// Where to connect.
    pub address: SocketAddr,
    /// A new sticky key: the caller sets the cookie where the location allows it.
    pub set_cookie_key: Option<String>,
}

/// The balancers of one worker.
#[derive(Debug)]
pub struct Balancer {
    rng: Rng,
    /// Workers that share a retry budget.
    workers: u32,
    states: RefCell<HashMap<BackendKey, Rc<RefCell<State>>, RandomState>>,
    near: RefCell<Vec<Option<Near>>>,
    /// Some backend is balanced by what its endpoints took.
    measures: Cell<bool>,
}

/// Where the state of a backend was found before. Keys of one table share their texts, so that comparing two is
/// comparing pointers, where a look-up would read and hash the texts.
#[derive(Debug)]
struct Near {
    key: BackendKey,
    state: Rc<RefCell<State>>,
}

/// Backends that are remembered, by the end of their slot's number.
const NEAR: usize = 256;

/// State of one backend for the endpoint set it was made for.
#[derive(Debug)]
struct State {
    set: Arc<EndpointSet>,
    peers: Vec<SocketAddr>,
    method: Method,
    retries: RetryBudget,
}

#[derive(Debug)]
enum Method {
    RoundRobin(RoundRobin),
    Ewma(Ewma),
    Hash(Ring),
    Subset(Subsets),
    StickyBalanced(Ring),
    StickyPersistent(NodeMap),
}

/// A method without its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    RoundRobin,
    Ewma,
    Hash,
    Subset(u32),
    StickyBalanced,
    StickyPersistent,
}

impl Balancer {
    /// Balancers that draw from `rng`.
    pub fn new(rng: Rng) -> Self {
        Self {
            rng,
            workers: 1,
            states: RefCell::default(),
            near: RefCell::default(),
            measures: Cell::new(false),
        }
    }

    /// One of `workers` that share what a backend may be retried.
    pub fn shared_by(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Takes one more try out of the backend's budget (F-12); false when it is used up.
    pub fn may_retry(&self, backend: &BackendKey, now: Instant) -> bool {
        self.states.borrow().get(backend).is_none_or(|state| state.borrow_mut().retries.take(now))
    }

    /// Picks an endpoint; `None` when `endpoints` has no address. Names in the set are ignored: resolve them first.
    pub fn pick(
        &self,
        backend: &Backend,
        endpoints: &Arc<EndpointSet>,
        facts: &PickFacts<'_>,
        health: &Health,
        now: Instant,
    ) -> Option<Picked> {
        let kind = kind_of(backend, facts);
        if kind == Kind::Ewma {
            self.measures.set(true);
        }
        let make = || {
            let retries = RetryBudget::new(self.workers, now);
            State::new(backend, endpoints, kind, &self.rng, retries)
        };
        let state = self.state(backend, make);
        let mut state = state.borrow_mut();
        state.follow(backend, endpoints, kind, &self.rng, now);
        if facts.tried.is_empty() {
            state.retries.request();
        }
        state.pick(backend, facts, health, &self.rng, now)
    }

    /// The state of `backend`, made by `make` where it has none.
    fn state(&self, backend: &Backend, make: impl FnOnce() -> State) -> Rc<RefCell<State>> {
        let mut near = self.near.borrow_mut();
        let place = backend.slot.0 as usize % NEAR;
        if let Some(Some(found)) = near.get(place)
            && found.key == backend.key
        {
            return Rc::clone(&found.state);
        }
        let mut states = self.states.borrow_mut();
        let state = match states.get(&backend.key) {
            Some(state) => Rc::clone(state),
            None => {
                let state = Rc::new(RefCell::new(make()));
                states.insert(backend.key.clone(), Rc::clone(&state));
                state
            }
        };
        if near.len() <= place {
            near.resize_with(place + 1, || None);
        }
        if let Some(room) = near.get_mut(place) {
            *room = Some(Near { key: backend.key.clone(), state: Rc::clone(&state) });
        }
        state
    }

    /// Tells how long a finished try took (EWMA: connect plus response time).
    pub fn observe(&self, backend: &BackendKey, address: SocketAddr, took: Duration, now: Instant) {
        if !self.measures.get() {
            return;
        }
        let states = self.states.borrow();
        let Some(state) = states.get(backend) else { return };
        if let Method::Ewma(ewma) = &mut state.borrow_mut().method {
            ewma.observe(address, took, now);
        }
    }

    /// Forgets the backends for which `keep` does not hold.
    pub fn retain(&self, mut keep: impl FnMut(&BackendKey) -> bool) {
        self.near.borrow_mut().clear();
        self.states.borrow_mut().retain(|key, _| keep(key));
    }

    /// Number of backends with state.
    pub fn len(&self) -> usize {
        self.states.borrow().len()
    }

    /// True when no backend has state.
    pub fn is_empty(&self) -> bool {
        self.states.borrow().is_empty()
    }
}

fn kind_of(backend: &Backend, facts: &PickFacts<'_>) -> Kind {
    let policies = &backend.policies;
    if let Some(affinity) = &policies.affinity {
        return match affinity.mode {
            Mode::Balanced => Kind::StickyBalanced,
            Mode::Persistent => Kind::StickyPersistent,
        };
    }
    match (&policies.hash_by, policies.load_balance.unwrap_or(facts.default_balance)) {
        (Some(hash_by), _) => hash_by.subset.map_or(Kind::Hash, Kind::Subset),
        (None, LoadBalance::RoundRobin) => Kind::RoundRobin,
        (None, LoadBalance::Ewma) => Kind::Ewma,
    }
}

impl State {
    fn new(backend: &Backend, set: &Arc<EndpointSet>, kind: Kind, rng: &Rng, retries: RetryBudget) -> Self {
        let peers = addresses(set);
        let method = Method::new(kind, &peers, &backend.name, rng);
        Self { set: Arc::clone(set), peers, method, retries }
    }

    /// Takes over a new endpoint set or another method. Sets that did not change keep their address between
    /// snapshots, so the usual call is one comparison of pointers.
    fn follow(&mut self, backend: &Backend, set: &Arc<EndpointSet>, kind: Kind, rng: &Rng, now: Instant) {
        let same_kind = self.method.is(kind);
        if same_kind && Arc::ptr_eq(&self.set, set) {
            return;
        }
        self.set = Arc::clone(set);
        let peers = addresses(set);
        if same_kind && peers == self.peers {
            return;
        }
        match &mut self.method {
            Method::Ewma(ewma) if same_kind => ewma.follow(&peers, now),
            method => *method = Method::new(kind, &peers, &backend.name, rng),
        }
        self.peers = peers;
    }

    fn pick(
        &mut self,
        backend: &Backend,
        facts: &PickFacts<'_>,
        health: &Health,
        rng: &Rng,
        now: Instant,
    ) -> Option<Picked> {
        let peers = &self.peers;
        let plain = |address: SocketAddr| Picked { address, set_cookie_key: None };
        let tried = |address: SocketAddr| facts.tried.contains(&address);
        let wanted = health.filter(peers, now);
        match &mut self.method {
            Method::RoundRobin(round_robin) => round_robin.pick(peers, |a| wanted.takes(a), tried).map(plain),
            Method::Ewma(ewma) => ewma.pick(peers, |a| wanted.takes(a), tried, rng, now).map(plain),
            Method::Hash(ring) => ring.find(facts.hash_key.unwrap_or("")).map(plain),
            Method::Subset(subsets) => subsets.find(facts.hash_key.unwrap_or(""), rng).map(plain),
            Method::StickyBalanced(ring) => {
                sticky::balanced(ring, facts, backend.policies.cookie.change_on_failure, rng)
            }
            Method::StickyPersistent(map) => {
                sticky::persistent(map, facts, backend.policies.cookie.change_on_failure, rng)
            }
        }
    }
}

impl Method {
    fn new(kind: Kind, peers: &[SocketAddr], name: &str, rng: &Rng) -> Self {
        match kind {
            Kind::RoundRobin => Self::RoundRobin(RoundRobin::new(rng.below(peers.len()))),
            Kind::Ewma => Self::Ewma(Ewma::default()),
            Kind::Hash => Self::Hash(Ring::of(peers)),
            Kind::Subset(size) => Self::Subset(Subsets::new(peers, size)),
            Kind::StickyBalanced => Self::StickyBalanced(Ring::of(peers)),
            Kind::StickyPersistent => Self::StickyPersistent(NodeMap::new(peers, name)),
        }
    }

    fn is(&self, kind: Kind) -> bool {
        match (self, kind) {
            (Self::RoundRobin(_), Kind::RoundRobin)
            | (Self::Ewma(_), Kind::Ewma)
            | (Self::Hash(_), Kind::Hash)
            | (Self::StickyBalanced(_), Kind::StickyBalanced)
            | (Self::StickyPersistent(_), Kind::StickyPersistent) => true,
            (Self::Subset(subsets), Kind::Subset(size)) => subsets.size() == size,
            _ => false,
        }
    }
}

fn addresses(set: &EndpointSet) -> Vec<SocketAddr> {
    set.ready
        .iter()
        .filter_map(|endpoint| match endpoint {
            EndpointAddress::Socket(address) => Some(*address),
            EndpointAddress::Name(..) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
