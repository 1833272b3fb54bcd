//! What the field lines of a head say about framing and the connection, collected line by line.
//!
//! Every line counts, nothing is merged or erased; the judgement falls when the head is complete. Requests and
//! answers are judged by different rules from the same evidence.

use http::StatusCode;

use super::fields::{NameSet, is_called, is_tchar};
use super::head::{Framing, Version};
use super::line::trim;
use super::verdict::Reject;

/// What `Content-Length` lines said so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Length {
    #[default]
    Absent,
    Known(u64),
    /// Digits only, but above 2^63-1.
    Huge,
    Broken,
}

/// `Content-Length` lines say no one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disagreement;

/// What the first `Transfer-Encoding` line said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    Absent,
    Chunked,
    /// A well-formed list with a coding that we do not know.
    Other,
    Broken,
}

/// Evidence of one head.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    length_lines: u32,
    length: Length,
    coding_lines: u32,
    coding: Coding,
    host_lines: u32,
    singles: u8,
    repeated: bool,
    expect: Expect,
    /// A `Connection` line names `close`.
    pub(super) close: bool,
    /// A `Connection` line names `keep-alive`.
    pub(super) keep_alive: bool,
    /// A `Connection` line names `upgrade`.
    pub(super) upgrade_named: bool,
    /// An `Upgrade` line is there.
    pub(super) upgrade_field: bool,
    /// A `TE` line names `trailers`.
    pub(super) trailers: bool,
}

/// What `Expect` lines said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Expect {
    /// No line.
    #[default]
    Absent,
    /// `100-continue` only.
    Continue,
    /// Something else.
    Other,
}

const AUTHORIZATION: u8 = 1;
const IF_MODIFIED_SINCE: u8 = 2;
const IF_UNMODIFIED_SINCE: u8 = 4;

/// Names of all lines that say something.
pub(super) const TELLING: NameSet = NameSet::new(&[
    "te",
    "host",
    "expect",
    "upgrade",
    "connection",
    "authorization",
    "content-length",
    "transfer-encoding",
    "if-modified-since",
    "if-unmodified-since",
]);

impl Evidence {
    /// Takes one line in; those with a name that is not [`TELLING`] may be left out.
    pub(super) fn note(&mut self, name: &[u8], value: &[u8]) {
        let is = |field: &str| is_called(name, field.as_bytes());
        match name.len() {
            2 if is("te") => self.trailers |= names(value, b"trailers"),
            4 if is("host") => self.host_lines = self.host_lines.saturating_add(1),
            6 if is("expect") => {
                let good = value.eq_ignore_ascii_case(b"100-continue") && self.expect != Expect::Other;
                self.expect = if good { Expect::Continue } else { Expect::Other };
            }
            7 if is("upgrade") => self.upgrade_field = true,
            // What nearly every message says.
            10 if is("connection")
                && (value == b"keep-alive" || value.eq_ignore_ascii_case(b"keep-alive")) =>
            {
                self.keep_alive = true
            }
            10 if is("connection") => {
                self.close |= names(value, b"close");
                self.keep_alive |= names(value, b"keep-alive");
                self.upgrade_named |= names(value, b"upgrade");
            }
            13 if is("authorization") => self.note_single(AUTHORIZATION),
            14 if is("content-length") => self.note_length(value),
            17 if is("transfer-encoding") => self.note_coding(value),
            17 if is("if-modified-since") => self.note_single(IF_MODIFIED_SINCE),
            19 if is("if-unmodified-since") => self.note_single(IF_UNMODIFIED_SINCE),
            _ => {}
        }
    }

    fn note_single(&mut self, field: u8) {
        self.repeated |= self.singles & field != 0;
        self.singles |= field;
    }

    fn note_length(&mut self, value: &[u8]) {
        let length = parse_length(value);
        self.length_lines = self.length_lines.saturating_add(1);
        self.length =
            if self.length == Length::Absent || self.length == length { length } else { Length::Broken };
    }

    fn note_coding(&mut self, value: &[u8]) {
        self.coding_lines = self.coding_lines.saturating_add(1);
        self.coding = if self.coding_lines == 1 { parse_coding(value) } else { Coding::Broken };
    }

