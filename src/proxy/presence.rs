//! The connections of one worker, so that those which idle can be asked to leave when room runs out (`security.md`
//! D-5, D-6). A connection never leaves with a request in flight.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// Who idles shorter than this is not idle: a request may be on its way.
const SPARED: Duration = Duration::from_secs(1);

/// All connections of a worker.
#[derive(Debug, Default)]
pub struct Presences {
    slots: RefCell<Slots>,
    /// Listeners that were closed. Connections that waited there may be entered later.
    closed: RefCell<BTreeSet<SocketAddr>>,
}

#[derive(Debug, Default)]
struct Slots {
    all: Vec<Option<Rc<Presence>>>,
    free: Vec<usize>,
}

/// One connection, as far as the others need to know.
#[derive(Debug)]
pub struct Presence {
    /// Address of the listener.
    at: SocketAddr,
    requests: Cell<u32>,
    quiet_since: Cell<Instant>,
    asked: Cell<bool>,
    dismissed: Cell<bool>,
    /// The task that drives it.
    task: RefCell<Option<Waker>>,
}

/// A connection's entry until it is dropped.
#[derive(Debug)]
pub struct Entry {
    of: Rc<Presences>,
    slot: usize,
    /// What is entered.
    pub presence: Rc<Presence>,
}

impl Presences {
    /// Enters a new connection to the listener at this address.
    pub fn enter(self: &Rc<Self>, now: Instant, at: SocketAddr) -> Entry {
        let presence = Rc::new(Presence {
            at,
            requests: Cell::new(0),
            quiet_since: Cell::new(now),
            asked: Cell::new(false),
            dismissed: Cell::new(self.closed.borrow().contains(&at)),
            task: RefCell::new(None),
        });
        let mut slots = self.slots.borrow_mut();
        let slot = slots.free.pop().unwrap_or(slots.all.len());
        let entry = Some(Rc::clone(&presence));
        match slots.all.get_mut(slot) {
            Some(place) => *place = entry,
            None => slots.all.push(entry),
        }
        Entry { of: Rc::clone(self), slot, presence }
    }

    /// Asks up to `count` connections to leave, those that have idled longest first; says how many it asked.
    pub fn shed(&self, count: usize, now: Instant) -> usize {
        let slots = self.slots.borrow();
        let mut idle: Vec<&Rc<Presence>> =
            slots.all.iter().flatten().filter(|presence| presence.idles(now)).collect();
        if idle.len() > count && count > 0 {
            idle.select_nth_unstable_by_key(count, |presence| presence.quiet_since.get());
        }
        idle.truncate(count);
        for presence in &idle {
            presence.asked.set(true);
            presence.wake();
        }
        idle.len()
    }

    /// A listener is open: who comes there from now on may stay.
    pub fn welcome(&self, at: SocketAddr) {
        self.closed.borrow_mut().remove(&at);
    }

    /// Tells those that came to a listener which is closed, or that waited there and come now: they leave as when the
    /// process drains.
    pub fn dismiss(&self, at: SocketAddr) {
        self.closed.borrow_mut().insert(at);
        for presence in self.slots.borrow().all.iter().flatten().filter(|presence| presence.at == at) {
            presence.dismissed.set(true);
            presence.wake();
        }
    }

    /// Has every connection look whether it is to end.
    pub fn wake_all(&self) {
        self.slots.borrow().all.iter().flatten().for_each(|presence| presence.wake());
    }
}

impl Presence {
    /// A request came.
    pub fn begin(&self) {
        self.requests.set(self.requests.get().saturating_add(1));
    }

    /// A request ended.
    pub fn end(&self, now: Instant) {
        self.requests.set(self.requests.get().saturating_sub(1));
        self.quiet_since.set(now);
    }

    /// True once the connection is asked to leave; until then the task of `cx` is woken when somebody asks, and by
    /// [`Presences::wake_all`]. One task waits at a time.
    pub fn is_asked(&self, cx: &Context<'_>) -> bool {
        if self.asked.get() {
            return true;
        }
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        false
    }

    /// True once its listener is closed; who waits in [`Presence::is_asked`] is woken then.
    pub fn is_dismissed(&self) -> bool {
        self.dismissed.get()
    }

