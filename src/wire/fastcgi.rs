//! FastCGI 1.0 as bytes, the side of a web server: records of one request out, records of its answer in. Pure. One
//! request for each connection, numbered 1, as nginx sends without `fastcgi_keep_conn`. Not here: which parameters there
//! are (`policy::fastcgi`), sockets (`upstream::fastcgi`).

use std::ops::Range;

use http::StatusCode;

use super::response::{ParsedResponse, ResponseContext, ResponseLimits, ResponseParser};
use super::verdict::{Parse, Reject};
use super::{Framing, ResponseHead};

/// Most content of one record.
const MOST: usize = 0xffff;
const REQUEST: u16 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
const RULE: &str = "fastcgi";

/// The beginning of a request: the role of a responder, and all parameters.
pub fn encode_head<'p>(parameters: impl Iterator<Item = (&'p str, &'p [u8])>) -> Vec<u8> {
    let mut stream = Vec::with_capacity(1024);
    for (name, value) in parameters {
        for length in [name.len(), value.len()] {
            match u8::try_from(length) {
                Ok(short) if short < 0x80 => stream.push(short),
                _ => {
                    let long = u32::try_from(length).unwrap_or(u32::MAX >> 1);
                    stream.extend_from_slice(&(long | 0x8000_0000).to_be_bytes());
                }
            }
        }
        stream.extend_from_slice(name.as_bytes());
        stream.extend_from_slice(value);
    }
    let mut out = Vec::with_capacity(stream.len() + 64);
    // Role responder, no flags: the application closes the connection.
    encode_record(&mut out, BEGIN_REQUEST, &[0, 1, 0, 0, 0, 0, 0, 0]);
    for part in stream.chunks(MOST) {
        encode_record(&mut out, PARAMS, part);
    }
    encode_record(&mut out, PARAMS, &[]);
    out
}

/// The record header before this much of the request body; nothing more than [`longest_part`] at once. Nothing ends
/// the body.
pub fn body_header(length: usize) -> [u8; 8] {
    header(STDIN, length)
}

/// How much of a body goes into one record.
pub const fn longest_part() -> usize {
    MOST
}

fn header(kind: u8, length: usize) -> [u8; 8] {
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let [id_high, id_low] = REQUEST.to_be_bytes();
    [1, kind, id_high, id_low, high, low, 0, 0]
}

fn encode_record(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    out.extend_from_slice(&header(kind, content.len()));
    out.extend_from_slice(content);
}

/// What the bytes at hand hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing more; read.
    More,
    /// So many bytes say nothing to us.
    Skip(usize),
    /// This part belongs to the answer.
    Output(Range<usize>),
    /// This part is for the error log.
    Errors(Range<usize>),
    /// The application is done; so many bytes are taken.
    End(usize),
}

/// Takes records apart, at any segmentation. Give it the bytes that were not taken yet each time.
#[derive(Debug, Default)]
pub struct Decoder {
    kind: u8,
    content: usize,
    padding: usize,
}

impl Decoder {
    /// The next step.
    ///
    /// # Errors
    /// For what is no answer to our request.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Step, Reject> {
        if self.content > 0 {
            return self.content(bytes);
        }
        if self.padding > 0 && !bytes.is_empty() {
            let skipped = self.padding.min(bytes.len());
            self.padding -= skipped;
            return Ok(Step::Skip(skipped));
        }
        let Some(header) = bytes.first_chunk::<8>() else { return Ok(Step::More) };
        let [version, kind, id_high, id_low, high, low, padding, _] = *header;
        let id = u16::from_be_bytes([id_high, id_low]);
        if version != 1 {
            return Err(Reject::gateway(RULE, "a record has another version than 1"));
        }
        if !matches!((kind, id), (STDOUT | STDERR | END_REQUEST, REQUEST)) {
            return Err(Reject::gateway(RULE, "a record answers nothing that was asked"));
        }
        let content = usize::from(u16::from_be_bytes([high, low]));
        if kind == END_REQUEST && content != 8 {
            return Err(Reject::gateway(RULE, "the last record has a wrong length"));
        }
        (self.kind, self.content, self.padding) = (kind, content, padding.into());
        Ok(Step::Skip(8))
    }

    fn content(&mut self, bytes: &[u8]) -> Result<Step, Reject> {
        let here = self.content.min(bytes.len());
        match self.kind {
            END_REQUEST => match bytes.get(4) {
                _ if here < self.content => Ok(Step::More),
                Some(0) => {
                    self.content = 0;
                    Ok(Step::End(here))
                }
                _ => Err(Reject::gateway(RULE, "the application refused the request")),
            },
            _ if here == 0 => Ok(Step::More),
            STDERR => {
                self.content -= here;
                Ok(Step::Errors(0..here))
            }
            _ => {
                self.content -= here;
                Ok(Step::Output(0..here))
            }
        }
    }
}

