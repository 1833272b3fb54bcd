//! The end of the process: nothing in flight is lost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;

use crate::support::backend::Backend;
use crate::support::client::{Raw, get};
use crate::support::manifests::simple;
use crate::support::{TestProxy, eventually};

#[test]
fn work_in_flight_finishes_and_new_connections_are_refused() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let backend = Backend::script(move |mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = tell.lock().unwrap().send(());
        let _ = released.lock().unwrap().recv();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
    });
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut idle = Raw::connect(proxy.http());
    idle.send("GET /missing HTTP/1.1\r\nHost: unknown.test\r\n\r\n");
    assert_eq!(idle.answer().status, 404);
    let mut busy = Raw::connect(proxy.http());
    busy.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    told.recv().unwrap();
    assert_eq!(get(proxy.admin(), "localhost", "/readyz").status, 200);
    proxy.terminate();
    eventually("not ready", || {
        TcpStream::connect(proxy.admin()).is_err() || get(proxy.admin(), "localhost", "/readyz").status == 503
    });
    assert!(idle.is_closed(), "an idle connection is closed");
    eventually("the listener closed", || TcpStream::connect(proxy.http()).is_err());
    release.send(()).unwrap();
    let answer = busy.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "late"));
    assert!(answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")));
    proxy.join();
}

#[test]
fn during_the_grace_period_new_connections_are_still_served() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&simple(backend.address()), &["--shutdown-grace-period=2"]);
    proxy.terminate();
    eventually("not ready", || get(proxy.admin(), "localhost", "/readyz").status == 503);
    assert_eq!(get(proxy.http(), "h.test", "/").status, 200);
    proxy.join();
}

#[test]
fn http_2_clients_are_told_to_go_and_their_streams_end_well() {
    use crate::support::frames::{Frames, get as request};
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let backend = Backend::script(move |mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = tell.lock().unwrap().send(());
        let _ = released.lock().unwrap().recv();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
    });
    let proxy = TestProxy::start(&simple(backend.address()), &[]);
    let mut client = Frames::connect(proxy.http());
    client.send(&request(1, "/"));
    told.recv().unwrap();
    proxy.terminate();
    client.until("GOAWAY without an error", |client| client.seen.goaway == Some(0));
    assert!(!client.seen.ended.contains(&1), "the stream goes on");
    release.send(()).unwrap();
    client.until("the answer", |client| client.seen.ended.contains(&1));
    assert_eq!((client.seen.status.get(&1), client.seen.data.get(&1)), (Some(&200), Some(&4)));
    client.until("the end", |client| client.closed);
    proxy.join();
}
