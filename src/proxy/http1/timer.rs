//! One timer per connection for all its deadlines.
//!
//! Deadlines move at every request, and re-arming a timer of the runtime each time is measurable. So the armed
//! time is only ever moved forward: when it comes and the deadline has moved on meanwhile, it is armed again.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

/// Lazily armed timer.
#[derive(Default)]
pub(in crate::proxy) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whom it wakes when it comes, where it was told.
    task: Option<Waker>,
}

impl Timer {
    /// Ready once `deadline` has passed.
    pub(in crate::proxy) fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        let task = self.task.take().filter(|task| task.will_wake(cx.waker()));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        } else if task.is_some() && !sleep.is_elapsed() {
            self.task = task;
            return Poll::Pending;
        }
        loop {
            // A task that had its turn is woken again and the timer hears nothing of it.
            let is_heard = coop::has_budget_remaining();
            if sleep.as_mut().poll(cx).is_pending() {
                self.task = is_heard.then(|| task.unwrap_or_else(|| cx.waker().clone()));
                return Poll::Pending;
            }
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_comes_at_the_last_deadline_whoever_asks_and_however_often() {
        let (mut timer, start) = (Timer::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        poll_fn(|cx| {
            // Armed, moved on, and left to somebody who would not know.
            assert!(timer.poll_until(at(10), cx).is_pending());
            assert!(timer.poll_until(at(20), cx).is_pending());
            let mut other = Context::from_waker(Waker::noop());
            assert!(timer.poll_until(at(20), &mut other).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| timer.poll_until(at(20), cx)).await;
        assert_eq!(Instant::now(), at(20));
        poll_fn(|cx| timer.poll_until(at(60), cx)).await;
        assert_eq!(Instant::now(), at(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_without_budget_is_not_forgotten() {
        let (mut timer, start) = (Timer::default(), Instant::now());
        let end = start + Duration::from_secs(5);
        let mut spent = false;
        poll_fn(|cx| {
            if !std::mem::replace(&mut spent, true) {
                while coop::has_budget_remaining() {
                    let mut turn = std::pin::pin!(coop::consume_budget());
                    let _went = turn.as_mut().poll(cx);
                }
                assert!(timer.poll_until(end, cx).is_pending());
                return Poll::Pending;
            }
            timer.poll_until(end, cx)
        })
        .await;
        assert_eq!(Instant::now(), end);
    }
}