/// The head of an answer in the manner of CGI (RFC 3875 section 6.3): judged as the head of a backend's HTTP answer is,
/// with the status of `Status`, else 302 where there is a `Location`, else 200.
#[derive(Debug)]
pub struct HeadParser {
    text: Vec<u8>,
    parser: ResponseParser,
    context: ResponseContext,
}

/// A complete head.
#[derive(Debug)]
pub struct Head {
    /// Head; without `Status`.
    pub head: ResponseHead,
    /// How long the body is, if the head says.
    pub framing: Framing,
    /// What came behind it.
    pub rest: Vec<u8>,
}

impl HeadParser {
    /// Before the first byte.
    pub fn new(context: ResponseContext) -> Self {
        Self { text: b"HTTP/1.1 200 OK\r\n".to_vec(), parser: ResponseParser::default(), context }
    }

    /// Takes a part of the output; the head once it is complete.
    ///
    /// # Errors
    /// For a head that breaks the rules of answers, or is too large.
    pub fn take(&mut self, part: &[u8]) -> Result<Option<Head>, Reject> {
        self.text.extend_from_slice(part);
        let parsed = match self.parser.parse(&self.text, self.context, &ResponseLimits::default()) {
            Parse::Incomplete => return Ok(None),
            Parse::Reject(reject) => return Err(reject),
            Parse::Complete(parsed) => parsed,
        };
        let ParsedResponse { mut head, consumed, framing, .. } = parsed;
        head.status = status(&head)?;
        head.fields.remove("status");
        let framing = match framing {
            Framing::Chunked => return Err(Reject::gateway(RULE, "the answer has a transfer coding")),
            _ if head.status.is_informational() => {
                return Err(Reject::gateway(RULE, "the answer is none: its status is informational"));
            }
            _ if matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => Framing::None,
            framing => framing,
        };
        let rest = self.text.split_off(consumed.min(self.text.len()));
        Ok(Some(Head { head, framing, rest }))
    }
}

