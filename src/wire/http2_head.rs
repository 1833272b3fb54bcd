//! Heads and trailers of HTTP/2 requests, built from decoded fields (RFC 9113 section 8) and judged by the rules of
//! HTTP/1 (`spec/security.md` C.4): what a client may ask for must not depend on the version it speaks.
//!
//! Three ways out. A sound head; one that is refused with a status of its own, as HTTP/1 refuses it; and one that is
//! malformed for HTTP/2 itself, which costs its stream. Frames and the state of streams are `proxy::http2`'s, which calls
//! this; coding is [`super::hpack`]'s.

use http::{Method, StatusCode};

use super::evidence::Evidence;
use super::fields::Fields;
use super::head::{RequestHead, Version};
use super::hpack::{Appetite, Known, Line, Sink, Value};
use super::request::HeadLimits;
use super::verdict::Reject;

mod judge;

/// Bytes that the lines of a head have room for at first.
const USUAL_HEAD: usize = 384;

/// What is wrong with a message: stream error PROTOCOL_ERROR (RFC 9113 section 8.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed HTTP/2 message: {0}")]
pub struct Malformed(pub &'static str);

/// A head that is no error of the protocol.
#[derive(Debug)]
pub struct TakenHead {
    /// The head; as far as it was read, if it is larger than it may be.
    pub head: RequestHead,
    /// Why it is not served (H1-02 to H2-07).
    pub refused: Option<Reject>,
    /// What DATA has to sum up to (RFC 9113 section 8.1.1).
    pub content_length: Option<u64>,
}

/// A request head that is being decoded.
#[derive(Debug)]
pub struct HeadDraft {
    fields: Fields,
    method: Option<Method>,
    target: Option<Vec<u8>>,
    authority: Option<String>,
    scheme: Option<Scheme>,
    protocol: Option<String>,
    /// Crumbs, joined (RFC 9113 section 8.2.3).
    cookies: Option<Vec<u8>>,
    evidence: Evidence,
    /// `http2-settings` came.
    settings: bool,
    /// As SETTINGS_MAX_HEADER_LIST_SIZE counts it.
    size: usize,
    most: usize,
    /// Longest line but for cookies, bytes.
    longest: usize,
    /// A field came, so that no pseudo-field may.
    fields_begun: bool,
    malformed: Option<Malformed>,
    refused: Option<Reject>,
}

/// What `:scheme` says, which is used for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Sound,
    /// Its first byte is no letter (RFC 3986 section 3.1).
    NoLetter,
}

impl HeadDraft {
    /// An empty one; `max_header_list` is our SETTINGS_MAX_HEADER_LIST_SIZE, bytes.
    pub fn new(max_header_list: u32) -> Self {
        Self {
            fields: Fields::with_capacity(USUAL_HEAD),
            method: None,
            target: None,
            authority: None,
            scheme: None,
            protocol: None,
            cookies: None,
            evidence: Evidence::default(),
            settings: false,
            size: 0,
            most: usize::try_from(max_header_list).unwrap_or(usize::MAX),
            longest: 0,
            fields_begun: false,
            malformed: None,
            refused: None,
        }
    }

    fn is_too_large(&self) -> bool {
        self.size > self.most
    }

    fn malformed(&mut self, reason: &'static str) {
        self.malformed.get_or_insert(Malformed(reason));
    }

