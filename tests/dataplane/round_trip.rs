//! What the backend parsed is what the client meant (PT-9): method, target, end-to-end fields in their order, and body,
//! of some thousand well-formed requests, over HTTP/1 however the bytes are cut, and over HTTP/2.

use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::TestProxy;
use crate::support::backend::{Backend, Received};
use crate::support::client::Raw;
use crate::support::manifests::annotated;

/// Numbers that look random and are the same in every run (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    fn text(&mut self, alphabet: &str, most: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..self.below(most + 1)).map(|_| letters[self.below(letters.len())]).collect()
    }
}

/// A request as it is meant.
#[derive(Debug)]
struct Meant {
    method: &'static str,
    target: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

const METHODS: [&str; 11] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "MKCOL", "REPORT", "M-SEARCH"];
const SEGMENT: &str = "abzAZ019-_~!$&'()*+,;=:@|^[]";
const QUERY: &str = "abzAZ019-._~!$&'()*+,;=:@/?|^[]{}";
const NAME: &str = "abcxyzABC019-";
const VALUE: &str = "abzAZ019 \t!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~é€";

impl Meant {
    fn draw(dice: &mut Dice, number: usize) -> Self {
        let mut target = String::new();
        for _ in 0..=dice.below(4) {
            target += "/";
            target += &dice.text(SEGMENT, 8);
            target += dice.of(&["", "", "%20", "%2F", "%25", "%e2%82%ac", ".", "%2e", "x.y"]);
        }
        if dice.below(3) == 0 {
            target += "?";
            target += &dice.text(QUERY, 30);
            target += dice.of(&["", "%", "%zz", "%00", "??"]);
        }
        // A segment of dots alone means another path; those have tests of their own.
        let mut target = target.replace("/./", "/x/").replace("/%2e/", "/y/");
        for tail in ["/.", "/%2e"] {
            if target.ends_with(tail) || target.contains(&format!("{tail}?")) {
                target = target.replace(tail, "/z");
            }
        }
        let mut fields = vec![("X-Number".to_owned(), number.to_string())];
        for _ in 0..dice.below(6) {
            let name = format!("X-{}z", dice.text(NAME, 12));
            fields.push((name, dice.text(VALUE, 40).trim_matches([' ', '\t']).to_owned()));
        }
        for name in
            ["Accept", "Accept-Language", "If-None-Match", "Range", "Referer", "Authorization", "Cookie"]
        {
            if dice.below(8) == 0 {
                fields.push((name.to_owned(), dice.text(VALUE, 20).trim_matches([' ', '\t']).to_owned()));
            }
        }
        let length = *dice.of(&[&0, &0, &1, &100, &9_000, &70_000]);
        let body = (0..length).map(|at| u8::try_from((at * 7 + number) % 256).unwrap()).collect();
        Self { method: dice.of(&METHODS), target, fields, body }
    }

    fn http1(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nHost: h.test\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.fields {
            let space = *dice.of(&[&"", &" ", &"\t", &"  "]);
            bytes.extend(format!("{name}:{space}{value}{space}\r\n").into_bytes());
        }
        if self.body.is_empty() && dice.below(2) == 0 {
            bytes.extend(b"\r\n");
        } else if dice.below(2) == 0 {
            bytes.extend(format!("Content-Length: {}\r\n\r\n", self.body.len()).into_bytes());
            bytes.extend(&self.body);
        } else {
            bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            let mut rest = &*self.body;
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(1 + dice.below(rest.len()));
                let plain = format!("{:x}", chunk.len());
                let odd = format!("{:06X};a=b", chunk.len());
                let size = dice.of(&[&*plain, &*odd]);
                bytes.extend(format!("{size}\r\n").into_bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
                rest = after;
            }
            bytes.extend(b"0\r\n\r\n");
        }
        bytes
    }
}

/// What is ours to set, or to write anew.
fn is_ours(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("x-forwarded-")
        || [
            "host",
            "x-real-ip",
            "x-request-id",
            "x-scheme",
            "connection",
            "content-length",
            "transfer-encoding",
        ]
        .contains(&&*name)
}

/// Which order of fields must be kept (RFC 9110 section 5.3: that of lines of one name; a library groups them).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    OfAll,
    OfEachName,
}

fn compare(meant: &[Meant], received: &[Received], order: Order) {
    let number = |one: &Received| one.field("x-number").and_then(|text| text.parse::<usize>().ok());
    let by_number: BTreeMap<usize, &Received> =
        received.iter().filter_map(|one| Some((number(one)?, one))).collect();
    assert_eq!(received.len(), meant.len(), "each request once");
    for (number, meant) in meant.iter().enumerate() {
        let Some(seen) = by_number.get(&number) else { panic!("{number} never came: {meant:?}") };
        assert_eq!(seen.line, format!("{} {} HTTP/1.1", meant.method, meant.target), "{number}");
        let lower = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
        let mut fields: Vec<_> = seen.fields.iter().filter(|(name, _)| !is_ours(name)).map(lower).collect();
        let mut written: Vec<_> = meant.fields.iter().map(lower).collect();
        if order == Order::OfEachName {
            fields.sort_by(|(left, _), (right, _)| left.cmp(right));
            written.sort_by(|(left, _), (right, _)| left.cmp(right));
        }
        assert_eq!(fields, written, "{number}");
        assert!(seen.body == meant.body, "{number}: {} bytes of {}", seen.body.len(), meant.body.len());
    }
}

#[test]
fn what_a_client_means_over_http_1_is_what_the_backend_reads() {
    for streamed in ["on", "off"] {
        let backend = Backend::echo("b");
        let manifests = annotated(backend.address(), &[("proxy-request-buffering", streamed)]);
        let proxy = TestProxy::start(&manifests, &[]);
        let mut dice = Dice(7);
        let meant: Vec<Meant> = (0..600).map(|number| Meant::draw(&mut dice, number)).collect();
        for wave in meant.chunks(7) {
            // Several requests in one stream of bytes, cut anywhere.
            let bytes: Vec<u8> = wave.iter().flat_map(|one| one.http1(&mut dice)).collect();
            let mut raw = Raw::connect(proxy.http());
            let mut rest = &*bytes;
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(1 + dice.below(rest.len()));
                raw.send(piece);
                rest = after;
            }
            for one in wave {
                let answer = raw.answer_to(one.method).unwrap_or_else(|| panic!("no answer to {one:?}"));
                assert_eq!(answer.status, 200, "{one:?}");
            }
        }
        compare(&meant, &backend.requests(), Order::OfAll);
    }
}

#[test]
fn what_a_client_means_over_http_2_is_what_the_backend_reads() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&annotated(backend.address(), &[]), &[]);
    let mut dice = Dice(11);
    let meant: Vec<Meant> = (0..600).map(|number| Meant::draw(&mut dice, number)).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(proxy.http()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        for wave in meant.chunks(8) {
            let mut answers = Vec::new();
            for one in wave {
                let mut request =
                    http::Request::builder().method(one.method).uri(format!("http://h.test{}", one.target));
                for (name, value) in &one.fields {
                    request = request.header(&**name, value.as_bytes());
                }
                let request = request.body(Full::new(Bytes::from(one.body.clone()))).unwrap();
                sender.ready().await.unwrap();
                answers.push((one, sender.send_request(request)));
            }
            for (one, answer) in answers {
                let answer = answer.await.unwrap_or_else(|error| panic!("{error}: {one:?}"));
                assert_eq!(answer.status(), 200, "{one:?}");
                answer.into_body().collect().await.unwrap();
            }
        }
    });
    compare(&meant, &backend.requests(), Order::OfEachName);
}
