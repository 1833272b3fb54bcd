//! The life of a connection: pipelining, ends of either side, timeouts, limits, draining, upgrade.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use narthex::message::{BodyError, Request, Response, ResponseBody};
use narthex::proxy::http1::{Options, Rejection, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use crate::harness::{
    GET, collect, dateless, echo, full, options, read_all, read_until, response, run, send, start, start_tcp,
};

/// Tells when it is dropped.
struct Bell(Option<oneshot::Sender<()>>);

impl Drop for Bell {
    fn drop(&mut self) {
        let _ = self.0.take().expect("rings once").send(());
    }
}

fn bell() -> (Bell, oneshot::Receiver<()>) {
    let (ring, heard) = oneshot::channel();
    (Bell(Some(ring)), heard)
}

type Answer = Pin<Box<dyn Future<Output = Response>>>;

/// A handler that never answers and rings when it is cancelled.
fn stuck() -> (impl Fn(Request) -> Answer, oneshot::Receiver<()>) {
    let (bell, heard) = bell();
    let bell = Rc::new(RefCell::new(Some(bell)));
    let handle = move |request: Request| -> Answer {
        let bell = bell.borrow_mut().take();
        Box::pin(async move {
            let _held = (bell, request);
            pending().await
        })
    };
    (handle, heard)
}

#[test]
fn pipelined_requests_are_served_one_after_the_other() {
    run(async {
        let running = Rc::new(Cell::new(0));
        let (mut client, _task) = start(options(), move |request| {
            let running = Rc::clone(&running);
            async move {
                running.set(running.get() + 1);
                assert_eq!(running.get(), 1, "two requests at once");
                tokio::time::sleep(Duration::from_millis(5)).await;
                running.set(running.get() - 1);
                echo(request).await
            }
        });
        send(
            &mut client,
            "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
             POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\nd\r\n2\r\nef\r\n0\r\n\r\n\
             GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
        let all = read_all(&mut client).await;
        let bodies: Vec<_> =
            all.split("\r\n\r\n").skip(1).map(|part| part.split("HTTP").next().unwrap()).collect();
        assert_eq!(bodies, ["/1 abc", "/2 def", "/3 "]);
        assert!(all.contains("Connection: close\r\n\r\n/3 "), "{all}");
    });
}

#[test]
fn a_client_that_closed_its_sending_side_gets_its_answer() {
    run(async {
        let (mut client, task) = start_tcp(options(), |request| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            echo(request).await
        })
        .await;
        send(&mut client, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
        client.shutdown().await.unwrap();
        let answer = read_all(&mut client).await;
        assert!(answer.ends_with("Connection: close\r\n\r\n/x hi"), "{answer}");
        task.await.unwrap();
    });
}

#[test]
fn a_reset_cancels_the_handler() {
    for request in [GET, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello"] {
        run(async move {
            let (handle, cancelled) = stuck();
            let (mut client, _task) = start_tcp(options(), handle).await;
            send(&mut client, request).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
            cancelled.await.unwrap();
        });
    }
}

#[test]
fn a_close_inside_the_body_cancels_the_handler() {
    run(async {
        let (handle, cancelled) = stuck();
        let (mut client, task) = start(options(), handle);
        send(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello").await;
        client.shutdown().await.unwrap();
        cancelled.await.unwrap();
        assert_eq!(read_all(&mut client).await, "");
        task.await.unwrap();
    });
}

#[test]
fn a_close_inside_a_chunked_body_is_an_error_of_the_body() {
    run(async {
        let seen = Rc::new(Cell::new(None));
        let note = Rc::clone(&seen);
        let (mut client, _task) = start(options(), move |request| {
            let note = Rc::clone(&note);
            async move {
                note.set(collect(request.body).await.err());
                response(400, ResponseBody::Empty)
            }
        });
        send(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .await;
        client.shutdown().await.unwrap();
        read_all(&mut client).await;
        assert_eq!(seen.get(), Some(BodyError::Gone));
    });
}

#[test]
fn an_upgrade_gets_what_was_read_ahead_first() {
    run(async {
        let (mut client, task) = start(options(), |_| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let mut answer = response(101, ResponseBody::Empty);
            answer.head.fields.append("Upgrade", b"websocket").unwrap();
            answer.upgrade = Some(Box::new(|mut stream| {
                Box::pin(async move {
                    let mut text = [0; 9];
                    stream.read_exact(&mut text).await.unwrap();
                    stream.write_all(&[b"got ", &text[..]].concat()).await.unwrap();
                    stream.shutdown().await.unwrap();
                })
            }));
            answer
        });
        send(
            &mut client,
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nahead",
        )
        .await;
        let head = dateless(&read_until(&mut client, "\r\n\r\n").await);
        let expect = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
        assert_eq!(head, expect);
        send(&mut client, "more").await;
        assert_eq!(read_all(&mut client).await, "got aheadmore");
        task.await.unwrap();
    });
}

#[test]
fn without_a_101_what_follows_an_upgrade_request_is_the_next_request() {
    run(async {
        let (mut client, _task) = start(options(), echo);
        send(&mut client, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n").await;
        send(&mut client, "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let all = read_all(&mut client).await;
        assert!(all.contains("/ws HTTP/1.1 200") && all.ends_with("/next "), "{all}");
    });
}

#[test]
fn a_101_without_a_tunnel_is_an_error_of_ours() {
    run(async {
        let (mut client, _task) = start(options(), |_| async { response(101, ResponseBody::Empty) });
        send(&mut client, GET).await;
        let answer = read_all(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("Connection: close"), "{answer}");
    });
}

#[test]
fn heads_and_bodies_that_do_not_come_are_408() {
    let quick = Options {
        head_timeout: Duration::from_millis(20),
        body_timeout: Duration::from_millis(20),
        ..options()
    };
    run(async move {
        let (mut client, _task) = start(quick.clone(), echo);
        send(&mut client, "GET / HTTP/1.1\r\nHos").await;
        let answer = read_all(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 408 Request Time-out\r\n"), "{answer}");

        let (mut client, _task) = start(quick, echo);
        send(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").await;
        let answer = read_all(&mut client).await;
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
        assert!(answer.ends_with("no body bytes in time"), "{answer}");
    });
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    run(async {
        let quick = Options { idle_timeout: Duration::from_millis(20), ..options() };
        let (mut client, task) = start(quick, echo);
        send(&mut client, GET).await;
        assert!(read_all(&mut client).await.ends_with("/ "));
        task.await.unwrap();
    });
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    run(async {
        let quick = Options { send_timeout: Duration::from_millis(20), ..options() };
        let body = vec![b'x'; 1 << 20];
        let (bell, dropped) = bell();
        let bell = Rc::new(RefCell::new(Some(bell)));
        let (mut client, task) = start(quick, move |_| {
            let mut answer = full(body.clone());
            answer.guard = bell.borrow_mut().take().map(|bell| Rc::new(bell) as Rc<dyn std::any::Any>);
            async { answer }
        });
        send(&mut client, GET).await;
        dropped.await.unwrap();
        task.await.unwrap();
    });
}

#[test]
fn draining_closes_idle_connections_and_busy_ones_after_their_answer() {
    run(async {
        for busy in [false, true] {
            let (mut client, server) = tokio::io::duplex(4096);
            let (stop, stopped) = oneshot::channel::<()>();
            let (go, gone) = oneshot::channel::<()>();
            let gate = Rc::new(RefCell::new(Some(gone)));
            let task = spawn_local(async move {
                let handle = |request| {
                    let gate = gate.borrow_mut().take();
                    async move {
                        if let (true, Some(gate)) = (busy, gate) {
                            gate.await.unwrap();
                        }
                        echo(request).await
                    }
                };
                let drain = async { drop(stopped.await) };
                serve(server, BytesMut::new(), &options(), handle, drain, |_: &Rejection<'_>| {}).await;
            });
            send(&mut client, GET).await;
            if busy {
                tokio::time::sleep(Duration::from_millis(5)).await;
                stop.send(()).unwrap();
                go.send(()).unwrap();
                assert!(read_all(&mut client).await.contains("Connection: close\r\n"));
            } else {
                assert!(read_until(&mut client, "/ ").await.contains("Connection: keep-alive\r\n"));
                stop.send(()).unwrap();
                assert_eq!(read_all(&mut client).await, "");
            }
            task.await.unwrap();
        }
    });
}

#[test]
fn requests_and_age_of_a_connection_are_limited() {
    run(async {
        let (mut client, _task) = start(Options { max_requests: 2, ..options() }, echo);
        send(&mut client, [GET, GET, GET].concat()).await;
        let all = read_all(&mut client).await;
        assert_eq!(
            (all.matches("keep-alive").count(), all.matches("Connection: close").count()),
            (1, 1),
            "{all}"
        );

        let (mut client, _task) = start(Options { max_age: Duration::ZERO, ..options() }, echo);
        send(&mut client, [GET, GET].concat()).await;
        assert_eq!(read_all(&mut client).await.matches("Connection: close").count(), 1);
    });
}

#[test]
fn bytes_read_before_http_1_was_chosen_come_first() {
    run(async {
        let (mut client, server) = tokio::io::duplex(4096);
        spawn_local(async move {
            let ahead = BytesMut::from(&b"GET /ahead HT"[..]);
            serve(server, ahead, &options(), echo, pending(), |_: &Rejection<'_>| {}).await;
        });
        send(&mut client, "TP/1.1\r\nHost: a\r\n\r\n").await;
        read_until(&mut client, "/ahead ").await;
    });
}

#[test]
fn an_idle_connection_is_small() {
    async fn large(_: Request) -> Response {
        let space = [0u8; 8192];
        tokio::task::yield_now().await;
        full(space.to_vec())
    }
    let options = options();
    let (_, server) = tokio::io::duplex(1);
    let task = serve(server, BytesMut::new(), &options, large, pending(), |_: &Rejection<'_>| {});
    let size = size_of_val(&task);
    assert!(size < 3 * 1024, "the task of a connection takes {size} bytes");
}

#[test]
fn a_refusal_reaches_a_client_that_goes_on_sending() {
    run(async {
        let (mut client, task) = start_tcp(Options::default(), echo).await;
        send(&mut client, "GET /a b HTTP/1.1\r\n").await;
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            send(&mut client, vec![b'x'; 10_000]).await;
        }
        assert!(read_all(&mut client).await.starts_with("HTTP/1.1 400 Bad Request\r\n"));
        drop(client);
        task.await.unwrap();
    });
}

#[test]
fn a_client_that_closes_inside_a_request_is_never_served() {
    const POST: &str =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n";
    run(async {
        for end in 0..=POST.len() {
            let complete = Rc::new(Cell::new(false));
            let note = Rc::clone(&complete);
            let (mut client, task) = start(options(), move |request| {
                let note = Rc::clone(&note);
                async move {
                    note.set(collect(request.body).await.is_ok());
                    full("")
                }
            });
            send(&mut client, &POST[..end]).await;
            client.shutdown().await.unwrap();
            read_all(&mut client).await;
            task.await.unwrap();
            assert_eq!(complete.get(), end == POST.len(), "closed after {end} bytes");
        }
    });
}

#[test]
fn a_panic_costs_its_connection_and_nobody_else_s() {
    run(async {
        // The test's output is not the place for a hundred backtraces.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let (mut neighbour, _neighbours_task) = start(options(), |_| async { full("whole") });
        for _ in 0..100 {
            let (mut client, task) = start(options(), |request| async move {
                assert!(request.head.target != b"/", "on purpose");
                full("never")
            });
            client.write_all(GET).await.unwrap();
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty(), "{}", rest.escape_ascii());
            assert!(task.await.unwrap_err().is_panic());
            neighbour.write_all(GET).await.unwrap();
            let mut answer = [0; 15];
            neighbour.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
            let mut body = Vec::new();
            while !body.ends_with(b"whole") {
                body.push(neighbour.read_u8().await.unwrap());
            }
        }
        std::panic::set_hook(hook);
    });
}
