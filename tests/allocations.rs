//! What a request takes from the allocator: a figure that no machine's speed changes, so a regression is seen anywhere.
//!
//! Client and back-end here take nothing while they are counted; what is left is the proxy's. Its other threads take
//! something now and then: of several measurements the least counts, and the bounds leave room for less than one
//! allocation more.
#![allow(clippy::unwrap_used, reason = "a test may end where its set-up fails")]

mod support;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use support::TestProxy;
use support::backend::Backend;
use support::manifests::simple;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

// Together fewer than a connection may carry.
const WARM_UP: usize = 100;
const COUNTED: usize = 800;
/// Measurements among those that are counted.
const PARTS: usize = 4;
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: test\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
    Content-Length: 10\r\nConnection: keep-alive\r\n\r\n0123456789";

/// Allocations per call of `round`, after it has been called often enough for everything to be in place.
fn per_round(mut round: impl FnMut()) -> f64 {
    (0..WARM_UP).for_each(|_| round());
    let part = |_| {
        let region = Region::new(ALLOCATOR);
        (0..COUNTED / PARTS).for_each(|_| round());
        let taken = region.change();
        (taken.allocations + taken.reallocations) as f64 / (COUNTED / PARTS) as f64
    };
    (0..PARTS).map(part).fold(f64::INFINITY, f64::min)
}

/// A back-end that answers each read with the same bytes. Requests here are short: one read is one request.
fn backend() -> Backend {
    Backend::script(|mut stream, _| {
        let mut space = [0; 8192];
        while matches!(stream.read(&mut space), Ok(1..)) {
            if stream.write_all(ANSWER).is_err() {
                return;
            }
        }
    })
}

fn connect(proxy: &TestProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.http()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Reads until the bytes end with `end`.
fn read_until(stream: &mut TcpStream, space: &mut [u8], end: &[u8]) {
    let mut length = 0;
    while !space[..length].ends_with(end) {
        let read = stream.read(&mut space[length..]).unwrap();
        assert!(read > 0, "the connection ended");
        length += read;
    }
}

fn http1(proxy: &TestProxy, request: &[u8]) -> f64 {
    let mut stream = connect(proxy);
    let mut space = [0; 8192];
    per_round(|| {
        stream.write_all(request).unwrap();
        read_until(&mut stream, &mut space, b"0123456789");
    })
}

/// One request after the other on streams of one connection; their frames are made beforehand.
fn http2(proxy: &TestProxy) -> f64 {
    use support::frames::{END_STREAM, PREFACE, SETTINGS, frame, get};
    let requests: Vec<Vec<u8>> =
        (0..WARM_UP + COUNTED).map(|turn| get(u32::try_from(2 * turn + 1).unwrap(), "/")).collect();
    let mut requests = requests.iter();
    let mut stream = connect(proxy);
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, 1, 0, &[])].concat()).unwrap();
    let mut head = [0; 9];
    let mut space = [0; 16 * 1024];
    per_round(|| {
        stream.write_all(requests.next().unwrap()).unwrap();
        loop {
            stream.read_exact(&mut head).unwrap();
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            stream.read_exact(&mut space[..length]).unwrap();
            // DATA or HEADERS that ends its stream.
            if head[3] <= 1 && head[4] & END_STREAM != 0 {
                return;
            }
        }
    })
}

/// One test, because what is counted is the whole process.
#[test]
fn a_small_request_takes_no_more_from_the_allocator_than_it_did() {
    let backend = backend();
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    let check = |what: &str, taken: f64, bound: f64| {
        assert!(taken >= 1.0, "{what}: {taken} allocations: nothing was counted");
        assert!(taken <= bound, "{what}: {taken} allocations for each request, more than {bound}");
        println!("{what}: {taken} allocations for each request");
    };
    let get = b"GET / HTTP/1.1\r\nHost: h.test\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n";
    check("GET over HTTP/1.1", http1(&proxy, get), 18.5);
    let post = b"POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 10\r\n\r\n0123456789";
    check("POST over HTTP/1.1", http1(&proxy, post), 20.5);
    check("GET over HTTP/2", http2(&proxy), 20.5);
}
