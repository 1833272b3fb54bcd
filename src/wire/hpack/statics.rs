//! The static table (RFC 7541 appendix A).

use super::super::fields::{Tag, is_called, look};
use super::{Known, Line, Mark, OVERHEAD, Value};

/// A row, as a line that was decoded before.
struct Row {
    text: &'static str,
    name: usize,
    mark: Mark,
}

macro_rules! row {
    ($name:literal, $value:literal) => {
        Row {
            text: concat!($name, ": ", $value, "\r\n"),
            name: $name.len(),
            mark: Mark { known: Known::of_static($name), value: Value::Text, tag: Tag::of_line($name) },
        }
    };
}

/// Index of `:status` with 200 as its value.
pub(super) const STATUS: usize = 8;

static ROWS: [Row; 61] = [
    row!(":authority", ""),
    row!(":method", "GET"),
    row!(":method", "POST"),
    row!(":path", "/"),
    row!(":path", "/index.html"),
    row!(":scheme", "http"),
    row!(":scheme", "https"),
    row!(":status", "200"),
    row!(":status", "204"),
    row!(":status", "206"),
    row!(":status", "304"),
    row!(":status", "400"),
    row!(":status", "404"),
    row!(":status", "500"),
    row!("accept-charset", ""),
    row!("accept-encoding", "gzip, deflate"),
    row!("accept-language", ""),
    row!("accept-ranges", ""),
    row!("accept", ""),
    row!("access-control-allow-origin", ""),
    row!("age", ""),
    row!("allow", ""),
    row!("authorization", ""),
    row!("cache-control", ""),
    row!("content-disposition", ""),
    row!("content-encoding", ""),
    row!("content-language", ""),
    row!("content-length", ""),
    row!("content-location", ""),
    row!("content-range", ""),
    row!("content-type", ""),
    row!("cookie", ""),
    row!("date", ""),
    row!("etag", ""),
    row!("expect", ""),
    row!("expires", ""),
    row!("from", ""),
    row!("host", ""),
    row!("if-match", ""),
    row!("if-modified-since", ""),
    row!("if-none-match", ""),
    row!("if-range", ""),
    row!("if-unmodified-since", ""),
    row!("last-modified", ""),
    row!("link", ""),
    row!("location", ""),
    row!("max-forwards", ""),
    row!("proxy-authenticate", ""),
    row!("proxy-authorization", ""),
    row!("range", ""),
    row!("referer", ""),
    row!("refresh", ""),
    row!("retry-after", ""),
    row!("server", ""),
    row!("set-cookie", ""),
    row!("strict-transport-security", ""),
    row!("transfer-encoding", ""),
    row!("user-agent", ""),
    row!("vary", ""),
    row!("via", ""),
    row!("www-authenticate", ""),
];

/// How many rows there are: the dynamic table begins behind them.
pub(super) const LENGTH: usize = ROWS.len();

/// For each look of a name the first row with it, and for each row the next with the look of its own; 0 for none.
static LOOKS: ([u8; 64], [u8; LENGTH + 1]) = {
    let mut first = [0; 64];
    let mut next = [0; LENGTH + 1];
    let mut index = LENGTH;
    while index > 0 {
        let (name, _) = ROWS[index - 1].text.as_bytes().split_at(ROWS[index - 1].name);
        let look = look(name) as usize;
        next[index] = first[look];
        first[look] = index as u8;
        index -= 1;
    }
    (first, next)
};

/// The row with that index, which begins at 1.
pub(super) fn row(index: usize) -> Option<Line<'static>> {
    let row = ROWS.get(index.checked_sub(1)?)?;
    // What is no name or value: a colon, a space and the end of the line.
    Some(Line { text: row.text, name: row.name, mark: row.mark, size: row.text.len() - 4 + OVERHEAD })
}

/// Index of a row called `name`, in whatever case.
pub(super) fn named(name: &str) -> Option<usize> {
    let mut index = LOOKS.0.get(usize::from(look(name.as_bytes()))).copied()?;
    while index > 0 {
        let row = ROWS.get(usize::from(index) - 1)?;
        if is_called(name.as_bytes(), row.text.as_bytes().get(..row.name)?) {
            return Some(usize::from(index));
        }
        index = LOOKS.1.get(usize::from(index)).copied()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_name() {
        for index in 1..=LENGTH {
            let line = row(index).unwrap();
            let found = named(line.name()).map(|found| row(found).unwrap().name());
            assert_eq!(found, Some(line.name()), "{index}");
            assert_eq!(named(&line.name().to_ascii_uppercase()), named(line.name()));
            let (known, _) = Known::of(line.name().as_bytes());
            assert_eq!(known, line.known(), "{index}");
            assert_eq!(line.size(), line.name().len() + line.value().len() + OVERHEAD);
        }
        assert!(row(0).is_none() && row(LENGTH + 1).is_none());
        for name in ["", "x", "hosts", "content-typf", "x-request-id"] {
            assert_eq!(named(name), None, "{name}");
        }
    }

    #[test]
    fn rows_stand_where_the_standard_has_them() {
        for (index, name, value) in [
            (1, ":authority", ""),
            (2, ":method", "GET"),
            (7, ":scheme", "https"),
            (STATUS, ":status", "200"),
            (14, ":status", "500"),
            (16, "accept-encoding", "gzip, deflate"),
            (32, "cookie", ""),
            (38, "host", ""),
            (46, "location", ""),
            (58, "user-agent", ""),
            (61, "www-authenticate", ""),
        ] {
            let line = row(index).unwrap();
            assert_eq!((line.name(), &*line.value()), (name, value.as_bytes()), "{index}");
        }
    }
}
