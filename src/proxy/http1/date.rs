//! The `Date` line, made once a second per thread.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::wire::encode;

thread_local! {
    static LINE: RefCell<(u64, Vec<u8>)> = const { RefCell::new((0, Vec::new())) };
}

/// Writes `Date: …` for the present second (RFC 9110 section 6.6.1).
pub(super) fn write(out: &mut Vec<u8>) {
    with_line(|line| out.extend_from_slice(line));
}

/// The value of the field for the present second.
pub(in crate::proxy) fn with_value<R>(take: impl FnOnce(&str) -> R) -> R {
    with_line(|line| {
        let value = line.strip_prefix(b"Date: ").and_then(|value| value.strip_suffix(b"\r\n"));
        take(value.and_then(|value| str::from_utf8(value).ok()).unwrap_or(""))
    })
}

fn with_line<R>(take: impl FnOnce(&[u8]) -> R) -> R {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    LINE.with_borrow_mut(|(made, line)| {
        if *made != second || line.is_empty() {
            *made = second;
            line.clear();
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            encode::raw_field(line, "Date", text.as_bytes());
        }
        take(line)
    })
}
