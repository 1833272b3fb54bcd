//! Every case of the malformed-message corpora against the parsers (whole, byte by byte, cut at random) and the
//! requests also against the connection driver with a service that echoes.
//!
//! What a case says about routing, fields towards the backend or the path is judged elsewhere; here the question is
//! which messages are seen and where they end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a failed expectation is a panic")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use base64::Engine;
use bytes::BytesMut;
use http::StatusCode;
use http_body::Body;
use narthex::message::{BodyError, Request, RequestBody, Response, ResponseBody};
use narthex::proxy::http1::{Options, Rejection, serve};
use narthex::wire::{
    BodyDecoder, ChunkLimits, Fields, Framing, HeadLimits, Leniency, Parse, RequestParser, ResponseContext,
    ResponseHead, ResponseLimits, ResponseParser, Step, Version, parse_request_head,
};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[derive(Deserialize)]
struct Corpus {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    raw: Option<String>,
    #[serde(default)]
    raw_zlib_b64: Option<String>,
    expected: String,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    also_ok: Option<String>,
    #[serde(default)]
    n: Option<usize>,
    #[serde(default)]
    conn_close: bool,
    #[serde(default)]
    incomplete: bool,
    #[serde(default)]
    then: Option<String>,
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        if let Some(text) = &self.raw {
            return text.chars().map(|c| u8::try_from(u32::from(c)).expect("one byte a character")).collect();
        }
        let Some(packed) = &self.raw_zlib_b64 else { return Vec::new() };
        let packed = base64::engine::general_purpose::STANDARD.decode(packed).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&packed[..]), &mut bytes).unwrap();
        bytes
    }

    /// What this product decided where the corpus leaves a choice.
    fn accepts(&self) -> bool {
        pinned(&self.name).unwrap_or(self.expected == "accept")
    }
}

/// Choices that the corpus leaves open (`also_ok`) and that differ from its first choice, and cases that the layer
/// above refuses. True: these bytes are taken here.
fn pinned(name: &str) -> Option<bool> {
    match name {
        // 101 fields are below the limit of 200.
        "hdr-count-101" => Some(true),
        // Extensions in one message are limited to 4 KiB in all (H1-08).
        "chunk-ext-drip" => Some(false),
        // Normalising the path is routing's: it answers 400 there.
        "tgt-dotdot-escape" => Some(true),
        _ => None,
    }
}

fn cases(text: &str) -> Vec<Case> {
    serde_saphyr::from_str::<Corpus>(text).unwrap().cases
}

fn requests() -> Vec<Case> {
    let cases = cases(include_str!("data/malformed-h1.yaml"));
    assert!(cases.len() > 150, "the corpus is there");
    for case in &cases {
        if pinned(&case.name).is_some_and(|pin| pin != (case.expected == "accept")) {
            let other = if case.expected == "accept" { "reject" } else { "accept" };
            let open = case.also_ok.as_deref() == Some(other) || case.name == "tgt-dotdot-escape";
            assert!(open, "{} is pinned but not open", case.name);
        }
    }
    cases
}

/// Ends of the slices that `bytes` arrive in.
fn cuts(length: usize, seed: u64) -> Vec<usize> {
    match seed {
        0 => vec![length],
        1 => (1..=length).collect(),
        _ => {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut ends = Vec::new();
            let mut end = 0;
            while end < length {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                end = (end + 1 + (state >> 33) as usize % 40).min(length);
                ends.push(end);
            }
            ends
        }
    }
}

/// Reads `bytes` as a connection does and says how many requests were complete and how it ended.
fn judge(bytes: &[u8], seed: u64) -> (usize, String) {
    let (head_limits, chunk_limits) = (HeadLimits::default(), ChunkLimits::default());
    let (mut complete, mut start) = (0, 0);
    let mut parser = RequestParser::default();
    let mut body: Option<BodyDecoder> = None;
    for end in cuts(bytes.len(), seed) {
        loop {
            let fresh = &bytes[start..end];
            if let Some(decoder) = &mut body {
                match decoder.decode(fresh) {
                    Err(reject) => return (complete, reject.to_string()),
                    Ok(Step::More) => {
                        start = end;
                        break;
                    }
                    Ok(Step::Data(range)) => start += range.end,
                    Ok(Step::End(taken)) => {
                        start += taken;
                        complete += 1;
                        body = None;
                    }
                }
                continue;
            }
            match parser.parse(fresh, &head_limits) {
                Parse::Incomplete => break,
                Parse::Reject(reject) => return (complete, format!("{} {reject}", reject.status.as_u16())),
                Parse::Complete(parsed) => {
                    start += parsed.consumed;
                    parser = RequestParser::default();
                    body = Some(BodyDecoder::new(parsed.framing, Leniency::Strict, chunk_limits));
                }
            }
        }
    }
    let clean = body.is_none() && start == bytes.len();
    (complete, if clean { "clean" } else { "unfinished" }.to_owned())
}

