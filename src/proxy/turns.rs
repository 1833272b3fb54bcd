//! Turns of a worker: how many requests it begins before it looks at what else there is to do.
//!
//! With hundreds of requests under way at once each of them finds its memory cold when its answer comes: its socket, its
//! future, its connection to a backend. So a worker that has more to begin than one turn of its loop may leaves the rest
//! with the kernel, in the order in which they came, until the next turn; answers of backends are taken whenever they are
//! there. What is counted is beginnings and not requests under way: a slow backend holds nobody back. Who comes to a worker
//! that has less to do than that never waits.
//!
//! The drivers of HTTP ask before they read what may be a request; TLS handshakes have turns of their own
//! (`handshakes`). Nothing here knows a request or a socket.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Requests that a worker begins in one turn. From 8 to 64 it made no difference that could be told from noise; with
/// HTTP/2 one connection's streams are about as many.
pub const BEGINNINGS: u32 = 32;

thread_local! {
    /// How often this thread had nothing to do; wraps.
    static RESTS: Cell<u32> = const { Cell::new(0) };
}

/// For the runtime of a worker, before it sleeps: a turn ends there as well.
pub fn rest() {
    RESTS.set(RESTS.get().wrapping_add(1));
}

/// The turns of one worker, shared by its connections. While nobody keeps them ([`Turns::keep`]) nobody waits.
#[derive(Debug, Clone, Default)]
pub struct Turns(Rc<State>);

#[derive(Debug, Default)]
struct State {
    /// Requests that one turn may begin; 0 while nobody keeps turns.
    most: Cell<u32>,
    /// Begun in this turn.
    begun: Cell<u32>,
    /// [`RESTS`] when that was last counted.
    rests: Cell<u32>,
    /// The last number that was given to one that waits.
    given: Cell<u64>,
    /// The last number whose turn has come.
    called: Cell<u64>,
    /// Those that wait, in the order of their numbers, with how many requests each is expected to begin.
    waiting: RefCell<VecDeque<(Waker, u32)>>,
    /// Who calls, while there is no need to.
    keeper: RefCell<Option<Waker>>,
}

/// The place of a connection among those that wait. One that is left or dropped holds nobody back.
#[derive(Debug, Default)]
pub(super) struct Place(Option<NonZeroU64>);

impl Turns {
    /// Ready when the owner of `place` may read, and begin as many requests as are `expected`. The first one to ask is
    /// woken, so a place belongs to one task.
    pub(super) fn poll_begin(&self, place: &mut Place, expected: u32, cx: &Context<'_>) -> Poll<()> {
        let state = &*self.0;
        if self.lets_wait(place) {
            return Poll::Pending;
        }
        if place.0.take().is_some() {
            // It was counted when it was called.
            return Poll::Ready(());
        }
        // Those that wait come first.
        if !self.is_full() {
            self.begin(expected);
            return Poll::Ready(());
        }
        let number = NonZeroU64::MIN.saturating_add(state.given.get());
        state.given.set(number.get());
        place.0 = Some(number);
        state.waiting.borrow_mut().push_back((cx.waker().clone(), expected));
        self.wake_keeper();
        Poll::Pending
    }

    /// Who asks now will wait.
    pub(super) fn is_full(&self) -> bool {
        let state = &*self.0;
        let most = state.most.get();
        if state.rests.replace(RESTS.get()) != RESTS.get() {
            state.begun.set(0);
        }
        most > 0 && (state.begun.get() >= most || state.called.get() < state.given.get())
    }

    /// True until the turn of `place` has come.
    pub(super) fn lets_wait(&self, place: &Place) -> bool {
        place.0.is_some_and(|number| number.get() > self.0.called.get())
    }

    /// Counts requests that were `begun` instead of those that were `expected`.
    pub(super) fn correct(&self, expected: u32, begun: u32) {
        self.0.begun.set(self.0.begun.get().saturating_sub(expected));
        self.begin(begun);
    }

    /// Counts `requests` that are begun.
    fn begin(&self, requests: u32) {
        let state = &*self.0;
        state.begun.set(state.begun.get().saturating_add(requests));
        if state.begun.get() >= state.most.get() {
            self.wake_keeper();
        }
    }

