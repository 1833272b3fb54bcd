//! The `Date` line, made once a second per thread.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::wire::encode;

thread_local! {
    /// The line, and until when it is right.
    static LINE: RefCell<(Option<Instant>, Vec<u8>)> = const { RefCell::new((None, Vec::new())) };
}

/// Writes `Date: …` for the present second (RFC 9110 section 6.6.1). The clock on the wall is asked once a second, so
/// that each answer needs no look at it.
pub(super) fn write(out: &mut Vec<u8>, now: Instant) {
    with_line(now, |line| out.extend_from_slice(line));
}

/// The value of the field for the present second.
pub(in crate::proxy) fn with_value<R>(now: Instant, take: impl FnOnce(&str) -> R) -> R {
    with_line(now, |line| {
        let value = line.strip_prefix(b"Date: ").and_then(|value| value.strip_suffix(b"\r\n"));
        take(value.and_then(|value| str::from_utf8(value).ok()).unwrap_or(""))
    })
}

fn with_line<R>(now: Instant, take: impl FnOnce(&[u8]) -> R) -> R {
    LINE.with_borrow_mut(|(until, line)| {
        if until.is_none_or(|until| now >= until) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            let second = Duration::from_secs(since.as_secs());
            *until = Some(now + Duration::from_secs(1).saturating_sub(since.saturating_sub(second)));
            line.clear();
            let text = httpdate::fmt_http_date(UNIX_EPOCH + second);
            encode::raw_field(line, "Date", text.as_bytes());
        }
        take(line)
    })
}
