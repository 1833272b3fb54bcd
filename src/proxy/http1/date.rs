//! The `Date` line, made once a second per thread.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::wire::encode;

thread_local! {
    static LINE: RefCell<(u64, Vec<u8>)> = const { RefCell::new((0, Vec::new())) };
}

/// Writes `Date: …` for the present second (RFC 9110 section 6.6.1).
pub(super) fn write(out: &mut Vec<u8>) {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    LINE.with_borrow_mut(|(made, line)| {
        if *made != second || line.is_empty() {
            *made = second;
            line.clear();
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            encode::raw_field(line, "Date", text.as_bytes());
        }
        out.extend_from_slice(line);
    });
}