    fn take_pseudo(&mut self, line: &Line<'_>) -> Result<(), &'static str> {
        if self.fields_begun {
            return Err("a pseudo-field behind a field");
        }
        let value = line.value();
        let twice = match line.known() {
            Known::Method => {
                let method = Method::from_bytes(&value).map_err(|_| "a method that is no token")?;
                self.method.replace(method).is_some()
            }
            Known::Scheme => self.scheme.replace(scheme(&value)?).is_some(),
            Known::Path => self.target.replace(value.into_owned()).is_some(),
            Known::Authority => {
                let text = self.text_of(line);
                self.authority.replace(text).is_some()
            }
            Known::Protocol => {
                let text = self.text_of(line);
                self.protocol.replace(text).is_some()
            }
            _ => return Err("an unknown pseudo-field"),
        };
        if twice { Err("a pseudo-field that came before") } else { Ok(()) }
    }

    /// The value of a pseudo-field that is refused where it is no text.
    fn text_of(&mut self, line: &Line<'_>) -> String {
        if let Some(text) = line.text_value() {
            return text.to_owned();
        }
        self.refused.get_or_insert(Reject::bad("H1-14", "the host holds bytes above ASCII"));
        String::from_utf8_lossy(&line.value()).into_owned()
    }

    fn take_field(&mut self, line: &Line<'_>) -> Result<(), &'static str> {
        self.fields_begun = true;
        match line.known() {
            Known::Connection => return Err("a field that belongs to a connection of HTTP/1"),
            Known::Te if *line.value() != *b"trailers" => return Err("TE other than trailers"),
            Known::Settings => self.settings = true,
            Known::Evidence => self.evidence.note(line.name().as_bytes(), &line.value()),
            Known::Cookie => {
                let crumbs = self.cookies.get_or_insert_default();
                if !crumbs.is_empty() {
                    crumbs.extend_from_slice(b"; ");
                }
                crumbs.extend_from_slice(&line.value());
                return Ok(());
            }
            _ => {}
        }
        self.longest = self.longest.max(line.name_len() + ": ".len() + line.value().len());
        let pushed = match line.written() {
            Some(text) => self.fields.push_written(text, line.name_len(), line.tag()),
            None => self.fields.push_parsed(line.name(), &line.value()),
        };
        if pushed.is_err() {
            self.size = usize::MAX;
        }
        Ok(())
    }

    /// The first refusal counts.
    fn refuse(&mut self, reject: Reject) {
        self.refused.get_or_insert(reject);
    }
}

impl Sink for HeadDraft {
    fn line(&mut self, line: &Line<'_>) -> Appetite {
        self.size = self.size.saturating_add(line.size());
        if self.is_too_large() || self.malformed.is_some() {
            return Appetite::Full;
        }
        let taken = match (line.known(), line.value_state()) {
            (Known::Unsound, _) => Err("a name that no field of a request has"),
            (_, Value::Control) => Err("a control byte in a value"),
            (
                Known::Method | Known::Scheme | Known::Path | Known::Authority | Known::Protocol,
                Value::Text | Value::Raw | Value::Edge,
            ) => self.take_pseudo(line),
            (Known::Connection | Known::Te, Value::Edge) => {
                Err("a field that belongs to a connection of HTTP/1")
            }
            (_, Value::Edge) => {
                self.fields_begun = true;
                self.refuse(Reject::bad("H2-01", "a field that no HTTP/1 head could carry"));
                Ok(())
            }
            (_, Value::Text | Value::Raw) => self.take_field(line),
        };
        match taken {
            Ok(()) => Appetite::More,
            Err(reason) => {
                self.malformed(reason);
                Appetite::Full
            }
        }
    }
}

/// `:scheme` is used for nothing; a word that no scheme can be is an error (RFC 3986 section 3.1).
fn scheme(value: &[u8]) -> Result<Scheme, &'static str> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if !value.iter().all(allowed) {
        return Err("a :scheme that is none");
    }
    if value.first().is_some_and(u8::is_ascii_alphabetic) { Ok(Scheme::Sound) } else { Ok(Scheme::NoLetter) }
}

/// A trailer section that is being decoded.
#[derive(Debug)]
pub struct TrailerDraft {
    fields: Fields,
    size: usize,
    most: usize,
    malformed: Option<Malformed>,
}

impl TrailerDraft {
    /// An empty one; `max_header_list` as for [`HeadDraft::new`].
    pub fn new(max_header_list: u32) -> Self {
        let most = usize::try_from(max_header_list).unwrap_or(usize::MAX);
        Self { fields: Fields::new(), size: 0, most, malformed: None }
    }

    /// The section.
    ///
    /// # Errors
    /// [`Malformed`], also for one that is too large.
    pub fn finish(self) -> Result<Fields, Malformed> {
        self.malformed.map_or(Ok(self.fields), Err)
    }

    fn take(&mut self, line: &Line<'_>) -> Result<(), &'static str> {
        if self.size > self.most {
            return Err("larger trailers than allowed");
        }
        match (line.known(), line.value_state()) {
            (
                Known::Unsound
                | Known::Method
                | Known::Scheme
                | Known::Path
                | Known::Authority
                | Known::Protocol,
                _,
            ) => return Err("a pseudo-field or no name in trailers"),
            (Known::Connection, _) => return Err("a field that belongs to a connection of HTTP/1"),
            (Known::Te, _) if *line.value() != *b"trailers" => return Err("TE other than trailers"),
            (_, Value::Control | Value::Edge) => return Err("a value that no field has"),
            _ => {}
        }
        let pushed = match line.written() {
            Some(text) => self.fields.push_written(text, line.name_len(), line.tag()),
            None => self.fields.push_parsed(line.name(), &line.value()),
        };
        pushed.map_err(|_| "larger trailers than allowed")
    }
}

impl Sink for TrailerDraft {
    fn line(&mut self, line: &Line<'_>) -> Appetite {
        self.size = self.size.saturating_add(line.size());
        match self.take(line) {
            Ok(()) => Appetite::More,
            Err(reason) => {
                self.malformed = Some(Malformed(reason));
                Appetite::Full
            }
        }
    }
}

#[cfg(test)]
mod tests;
