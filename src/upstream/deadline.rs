//! The timeouts of one connection on one timer.
//!
//! A timer per read would cost more than the read. Here the wanted time moves freely and the timer is touched only
//! when it fires too early or stands too late; over a busy kept-alive connection it is hardly touched at all.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing that has a limit (such as the client's next bytes).
    Free,
    /// The backend taking bytes.
    Send,
    /// The backend sending bytes.
    Read,
}

/// A limit that starts anew with each wait.
#[derive(Debug)]
pub(super) struct Deadline {
    wait: Wait,
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    pub(super) const fn new() -> Self {
        Self { wait: Wait::Free, at: None, timer: None }
    }

    /// Something moved: the next wait starts from zero.
    pub(super) fn rest(&mut self) {
        self.wait = Wait::Free;
    }

    /// Ready when `wait` has lasted for `limit` since the last [`Deadline::rest`] or change of `wait`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, wait: Wait, limit: Duration) -> Poll<()> {
        if wait == Wait::Free {
            self.wait = wait;
            return Poll::Pending;
        }
        if wait != self.wait {
            self.wait = wait;
            // A limit beyond the clock's range is no limit.
            self.at = Instant::now().checked_add(limit);
        }
        let Some(at) = self.at else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= at {
                self.wait = Wait::Free;
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::upstream::tests::local;

    const TICK: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(3600);

    /// What a wait took; `None` when it was given up after `patience`.
    async fn wait(
        deadline: &mut Deadline,
        wait: Wait,
        limit: Duration,
        patience: Duration,
    ) -> Option<Duration> {
        let start = Instant::now();
        let expired = poll_fn(|cx| deadline.poll(cx, wait, limit));
        tokio::time::timeout(patience, expired).await.ok().map(|()| start.elapsed())
    }

    #[test]
    fn a_limit_shorter_than_the_armed_timer_is_kept() {
        local(async {
            let mut deadline = Deadline::new();
            assert_eq!(wait(&mut deadline, Wait::Read, LONG, TICK).await, None);
            deadline.rest();
            assert!(wait(&mut deadline, Wait::Read, TICK, LONG).await.unwrap() >= TICK);
        });
    }

    #[test]
    fn a_timer_that_fires_early_is_armed_again() {
        local(async {
            let mut deadline = Deadline::new();
            assert_eq!(wait(&mut deadline, Wait::Read, 2 * TICK, TICK).await, None);
            deadline.rest();
            assert!(wait(&mut deadline, Wait::Send, 5 * TICK, LONG).await.unwrap() >= 5 * TICK);
        });
    }

    #[test]
    fn a_wait_goes_on_over_polls_until_something_moves() {
        local(async {
            let mut deadline = Deadline::new();
            let start = Instant::now();
            while wait(&mut deadline, Wait::Read, 5 * TICK, TICK).await.is_none() {}
            assert!(start.elapsed() >= 5 * TICK);
        });
    }

    #[test]
    fn waiting_for_the_client_and_limits_beyond_the_clock_never_expire() {
        local(async {
            let mut deadline = Deadline::new();
            assert_eq!(wait(&mut deadline, Wait::Free, Duration::ZERO, TICK).await, None);
            assert_eq!(wait(&mut deadline, Wait::Read, Duration::MAX, TICK).await, None);
        });
    }
}
