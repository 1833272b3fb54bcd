//! Parser of a backend's response heads: rules R-1 to R-9 of `spec/security.md` C.7.
//!
//! Lenient where old backends need it (R-3: bare LF, no reason, any status to 999, obs-fold, white space before a
//! colon) because everything is written anew towards the client; strict where framing or syntax would let one
//! answer pass for two. Incremental like [`super::request`].

use http::{Method, StatusCode};

use super::encode::reason_phrase;
use super::evidence::{Evidence, TELLING};
use super::fields::{Draft, Found, Tag, scan_name};
use super::head::{Framing, ResponseHead, Version};
use super::line::{find_control, trim, trim_end, trim_start, usual_line};
use super::verdict::{Parse, Reject};

/// How large a response head may be (R-8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseLimits {
    /// Bytes of one head, status line included. 64 KiB.
    pub head: usize,
    /// Field lines. 512.
    pub fields: usize,
}

impl Default for ResponseLimits {
    fn default() -> Self {
        Self { head: 64 * 1024, fields: 512 }
    }
}

/// What the request asked, as far as it decides how an answer is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseContext {
    /// The request was HEAD: no body whatever the head says.
    pub head: bool,
    /// The request asked for an upgrade, so a 101 is an answer (R-6).
    pub upgrade: bool,
}

impl ResponseContext {
    /// Context of a request with `method` that asked for no upgrade.
    pub fn of(method: &Method) -> Self {
        Self { head: *method == Method::HEAD, upgrade: false }
    }
}

/// A complete response head and what follows from it.
#[derive(Debug)]
pub struct ParsedResponse {
    /// Head with all field lines in place, framing fields included.
    pub head: ResponseHead,
    /// Bytes of the buffer that the head took.
    pub consumed: usize,
    /// How the end of the body is told; [`Framing::None`] for HEAD, 1xx, 204 and 304.
    pub framing: Framing,
    /// The connection may be used again once the body is complete (and nothing more was sent, R-5).
    pub keep_alive: bool,
    /// 1xx other than 101: the final answer is still to come (R-7).
    pub interim: bool,
}

/// Interim answers before the final one that are still taken (R-7).
pub const MAX_INTERIM: usize = 16;
/// Bytes of all interim answers that are still taken (R-7).
pub const MAX_INTERIM_BYTES: usize = 32 * 1024;

/// State of one head between reads. Feed it the same growing buffer until it is done, then make a new one.
#[derive(Debug, Default)]
pub struct ResponseParser {
    line: usize,
    scanned: usize,
    folded: bool,
    status: Option<StatusLine>,
    /// Where the first field line starts.
    block: usize,
    fields: Draft,
    evidence: Evidence,
}

#[derive(Debug)]
struct StatusLine {
    version: Version,
    status: StatusCode,
    reason: Option<Box<str>>,
}

/// Parses a head from a buffer that is not expected to grow; [`ResponseParser`] is the incremental form.
pub fn parse_response_head(
    buf: &[u8],
    context: ResponseContext,
    limits: &ResponseLimits,
) -> Parse<ParsedResponse> {
    ResponseParser::default().parse(buf, context, limits)
}

impl ResponseParser {
    /// Looks at what is new in `buf`, which must start with the bytes of the call before.
    pub fn parse(
        &mut self,
        buf: &[u8],
        context: ResponseContext,
        limits: &ResponseLimits,
    ) -> Parse<ParsedResponse> {
        Parse::of(self.advance(buf, context, limits))
    }

