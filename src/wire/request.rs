//! Strict parser of request heads: rules H1-01 to H1-17 of `spec/security.md` C.2 as far as a head can break them.
//!
//! Works on a buffer that grows: every byte is looked at once, however finely the client cuts its writes, and a
//! broken rule is told as soon as its evidence is there. The verdict depends on the bytes only, never on how they
//! were cut. What it is not: it normalises no path and removes no field; `route` and `request` do.

use http::{Method, StatusCode};

use super::authority::check_authority;
use super::evidence::{Evidence, TELLING};
use super::fields::{Draft, Found, Tag};
use super::head::{Framing, RequestHead, Version};
use super::line::{find_control, take_apart, usual_line};
use super::target::{MAX_METHOD, check_method, check_target, is_method_byte, split_target};
use super::verdict::{Parse, Reject};

/// How large a request head may be (`spec/security.md` D.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the request line and of each field line, without the line end. 8 KiB.
    pub line: usize,
    /// Bytes of the whole head, empty lines before it included. 32 KiB.
    pub head: usize,
    /// Field lines. 200.
    pub fields: usize,
    /// Empty lines before the request line that are skipped. 4.
    pub empty_lines: u8,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { line: 8 * 1024, head: 32 * 1024, fields: 200, empty_lines: 4 }
    }
}

/// A complete request head and what follows from it.
#[derive(Debug)]
pub struct ParsedRequest {
    /// Head with all field lines in place. Boxed: it is handed on often.
    pub head: Box<RequestHead>,
    /// Bytes of the buffer that the head took.
    pub consumed: usize,
    /// How the end of the body is told; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// The client wants the connection to stay (HF-7).
    pub keep_alive: bool,
    /// The client waits for a 100 (H1-16).
    pub expect_continue: bool,
    /// The client sent `TE: trailers`.
    pub accepts_trailers: bool,
    /// HTTP/1.1, `Connection` names `upgrade` and an `Upgrade` line is there. U-1 has more to ask.
    pub upgrade: bool,
}

/// State of one head between reads. Feed it the same growing buffer until it is done, then make a new one.
#[derive(Debug, Default)]
pub struct RequestParser {
    /// Where the line that is not complete yet starts.
    line: usize,
    /// Bytes before this index need no second look.
    scanned: usize,
    empty_lines: u8,
    method_done: bool,
    start: Option<Start>,
    /// Where the first field line starts.
    block: usize,
    fields: Draft,
    evidence: Evidence,
}

#[derive(Debug)]
struct Start {
    method: Method,
    target: Vec<u8>,
    version: Version,
    absolute: bool,
}

/// Parses a head from a buffer that is not expected to grow; [`RequestParser`] is the incremental form.
pub fn parse_request_head(buf: &[u8], limits: &HeadLimits) -> Parse<ParsedRequest> {
    RequestParser::default().parse(buf, limits)
}

impl RequestParser {
    /// Looks at what is new in `buf`, which must start with the bytes of the call before.
    pub fn parse(&mut self, buf: &[u8], limits: &HeadLimits) -> Parse<ParsedRequest> {
        Parse::of(self.advance(buf, limits))
    }

