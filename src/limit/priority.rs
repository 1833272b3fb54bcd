//! Which threads step back when there are fewer processors than work, and how: compiling, scraping and explaining can
//! wait a moment, requests cannot.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

/// What the control plane yields: a tenth of a worker's weight with the scheduler, so that beside workers that never
/// rest a change still comes into effect. How long a worker that wakes has to wait depends on it too: after each burst
/// of requests it is passed over until who stepped back has had its share beside that burst.
const NICENESS: i32 = 10;

/// The longest that a thread of the control plane keeps a processor while a worker may be waiting for it. The scheduler
/// looks at who waits when somebody wakes, and then at its next tick only, which is up to 4 ms later.
const PIECE: Duration = Duration::from_micros(200);

thread_local! {
    /// When this thread last let others go first.
    static BREATHED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lowers the priority of the thread that calls it, for good. Its children take after it.
pub fn step_back() {
    // On Linux the priority is each thread's own, and nobody by number is whoever asks. Refused nowhere we know; where
    // it is, everything works as before.
    // A process that was started with less priority stays there: whoever may would gain by an absolute number.
    let least = rustix::process::getpriority_process(None).map_or(NICENESS, |own| own.max(NICENESS));
    if let Err(error) = rustix::process::setpriority_process(None, least) {
        tracing::debug!(%error, "this thread keeps its priority");
    }
}

/// Lets who waits for this processor go first, if this thread has not done so for a while. For loops of the control
/// plane, once for each object: it costs a look at the clock, and next to nothing where nobody waits.
pub fn breathe() {
    let now = Instant::now();
    match BREATHED.get() {
        Some(last) if now.saturating_duration_since(last) < PIECE => {}
        _ => {
            thread::yield_now();
            BREATHED.set(Some(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_breathes_once_for_each_piece_and_not_more_often() {
        breathe();
        let first = BREATHED.get();
        assert!(first.is_some());
        // As if the last time were far in the future: nothing to do.
        let ahead = Instant::now() + Duration::from_secs(60);
        BREATHED.set(Some(ahead));
        breathe();
        assert_eq!(BREATHED.get(), Some(ahead));
        let long_ago = Instant::now().checked_sub(PIECE).unwrap();
        BREATHED.set(Some(long_ago));
        breathe();
        assert!(BREATHED.get() > Some(long_ago));
    }

    #[test]
    fn only_the_thread_that_steps_back_loses_priority() {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();
        thread::spawn(move || {
            step_back();
            assert_eq!(own(), before.max(NICENESS));
        })
        .join()
        .unwrap();
        assert_eq!(own(), before);
    }
}
