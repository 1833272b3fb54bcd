//! Memory of the whole process: what is granted, what bodies hold of it, how full it is (`security.md` D.3).
//!
//! Two guards. Buffered bodies, of requests and of answers, are counted as they come and go ([`Memory::hold`]); when they
//! reach their budget, new requests with a body are refused and answers are read in small pieces (D-4). And the resident size is compared with the limit ([`watch`]): the fuller,
//! the more is refused (D-5). Both count what is there and never fail; refusing is the business of `proxy`.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// Between two looks at the resident size.
const LOOK: Duration = Duration::from_millis(200);
/// From this part of the budget on, connections get small windows and read nothing ahead, percent.
const SCARCE_PERCENT: u64 = 80;

/// How full the memory of the process is (D-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Below 85 % of the limit, or there is no limit.
    Calm,
    /// From 85 %: idle connections are closed, new HTTP/2 connections get few streams.
    Tight,
    /// From 92 %: new requests get 503.
    Full,
    /// From 95 %: new connections are closed.
    Critical,
}

impl Pressure {
    /// What `resident` bytes of `limit` mean.
    pub fn of(resident: u64, limit: u64) -> Self {
        match resident.saturating_mul(100).checked_div(limit).unwrap_or(0) {
            95.. => Self::Critical,
            92.. => Self::Full,
            85.. => Self::Tight,
            _ => Self::Calm,
        }
    }

    const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Calm,
            1 => Self::Tight,
            2 => Self::Full,
            _ => Self::Critical,
        }
    }
}

/// What bodies hold of their budget (D-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bodies {
    /// Less than four fifths.
    Plenty,
    /// More: as little as possible is buffered.
    Scarce,
    /// The budget is used up: no new bodies.
    Spent,
}

/// The memory of the process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Granted bytes.
    limit: u64,
    budget: AtomicU64,
    used: AtomicU64,
    pressure: AtomicU8,
}

/// Bytes of bodies that are held until this is dropped.
#[derive(Debug)]
#[must_use = "the bytes count while this lives"]
pub struct Held {
    memory: Memory,
    bytes: u64,
}

impl Memory {
    /// `limit` bytes are granted; `None` for an unknown number. Bodies may hold all of it until told otherwise.
    pub fn new(limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(u64::MAX);
        Self(Arc::new(Shared {
            limit,
            budget: AtomicU64::new(limit),
            used: AtomicU64::new(0),
            pressure: AtomicU8::new(Pressure::Calm as u8),
        }))
    }

    /// Granted bytes.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// What bodies may hold together from now on, bytes.
    pub fn set_budget(&self, bytes: u64) {
        self.0.budget.store(bytes.min(self.0.limit), Ordering::Relaxed);
    }

    /// What bodies may hold together, bytes.
    pub fn budget(&self) -> u64 {
        self.0.budget.load(Ordering::Relaxed)
    }

    /// Counts `bytes` of bodies.
    pub fn hold(&self, bytes: u64) -> Held {
        let mut held = Held { memory: self.clone(), bytes: 0 };
        held.set(bytes);
        held
    }

