//! Memory for the futures of requests, used again and again: the room that was left last is taken first, while it is
//! still in the processor's caches. An allocator hands memory out again much later; with hundreds of requests under way
//! each would begin in cold memory. Not a queue and not a bound: who finds no room gets a new one.
//!
//! `connection` takes a room for each request.

use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Empty rooms that are kept; each takes some 6 KiB.
const SPARE: usize = 64;

/// A place for a future, empty or taken.
type Room<F> = Pin<Box<Option<F>>>;

/// Empty rooms for futures of one kind.
#[derive(Debug)]
pub(super) struct Rooms<F>(RefCell<Vec<Room<F>>>);

/// The rooms of a worker, which has no name for the kind of future its requests are.
#[derive(Debug, Default)]
pub struct Spare(OnceCell<Rc<dyn Any>>);

impl Spare {
    /// Rooms for what `_make` makes; it is not called.
    pub(super) fn rooms<A, F: 'static>(&self, _make: &impl Fn(A) -> F) -> Rc<Rooms<F>> {
        let rooms = self.0.get_or_init(|| Rc::new(Rooms::<F>::default()));
        Rc::clone(rooms).downcast().unwrap_or_default()
    }
}

impl<F> Default for Rooms<F> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<F> Rooms<F> {
    /// A room with what `make` makes in it.
    pub(super) fn take(self: &Rc<Self>, make: impl FnOnce() -> F) -> Taken<F> {
        let spare = self.0.borrow_mut().pop();
        let room = match spare {
            Some(mut room) => {
                room.set(Some(make()));
                room
            }
            // The room first: the future is large, and so it is made where it stays.
            None => Box::into_pin(Box::write(Box::new_uninit(), Some(make()))),
        };
        Taken { room: Some(room), home: Rc::clone(self) }
    }
}

/// A future in its room, which is empty and free again when this is dropped.
#[derive(Debug)]
pub(super) struct Taken<F> {
    room: Option<Room<F>>,
    home: Rc<Rooms<F>>,
}

impl<F: Future> Future for Taken<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.room.as_mut().and_then(|room| room.as_mut().as_pin_mut()) {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Taken<F> {
    fn drop(&mut self) {
        let Some(mut room) = self.room.take() else { return };
        // It may use other rooms while it is dropped.
        room.set(None);
        let mut spare = self.home.0.borrow_mut();
        if spare.len() < SPARE {
            spare.push(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};
    use std::task::Waker;

    use super::*;

    fn poll<F: Future>(future: &mut Taken<F>) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn place<F>(taken: &Taken<F>) -> *const Option<F> {
        &raw const **taken.room.as_ref().unwrap()
    }

    #[test]
    fn the_room_that_was_left_last_is_taken_first() {
        let rooms = Rc::new(Rooms::default());
        let [first, second] = [1, 2].map(|answer| rooms.take(|| ready(answer)));
        let left = place(&first);
        drop(second);
        drop(first);
        let mut again = rooms.take(|| ready(3));
        assert_eq!(place(&again), left);
        assert_eq!(poll(&mut again), Poll::Ready(3));
    }

    /// Tells when it is dropped.
    struct Told(Rc<Cell<u32>>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn what_waits_in_a_room_is_dropped_when_it_is_given_up() {
        let (rooms, dropped) = (Rc::new(Rooms::default()), Rc::new(Cell::new(0)));
        let told = Rc::clone(&dropped);
        let mut taken = rooms.take(|| async move {
            let _told = Told(told);
            pending::<()>().await;
        });
        assert_eq!(poll(&mut taken), Poll::Pending);
        assert_eq!(dropped.get(), 0);
        drop(taken);
        assert_eq!((dropped.get(), rooms.0.borrow().len()), (1, 1));
        assert!(rooms.0.borrow().iter().all(|room| room.is_none()));
    }

    #[test]
    fn no_more_rooms_are_kept_than_a_worker_may_have_spare() {
        let rooms = Rc::new(Rooms::default());
        let taken: Vec<_> = (0..2 * SPARE).map(|answer| rooms.take(|| ready(answer))).collect();
        drop(taken);
        assert_eq!(rooms.0.borrow().len(), SPARE);
    }

    #[test]
    fn a_worker_has_the_same_rooms_for_all_its_connections() {
        let spare = Spare::default();
        let make = |answer: u32| ready(answer);
        drop(spare.rooms(&make).take(|| make(1)));
        assert_eq!(spare.rooms(&make).0.borrow().len(), 1);
    }
}
