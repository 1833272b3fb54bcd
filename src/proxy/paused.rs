//! The clock of tests that wait: a runtime whose time stands still and jumps to the next timer when nobody has work.

/// Runs `test` to its end on such a runtime.
pub(super) fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime needs what the process has")
        .block_on(test)
}
