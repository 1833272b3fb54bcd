//! Which streams of a connection have something to do. The connection polls its streams itself, each with a waker of its
//! own that notes the stream and wakes the connection once for all of them: no task for each stream.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// In place of a stream: the socket.
pub(super) const SOCKET: usize = usize::MAX;

/// The streams of one connection that were woken, in order.
#[derive(Debug, Default)]
pub(super) struct Ready(Mutex<Woken>);

#[derive(Debug, Default)]
struct Woken {
    places: Vec<usize>,
    /// The connection, while it waits.
    connection: Option<Waker>,
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Woken> {
        // Nothing panics while it is held; a list of places is sound in any case.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection runs: nobody needs to wake it. Moves the places that were woken to `places`, which is empty.
    pub(super) fn take(&self, places: &mut Vec<usize>) {
        let mut woken = self.lock();
        woken.connection = None;
        mem::swap(&mut woken.places, places);
    }

    /// The connection waits from now on. False when somebody was woken meanwhile.
    pub(super) fn wait(&self, connection: &Waker) -> bool {
        let mut woken = self.lock();
        if !woken.places.is_empty() {
            return false;
        }
        woken.connection = Some(connection.clone());
        true
    }
}

/// One stream, or the socket.
#[derive(Debug)]
pub(super) struct Mark {
    place: usize,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Mark {
    pub(super) fn new(place: usize, ready: &Arc<Ready>) -> Arc<Self> {
        Arc::new(Self { place, queued: AtomicBool::new(false), ready: Arc::clone(ready) })
    }

    /// Its turn has come: it may be woken again.
    pub(super) fn clear(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let connection = {
            let mut woken = self.ready.lock();
            woken.places.push(self.place);
            woken.connection.take()
        };
        if let Some(connection) = connection {
            connection.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(std::sync::atomic::AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn many_streams_wake_their_connection_once_and_each_has_one_turn() {
        let count = Arc::new(Count(0.into()));
        let connection = Waker::from(Arc::clone(&count));
        let ready = Arc::new(Ready::default());
        let marks: Vec<_> = (0..3).map(|place| Mark::new(place, &ready)).collect();
        assert!(ready.wait(&connection));
        for mark in [&marks[2], &marks[0], &marks[2], &marks[1]] {
            mark.wake_by_ref();
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(!ready.wait(&connection), "somebody was woken");
        let mut places = Vec::new();
        ready.take(&mut places);
        assert_eq!(places, [2, 0, 1]);
        marks[2].wake_by_ref();
        assert!(ready.wait(&connection), "its turn has not come yet");
        marks[2].clear();
        marks[2].wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
    }
}
