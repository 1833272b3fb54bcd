//! How long a connection lives: idle limit, age, number of requests (`security.md` D.1), and the time a peer gets to
//! take its leave. The library's PING finds dead peers only; one that answers every PING would stay for ever.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::Http2Options;

/// How long a peer without streams may take after GOAWAY.
const FAREWELL: Duration = Duration::from_secs(5);

/// Streams under way on one connection.
#[derive(Debug)]
pub(super) struct Streams {
    open: Cell<usize>,
    served: Cell<u64>,
    last_end: Cell<Instant>,
}

/// One stream; counts while it lives.
#[derive(Debug)]
pub(super) struct OpenStream(Rc<Streams>);

impl Streams {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { open: Cell::new(0), served: Cell::new(0), last_end: Cell::new(Instant::now()) })
    }

    /// A request came.
    pub(super) fn begin(self: &Rc<Self>) -> OpenStream {
        self.open.set(self.open.get().saturating_add(1));
        self.served.set(self.served.get().saturating_add(1));
        OpenStream(Rc::clone(self))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        self.0.last_end.set(Instant::now());
    }
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Look again then.
    Wait(Instant),
    /// Say GOAWAY and serve what is under way.
    Retire,
    /// The peer had its time: cut.
    Cut,
}

/// The limits of one connection and how far it is.
#[derive(Debug)]
pub(super) struct Life {
    streams: Rc<Streams>,
    begin: Instant,
    first: Duration,
    idle: Duration,
    end: Instant,
    requests: u64,
    retired: Option<Instant>,
}

impl Life {
    pub(super) fn new(streams: Rc<Streams>, options: &Http2Options) -> Self {
        let begin = Instant::now();
        Self {
            streams,
            begin,
            first: options.first_request,
            idle: options.idle_timeout,
            end: begin + options.max_age,
            requests: options.max_requests,
            retired: None,
        }
    }

    /// GOAWAY was said.
    pub(super) fn retire(&mut self, now: Instant) {
        self.retired.get_or_insert(now);
    }

    /// `data_sent`: when the peer last took a piece of a body; what the library still holds counts as work.
    pub(super) fn next(&self, now: Instant, data_sent: Instant) -> Next {
        let busy = self.streams.open.get() > 0;
        let quiet_since = self.streams.last_end.get().max(data_sent);
        if let Some(retired) = self.retired {
            let cut = retired.max(quiet_since) + FAREWELL;
            return if !busy && now >= cut { Next::Cut } else { Next::Wait(cut.max(now + FAREWELL)) };
        }
        let idle_end = match self.streams.served.get() {
            0 => self.begin + self.first,
            _ => quiet_since + self.idle,
        };
        let spent = now >= self.end || self.streams.served.get() >= self.requests;
        if spent || (!busy && now >= idle_end) {
            return Next::Retire;
        }
        Next::Wait(if busy { self.end } else { idle_end.min(self.end) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn life() -> Life {
        let options = Http2Options {
            first_request: 10 * SECOND,
            idle_timeout: 20 * SECOND,
            max_age: 100 * SECOND,
            max_requests: 3,
            ..Http2Options::default()
        };
        Life::new(Streams::new(), &options)
    }

    #[test]
    fn a_connection_without_a_request_has_the_time_of_a_head() {
        let life = life();
        let start = life.begin;
        assert_eq!(life.next(start, start), Next::Wait(start + 10 * SECOND));
        assert_eq!(life.next(start + 10 * SECOND, start), Next::Retire);
    }

    #[test]
    fn an_open_stream_keeps_the_connection_up_to_its_age() {
        let life = life();
        let start = life.begin;
        let stream = life.streams.begin();
        assert_eq!(life.next(start + 90 * SECOND, start), Next::Wait(life.end));
        assert_eq!(life.next(start + 100 * SECOND, start), Next::Retire);
        drop(stream);
    }

    #[test]
    fn idleness_counts_from_the_last_stream_and_from_the_last_byte_the_peer_took() {
        let life = life();
        drop(life.streams.begin());
        let quiet = life.streams.last_end.get();
        assert_eq!(life.next(quiet, quiet), Next::Wait(quiet + 20 * SECOND));
        assert_eq!(life.next(quiet + 20 * SECOND, quiet), Next::Retire);
        let taken = quiet + 15 * SECOND;
        assert_eq!(life.next(quiet + 20 * SECOND, taken), Next::Wait(taken + 20 * SECOND));
    }

    #[test]
    fn the_last_request_that_is_allowed_retires_the_connection() {
        let life = life();
        let streams: Vec<_> = (0..3).map(|_| life.streams.begin()).collect();
        assert_eq!(life.next(life.begin, life.begin), Next::Retire);
        drop(streams);
    }

    #[test]
    fn a_retired_connection_is_cut_once_its_streams_ended_and_the_farewell_is_over() {
        let mut life = life();
        let start = life.begin;
        let stream = life.streams.begin();
        life.retire(start);
        assert!(matches!(life.next(start + 60 * SECOND, start), Next::Wait(_)));
        drop(stream);
        let quiet = life.streams.last_end.get();
        assert!(matches!(life.next(quiet, start), Next::Wait(_)));
        assert_eq!(life.next(quiet + FAREWELL, start), Next::Cut);
    }
}