    /// Framing of a request by H1-01 to H1-05.
    pub(super) fn request_framing(&self, version: Version) -> Result<Framing, Reject> {
        if self.coding_lines > 0 && self.length_lines > 0 {
            return Err(Reject::bad("H1-01", "both Content-Length and Transfer-Encoding"));
        }
        if self.coding_lines > 0 && version == Version::Http10 {
            return Err(Reject::bad("H1-05", "Transfer-Encoding in HTTP/1.0"));
        }
        match self.coding {
            Coding::Chunked => return Ok(Framing::Chunked),
            Coding::Other => {
                let reason = "a transfer coding other than chunked";
                return Err(Reject::new(StatusCode::NOT_IMPLEMENTED, "H1-04", reason));
            }
            Coding::Broken => {
                return Err(Reject::bad("H1-04", "Transfer-Encoding is not the one word chunked"));
            }
            Coding::Absent => {}
        }
        if self.length_lines > 1 {
            return Err(Reject::bad("H1-02", "more than one Content-Length"));
        }
        match self.length {
            Length::Absent | Length::Known(0) => Ok(Framing::None),
            Length::Known(length) => Ok(Framing::Length(length)),
            Length::Huge => {
                let reason = "Content-Length is above 2^63-1";
                Err(Reject::new(StatusCode::PAYLOAD_TOO_LARGE, "H1-03", reason))
            }
            Length::Broken => Err(Reject::bad("H1-02", "Content-Length is no number")),
        }
    }

    /// What `Content-Length` lines told that agree with each other: the length of a body in HTTP/2 (RFC 9113 section
    /// 8.1.1). One that is too large for a body counts as none; [`Evidence::request_framing`] refuses it.
    ///
    /// # Errors
    /// When they are no number, or differ.
    pub(super) fn told_length(&self) -> Result<Option<u64>, Disagreement> {
        match self.length {
            Length::Absent | Length::Huge => Ok(None),
            Length::Known(length) => Ok(Some(length)),
            Length::Broken => Err(Disagreement),
        }
    }

    /// Framing of an answer that may have a body by R-1.
    pub(super) fn response_framing(&self, version: Version) -> Result<Framing, Reject> {
        if self.coding_lines > 0 && self.length_lines > 0 {
            return Err(Reject::gateway("R-1", "both Content-Length and Transfer-Encoding"));
        }
        if self.coding_lines > 0 && version == Version::Http10 {
            return Err(Reject::gateway("R-1", "Transfer-Encoding in HTTP/1.0"));
        }
        match (self.coding, self.length) {
            (Coding::Chunked, _) => Ok(Framing::Chunked),
            (Coding::Other | Coding::Broken, _) => {
                Err(Reject::gateway("R-1", "Transfer-Encoding is not the one word chunked"))
            }
            (Coding::Absent, Length::Known(length)) => Ok(Framing::Length(length)),
            (Coding::Absent, Length::Absent) => Ok(Framing::UntilClose),
            (Coding::Absent, Length::Huge | Length::Broken) => {
                Err(Reject::gateway("R-1", "Content-Length is no number or differs between lines"))
            }
        }
    }

    /// Checks of a complete request head that are not framing: Host count (H1-14), singletons (H1-15).
    pub(super) fn check_request(&self, version: Version) -> Result<(), Reject> {
        if self.host_lines > 1 {
            return Err(Reject::bad("H1-14", "more than one Host"));
        }
        if self.host_lines == 0 && version != Version::Http10 {
            return Err(Reject::bad("H1-14", "no Host"));
        }
        self.check_singletons()
    }

    /// H1-15.
    pub(super) fn check_singletons(&self) -> Result<(), Reject> {
        if self.repeated {
            return Err(Reject::bad("H1-15", "a field that may stand once stands twice"));
        }
        Ok(())
    }

    /// H1-16: no expectation but `100-continue`.
    pub(super) fn check_expectation(&self) -> Result<(), Reject> {
        if self.expect == Expect::Other {
            let reason = "an expectation other than 100-continue";
            return Err(Reject::new(StatusCode::EXPECTATION_FAILED, "H1-16", reason));
        }
        Ok(())
    }

    /// H1-16: true when a 100 is owed, an error for an expectation that we do not know.
    pub(super) fn expect_continue(&self, version: Version, framing: Framing) -> Result<bool, Reject> {
        if version == Version::Http10 {
            return Ok(false);
        }
        self.check_expectation()?;
        Ok(self.expect == Expect::Continue && framing != Framing::None)
    }

    /// HF-7: `close` on any line wins; HTTP/1.0 needs `keep-alive`.
    pub(super) fn persistent(&self, version: Version) -> bool {
        !self.close && (version != Version::Http10 || self.keep_alive)
    }

    /// True when the head says that a body follows.
    pub(super) fn announces_body(&self) -> bool {
        self.coding_lines > 0 || !matches!(self.length, Length::Absent | Length::Known(0))
    }
}