#[test]
fn every_request_gets_its_verdict_however_it_is_cut() {
    let mut wrong = Vec::new();
    for case in requests() {
        let bytes = case.bytes();
        let whole = judge(&bytes, 0);
        for seed in [1, 2, 3, 5, 8, 13] {
            assert_eq!(judge(&bytes, seed), whole, "{} cut with seed {seed}", case.name);
        }
        let (complete, end) = whole;
        let fine = if case.accepts() {
            let then = case.then.is_some();
            complete == case.n.unwrap_or(1) && (end == "clean") != then
        } else if case.incomplete {
            complete == 0 && end == "unfinished"
        } else {
            complete == 0 && end != "clean" && end != "unfinished"
        };
        if !fine {
            wrong.push(format!("{}: {complete} requests, then {end}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_status_of_a_refusal_is_the_preferred_one() {
    // CONNECT is 400 (H1-12) and TE lists with foreign codings are 501 only without a length.
    let other = ["rl-connect-internal", "rl-connect-smuggle", "chunk-trailers-200"];
    for case in requests().iter().filter(|case| !case.accepts() && !case.incomplete) {
        if let Parse::Reject(reject) = parse_request_head(&case.bytes(), &HeadLimits::default()) {
            let same = case.status == Some(reject.status.as_u16());
            assert_eq!(
                same,
                !other.contains(&case.name.as_str()),
                "{}: {reject} {}",
                case.name,
                reject.status
            );
        }
    }
}

#[test]
fn every_answer_gets_its_verdict_however_it_is_cut() {
    let cases = cases(include_str!("data/malformed-responses.yaml"));
    assert!(cases.len() > 25, "the corpus is there");
    for case in cases {
        let bytes = case.bytes();
        let whole = judge_response(&bytes, 0);
        for seed in [1, 2, 3, 5, 8, 13] {
            assert_eq!(judge_response(&bytes, seed), whole, "{} cut with seed {seed}", case.name);
        }
        assert_eq!(whole.is_ok(), case.expected == "accept", "{}: {whole:?}", case.name);
    }
}

/// Reads an answer to a GET; the backend closes at the end of `bytes`.
fn judge_response(bytes: &[u8], seed: u64) -> Result<String, String> {
    let context = ResponseContext { head: false, upgrade: false };
    let limits = ResponseLimits::default();
    let mut parser = ResponseParser::default();
    let mut start = 0;
    let mut body: Option<BodyDecoder> = None;
    let mut data = Vec::new();
    for end in cuts(bytes.len(), seed) {
        loop {
            let fresh = &bytes[start..end];
            if let Some(decoder) = &mut body {
                match decoder.decode(fresh).map_err(|reject| reject.to_string())? {
                    Step::More => {
                        start = end;
                        break;
                    }
                    Step::Data(range) => {
                        data.extend_from_slice(&fresh[range.clone()]);
                        start += range.end;
                    }
                    Step::End(_) => return Ok(String::from_utf8_lossy(&data).into_owned()),
                }
                continue;
            }
            match parser.parse(fresh, context, &limits) {
                Parse::Incomplete => break,
                Parse::Reject(reject) => return Err(reject.to_string()),
                Parse::Complete(parsed) => {
                    start += parsed.consumed;
                    parser = ResponseParser::default();
                    if !parsed.interim {
                        body =
                            Some(BodyDecoder::new(parsed.framing, Leniency::Backend, ChunkLimits::default()));
                    }
                }
            }
        }
    }
    match body {
        Some(decoder) if decoder.may_end() => Ok(String::from_utf8_lossy(&data).into_owned()),
        _ => Err("cut".into()),
    }
}

/// Reads the body to its end and answers: 200, or what a broken body deserves.
async fn echo(request: Request, seen: Rc<Cell<usize>>) -> Response {
    let mut body: RequestBody = request.body;
    let mut error = None;
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        if let Err(broken) = frame {
            error = Some(broken);
            break;
        }
    }
    let status = match error {
        None => {
            seen.set(seen.get() + 1);
            StatusCode::OK
        }
        Some(BodyError::Timeout) => StatusCode::REQUEST_TIMEOUT,
        Some(_) => StatusCode::BAD_REQUEST,
    };
    Response {
        head: ResponseHead { status, reason: None, version: Version::Http11, fields: Fields::new() },
        body: ResponseBody::Full("ok".into()),
        close: error.is_some(),
        upgrade: None,
        trailers: None,
        guard: None,
    }
}

/// Statuses of the final answers in `bytes`.
fn statuses(bytes: &[u8]) -> Vec<u16> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let context = ResponseContext { head: false, upgrade: false };
        let mut parser = ResponseParser::default();
        let Parse::Complete(parsed) = parser.parse(&bytes[start..], context, &ResponseLimits::default())
        else {
            panic!("no answer: {:?}", String::from_utf8_lossy(&bytes[start..]));
        };
        start += parsed.consumed;
        if let Framing::Length(length) = parsed.framing {
            start += usize::try_from(length).unwrap();
        }
        if !parsed.interim {
            found.push(parsed.head.status.as_u16());
        }
    }
    found
}

async fn drive(case: Case, seed: u64, wrong: Rc<RefCell<Vec<String>>>) {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    // A connection that must be closed by us gets no help from the idle timeout.
    let stays = case.accepts() && !case.conn_close && case.then.is_none();
    let idle = if stays { Duration::from_millis(200) } else { Duration::from_secs(3_600) };
    let unfinished = if case.incomplete { Duration::from_millis(50) } else { Duration::from_secs(3_600) };
    let options = Options {
        idle_timeout: if case.incomplete { Duration::from_millis(50) } else { idle },
        head_timeout: unfinished,
        body_timeout: unfinished,
        drain_timeout: Duration::from_millis(50),
        ..Options::default()
    };
    let seen = Rc::new(Cell::new(0));
    let rejected = Rc::new(Cell::new(0));
    let counter = Rc::clone(&seen);
    let hook = Rc::clone(&rejected);
    let server = tokio::task::spawn_local(async move {
        let handle = |request| echo(request, Rc::clone(&counter));
        let count = |_: &Rejection<'_>| hook.set(hook.get() + 1);
        serve(server, BytesMut::new(), &options, handle, std::future::pending(), count).await;
    });
    let bytes = case.bytes();
    let mut start = 0;
    let mut answer = Vec::new();
    for end in cuts(bytes.len(), seed) {
        // The server may have closed in the middle.
        if client.write_all(&bytes[start..end]).await.is_err() {
            break;
        }
        if seed != 0 {
            tokio::task::yield_now().await;
        }
        start = end;
    }
    let read = tokio::time::timeout(Duration::from_secs(30), client.read_to_end(&mut answer)).await;
    let closed = matches!(read, Ok(Ok(_)));
    drop(client);
    server.await.unwrap();
    let statuses = if closed { statuses(&answer) } else { vec![] };
    let ok = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.len() - ok;
    let fine = closed
        && if case.accepts() {
            let after = usize::from(case.then.is_some());
            ok == case.n.unwrap_or(1) && refused == after && rejected.get() == after && seen.get() == ok
        } else {
            let alone = statuses.iter().all(|status| *status >= 400 && *status != 502 && *status != 504);
            seen.get() == 0 && alone && statuses.len() <= 1
        };
    if !fine {
        let line =
            format!("{} seed {seed}: closed {closed}, {statuses:?}, complete {}", case.name, seen.get());
        wrong.borrow_mut().push(line);
    }
}

#[test]
fn every_request_gets_its_answer_from_the_driver() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let wrong = Rc::new(RefCell::new(Vec::new()));
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut running = Vec::new();
        for seed in [0, 1, 2, 3] {
            for case in requests() {
                running.push(tokio::task::spawn_local(drive(case, seed, Rc::clone(&wrong))));
            }
        }
        for task in running {
            task.await.unwrap();
        }
    });
    assert!(wrong.borrow().is_empty(), "{}", wrong.borrow().join("\n"));
}
