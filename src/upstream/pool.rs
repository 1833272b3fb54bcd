//! Idle HTTP/1 connections of one worker, and how many connections an endpoint has.
//!
//! The youngest connection goes out first, so that surplus ones age and leave. What is handed out has just been
//! looked at: a connection that became readable or closed while idle is dropped.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use foldhash::fast::RandomState;

use super::Protocol;
use super::http1::Connection;
use crate::limit::Memory;
use crate::policy::external_auth::Keepalive;
use crate::policy::global::UpstreamKeepalive;

/// Capacity of a fresh read buffer, bytes.
pub(super) const BUFFER: usize = 8 * 1024;
/// Read buffers kept for the next exchange.
const SPARE_BUFFERS: usize = 32;

/// What two requests must share to share a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// Where it leads.
    pub address: SocketAddr,
    /// What is spoken.
    pub protocol: Protocol,
    /// How it is kept where that is not the ConfigMap's affair: what is kept differently is kept apart.
    pub kept: Option<Keepalive>,
    /// [`super::ClientTls::id`]; 0 for clear text.
    pub tls: u64,
}

/// Idle connections.
#[derive(Debug)]
pub struct Pool {
    limits: Cell<UpstreamKeepalive>,
    idle: RefCell<HashMap<PoolKey, Rc<Lane>, RandomState>>,
    count: Cell<usize>,
    buffers: RefCell<Vec<BytesMut>>,
    /// Room for the next request's head.
    scratch: RefCell<Vec<u8>>,
    memory: Memory,
}

/// Idle connections that one kind of request may take, the youngest last. A request looks its lane up once and brings
/// the connection back to it.
#[derive(Debug, Default)]
pub struct Lane {
    kept: Option<Keepalive>,
    idle: RefCell<VecDeque<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

impl Pool {
    /// An empty pool. `memory` counts what answers take up.
    pub fn new(limits: UpstreamKeepalive, memory: Memory) -> Self {
        Self {
            limits: Cell::new(limits),
            idle: RefCell::new(HashMap::default()),
            count: Cell::new(0),
            buffers: RefCell::new(Vec::new()),
            scratch: RefCell::default(),
            memory,
        }
    }

    /// Where what answers take up is counted.
    pub(super) const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Changes the limits; connections above them leave with the next sweep.
    pub fn configure(&self, limits: UpstreamKeepalive) {
        self.limits.set(limits);
    }

    /// The limits in force.
    pub fn limits(&self) -> UpstreamKeepalive {
        self.limits.get()
    }

    fn limits_of(&self, kept: Option<Keepalive>) -> UpstreamKeepalive {
        let limits = self.limits.get();
        match kept {
            Some(Keepalive { connections, requests, timeout }) => {
                UpstreamKeepalive { connections, requests, timeout, ..limits }
            }
            None => limits,
        }
    }

    /// Idle connections.
    pub fn len(&self) -> usize {
        self.count.get()
    }

    /// True when no connection idles.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where connections for `key` wait.
    pub fn lane(&self, key: &PoolKey) -> Rc<Lane> {
        let mut idle = self.idle.borrow_mut();
        match idle.get(key) {
            Some(lane) => Rc::clone(lane),
            None => {
                let lane = Rc::new(Lane { kept: key.kept, ..Lane::default() });
                Rc::clone(idle.entry(*key).or_insert(lane))
            }
        }
    }

    /// The youngest idle connection that is still good.
    pub fn checkout(&self, lane: &Lane, now: Instant) -> Option<Box<Connection>> {
        let mut idle = lane.idle.borrow_mut();
        while let Some(mut entry) = idle.pop_back() {
            self.count.set(self.count.get().saturating_sub(1));
            if may_stay(&self.limits_of(lane.kept), &entry, now) && entry.connection.is_quiet() {
                return Some(entry.connection);
            }
        }
        None
    }

    /// Takes back a connection on which nothing is under way; drops it when it is worn out or there is no room. At
    /// the limit the connection that has idled longest makes room.
    pub fn checkin(&self, lane: &Lane, connection: Box<Connection>, now: Instant) {
        let limits = self.limits_of(lane.kept);
        let entry = Idle { connection, since: now };
        if limits.connections == 0 || !may_stay(&limits, &entry, now) {
            return;
        }
        if lane.kept.is_some() && lane.idle.borrow().len() >= limits.connections as usize {
            if lane.idle.borrow_mut().pop_front().is_some() {
                self.count.set(self.count.get().saturating_sub(1));
            }
        } else if self.count.get() >= self.limits.get().connections.max(limits.connections) as usize {
            self.drop_oldest();
        }
        lane.idle.borrow_mut().push_back(entry);
        self.count.set(self.count.get().saturating_add(1));
    }

