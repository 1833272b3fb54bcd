//! How long a connection lives: idle limit, age, number of requests (`security.md` D.1), and the time a peer gets to
//! take its leave. PING finds dead peers only; one that answers every PING would stay for ever.

use std::time::Duration;

use tokio::time::Instant;

use super::Http2Options;

/// How long a peer without streams may take after GOAWAY.
const FAREWELL: Duration = Duration::from_secs(5);

/// What goes on on a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Activity {
    /// Open streams.
    pub(super) open: usize,
    /// Streams that were served so far.
    pub(super) served: u64,
    /// When the last stream ended, or the peer last took a piece of a body.
    pub(super) quiet_since: Instant,
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
    begin: Instant,
    first: Duration,
    idle: Duration,
    end: Instant,
    requests: u64,
    retired: Option<Instant>,
}

impl Life {
    pub(super) fn new(begin: Instant, options: &Http2Options) -> Self {
        Self {
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

    /// The peer had the time to hear that the connection ends.
    pub(super) fn has_been_told(&self, now: Instant) -> bool {
        self.retired.is_some_and(|retired| now >= retired + FAREWELL)
    }

    /// What is to be done `now`.
    pub(super) fn next(&self, now: Instant, activity: Activity) -> Next {
        let busy = activity.open > 0;
        if let Some(retired) = self.retired {
            let cut = retired.max(activity.quiet_since) + FAREWELL;
            return if !busy && now >= cut { Next::Cut } else { Next::Wait(cut.max(now + FAREWELL)) };
        }
        let idle_end = match activity.served {
            0 => self.begin + self.first,
            _ => activity.quiet_since + self.idle,
        };
        let spent = now >= self.end || activity.served >= self.requests;
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
        Life::new(Instant::now(), &options)
    }

    fn activity(open: usize, served: u64, quiet_since: Instant) -> Activity {
        Activity { open, served, quiet_since }
    }

    #[test]
    fn a_connection_without_a_request_has_the_time_of_a_head() {
        let life = life();
        let start = life.begin;
        let nothing = activity(0, 0, start);
        assert_eq!(life.next(start, nothing), Next::Wait(start + 10 * SECOND));
        assert_eq!(life.next(start + 10 * SECOND, nothing), Next::Retire);
    }

    #[test]
    fn an_open_stream_keeps_the_connection_up_to_its_age() {
        let life = life();
        let start = life.begin;
        assert_eq!(life.next(start + 90 * SECOND, activity(1, 1, start)), Next::Wait(life.end));
        assert_eq!(life.next(start + 100 * SECOND, activity(1, 1, start)), Next::Retire);
    }

    #[test]
    fn idleness_counts_from_the_last_stream_and_from_the_last_byte_the_peer_took() {
        let life = life();
        let quiet = life.begin + SECOND;
        assert_eq!(life.next(quiet, activity(0, 1, quiet)), Next::Wait(quiet + 20 * SECOND));
        assert_eq!(life.next(quiet + 20 * SECOND, activity(0, 1, quiet)), Next::Retire);
        let taken = quiet + 15 * SECOND;
        assert_eq!(life.next(quiet + 20 * SECOND, activity(0, 1, taken)), Next::Wait(taken + 20 * SECOND));
    }

    #[test]
    fn the_last_request_that_is_allowed_retires_the_connection() {
        let life = life();
        assert!(matches!(life.next(life.begin, activity(2, 2, life.begin)), Next::Wait(_)));
        assert_eq!(life.next(life.begin, activity(3, 3, life.begin)), Next::Retire);
    }

    #[test]
    fn a_retired_connection_is_cut_once_its_streams_ended_and_the_farewell_is_over() {
        let mut life = life();
        let start = life.begin;
        life.retire(start);
        assert!(matches!(life.next(start + 60 * SECOND, activity(1, 1, start)), Next::Wait(_)));
        let quiet = start + 61 * SECOND;
        assert!(matches!(life.next(quiet, activity(0, 1, quiet)), Next::Wait(_)));
        assert_eq!(life.next(quiet + FAREWELL, activity(0, 1, quiet)), Next::Cut);
    }
}
