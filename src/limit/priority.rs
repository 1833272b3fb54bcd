//! Which threads step back when there are fewer processors than work: compiling, scraping and explaining can wait a
//! moment, requests cannot.

/// What the control plane yields: about a third of a worker's weight with the scheduler, so it still gets on.
const NICENESS: i32 = 5;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_that_steps_back_loses_priority() {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();
        std::thread::spawn(move || {
            step_back();
            assert_eq!(own(), before.max(NICENESS));
        })
        .join()
        .unwrap();
        assert_eq!(own(), before);
    }
}
