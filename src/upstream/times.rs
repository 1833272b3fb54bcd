//! What one try took, for the access log, metrics and the EWMA balancer.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Times and byte counts of one try. The caller makes one per try and keeps it: it holds what is known so far also
/// when the try failed or was dropped. All times count from the start of the try, as nginx's `$upstream_*_time` do.
#[derive(Debug)]
pub struct UpstreamTimes {
    start: Instant,
    connect: Cell<Option<Duration>>,
    header: Cell<Option<Duration>>,
    response: Cell<Option<Duration>>,
    sent: Cell<u64>,
    received: Cell<u64>,
    body: Cell<u64>,
}

impl Default for UpstreamTimes {
    fn default() -> Self {
        Self::new()
    }
}

impl UpstreamTimes {
    /// A try that starts now.
    pub fn new() -> Self {
        Self::starting(Instant::now())
    }

    /// A try that starts at `start`, which the caller knows anyway: looking at the clock is not free.
    pub fn starting(start: Instant) -> Self {
        Self {
            start,
            connect: Cell::new(None),
            header: Cell::new(None),
            response: Cell::new(None),
            sent: Cell::new(0),
            received: Cell::new(0),
            body: Cell::new(0),
        }
    }

    /// When the try started.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// To a usable connection, TLS included; zero for a pooled one, `None` when there was none.
    pub fn connect(&self) -> Option<Duration> {
        self.connect.get()
    }

    /// To the whole head of the answer; `None` when there was none.
    pub fn header(&self) -> Option<Duration> {
        self.header.get()
    }

    /// To the end of the answer's body (or its cut); `None` while it is under way.
    pub fn response(&self) -> Option<Duration> {
        self.response.get()
    }

    /// Bytes of the request written to the connection (HTTP/2: body bytes only).
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Bytes of the answer read from the connection (HTTP/2: body bytes only).
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Bytes of the answer's body with its framing, as nginx counts them (`$upstream_response_length`).
    pub fn body(&self) -> u64 {
        self.body.get()
    }

    pub(crate) fn connected(&self, reused: bool) {
        self.connect.set(Some(if reused { Duration::ZERO } else { self.start.elapsed() }));
    }

    pub(crate) fn head_complete(&self) {
        self.header.set(Some(self.start.elapsed()));
    }

    /// The whole answer was there with its head: ends the try then, and says when that was.
    pub(crate) fn ended_with_head(&self) -> Instant {
        self.response.set(self.response.get().or_else(|| self.header.get()));
        self.ended()
    }

    /// The end of the try, however it ended, and when that was. The first call counts.
    pub(crate) fn ended(&self) -> Instant {
        let took = self.response.get().unwrap_or_else(|| self.start.elapsed());
        self.response.set(Some(took));
        self.start + took
    }

    pub(crate) fn add_sent(&self, bytes: usize) {
        self.sent.set(self.sent.get().saturating_add(bytes as u64));
    }

    pub(crate) fn add_body(&self, bytes: usize) {
        self.body.set(self.body.get().saturating_add(bytes as u64));
    }

    pub(crate) fn add_received(&self, bytes: usize) {
        self.received.set(self.received.get().saturating_add(bytes as u64));
    }
}