    /// Bytes of bodies held now.
    pub fn held(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// How much of the budget is left.
    pub fn bodies(&self) -> Bodies {
        let (used, budget) = (self.held(), self.budget());
        if used >= budget {
            Bodies::Spent
        } else if used >= budget / 100 * SCARCE_PERCENT {
            Bodies::Scarce
        } else {
            Bodies::Plenty
        }
    }

    /// How full the memory is, as of the last look.
    pub fn pressure(&self) -> Pressure {
        Pressure::from_u8(self.0.pressure.load(Ordering::Relaxed))
    }

    /// Takes a measured resident size in.
    pub fn observe(&self, resident: u64) {
        self.0.pressure.store(Pressure::of(resident, self.0.limit) as u8, Ordering::Relaxed);
    }
}

impl Held {
    /// Changes the number of bytes.
    pub fn set(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.memory.0.used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            self.memory.0.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// The memory it is part of.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Compares the resident size with the limit again and again, on a thread of its own that ends with the last clone of
/// `memory`.
///
/// # Errors
/// When the thread cannot be made.
pub fn watch(memory: &Memory) -> io::Result<()> {
    memory.observe(resident());
    let weak = Arc::downgrade(&memory.0);
    let look = move || {
        while let Some(shared) = weak.upgrade() {
            Memory(shared).observe(resident());
            std::thread::park_timeout(LOOK);
        }
    };
    std::thread::Builder::new().name("memory".into()).spawn(look).map(drop)
}

/// Resident bytes of this process; 0 where the kernel does not say.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64)
}

/// Memory of the machine, bytes; `None` where the kernel does not say.
pub fn of_machine() -> Option<u64> {
    parse_total(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What the limits can reach together (D-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Resident size with the table and no client.
    pub base: u64,
    /// Client connections.
    pub connections: u64,
    /// Requests under way.
    pub requests: u64,
    /// Longest request head, bytes.
    pub head: u64,
    /// Budget of bodies, bytes.
    pub bodies: u64,
}

/// A connection: HTTP/2 at its dearest, and TLS (D-1).
const CONNECTION_BYTES: u64 = (64 + 32) << 10;
/// A request beside its own head: head of the answer, and a copy buffer each way.
const REQUEST_BYTES: u64 = (64 + 2 * 16) << 10;
/// Full rings of the logs.
const LOG_BYTES: u64 = 32 << 20;
/// Full tables of what is remembered of clients: answers of authentication services (64 MiB), TLS sessions (10 MiB), what
/// clients asked for lately (1,048,576 keys), passwords and nonces (16 MiB).
const CACHE_BYTES: u64 = (64 + 10 + 128 + 16) << 20;

impl Bound {
    /// Bytes.
    pub fn bytes(&self) -> u64 {
        let connections = self.connections.saturating_mul(CONNECTION_BYTES);
        let requests = self.requests.saturating_mul(self.head.saturating_add(REQUEST_BYTES));
        [connections, requests, self.bodies, LOG_BYTES, CACHE_BYTES]
            .into_iter()
            .fold(self.base, u64::saturating_add)
    }

    /// As now: `base` is what the process takes up at this moment.
    pub fn measured(connections: usize, requests: u32, head: u64, bodies: u64) -> Self {
        Self {
            base: resident(),
            connections: connections as u64,
            requests: u64::from(requests),
            head,
            bodies,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_rises_with_the_resident_size() {
        for (resident, limit, expect) in [
            (0, 100, Pressure::Calm),
            (84, 100, Pressure::Calm),
            (85, 100, Pressure::Tight),
            (92, 100, Pressure::Full),
            (95, 100, Pressure::Critical),
            (500, 100, Pressure::Critical),
            (1 << 40, u64::MAX, Pressure::Calm),
            (5, 0, Pressure::Calm),
        ] {
            assert_eq!(Pressure::of(resident, limit), expect, "{resident} of {limit}");
        }
        let memory = Memory::new(Some(1));
        assert_eq!(memory.pressure(), Pressure::Calm);
        watch(&memory).unwrap();
        assert_eq!(memory.pressure(), Pressure::Critical);
    }

    #[test]
    fn bodies_count_while_they_are_held() {
        let memory = Memory::new(Some(1 << 30));
        memory.set_budget(1000);
        let mut first = memory.hold(500);
        assert_eq!(memory.bodies(), Bodies::Plenty);
        let second = memory.hold(300);
        assert_eq!(memory.bodies(), Bodies::Scarce);
        first.set(900);
        assert_eq!((memory.held(), memory.bodies()), (1200, Bodies::Spent));
        first.set(10);
        drop(second);
        assert_eq!((memory.held(), memory.bodies()), (10, Bodies::Plenty));
        drop(first);
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn a_budget_is_never_more_than_the_limit() {
        let memory = Memory::new(Some(100));
        memory.set_budget(1 << 40);
        assert_eq!(memory.budget(), 100);
    }

    #[test]
    fn the_bound_is_the_sum_of_its_parts_and_does_not_overflow() {
        let bound = Bound { base: 1 << 20, connections: 2, requests: 3, head: 32 << 10, bodies: 1 << 20 };
        assert_eq!(bound.bytes(), (2 << 20) + 2 * (96 << 10) + 3 * (128 << 10) + LOG_BYTES + CACHE_BYTES);
        assert_eq!(Bound { connections: u64::MAX, ..bound }.bytes(), u64::MAX);
        assert!(Bound::measured(1, 1, 1, 1).base > 0);
    }

    #[test]
    fn the_memory_of_a_machine_is_read() {
        assert_eq!(parse_total("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16 << 10));
        assert_eq!(parse_total("MemFree: 1 kB\n"), None);
        assert_eq!(parse_total("MemTotal: many kB\n"), None);
    }
}