    fn advance(
        &mut self,
        buf: &[u8],
        context: ResponseContext,
        limits: &ResponseLimits,
    ) -> Result<Option<ParsedResponse>, Reject> {
        loop {
            if self.status.is_none() {
                check_protocol(buf)?;
            } else if self.scanned == self.line {
                self.take_usual(buf, limits)?;
            }
            let start = self.line;
            let Some(end) = self.next_line(buf, limits)? else { return Ok(None) };
            let line = buf.get(start..end).unwrap_or(&[]);
            if self.status.is_none() {
                self.status = Some(parse_status_line(line)?);
                self.block = self.line;
            } else if line.is_empty() {
                return self.finish(context, buf.get(self.block..start).unwrap_or(&[])).map(Some);
            } else if self.fields.len() >= limits.fields {
                return Err(Reject::gateway("R-8", "more field lines than allowed"));
            } else if self.folded {
                // It would lend its place to a name that stands elsewhere.
                if matches!(line.first(), Some(b' ' | b'\t')) {
                    return Err(Reject::gateway("R-2", "a field line starts with white space"));
                }
                let line = unfold(line);
                self.take_field(&line, start, false)?;
            } else {
                self.take_field(line, start, buf.get(end) == Some(&b'\r'))?;
            }
            self.folded = false;
        }
    }

    /// Takes field lines as long as nothing about them asks for a closer look; they mean the same when looked at
    /// closely, at several times the cost.
    fn take_usual(&mut self, buf: &[u8], limits: &ResponseLimits) -> Result<(), Reject> {
        let window = buf.get(..limits.head).unwrap_or(buf);
        while self.fields.len() < limits.fields
            && let Some(line) = window.get(self.line..).and_then(usual_line)
        {
            let tag = Tag::usual(line.name);
            if TELLING.may_hold(tag) {
                self.evidence.note(line.name, line.value);
            }
            let start = self.line.saturating_sub(self.block);
            let added = self.fields.add_usual(start, line.name, line.value, tag);
            added.map_err(|_| Reject::gateway("R-8", "a field line is too long"))?;
            self.line += line.length();
            self.scanned = self.line;
        }
        Ok(())
    }

    /// Index where the next logical line ends; its line end is already passed. A field line goes on where the next
    /// line starts with white space, so one byte of that is needed.
    fn next_line(&mut self, buf: &[u8], limits: &ResponseLimits) -> Result<Option<usize>, Reject> {
        loop {
            let window = limits.head.min(buf.len());
            let Some(found) = find_control(buf.get(self.scanned..window).unwrap_or(&[])) else {
                self.scanned = self.scanned.max(window);
                let full = buf.len() >= limits.head;
                return if full {
                    Err(Reject::gateway("R-8", "the head is longer than allowed"))
                } else {
                    Ok(None)
                };
            };
            let at = self.scanned + found;
            self.scanned = at;
            let next = match (buf.get(at), buf.get(at + 1)) {
                (Some(b'\r'), None) => return Ok(None),
                (Some(b'\r'), Some(b'\n')) => at + 2,
                (Some(b'\n'), _) => at + 1,
                _ => return Err(Reject::gateway("R-2", "a control byte in the head")),
            };
            if next > limits.head {
                return Err(Reject::gateway("R-8", "the head is longer than allowed"));
            }
            if self.status.is_some() && at > self.line {
                match buf.get(next) {
                    None => return Ok(None),
                    Some(b' ' | b'\t') => {
                        self.folded = true;
                        self.scanned = next;
                        continue;
                    }
                    Some(_) => {}
                }
            }
            self.line = next;
            self.scanned = next;
            return Ok(Some(at));
        }
    }

    /// `at` is where the line starts, `crlf` how it ends.
    fn take_field(&mut self, line: &[u8], at: usize, crlf: bool) -> Result<(), Reject> {
        // White space at the start of a line that folds nothing is refused here: it is no token.
        let (token, kinds) = scan_name(line);
        let (name, rest) = line.split_at_checked(token).unwrap_or((line, &[]));
        let Some((b':', value)) = trim_start(rest).split_first() else {
            let colon = line.contains(&b':');
            return Err(Reject::gateway(
                "R-2",
                if colon { "a field name is no token" } else { "a field line has no colon" },
            ));
        };
        if name.is_empty() {
            return Err(Reject::gateway("R-2", "a field name is no token"));
        }
        let value = trim_start(value);
        let value_at = line.len() - value.len();
        let value = trim_end(value);
        self.evidence.note(name, value);
        let start = at.saturating_sub(self.block);
        let plain = crlf && line.get(token..value_at) == Some(b": ") && value_at + value.len() == line.len();
        let value_start = start + value_at;
        let found = Found { start, name, kinds, value_start, value, plain, folded: self.folded };
        self.fields.add(&found).map_err(|_| Reject::gateway("R-8", "a field line is too long"))
    }

