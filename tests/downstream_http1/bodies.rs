//! Request bodies: expectation, streaming both ways, trailers, limits, back-pressure.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http_body::Frame;
use narthex::message::{BodyError, RequestBody, ResponseBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use crate::harness::{
    GET, collect, data, dateless, echo, frames, full, next_frame, options, piped, read_all, read_until,
    response, run, send, start, start_tcp,
};

#[test]
fn a_100_is_sent_when_the_body_is_wanted() {
    run(async {
        let (mut client, _task) = start(options(), echo);
        send(&mut client, "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            .await;
        assert_eq!(read_until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        send(&mut client, "hello").await;
        let answer = read_until(&mut client, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("keep-alive"), "{answer}");
        // The body came with the head: no interim answer is owed.
        send(
            &mut client,
            "POST /y HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
        )
        .await;
        assert!(read_until(&mut client, "/y hi").await.starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn no_100_is_sent_when_the_request_is_refused() {
    run(async {
        let (mut client, _task) = start(options(), |_| async { response(413, ResponseBody::Empty) });
        send(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            .await;
        let answer = dateless(&read_all(&mut client).await);
        let expect =
            "HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(answer, expect);
    });
}

#[test]
fn answer_and_body_stream_at_the_same_time() {
    run(async {
        // The answer starts before the body and carries each piece back as it comes.
        let (mut client, _task) = start(options(), |mut request| async move {
            let (feed, body) = piped();
            spawn_local(async move {
                while let Some(frame) = next_frame(&mut request.body).await {
                    if feed.send(frame).is_err() {
                        break;
                    }
                }
            });
            response(200, body)
        });
        send(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert!(read_until(&mut client, "\r\n\r\n").await.contains("Transfer-Encoding: chunked\r\n"));
        for piece in ["one", "two", "three"] {
            send(&mut client, format!("{:x}\r\n{piece}\r\n", piece.len())).await;
            let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
            assert_eq!(read_until(&mut client, &chunk).await, chunk);
        }
        send(&mut client, "0\r\n\r\n").await;
        assert_eq!(read_until(&mut client, "0\r\n\r\n").await, "0\r\n\r\n");
        send(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
        assert!(read_until(&mut client, "2\r\nhi\r\n0\r\n\r\n").await.contains("keep-alive"));
    });
}

#[test]
fn a_body_inside_the_answers_body_is_read_by_its_polls() {
    run(async {
        let (mut client, _task) = start(options(), |request| async {
            let RequestBody::Stream(body) = request.body else { panic!("the body is not there yet") };
            response(200, ResponseBody::Stream(body))
        });
        send(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n").await;
        assert!(read_until(&mut client, "\r\n\r\n").await.contains("Content-Length: 10\r\n"));
        send(&mut client, "hello").await;
        assert_eq!(read_until(&mut client, "hello").await, "hello");
        send(&mut client, "world").await;
        assert_eq!(read_until(&mut client, "world").await, "world");
        send(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\n")
            .await;
        tokio::task::yield_now().await;
        send(&mut client, "x").await;
        assert!(read_all(&mut client).await.ends_with("Connection: close\r\n\r\nx"));
    });
}

#[test]
fn large_bodies_pass_in_both_directions() {
    run(async {
        const LENGTH: usize = 8 << 20;
        let (client, _task) = start_tcp(options(), |request| async {
            let RequestBody::Stream(body) = request.body else { panic!("the body is not there yet") };
            response(200, ResponseBody::Stream(body))
        })
        .await;
        let sent: Vec<u8> = (0..LENGTH).map(|at| ((at * 31) >> 8) as u8).collect();
        let (mut reader, mut writer) = client.into_split();
        let expect = sent.clone();
        let upload = spawn_local(async move {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n");
            send(&mut writer, head).await;
            send(&mut writer, &sent).await;
            send(
                &mut writer,
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            )
            .await;
            for piece in sent.chunks(100_000) {
                send(&mut writer, format!("{:x}\r\n", piece.len())).await;
                send(&mut writer, piece).await;
                send(&mut writer, "\r\n").await;
            }
            send(&mut writer, "0\r\n\r\n").await;
            writer
        });
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        upload.await.unwrap();
        let end = |bytes: &[u8]| bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let first = end(&all);
        assert!(all[first..first + LENGTH] == expect, "the first body came back changed");
        let rest = &all[first + LENGTH..];
        let mut decoder = narthex::wire::ChunkedDecoder::new(
            narthex::wire::Leniency::Strict,
            narthex::wire::ChunkLimits::default(),
        );
        let (mut at, mut back) = (end(rest), Vec::new());
        loop {
            match decoder.decode(&rest[at..]).unwrap() {
                narthex::wire::Step::Data(range) => {
                    back.extend_from_slice(&rest[at..][range.clone()]);
                    at += range.end;
                }
                step => break assert_eq!(step, narthex::wire::Step::End(rest.len() - at)),
            }
        }
        assert!(back == expect, "the second body came back changed");
    });
}

#[test]
fn trailers_reach_the_handler_and_come_back_only_where_asked_for() {
    run(async {
        let (mut client, _task) = start(options(), |request| async {
            let (_, trailers) = collect(request.body).await.unwrap();
            response(200, frames(vec![data("x"), Ok(Frame::trailers(trailers.unwrap()))]))
        });
        for (te, expect) in
            [("TE: trailers\r\n", "1\r\nx\r\n0\r\nx-sum: 7\r\n\r\n"), ("", "1\r\nx\r\n0\r\n\r\n")]
        {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{te}Transfer-Encoding: chunked\r\n\r\n");
            send(&mut client, head).await;
            send(&mut client, "5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n").await;
            let answer = read_until(&mut client, expect).await;
            assert!(answer.ends_with(&format!("\r\n\r\n{expect}")), "{answer}");
        }
    });
}

#[test]
fn a_short_body_that_nobody_reads_is_read_away() {
    run(async {
        let (mut client, _task) = start(options(), |_| async { full("no") });
        for framing in ["Content-Length: 5\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"] {
            send(&mut client, format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}")).await;
            assert!(read_until(&mut client, "no").await.contains("keep-alive"));
            send(
                &mut client,
                if framing.starts_with('C') { "hello" } else { "5\r\nhello\r\n0\r\nX: y\r\n\r\n" },
            )
            .await;
        }
        send(&mut client, GET).await;
        read_until(&mut client, "no").await;
    });
}

#[test]
fn a_long_body_that_nobody_reads_closes_the_connection_but_not_before_the_answer() {
    run(async {
        let (client, task) = start_tcp(options(), |_| async { full("early") }).await;
        let (mut reader, mut writer) = client.into_split();
        send(&mut writer, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await;
        let answer = read_until(&mut reader, "early").await;
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
        send(&mut writer, vec![b'x'; 50_000]).await;
        assert_eq!(read_all(&mut reader).await, "", "a clean end");
        task.await.unwrap();
    });
}

#[test]
fn a_chunked_body_without_end_is_not_read_for_ever() {
    run(async {
        let (mut client, task) = start(options(), |_| async { full("early") });
        send(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        read_until(&mut client, "early").await;
        let chunk = [&b"2710\r\n"[..], &[b'x'; 10_000], b"\r\n"].concat();
        let mut sent = 0;
        while client.write_all(&chunk).await.is_ok() {
            sent += 1;
            assert!(sent < 100, "a megabyte was read");
        }
        task.await.unwrap();
    });
}

#[test]
fn tiny_chunks_are_put_together() {
    run(async {
        let (mut client, _task) = start(options(), |mut request| async move {
            let mut count = 0;
            while let Some(frame) = next_frame(&mut request.body).await {
                frame.unwrap();
                count += 1;
            }
            assert!(count < 20, "{count} frames for 2,000 chunks");
            full("done")
        });
        send(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        send(&mut client, format!("{}0\r\n\r\n", "1\r\na\r\n".repeat(2_000))).await;
        read_until(&mut client, "done").await;
    });
}

#[test]
fn a_body_that_breaks_framing_is_told_apart_from_a_lost_client() {
    run(async {
        let (mut client, task) = start(options(), |request| async {
            let error = collect(request.body).await.unwrap_err();
            assert!(matches!(error, BodyError::Framing(_)), "{error}");
            response(400, ResponseBody::Empty)
        });
        send(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX")
            .await;
        let answer = read_all(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Connection: close"), "{answer}");
        task.await.unwrap();
    });
}

#[test]
fn a_slow_handler_slows_the_client() {
    run(async {
        let (hold, held) = oneshot::channel::<()>();
        let gate = Rc::new(RefCell::new(Some(held)));
        let (mut client, _task) = start(options(), move |request| {
            let gate = gate.borrow_mut().take().unwrap();
            async move {
                gate.await.unwrap();
                let (body, _) = collect(request.body).await.unwrap();
                full(body.len().to_string())
            }
        });
        send(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n").await;
        let body = vec![b'x'; 4_000_000];
        let mut taken = 0;
        while let Ok(written) =
            tokio::time::timeout(Duration::from_millis(50), client.write(&body[taken..])).await
        {
            taken += written.unwrap();
            assert!(taken < 1_000_000, "the body is read although nobody wants it");
        }
        hold.send(()).unwrap();
        send(&mut client, &body[taken..]).await;
        assert!(read_until(&mut client, "\r\n\r\n4000000").await.starts_with("HTTP/1.1 200"));
    });
}
