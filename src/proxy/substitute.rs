//! `sub_filter`: texts of a body replaced while it streams. Matches may lie across pieces; never more than the longest
//! text sought is held back. `service` wraps the body of an answer; what is sought is `policy::snippet`'s.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame};

use crate::message::{BodyError, Flow, LocalBody, Response, ResponseBody};
use crate::policy::snippet::Substitutions;

/// Searches the body of an answer, where its head says that it is to be searched. Fields that describe the old body go.
pub fn apply(substitutions: Substitutions, response: &mut Response) {
    // A part of a body keeps its place in the whole: nginx replaces in it, and the parts no longer fit together.
    let is_part =
        response.head.status == StatusCode::PARTIAL_CONTENT || response.head.fields.contains("content-range");
    if is_part || !substitutions.apply_to(&response.head.fields) || response.upgrade.is_some() {
        return;
    }
    let body = std::mem::replace(&mut response.body, ResponseBody::Empty);
    let mut search = Search::new(substitutions);
    response.body = match body {
        ResponseBody::Empty => return,
        ResponseBody::Full(bytes) => {
            let mut out = Vec::with_capacity(bytes.len());
            search.feed(&bytes, &mut out);
            search.end(&mut out);
            ResponseBody::Full(Bytes::from(out))
        }
        ResponseBody::Stream(inner) => {
            ResponseBody::Stream(Box::pin(Substituting { inner, search, ended: false, last: None }))
        }
    };
    for name in ["content-length", "etag", "last-modified", "accept-ranges"] {
        response.head.fields.remove(name);
    }
}

/// Texts sought, and what is held back because it may be the start of one.
struct Search {
    pairs: Vec<Pair>,
    once: bool,
    held: Vec<u8>,
}

struct Pair {
    from: Vec<u8>,
    to: Vec<u8>,
    spent: bool,
}

impl Search {
    fn new(substitutions: Substitutions) -> Self {
        let pairs = substitutions.pairs.into_iter().filter(|(from, _)| !from.is_empty());
        let pairs = pairs.map(|(from, to)| Pair { from, to, spent: false }).collect();
        Self { pairs, once: substitutions.once, held: Vec::new() }
    }

    /// Takes a piece; appends what is decided.
    fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(piece);
        let longest = self.pairs.iter().filter(|pair| !pair.spent).map(|pair| pair.from.len()).max();
        let keep = longest.map_or(0, |longest| longest.saturating_sub(1));
        self.decide(keep, out);
    }

    /// No piece follows.
    fn end(&mut self, out: &mut Vec<u8>) {
        self.decide(0, out);
    }

    /// Decides about all but the last `keep` bytes.
    fn decide(&mut self, keep: usize, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        let end = held.len().saturating_sub(keep);
        let mut at = 0;
        while at < end {
            let rest = held.get(at..).unwrap_or_default();
            let starts = |pair: &&mut Pair| {
                let head = rest.get(..pair.from.len());
                !pair.spent && head.is_some_and(|head| head.eq_ignore_ascii_case(&pair.from))
            };
            match self.pairs.iter_mut().find(starts) {
                Some(pair) => {
                    out.extend_from_slice(&pair.to);
                    at += pair.from.len();
                    pair.spent = self.once;
                }
                None => {
                    out.extend(rest.first());
                    at += 1;
                }
            }
        }
        self.held = held.get(at..).unwrap_or_default().to_vec();
    }
}

struct Substituting {
    inner: LocalBody,
    search: Search,
    ended: bool,
    /// Trailers, sent after what was held back.
    last: Option<Frame<Bytes>>,
}

impl Flow for Substituting {}

impl Body for Substituting {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.ended {
                return Poll::Ready(self.last.take().map(Ok));
            }
            let mut out = Vec::new();
            match std::task::ready!(self.inner.as_mut().poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.search.feed(&piece, &mut out),
                    Err(trailers) => {
                        self.search.end(&mut out);
                        self.ended = true;
                        self.last = Some(trailers);
                    }
                },
                None => {
                    self.search.end(&mut out);
                    self.ended = true;
                }
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)], once: bool, pieces: &[&str], expect: &str) {
        let owned = |text: &str| text.as_bytes().to_vec();
        let pairs = pairs.iter().map(|(from, to)| (owned(from), owned(to))).collect();
        let mut search = Search::new(Substitutions { pairs, once, types: None });
        let mut out = Vec::new();
        for piece in pieces {
            search.feed(piece.as_bytes(), &mut out);
        }
        search.end(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), expect, "{pieces:?}");
    }

    #[test]
    fn texts_are_replaced_once_or_always_in_any_case_and_across_pieces() {
        check(&[("</head>", "<x></head>")], true, &["a</he", "ad>b</head>"], "a<x></head>b</head>");
        check(&[("A", "b")], false, &["aAa", "", "a"], "bbbb");
        check(&[("aa", "b")], false, &["a", "a", "a"], "ba");
        check(&[("one", "1"), ("two", "2")], true, &["ONE two one tw", "o"], "1 2 one two");
        check(&[("x", "")], false, &["axbx"], "ab");
        check(&[("long text", "y")], true, &["long tex"], "long tex");
    }
}
