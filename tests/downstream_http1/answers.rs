//! How answers look on the wire: heads, framing, cuts, refusals, and what is counted.

use std::cell::RefCell;
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use narthex::message::{BodyError, Request, ResponseBody};
use narthex::proxy::http1::{Rejection, serve};
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;

use crate::harness::{
    GET, collect, data, dateless, echo, frames, full, options, read_all, read_until, response, run, send,
    start,
};

/// A body that promises more than it has.
struct Short(Option<&'static str>, u64);

impl narthex::message::Flow for Short {}

impl Body for Short {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.take().map(data))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.1)
    }
}

#[test]
fn answers_are_written_as_nginx_does() {
    run(async {
        let (mut client, _task) = start(options(), |_| async {
            let mut answer = full("hello");
            answer.head.fields.append("X-CaSe", b"kept").unwrap();
            answer.head.fields.append("Transfer-Encoding", b"chunked").unwrap();
            answer.head.fields.append("content-length", b"99").unwrap();
            answer.head.fields.append("connection", b"x").unwrap();
            answer
        });
        let expect =
            "HTTP/1.1 200 OK\r\nX-CaSe: kept\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello";
        for _ in 0..3 {
            send(&mut client, GET).await;
            assert_eq!(dateless(&read_until(&mut client, "hello").await), expect);
        }
    });
}

#[test]
fn http_1_0_gets_no_chunks_and_keeps_the_connection_only_if_asked() {
    run(async {
        let stream = |_| async { response(200, frames(vec![data("he"), data("llo")])) };
        let (mut client, _task) = start(options(), stream);
        send(&mut client, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        let answer = dateless(&read_all(&mut client).await);
        assert_eq!(answer, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");

        let (mut client, _task) = start(options(), echo);
        send(&mut client, "GET /1 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").await;
        assert!(read_until(&mut client, "/1 ").await.contains("Connection: keep-alive\r\n"));
        send(&mut client, "GET /2 HTTP/1.0\r\n\r\n").await;
        assert!(read_all(&mut client).await.contains("Connection: close\r\n"));
    });
}

#[test]
fn answers_without_a_body_have_none() {
    run(async {
        let (mut client, _task) = start(options(), |request: Request| async move {
            let status = std::str::from_utf8(&request.head.target[1..]).unwrap().parse().unwrap();
            let mut answer = response(status, ResponseBody::Full("never sent".into()));
            if status != 201 {
                answer.head.fields.append("Content-Length", b"7").unwrap();
            }
            answer
        });
        for (line, expect) in [
            ("HEAD /200", "200 OK\r\nContent-Length: 7\r\n"),
            ("HEAD /201", "201 Created\r\nContent-Length: 10\r\n"),
            ("GET /304", "304 Not Modified\r\nContent-Length: 7\r\n"),
            ("GET /204", "204 No Content\r\n"),
        ] {
            send(&mut client, format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            let answer = dateless(&read_until(&mut client, "\r\n\r\n").await);
            assert_eq!(answer, format!("HTTP/1.1 {expect}Connection: keep-alive\r\n\r\n"), "{line}");
        }
    });
}

#[test]
fn a_broken_answer_is_cut_where_the_client_can_see_it() {
    run(async {
        let (mut client, _task) = start(options(), |_| async {
            response(200, frames(vec![data("hello"), Err(BodyError::Upstream)]))
        });
        send(&mut client, GET).await;
        let answer = read_all(&mut client).await;
        assert!(answer.ends_with("\r\n\r\n5\r\nhello\r\n"), "{answer}");
    });
}

#[test]
fn a_body_of_another_length_than_promised_never_ends_cleanly() {
    run(async {
        for (promised, expect) in [(9, "Content-Length: 9\r\nConnection: keep-alive\r\n\r\nhello"), (3, "")] {
            let (mut client, task) = start(options(), move |_| async move {
                response(200, ResponseBody::Stream(Box::pin(Short(Some("hello"), promised))))
            });
            send(&mut client, [GET, GET].concat()).await;
            let answer = read_all(&mut client).await;
            assert!(answer.ends_with(expect), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
            task.await.unwrap();
        }
    });
}

#[test]
fn refusals_are_answered_and_told() {
    run(async {
        for (bytes, status, rule, line) in [
            ("GET /a b HTTP/1.1\r\n", 400, "H1-10", "GET /a b HTTP/1.1"),
            ("\r\nGET / HTTP/1.1\r\nX : y\r\n", 400, "H1-06", "GET / HTTP/1.1"),
            ("\x16\x03\x01\x02", 400, "H1-12", "\x16\x03\x01\x02"),
            ("TRACE / HTTP/1.1\r\n", 405, "H1-12", "TRACE / HTTP/1.1"),
            ("GET / HT", 0, "H1-18", "GET / HT"),
        ] {
            let (mut client, server) = tokio::io::duplex(4096);
            let told = Rc::new(RefCell::new(Vec::new()));
            let notes = Rc::clone(&told);
            let task = spawn_local(async move {
                let note = |told: &Rejection<'_>| {
                    let line = String::from_utf8_lossy(told.line).into_owned();
                    notes.borrow_mut().push((told.rule, line, told.request_bytes, told.bytes_sent));
                };
                serve(server, BytesMut::new(), &options(), echo, pending(), note).await;
            });
            send(&mut client, bytes).await;
            if status == 0 {
                client.shutdown().await.unwrap();
            }
            let answer = read_all(&mut client).await;
            let expect = if status == 0 { String::new() } else { format!("HTTP/1.1 {status} ") };
            assert!(answer.starts_with(&expect) && answer.is_empty() == (status == 0), "{bytes:?}: {answer}");
            task.await.unwrap();
            let sent = answer.len() as u64;
            assert_eq!(*told.borrow(), [(rule, line.to_owned(), bytes.len() as u64, sent)]);
        }
    });
}

#[test]
fn the_meter_counts_what_passed_and_is_final_when_the_guard_drops() {
    /// Takes the meter's figures when it is dropped.
    struct Log(Rc<narthex::message::Meter>, Rc<RefCell<Vec<[u64; 3]>>>);
    impl Drop for Log {
        fn drop(&mut self) {
            assert!(self.0.finished.get());
            let meter = &self.0;
            let figures = [meter.request_bytes.get(), meter.bytes_sent.get(), meter.body_bytes_sent.get()];
            self.1.borrow_mut().push(figures);
        }
    }
    run(async {
        let log = Rc::new(RefCell::new(Vec::new()));
        let lines = Rc::clone(&log);
        let (mut client, _task) = start(options(), move |request| {
            let guard = Log(Rc::clone(&request.meter), Rc::clone(&lines));
            async {
                let (body, _) = collect(request.body).await.unwrap();
                let mut answer =
                    if body.is_empty() { full("hello") } else { response(200, frames(vec![data("abc")])) };
                answer.guard = Some(Rc::new(guard));
                answer
            }
        });
        send(&mut client, GET).await;
        let first = read_until(&mut client, "hello").await;
        let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n";
        send(&mut client, format!("{post}{post}")).await;
        let mut rest = String::new();
        while rest.matches("0\r\n\r\n").count() < 2 {
            rest += &read_until(&mut client, "0\r\n\r\n").await;
        }
        let half = rest.len() as u64 / 2;
        let chunks = "3\r\nabc\r\n0\r\n\r\n".len() as u64;
        let (get, post) = (GET.len() as u64, post.len() as u64);
        let expect = [[get, first.len() as u64, 5], [post, half, chunks], [post, half, chunks]];
        tokio::task::yield_now().await;
        assert_eq!(*log.borrow(), expect);
    });
}
