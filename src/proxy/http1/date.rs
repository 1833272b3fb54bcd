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
    LINE.with_borrow_mut(|(until, line)| {
        if until.is_none_or(|until| now >= until) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            let second = Duration::from_secs(since.as_secs());
            *until = Some(now + Duration::from_secs(1).saturating_sub(since.saturating_sub(second)));
            line.clear();
            let text = httpdate::fmt_http_date(UNIX_EPOCH + second);
            encode::raw_field(line, "Date", text.as_bytes());
        }
        out.extend_from_slice(line);
    });
}