fn parse_length(value: &[u8]) -> Length {
    // Few enough that no sum is too large.
    if (1..=18).contains(&value.len()) {
        let digits = value.iter().try_fold(0, |sum: u64, byte| match byte.wrapping_sub(b'0') {
            digit @ 0..=9 => Some(sum * 10 + u64::from(digit)),
            _ => None,
        });
        return digits.map_or(Length::Broken, Length::Known);
    }
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Length::Broken;
    }
    match std::str::from_utf8(value).ok().and_then(|digits| digits.parse::<u64>().ok()) {
        Some(length) if i64::try_from(length).is_ok() => Length::Known(length),
        Some(_) => Length::Huge,
        None => Length::Broken,
    }
}

fn parse_coding(value: &[u8]) -> Coding {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Coding::Chunked;
    }
    let mut other = false;
    for element in value.split(|byte| *byte == b',').map(trim) {
        let token = element.iter().take_while(|byte| is_tchar(**byte)).count();
        let (name, parameters) = element.split_at_checked(token).unwrap_or((element, &[]));
        if name.is_empty() || !(parameters.is_empty() || parameters.starts_with(b";")) {
            return Coding::Broken;
        }
        other |= !name.eq_ignore_ascii_case(b"chunked");
    }
    if other { Coding::Other } else { Coding::Broken }
}

/// True when the comma-separated list `value` has the element `word`, ignoring case and parameters.
fn names(value: &[u8], word: &[u8]) -> bool {
    if value.eq_ignore_ascii_case(word) {
        return true;
    }
    value.split(|byte| *byte == b',').any(|element| {
        let element = element.split(|byte| *byte == b';').next().unwrap_or(element);
        trim(element).eq_ignore_ascii_case(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[(&str, &str)], version: Version) -> Result<Framing, (u16, &'static str)> {
        let mut evidence = Evidence::default();
        for (name, value) in lines {
            evidence.note(name.as_bytes(), value.as_bytes());
        }
        evidence.request_framing(version).map_err(|reject| (reject.status.as_u16(), reject.rule))
    }

    #[test]
    fn request_framing_is_length_or_chunked_and_nothing_in_between() {
        const TE: &str = "Transfer-Encoding";
        const CL: &str = "content-LENGTH";
        let check =
            |lines: &[(&str, &str)], expect| assert_eq!(request(lines, Version::Http11), expect, "{lines:?}");
        check(&[], Ok(Framing::None));
        check(&[(CL, "0")], Ok(Framing::None));
        check(&[(CL, "005")], Ok(Framing::Length(5)));
        check(&[(CL, "9223372036854775807")], Ok(Framing::Length(i64::MAX as u64)));
        check(&[(CL, "9223372036854775808")], Err((413, "H1-03")));
        check(&[(CL, "18446744073709551616")], Err((400, "H1-02")));
        for value in ["", "+5", "-5", "0x5", "1_0", "5.0", "1 0", "\"5\"", "5, 5", "5,5", "٥"] {
            check(&[(CL, value)], Err((400, "H1-02")));
        }
        check(&[(CL, "5"), (CL, "5")], Err((400, "H1-02")));
        check(&[(TE, "chunked")], Ok(Framing::Chunked));
        check(&[(TE, "ChunKed")], Ok(Framing::Chunked));
        check(&[(TE, "chunked"), (TE, "chunked")], Err((400, "H1-04")));
        for value in
            ["", ",", "chunked,", ",chunked", "chunked, chunked", "chunked;q=1", "\u{a0}chunked", "chunked x"]
        {
            check(&[(TE, value)], Err((400, "H1-04")));
        }
        for value in ["gzip", "gzip, chunked", "cow;a=b", "identity"] {
            check(&[(TE, value)], Err((501, "H1-04")));
        }
        check(&[(TE, "gzip"), (CL, "5")], Err((400, "H1-01")));
        check(&[(CL, "x"), (TE, "chunked")], Err((400, "H1-01")));
        assert_eq!(request(&[(TE, "chunked")], Version::Http10), Err((400, "H1-05")));
    }

    #[test]
    fn list_elements_are_found_whatever_stands_around() {
        for value in ["close", "CLOSE", "x, close", "close,x", " x ,\tclose ", "close;q=1"] {
            assert!(names(value.as_bytes(), b"close"), "{value}");
        }
        for value in ["", "closed", "x close", "un-close", "clos"] {
            assert!(!names(value.as_bytes(), b"close"), "{value}");
        }
    }
}
