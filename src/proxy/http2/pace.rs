//! Streams whose client takes nothing (slow read, CVE-2019-9511): the library waits for a window without end, so the
//! task of each stream is watched and given up after `send_timeout` (`security.md` D.1, D.4).
//!
//! The library asks a body for its next piece only once the window has room. A piece that was handed out and not
//! followed by the next question is therefore one that the client does not take.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::http1::timer::Timer;

thread_local! {
    /// Pace of the stream whose task is polled now.
    static CURRENT: RefCell<Option<Rc<Pace>>> = const { RefCell::new(None) };
}

/// When a client was last given something, until it is ready for more.
#[derive(Debug, Default)]
pub(super) struct Pace {
    given: Cell<Option<Instant>>,
}

impl Pace {
    /// That of the stream whose task runs; one of nobody outside of such a task.
    pub(super) fn current() -> Rc<Self> {
        CURRENT.with_borrow(|current| current.clone().unwrap_or_default())
    }

    /// A piece of a body goes to the client.
    pub(super) fn give(&self) {
        self.given.set(Some(Instant::now()));
    }

    /// The client is ready for more.
    pub(super) fn taken(&self) {
        self.given.set(None);
    }
}

/// Runs the task of one stream to its end, or until its client has taken nothing for `limit`; ending it resets the
/// stream.
pub(super) async fn watched<F: Future>(mut stream: Pin<Box<F>>, limit: Duration) {
    let pace = Rc::new(Pace::default());
    let mut timer = Timer::default();
    poll_fn(|cx| {
        let before = CURRENT.replace(Some(Rc::clone(&pace)));
        let ended = stream.as_mut().poll(cx).is_ready();
        CURRENT.set(before);
        if ended { Poll::Ready(()) } else { poll_stall(&pace, &mut timer, limit, cx) }
    })
    .await;
}

fn poll_stall(pace: &Pace, timer: &mut Timer, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
    match pace.given.get() {
        Some(given) => timer.poll_until(given + limit, cx),
        None => Poll::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::paused::block_on;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_stream_whose_client_takes_nothing_is_given_up() {
        block_on(async {
            let start = Instant::now();
            watched(
                Box::pin(async {
                    Pace::current().give();
                    std::future::pending::<()>().await;
                }),
                LIMIT,
            )
            .await;
            assert_eq!(start.elapsed().as_secs(), 60);
        });
    }

    #[test]
    fn a_stream_that_waits_for_its_backend_is_left_alone() {
        block_on(async {
            let start = Instant::now();
            watched(
                Box::pin(async {
                    let pace = Pace::current();
                    for _ in 0..3 {
                        pace.give();
                        tokio::time::sleep(Duration::from_secs(50)).await;
                        pace.taken();
                        tokio::time::sleep(Duration::from_secs(500)).await;
                    }
                }),
                LIMIT,
            )
            .await;
            assert_eq!(start.elapsed().as_secs(), 1650);
        });
    }
}
