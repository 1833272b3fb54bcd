//! More requests at once than a worker begins in one turn: every one is begun, whatever others wait for, and answered.

use std::io::{BufReader, Write};
use std::sync::Barrier;

use crate::support::TestProxy;
use crate::support::backend::{Backend, read_request};
use crate::support::client::Raw;
use crate::support::frames::{Frames, get};
use crate::support::manifests::simple;

/// Requests at once.
const CROWD: usize = 150;
/// Streams of one connection.
const STREAMS: usize = 50;

/// Answers none of its requests before [`CROWD`] are there.
fn patient() -> Backend {
    let all = Barrier::new(CROWD);
    Backend::script(move |mut stream, _| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while read_request(&mut reader).is_some() {
            all.wait();
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").is_err() {
                return;
            }
        }
    })
}

#[test]
fn requests_of_many_connections_are_all_under_way_before_one_is_answered() {
    let backend = patient();
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    let mut clients: Vec<Raw> = (0..CROWD).map(|_| Raw::connect(proxy.http())).collect();
    for round in 0..3 {
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let answer = client.answer();
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "hi"),
                "round {round}, client {number}"
            );
        }
    }
}

#[test]
fn streams_of_several_connections_are_all_under_way_before_one_is_answered() {
    let backend = patient();
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    let mut clients: Vec<Frames> = (0..CROWD / STREAMS).map(|_| Frames::connect(proxy.http())).collect();
    for round in 0..3 {
        let numbers = (round * STREAMS..(round + 1) * STREAMS).map(|stream| stream as u32 * 2 + 1);
        let requests: Vec<u8> = numbers.flat_map(|stream| get(stream, "/")).collect();
        for client in &mut clients {
            assert!(client.send(&requests));
        }
        for client in &mut clients {
            client.until("the answers", |client| client.seen.ended.len() >= (round + 1) * STREAMS);
            assert_eq!(client.seen.status.len(), (round + 1) * STREAMS);
            assert!(client.seen.status.values().all(|status| *status == 200), "{:?}", client.seen.status);
            assert!(client.seen.reset.is_empty());
        }
    }
}

#[test]
fn a_crowd_whose_half_goes_away_at_once_leaves_nobody_waiting() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &["--workers=1"]);
    for round in 0..3 {
        let mut clients: Vec<Raw> = (0..CROWD).map(|_| Raw::connect(proxy.http())).collect();
        for client in &mut clients {
            client.send("GET /first HTTP/1.1\r\nHost: h.test\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
        for client in &mut clients {
            client.send("GET /second HTTP/1.1\r\nHost: h.test\r\n\r\n");
        }
        // Some before their request is read, some after.
        let mut stay = Vec::new();
        for (number, client) in clients.into_iter().enumerate() {
            if number % 2 == 0 {
                stay.push(client);
            }
        }
        for (number, client) in stay.iter_mut().enumerate() {
            let answer = client.answer();
            assert!(answer.text().starts_with("GET /second"), "round {round}, client {number}");
        }
    }
}