    /// Drops the connection that has idled longest.
    fn drop_oldest(&self) {
        let lanes = self.idle.borrow();
        let since = |lane: &&Rc<Lane>| lane.idle.borrow().front().map(|entry| entry.since);
        let oldest = lanes.values().filter(|lane| since(lane).is_some()).min_by_key(since);
        if oldest.and_then(|lane| lane.idle.borrow_mut().pop_front()).is_some() {
            self.count.set(self.count.get().saturating_sub(1));
        }
    }

    /// Drops connections that idled too long, are too old, or were closed or written to by the backend.
    pub fn sweep(&self, now: Instant) {
        self.prune(|key, entry| {
            may_stay(&self.limits_of(key.kept), entry, now) && entry.connection.is_quiet()
        });
    }

    /// Drops the connections for whose key `keep` does not hold: endpoints that are gone.
    pub fn retain(&self, keep: impl Fn(&PoolKey) -> bool) {
        self.prune(|key, _| keep(key));
    }

    fn prune(&self, mut keep: impl FnMut(&PoolKey, &mut Idle) -> bool) {
        let mut count: usize = 0;
        let mut idle = self.idle.borrow_mut();
        idle.retain(|key, lane| {
            let mut queue = lane.idle.borrow_mut();
            queue.retain_mut(|entry| keep(key, entry));
            count = count.saturating_add(queue.len());
            // Whoever is under way brings a connection back to it.
            !queue.is_empty() || Rc::strong_count(lane) > 1
        });
        self.count.set(count);
    }

    /// Empty room for the head of a request. Heads are written at once nearly always, so one room serves all of them
    /// and stays warm.
    pub(super) fn scratch(&self) -> Vec<u8> {
        self.scratch.take()
    }

    /// Takes the room back when the head is written.
    pub(super) fn recycle_scratch(&self, mut scratch: Vec<u8>) {
        if scratch.capacity() <= BUFFER {
            scratch.clear();
            self.scratch.replace(scratch);
        }
    }

    /// An empty read buffer.
    pub(super) fn buffer(&self) -> BytesMut {
        self.buffers.borrow_mut().pop().unwrap_or_else(|| BytesMut::with_capacity(BUFFER))
    }

    /// Takes a read buffer back unless it grew or parts of it are still in use.
    pub(super) fn recycle(&self, mut buffer: BytesMut) {
        buffer.clear();
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < SPARE_BUFFERS && buffer.try_reclaim(BUFFER) && buffer.capacity() <= 2 * BUFFER {
            buffers.push(buffer);
        }
    }
}

fn may_stay(limits: &UpstreamKeepalive, entry: &Idle, now: Instant) -> bool {
    now.saturating_duration_since(entry.since) < limits.timeout
        && now.saturating_duration_since(entry.connection.created()) < limits.time
        && entry.connection.exchanges() < limits.requests
}

/// Open connections by endpoint (F-17).
#[derive(Debug, Default)]
pub struct OpenCounts {
    counts: RefCell<HashMap<SocketAddr, Rc<Cell<u32>>, RandomState>>,
}

/// One open connection; counts while it lives.
#[derive(Debug)]
pub struct Open(Rc<Cell<u32>>);

impl OpenCounts {
    /// Counts one more connection to `address`, unless there are `limit` already.
    pub fn open(&self, address: SocketAddr, limit: u32) -> Option<Open> {
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(address).or_default();
        if count.get() >= limit {
            return None;
        }
        count.set(count.get().saturating_add(1));
        Some(Open(Rc::clone(count)))
    }

    /// Connections to `address` now.
    pub fn of(&self, address: SocketAddr) -> u32 {
        self.counts.borrow().get(&address).map_or(0, |count| count.get())
    }

    /// Forgets endpoints without connections.
    pub fn sweep(&self) {
        self.counts.borrow_mut().retain(|_, count| count.get() > 0);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
