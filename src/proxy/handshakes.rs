//! How many TLS handshakes one worker has at once (`max-ssl-handshakes`, `security.md` D.2), and begins in one turn.
//!
//! A handshake is about ten times the work of a small request. A worker that begins all that come lets each of them, and
//! every request, wait for all others. So it begins a few in one turn of its loop, in the order in which clients said
//! hello, and what is ready by then has its turn before it begins others.
//!
//! A full house is no lock-out: a newcomer waits up to a second for a place, and a handshake that has lasted longer
//! than that makes room for it, the oldest first. So clients that begin handshakes and never end them push out each
//! other and not those who come after them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::turns::{Place as Waiting, Turns};

/// Handshakes that a worker begins in one turn: requests of other connections wait for no more than these.
const BEGINNINGS: u32 = 8;

/// How long a newcomer waits, and how long a handshake has its place for certain.
const PATIENCE: Duration = Duration::from_secs(1);

/// The handshakes of one worker.
#[derive(Debug, Default)]
pub struct Handshakes {
    /// In order of their beginning.
    places: RefCell<VecDeque<Rc<Place>>>,
    freed: Notify,
    turns: Turns,
}

#[derive(Debug)]
struct Place {
    begun: Instant,
    lost: Cell<bool>,
    wake: Notify,
}

/// A place among the handshakes until it is dropped.
#[derive(Debug)]
pub struct Turn<'h> {
    of: &'h Handshakes,
    place: Rc<Place>,
}

impl Handshakes {
    /// Lets handshakes take turns for as long as it is polled.
    pub fn keep_turns(&self) -> impl Future<Output = ()> + use<> {
        self.turns.clone().keep(BEGINNINGS)
    }

    /// Ready when another handshake may begin; at once where the worker has time for it.
    pub async fn turn(&self) {
        let mut waiting = Waiting::default();
        poll_fn(|cx| self.turns.poll_begin(&mut waiting, 1, cx)).await;
    }

    /// Takes a place; `None` when there was none for a second.
    pub async fn enter(&self, limit: u32) -> Option<Turn<'_>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
        let end = Instant::now() + PATIENCE;
        loop {
            let now = Instant::now();
            let Some(replaceable) = self.full(limit).map(|oldest| oldest + PATIENCE) else {
                return Some(self.take(now));
            };
            if now >= replaceable {
                self.push_out();
            } else if now >= end {
                return None;
            } else {
                let _freed_or_not = timeout_at(end.min(replaceable), self.freed.notified()).await;
            }
        }
    }

    /// The beginning of the oldest handshake when there is no place.
    fn full(&self, limit: usize) -> Option<Instant> {
        let places = self.places.borrow();
        if places.len() < limit { None } else { places.front().map(|place| place.begun) }
    }

    fn take(&self, now: Instant) -> Turn<'_> {
        let place = Rc::new(Place { begun: now, lost: Cell::new(false), wake: Notify::new() });
        self.places.borrow_mut().push_back(Rc::clone(&place));
        Turn { of: self, place }
    }

    fn push_out(&self) {
        if let Some(oldest) = self.places.borrow_mut().pop_front() {
            oldest.lost.set(true);
            oldest.wake.notify_one();
        }
    }
}

impl Turn<'_> {
    /// Resolves when somebody else needs the place.
    pub async fn lost(&self) {
        while !self.place.lost.get() {
            self.place.wake.notified().await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.of.places.borrow_mut().retain(|place| !Rc::ptr_eq(place, &self.place));
        self.of.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::proxy::paused::block_on;

    #[test]
    fn what_one_turn_does_not_begin_waits_in_order_for_the_next() {
        let handshakes = Handshakes::default();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(handshakes.keep_turns()).poll(&mut cx).is_pending());
        let mut clients: Vec<_> = (0..20).map(|_| Box::pin(handshakes.turn())).collect();
        for expected in [0..8, 8..16, 16..20] {
            let waiting = clients.iter_mut().enumerate().skip(expected.start);
            let begun: Vec<usize> = waiting
                .filter_map(|(client, turn)| turn.as_mut().poll(&mut cx).is_ready().then_some(client))
                .collect();
            assert_eq!(begun, expected.collect::<Vec<_>>());
            handshakes.turns.call();
        }
    }

    #[test]
    fn a_handshake_that_lasts_makes_room_for_a_newcomer() {
        block_on(async {
            let handshakes = Handshakes::default();
            let slow = handshakes.enter(1).await.unwrap();
            let newcomer = handshakes.enter(1).await;
            assert!(newcomer.is_some());
            slow.lost().await;
            drop(slow);
            assert_eq!(handshakes.places.borrow().len(), 1, "the newcomer keeps its place");
        });
    }

    #[test]
    fn a_newcomer_takes_the_place_of_one_that_ends() {
        block_on(async {
            let handshakes = Handshakes::default();
            let quick = handshakes.enter(1).await.unwrap();
            let start = Instant::now();
            let (newcomer, ()) = tokio::join!(handshakes.enter(1), async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                drop(quick);
            });
            assert!(newcomer.is_some());
            assert!(start.elapsed() < PATIENCE);
        });
    }

    #[test]
    fn who_finds_no_place_for_a_second_is_sent_away() {
        block_on(async {
            let handshakes = Handshakes::default();
            // Two places whose owners change faster than they can be pushed out, to others.
            let mut turns = VecDeque::new();
            for _ in 0..2 {
                turns.extend(handshakes.enter(2).await);
            }
            let busy = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    turns.pop_front();
                    turns.push_back(handshakes.take(Instant::now()));
                }
            };
            tokio::select! {
                biased;
                () = busy => unreachable!("it never ends"),
                entered = handshakes.enter(2) => assert!(entered.is_none()),
            }
        });
    }
}