fn status(head: &ResponseHead) -> Result<StatusCode, Reject> {
    let bad = Reject::gateway(RULE, "the status of the answer is no status");
    let Some(line) = head.fields.get_only("status").map_err(|_repeated| bad)? else {
        let moved = head.fields.contains("location");
        return Ok(if moved { StatusCode::FOUND } else { StatusCode::OK });
    };
    let digits = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    StatusCode::from_bytes(digits).map_err(|_| bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    fn record(kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let mut out = header(kind, content.len()).to_vec();
        out[6] = u8::try_from(padding).unwrap();
        out.extend_from_slice(content);
        out.extend(vec![0; padding]);
        out
    }

    /// Output and errors of an answer that comes in pieces of this size.
    fn decode(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>, bool), Reject> {
        let (mut decoder, mut buffer) = (Decoder::default(), Vec::new());
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        for part in bytes.chunks(piece) {
            buffer.extend_from_slice(part);
            loop {
                match decoder.decode(&buffer)? {
                    Step::More => break,
                    Step::Skip(taken) => drop(buffer.drain(..taken)),
                    Step::Output(range) => output.extend(buffer.drain(range)),
                    Step::Errors(range) => errors.extend(buffer.drain(range)),
                    Step::End(_) => return Ok((output, errors, true)),
                }
            }
        }
        Ok((output, errors, false))
    }

    #[test]
    fn records_are_taken_apart_at_any_segmentation() {
        let answer = [
            record(STDOUT, b"Status: 201\r\n\r\nhel", 5),
            record(STDERR, b"notice", 2),
            record(STDOUT, b"lo", 0),
            record(STDOUT, b"", 0),
            record(STDERR, b"", 0),
            record(END_REQUEST, &[0, 0, 0, 7, 0, 0, 0, 0], 0),
        ]
        .concat();
        for piece in 1..=answer.len() {
            let expect = (b"Status: 201\r\n\r\nhello".to_vec(), b"notice".to_vec(), true);
            assert_eq!(decode(&answer, piece), Ok(expect), "in pieces of {piece}");
        }
        assert!(!decode(&answer[..answer.len() - 1], 9).unwrap().2, "the end is not there yet");
    }

    #[test]
    fn what_answers_nothing_is_refused() {
        let mut other_id = record(STDOUT, b"x", 0);
        other_id[3] = 2;
        let mut other_version = record(STDOUT, b"x", 0);
        other_version[0] = 2;
        for bytes in [
            other_id,
            other_version,
            record(BEGIN_REQUEST, &[0; 8], 0),
            record(11, &[0; 8], 0),
            record(END_REQUEST, &[0; 7], 0),
            record(END_REQUEST, &[0, 0, 0, 0, 2, 0, 0, 0], 0),
            b"HTTP/1.1 200 OK\r\n".to_vec(),
        ] {
            assert!(decode(&bytes, 1).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn parameters_are_written_with_short_and_long_lengths_and_over_several_records() {
        let long = vec![b'v'; 70_000];
        let pairs: [(&str, &[u8]); 2] = [("A", b"1"), ("LONG", &long)];
        let bytes = encode_head(pairs.into_iter());
        assert_eq!(bytes[..16], [1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        let mut rest = &bytes[16..];
        let mut stream = Vec::new();
        loop {
            let length = usize::from(u16::from_be_bytes([rest[4], rest[5]]));
            assert_eq!((rest[1], rest[6]), (PARAMS, 0));
            stream.extend_from_slice(&rest[8..8 + length]);
            rest = &rest[8 + length..];
            if length == 0 {
                break;
            }
        }
        assert!(rest.is_empty());
        assert_eq!(stream[..4], [1, 1, b'A', b'1']);
        assert_eq!(stream[4..9], [4, 0x80, 1, 0x11, 0x70]);
        assert_eq!(&stream[9..13], b"LONG");
        assert_eq!(stream.len(), 13 + 70_000);
    }

    fn head(text: &str) -> Result<Option<(u16, Framing, Vec<u8>)>, Reject> {
        let mut parser = HeadParser::new(ResponseContext::of(&Method::GET));
        let mut found = None;
        for byte in text.as_bytes().chunks(1) {
            match (&mut found, parser.take(byte)) {
                (None, Ok(None)) => {}
                (None, Ok(Some(head))) => {
                    assert!(!head.head.fields.contains("status"));
                    found = Some((head.head.status.as_u16(), head.framing, head.rest));
                    return Ok(found);
                }
                (_, Err(reject)) => return Err(reject),
                (Some(_), _) => break,
            }
        }
        Ok(found)
    }

    #[test]
    fn heads_have_the_status_they_say_or_mean() {
        let none = Vec::new;
        assert_eq!(head("Content-Type: a/b\r\n\r\n"), Ok(Some((200, Framing::UntilClose, none()))));
        assert_eq!(head("Status: 404 Not Found\nA: b\n\n"), Ok(Some((404, Framing::UntilClose, none()))));
        assert_eq!(head("Location: /x\r\n\r\n"), Ok(Some((302, Framing::UntilClose, none()))));
        assert_eq!(
            head("Status: 200\r\nContent-Length: 3\r\n\r\n"),
            Ok(Some((200, Framing::Length(3), none())))
        );
        assert_eq!(head("Status: 204\r\n\r\n"), Ok(Some((204, Framing::None, none()))));
        assert_eq!(head("Content-Type: a/b\r\n"), Ok(None));
        for bad in [
            "Status: abc\r\n\r\n",
            "Status: 1\r\n\r\n",
            "Status: 101\r\n\r\n",
            "Status: 200\r\nStatus: 404\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n",
            "Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
            "no field at all\r\n\r\n",
        ] {
            assert!(head(bad).is_err(), "{bad:?}");
        }
        assert!(head(&format!("A: {}\r\n\r\n", "x".repeat(70_000))).is_err(), "heads are bounded");
    }
}