    fn advance(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Option<ParsedRequest>, Reject> {
        loop {
            if !self.method_done && !self.look_at_method(buf)? {
                return Ok(None);
            }
            if self.scanned == self.line {
                self.take_usual(buf, limits)?;
            }
            let at = self.line;
            let Some(line) = self.next_line(buf, limits)? else { return Ok(None) };
            let Some(start) = &self.start else {
                if line.is_empty() {
                    self.method_done = false;
                    self.empty_lines = self.empty_lines.saturating_add(1);
                    if self.empty_lines > limits.empty_lines {
                        return Err(Reject::bad("H1-10", "too many empty lines before the request line"));
                    }
                } else {
                    self.start = Some(parse_request_line(line)?);
                    self.block = self.line;
                }
                continue;
            };
            if line.is_empty() {
                return self.finish(buf.get(self.block..at).unwrap_or(&[])).map(Some);
            }
            if self.fields.len() >= limits.fields {
                return Err(too_large("more field lines than allowed"));
            }
            let parts = take_apart(line)?;
            if parts.name.len() == 4 && parts.name.eq_ignore_ascii_case(b"host") {
                check_host(parts.value, start)?;
            }
            self.evidence.note(parts.name, parts.value);
            let start = at.saturating_sub(self.block);
            let found = Found {
                start,
                name: parts.name,
                kinds: parts.kinds,
                value_start: start + parts.value_at,
                value: parts.value,
                plain: parts.is_plain(line),
                folded: false,
            };
            self.fields.add(&found).map_err(|_| too_large("a field line is too long"))?;
        }
    }

    /// Takes field lines as long as nothing about them asks for a closer look; they mean the same when looked at
    /// closely, at several times the cost.
    fn take_usual(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<(), Reject> {
        let Some(request) = &self.start else { return Ok(()) };
        while self.fields.len() < limits.fields {
            let most = self.line.saturating_add(limits.line).min(limits.head).min(buf.len());
            let Some(line) = buf.get(self.line..most).and_then(usual_line) else { break };
            let tag = Tag::usual(line.name);
            if TELLING.may_hold(tag) {
                if line.name.eq_ignore_ascii_case(b"host") {
                    check_host(line.value, request)?;
                }
                self.evidence.note(line.name, line.value);
            }
            let start = self.line.saturating_sub(self.block);
            let added = self.fields.add_usual(start, line.name, line.value, tag);
            added.map_err(|_| too_large("a field line is too long"))?;
            self.line += line.length();
            self.scanned = self.line;
        }
        Ok(())
    }

    /// Judges the first bytes of the request line before the line is complete, so that neither a method without
    /// end nor another protocol has to be read up to a limit. False: wait for more.
    fn look_at_method(&mut self, buf: &[u8]) -> Result<bool, Reject> {
        let line = buf.get(self.line..).unwrap_or(&[]);
        if line.starts_with(b"GET ") {
            self.method_done = true;
            return Ok(true);
        }
        let length = line.iter().take(MAX_METHOD + 1).take_while(|byte| is_method_byte(**byte)).count();
        match line.get(length) {
            _ if length > MAX_METHOD => check_method(line.get(..length).unwrap_or(line))?,
            None => return Ok(false),
            Some(b' ') if length == 0 => return Err(Reject::bad("H1-10", "white space before the method")),
            Some(b' ') => {}
            Some(b'\r' | b'\n') if length == 0 => {}
            Some(_) => return Err(Reject::bad("H1-12", "the method holds a byte that is not allowed")),
        }
        self.method_done = true;
        Ok(true)
    }

    /// The next complete line without its CRLF.
    fn next_line<'b>(&mut self, buf: &'b [u8], limits: &HeadLimits) -> Result<Option<&'b [u8]>, Reject> {
        let line_end = self.line.saturating_add(limits.line).saturating_add(1);
        let window = line_end.min(limits.head);
        let fresh = buf.get(self.scanned..window.min(buf.len())).unwrap_or(&[]);
        let Some(found) = find_control(fresh) else {
            self.scanned = self.scanned.max(window.min(buf.len()));
            return match buf.len() {
                len if len < window => Ok(None),
                _ if line_end > limits.head => Err(too_large("the head is longer than allowed")),
                _ if self.start.is_some() => Err(too_large("a field line is longer than allowed")),
                _ => Err(Reject::new(
                    StatusCode::URI_TOO_LONG,
                    "H1-17",
                    "the request line is longer than allowed",
                )),
            };
        };
        let at = self.scanned + found;
        self.scanned = at;
        match (buf.get(at), buf.get(at + 1)) {
            (Some(b'\r'), None) => return Ok(None),
            (Some(b'\r'), Some(b'\n')) => {}
            (Some(b'\r'), Some(_)) => return Err(Reject::bad("H1-07", "a CR without LF")),
            (Some(b'\n'), _) => return Err(Reject::bad("H1-07", "a LF without CR")),
            _ => return Err(Reject::bad("H1-06", "a control byte in the head")),
        }
        let line = buf.get(self.line..at).unwrap_or(&[]);
        self.line = at + 2;
        self.scanned = at + 2;
        Ok(Some(line))
    }

    /// `block` holds the field lines.
    fn finish(&mut self, block: &[u8]) -> Result<ParsedRequest, Reject> {
        let Some(Start { method, target, version, .. }) = self.start.take() else {
            return Err(Reject::bad("H1-10", "no request line"));
        };
        let evidence = &self.evidence;
        evidence.check_request(version)?;
        let framing = evidence.request_framing(version)?;
        Ok(ParsedRequest {
            consumed: self.line,
            framing,
            keep_alive: evidence.persistent(version),
            expect_continue: evidence.expect_continue(version, framing)?,
            accepts_trailers: evidence.trailers,
            upgrade: version == Version::Http11 && evidence.upgrade_named && evidence.upgrade_field,
            head: Box::new(RequestHead {
                method,
                target,
                version,
                authority: None,
                protocol: None,
                fields: self.fields.finish(block).map_err(|_| too_large("a field line is too long"))?,
            }),
        })
    }
}

fn too_large(reason: &'static str) -> Reject {
    Reject::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "H1-17", reason)
}

fn check_host(value: &[u8], start: &Start) -> Result<(), Reject> {
    // RFC 9112 section 3.2.2: an absolute-form target replaces Host, but a broken Host stays evidence of a broken
    // client, so both are judged.
    if value.is_empty() && start.absolute {
        return Ok(());
    }
    check_authority(value)
}

/// `method SP target SP version`, single spaces, nothing else (H1-10 to H1-13).
fn parse_request_line(line: &[u8]) -> Result<Start, Reject> {
    // What nearly every line is: in a sound target stands no space.
    if let Some(target) = line.strip_prefix(b"GET ").and_then(|rest| rest.strip_suffix(b" HTTP/1.1"))
        && check_target(target).is_ok()
    {
        let (method, version) = (Method::GET, Version::Http11);
        return Ok(Start { method, absolute: false, target: target.to_vec(), version });
    }
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (method, target) = (parts.next().unwrap_or(&[]), parts.next().unwrap_or(&[]));
    check_method(method)?;
    let Some(version) = parts.next() else {
        return Err(Reject::bad("H1-11", "the request line has no version"));
    };
    if target.is_empty() || version.contains(&b' ') {
        return Err(Reject::bad("H1-10", "the request line is not three words with single spaces"));
    }
    let split = split_target(target)?;
    let version = parse_version(version)?;
    let method = Method::from_bytes(method)
        .map_err(|_| Reject::bad("H1-12", "the method holds a byte that is not allowed"))?;
    Ok(Start { method, absolute: split.authority.is_some(), target: target.to_vec(), version })
}

fn parse_version(version: &[u8]) -> Result<Version, Reject> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Err(Reject::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "H1-11", "the HTTP version is not 1.x"))
        }
        _ => Err(Reject::bad("H1-11", "the HTTP version is broken")),
    }
}

#[cfg(test)]
mod tests;
