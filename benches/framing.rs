//! What the strict codec costs: the head of a small request and of its answer, by ours and by hyper's parser, which judges
//! less. The difference is what safety against smuggling costs; benches/README.md says how it compares with a request.

use divan::{Bencher, black_box};
use http::Method;
use narthex::wire::{
    HeadLimits, Parse, ResponseContext, ResponseLimits, parse_request_head, parse_response_head,
};

const REQUEST: &[u8] = b"GET /api/items?page=2 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: client/1.0\r\n\
    Accept: application/json\r\nAccept-Encoding: gzip\r\nCookie: session=0123456789abcdef\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\
    Cache-Control: no-store\r\nVary: Accept-Encoding\r\n\r\n";

fn main() {
    divan::main();
}

#[divan::bench]
fn request_by_ours(bencher: Bencher<'_, '_>) {
    let limits = HeadLimits::default();
    bencher.bench(|| matches!(parse_request_head(black_box(REQUEST), &limits), Parse::Complete(_)));
}

#[divan::bench]
fn request_by_hypers(bencher: Bencher<'_, '_>) {
    bencher.bench(|| {
        let mut space = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut space);
        let complete = request.parse(black_box(REQUEST)).is_ok_and(|status| status.is_complete());
        // As hyper does: names and values into a map.
        let mut map = http::HeaderMap::with_capacity(8);
        for field in request.headers.iter() {
            if let (Ok(name), Ok(value)) = (
                http::HeaderName::from_bytes(field.name.as_bytes()),
                http::HeaderValue::from_bytes(field.value),
            ) {
                map.append(name, value);
            }
        }
        (complete, map)
    });
}

#[divan::bench]
fn answer_by_ours(bencher: Bencher<'_, '_>) {
    let (context, limits) = (ResponseContext::of(&Method::GET), ResponseLimits::default());
    bencher.bench(|| matches!(parse_response_head(black_box(ANSWER), context, &limits), Parse::Complete(_)));
}

#[divan::bench]
fn answer_by_hypers(bencher: Bencher<'_, '_>) {
    bencher.bench(|| {
        let mut space = [httparse::EMPTY_HEADER; 100];
        let mut answer = httparse::Response::new(&mut space);
        let complete = answer.parse(black_box(ANSWER)).is_ok_and(|status| status.is_complete());
        let mut map = http::HeaderMap::with_capacity(8);
        for field in answer.headers.iter() {
            if let (Ok(name), Ok(value)) = (
                http::HeaderName::from_bytes(field.name.as_bytes()),
                http::HeaderValue::from_bytes(field.value),
            ) {
                map.append(name, value);
            }
        }
        (complete, map)
    });
}
