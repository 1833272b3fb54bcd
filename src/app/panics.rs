//! Panics are counted and told once in a while; what they cost is decided where they happen: one connection, one
//! stream, one compilation (`security.md` F-18).

use std::backtrace::Backtrace;
use std::panic::{self, PanicHookInfo};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::telemetry::Metrics;

/// Between two lines of the log.
const QUIET: Duration = Duration::from_secs(10);

/// From now on every panic of the process counts. The message is not logged, because it may hold what a client sent.
pub(super) fn count(metrics: Metrics) {
    let told = Mutex::new(None::<Instant>);
    panic::set_hook(Box::new(move |info| {
        let place = place(std::thread::current().name());
        metrics.control().panicked(place);
        let now = Instant::now();
        let mut told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.is_none_or(|last| now.saturating_duration_since(last) >= QUIET) {
            *told = Some(now);
            let (at, backtrace) = (location(info), Backtrace::force_capture());
            tracing::error!(place, at, %backtrace, "a panic was contained");
        }
    }));
}

fn location(info: &PanicHookInfo<'_>) -> String {
    info.location().map(ToString::to_string).unwrap_or_default()
}

/// A word for the thread: a closed list, for a label.
fn place(thread: Option<&str>) -> &'static str {
    match thread {
        Some(name) if name.starts_with("worker") => "worker",
        Some("control") => "control",
        Some("admin") => "admin",
        Some("log-writer") => "log",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_words() {
        for (name, word) in [
            (Some("worker-0"), "worker"),
            (Some("control"), "control"),
            (Some("anything else"), "other"),
            (None, "other"),
        ] {
            assert_eq!(place(name), word);
        }
    }
}
