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

    const SECOND: Duration = Duration::from_secs(1);

    async fn expires(deadline: &mut Deadline, wait: Wait, limit: Duration) -> Duration {
        let start = Instant::now();
        poll_fn(|cx| deadline.poll(cx, wait, limit)).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_shorter_than_the_armed_timer_is_kept() {
        let mut deadline = Deadline::new();
        let early = tokio::time::timeout(SECOND, expires(&mut deadline, Wait::Read, 60 * SECOND)).await;
        assert!(early.is_err());
        deadline.rest();
        let took = expires(&mut deadline, Wait::Read, 2 * SECOND).await;
        assert!(took >= 2 * SECOND && took < 3 * SECOND, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_fires_early_is_armed_again() {
        let mut deadline = Deadline::new();
        let early = tokio::time::timeout(SECOND, expires(&mut deadline, Wait::Read, 2 * SECOND)).await;
        assert!(early.is_err());
        deadline.rest();
        let took = expires(&mut deadline, Wait::Send, 10 * SECOND).await;
        assert!(took >= 10 * SECOND && took < 11 * SECOND, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_client_has_no_limit_here() {
        let mut deadline = Deadline::new();
        let free = expires(&mut deadline, Wait::Free, SECOND);
        assert!(tokio::time::timeout(3600 * SECOND, free).await.is_err());
    }
}