    fn wake(&self) {
        let task = self.task.borrow().clone();
        if let Some(task) = task {
            task.wake();
        }
    }

    fn idles(&self, now: Instant) -> bool {
        self.requests.get() == 0
            && !self.asked.get()
            && now.saturating_duration_since(self.quiet_since.get()) >= SPARED
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut slots = self.of.slots.borrow_mut();
        if let Some(place) = slots.all.get_mut(self.slot) {
            *place = None;
            slots.free.push(self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn enter(presences: &Rc<Presences>, now: Instant) -> Entry {
        presences.enter(now, SocketAddr::from(([127, 0, 0, 1], 80)))
    }

    #[test]
    fn who_came_to_a_closed_listener_is_told_and_nobody_else() {
        let presences = Rc::new(Presences::default());
        let other = SocketAddr::from(([127, 0, 0, 2], 80));
        let (here, there) = (presences.enter(Instant::now(), other), enter(&presences, Instant::now()));
        presences.dismiss(other);
        assert!(here.presence.is_dismissed() && !there.presence.is_dismissed());
    }

    #[test]
    fn who_waited_at_a_closed_listener_is_told_until_it_is_open_again() {
        let presences = Rc::new(Presences::default());
        let at = SocketAddr::from(([127, 0, 0, 2], 80));
        presences.dismiss(at);
        let late = presences.enter(Instant::now(), at);
        assert!(late.presence.is_dismissed() && !enter(&presences, Instant::now()).presence.is_dismissed());
        presences.welcome(at);
        assert!(!presences.enter(Instant::now(), at).presence.is_dismissed());
        assert!(late.presence.is_dismissed());
    }

    #[test]
    fn the_longest_idle_are_asked_first_and_the_busy_and_the_new_never() {
        let (presences, start) = (Rc::new(Presences::default()), Instant::now());
        let entries: Vec<Entry> = (0..5).map(|n| enter(&presences, start + n * SECOND)).collect();
        entries[0].presence.begin();
        let now = start + 4 * SECOND;
        let asked = || entries.iter().map(|entry| entry.presence.asked.get()).collect::<Vec<_>>();
        assert_eq!(presences.shed(0, now), 0);
        assert_eq!((presences.shed(1, now), asked()), (1, vec![false, true, false, false, false]));
        assert_eq!((presences.shed(9, now), asked()), (2, vec![false, true, true, true, false]));
        entries[0].presence.end(now);
        assert_eq!(presences.shed(9, now), 0);
        assert_eq!(presences.shed(9, now + SECOND), 2);
    }

    #[test]
    fn places_are_used_again() {
        let presences = Rc::new(Presences::default());
        for _ in 0..10 {
            let _both = (enter(&presences, Instant::now()), enter(&presences, Instant::now()));
        }
        assert_eq!(presences.slots.borrow().all.len(), 2);
        assert_eq!(presences.shed(9, Instant::now() + SECOND), 0);
    }

    async fn asked(entry: &Entry) {
        std::future::poll_fn(|cx| if entry.presence.is_asked(cx) { Poll::Ready(()) } else { Poll::Pending })
            .await;
    }

    #[tokio::test]
    async fn who_is_asked_hears_of_it_before_or_while_waiting() {
        let presences = Rc::new(Presences::default());
        let (before, now) = (enter(&presences, Instant::now()), Instant::now() + SECOND);
        assert_eq!(presences.shed(1, now), 1);
        asked(&before).await;
        let waiting = enter(&presences, Instant::now());
        let (asked, ()) = tokio::join!(
            async {
                asked(&waiting).await;
                true
            },
            async {
                tokio::task::yield_now().await;
                presences.shed(1, Instant::now() + SECOND);
            }
        );
        assert!(asked);
    }

    #[tokio::test]
    async fn all_who_wait_can_be_made_to_look_again() {
        let presences = Rc::new(Presences::default());
        let (entry, looks) = (enter(&presences, Instant::now()), Cell::new(0));
        let wait = std::future::poll_fn(|cx| {
            looks.set(looks.get() + 1);
            assert!(!entry.presence.is_asked(cx));
            if looks.get() == 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::join!(wait, async { presences.wake_all() });
        assert_eq!(looks.get(), 2);
    }
}