    fn wake_keeper(&self) {
        if let Some(keeper) = self.0.keeper.borrow_mut().take() {
            keeper.wake();
        }
    }

    /// Lets a turn begin `most` requests from now on, and one turn follow the other for as long as it is polled. A task of
    /// its own: it sleeps until a turn is full, so a worker with little to do hears nothing of it.
    pub async fn keep(self, most: u32) {
        let state = &*self.0;
        state.most.set(most);
        loop {
            poll_fn(|cx| {
                if state.begun.get() >= most || state.called.get() < state.given.get() {
                    return Poll::Ready(());
                }
                *state.keeper.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
            // The runtime comes back once it has asked the kernel, and behind all that is ready by then.
            tokio::task::yield_now().await;
            self.call();
        }
    }

    /// A turn that nothing more fits into, and nobody who calls.
    #[cfg(test)]
    pub(super) fn fill(&self) {
        self.0.most.set(1);
        self.0.begun.set(1);
    }

    /// A new turn, which begins with those that wait.
    pub(super) fn call(&self) {
        let state = &*self.0;
        let mut begun = 0_u32;
        while begun < state.most.get() {
            let Some((waker, expected)) = state.waiting.borrow_mut().pop_front() else { break };
            begun = begun.saturating_add(expected);
            state.called.set(state.called.get().saturating_add(1));
            waker.wake();
        }
        state.begun.set(begun);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tokio::sync::Semaphore;
    use tokio::task::LocalSet;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A connection that asks, with how often it was woken.
    struct Asker {
        place: Place,
        expected: u32,
        woken: Arc<Woken>,
    }

    impl Asker {
        fn new(expected: u32) -> Self {
            Self { place: Place::default(), expected, woken: Arc::default() }
        }

        fn asks(&mut self, turns: &Turns) -> bool {
            let waker = Waker::from(Arc::clone(&self.woken));
            turns.poll_begin(&mut self.place, self.expected, &Context::from_waker(&waker)).is_ready()
        }

        fn was_woken(&self) -> usize {
            self.woken.0.load(Ordering::SeqCst)
        }
    }

    fn turns(most: u32) -> Turns {
        let turns = Turns::default();
        turns.0.most.set(most);
        turns
    }

    fn askers<const N: usize>(expected: [u32; N]) -> [Asker; N] {
        expected.map(Asker::new)
    }

    #[test]
    fn without_a_keeper_nobody_waits() {
        let turns = Turns::default();
        for mut asker in askers([1; 100]) {
            assert!(asker.asks(&turns));
        }
    }

    #[test]
    fn those_beyond_a_turn_are_called_in_their_order() {
        let turns = turns(2);
        let mut all = askers([1; 7]);
        let at_once: Vec<bool> = all.iter_mut().map(|asker| asker.asks(&turns)).collect();
        assert_eq!(at_once, [true, true, false, false, false, false, false]);
        for (round, woken) in
            [[0, 0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1, 1]].into_iter().enumerate()
        {
            turns.call();
            assert_eq!(all.each_ref().map(Asker::was_woken), woken, "turn {round}");
        }
        assert!(all.iter_mut().skip(2).all(|asker| asker.asks(&turns)));
        assert_eq!(turns.0.begun.get(), 1, "who was called is counted once");
    }

    #[test]
    fn who_comes_later_does_not_overtake() {
        let turns = turns(2);
        let [mut first, mut second, mut third, mut late] = askers([1; 4]);
        assert!(first.asks(&turns) && second.asks(&turns) && !third.asks(&turns));
        assert!(!late.asks(&turns) && turns.lets_wait(&late.place));
        turns.call();
        assert!(!turns.lets_wait(&third.place), "called, and not asked again yet");
        // Called, and not polled yet: nobody takes the place.
        assert!(!first.asks(&turns));
        assert!(third.asks(&turns) && late.asks(&turns));
        assert!(!turns.lets_wait(&third.place));
    }

    #[test]
    fn a_worker_that_rests_in_between_lets_nobody_wait() {
        let turns = turns(2);
        for mut asker in askers([1; 20]) {
            assert!(asker.asks(&turns));
            rest();
        }
        let [mut first, mut second, mut third] = askers([1; 3]);
        assert!(first.asks(&turns) && second.asks(&turns));
        assert!(!third.asks(&turns));
    }

    #[test]
    fn asking_again_while_waiting_changes_nothing() {
        let turns = turns(1);
        let [mut first, mut second] = askers([1; 2]);
        assert!(first.asks(&turns));
        for _ in 0..5 {
            assert!(!second.asks(&turns));
        }
        assert_eq!(turns.0.waiting.borrow().len(), 1);
        turns.call();
        assert!(second.asks(&turns));
        assert!(!second.asks(&turns), "one turn is for one beginning");
    }

    #[test]
    fn one_that_goes_away_while_it_waits_holds_nobody_back() {
        let turns = turns(1);
        let [mut first, mut gone, mut last] = askers([1; 3]);
        assert!(first.asks(&turns) && !gone.asks(&turns) && !last.asks(&turns));
        drop(gone);
        turns.call();
        assert!(!last.asks(&turns));
        turns.call();
        assert!(last.asks(&turns));
    }

    #[test]
    fn a_connection_takes_as_much_of_a_turn_as_it_is_expected_to_begin() {
        let turns = turns(32);
        let [mut large, mut small, mut other, mut last] = askers([30, 1, 32, 1]);
        assert!(large.asks(&turns) && small.asks(&turns));
        // It began more than it was thought to.
        turns.correct(30, 31);
        assert!(!other.asks(&turns) && !last.asks(&turns));
        turns.call();
        assert!(other.asks(&turns) && !last.asks(&turns));
        turns.call();
        assert!(last.asks(&turns));
    }

    #[test]
    fn what_was_expected_and_did_not_come_leaves_room_for_others() {
        let turns = turns(32);
        let [mut quiet, mut other, mut last] = askers([32, 31, 1]);
        assert!(quiet.asks(&turns));
        turns.correct(32, 0);
        assert!(other.asks(&turns) && last.asks(&turns));
    }

    /// `count` connections that begin `each` requests one after the other; `work` is what a request waits for.
    async fn load<W: Future<Output = ()>>(turns: &Turns, count: usize, each: usize, work: impl Fn() -> W) {
        let connections = (0..count).map(|_| async {
            let mut place = Place::default();
            for _ in 0..each {
                poll_fn(|cx| turns.poll_begin(&mut place, 1, cx)).await;
                work().await;
            }
        });
        futures_join(connections).await;
    }

    /// All of them, each polled by a waker of its own.
    async fn futures_join<W: Future<Output = ()>>(all: impl Iterator<Item = W>) {
        use futures_util::StreamExt as _;
        all.collect::<futures_util::stream::FuturesUnordered<_>>().collect::<()>().await;
    }

    #[tokio::test]
    async fn a_slow_backend_holds_nobody_back() {
        LocalSet::new()
            .run_until(async {
                let turns = Turns::default();
                tokio::task::spawn_local(turns.clone().keep(4));
                tokio::task::yield_now().await;
                let (begun, answers) = (Cell::new(0_usize), Semaphore::new(0));
                // The backend answers once all requests are there.
                load(&turns, 100, 1, || async {
                    begun.set(begun.get() + 1);
                    if begun.get() == 100 {
                        answers.add_permits(100);
                    }
                    drop(answers.acquire().await);
                })
                .await;
                assert_eq!(begun.get(), 100);
            })
            .await;
    }

    #[tokio::test]
    async fn many_requests_of_many_connections_are_all_begun() {
        LocalSet::new()
            .run_until(async {
                let turns = Turns::default();
                tokio::task::spawn_local(turns.clone().keep(3));
                tokio::task::yield_now().await;
                let (begun, most) = (Cell::new(0_u32), Cell::new(0));
                load(&turns, 50, 20, || {
                    begun.set(begun.get() + 1);
                    most.set(most.get().max(turns.0.begun.get()));
                    tokio::task::yield_now()
                })
                .await;
                assert_eq!(begun.get(), 1_000);
                assert_eq!(most.get(), 3, "no turn began more");
                assert!(turns.0.waiting.borrow().is_empty());
            })
            .await;
    }
}