    /// `block` holds the field lines.
    fn finish(&mut self, context: ResponseContext, block: &[u8]) -> Result<ParsedResponse, Reject> {
        let Some(StatusLine { version, status, reason }) = self.status.take() else {
            return Err(Reject::gateway("R-2", "no status line"));
        };
        let fields = self.fields.finish(block);
        let fields = fields.map_err(|_| Reject::gateway("R-8", "a field line is too long"))?;
        let evidence = &self.evidence;
        let switching = status == StatusCode::SWITCHING_PROTOCOLS;
        if switching && !(context.upgrade && version == Version::Http11) {
            return Err(Reject::gateway("R-6", "101 without a request for it"));
        }
        let framing =
            if status.is_informational() { Framing::None } else { evidence.response_framing(version)? };
        let without_body = status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
            || context.head;
        // A 204 that announces a body may well send it: do not read the next answer from there (R-5).
        let suspicious = status == StatusCode::NO_CONTENT && !context.head && evidence.announces_body();
        let framing = match framing {
            _ if without_body => Framing::None,
            Framing::Length(0) => Framing::None,
            framing => framing,
        };
        Ok(ParsedResponse {
            consumed: self.line,
            framing,
            keep_alive: evidence.persistent(version)
                && framing != Framing::UntilClose
                && !switching
                && !suspicious,
            interim: status.is_informational() && !switching,
            head: ResponseHead { status, reason, version, fields },
        })
    }
}

/// Refuses bytes that can become no status line at once, so an HTTP/0.9 answer is not read up to the limit.
fn check_protocol(buf: &[u8]) -> Result<(), Reject> {
    const PROTOCOL: &[u8] = b"HTTP/1.";
    let length = PROTOCOL.len().min(buf.len());
    if buf.get(..length) == PROTOCOL.get(..length) {
        Ok(())
    } else {
        Err(Reject::gateway("R-2", "the answer is no HTTP/1 answer"))
    }
}

/// `HTTP/1.x SP 3DIGIT [ SP reason ]`.
fn parse_status_line(line: &[u8]) -> Result<StatusLine, Reject> {
    let bad = Reject::gateway("R-2", "the status line is broken");
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(bad)?;
    let (version, rest) = match rest {
        [b'0', b' ', rest @ ..] => (Version::Http10, rest),
        [b'1'..=b'9', b' ', rest @ ..] => (Version::Http11, rest),
        _ => return Err(bad),
    };
    let (digits, rest) = rest.split_at_checked(3).ok_or(bad)?;
    let status = StatusCode::from_bytes(digits).map_err(|_| bad)?;
    let reason = match rest.split_first() {
        None => &[],
        Some((b' ', reason)) => trim(reason),
        Some(_) => return Err(bad),
    };
    let reason = std::str::from_utf8(reason).ok();
    // What would be written anyway needs no memory.
    let reason = reason.filter(|reason| reason_phrase(status) != *reason).map(Box::from);
    Ok(StatusLine { version, status, reason })
}

/// RFC 9112 section 5.2: each obs-fold becomes one space.
fn unfold(line: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(line.len());
    for part in line.split(|byte| *byte == b'\n') {
        let part = trim(part.strip_suffix(b"\r").unwrap_or(part));
        if !whole.is_empty() && !part.is_empty() {
            whole.push(b' ');
        }
        whole.extend_from_slice(part);
    }
    whole
}

#[cfg(test)]
mod tests;
