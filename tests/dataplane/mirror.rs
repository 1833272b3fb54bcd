//! Copies of requests.

use crate::support::backend::{Backend, refusing};
use crate::support::client::Raw;
use crate::support::manifests::annotated;
use crate::support::{TestProxy, eventually};

fn post(proxy: &TestProxy, body: &[u8]) -> u16 {
    let head = format!(
        "POST /a?b=c HTTP/1.1\r\nHost: h.test\r\nAuthorization: Basic eA==\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Raw::connect(proxy.http()).send(head).send(body).answer().status
}

#[test]
fn a_copy_carries_method_target_fields_and_body() {
    let (backend, shadow) = (Backend::echo("b"), Backend::echo("s"));
    let target = format!("http://{}$request_uri", shadow.address());
    let mirror = [("mirror-target", target.as_str()), ("mirror-host", "shadow.test")];
    let proxy = TestProxy::start(&annotated(backend.address(), &mirror), &[]);
    for size in [5_usize, 300_000] {
        let body = vec![b'x'; size];
        let before = shadow.requests().len();
        assert_eq!(post(&proxy, &body), 200);
        eventually("the copy arrives", || shadow.requests().len() == before + 1);
        let copy = shadow.requests().pop().unwrap();
        assert_eq!(copy.line, "POST /a?b=c HTTP/1.1");
        assert_eq!(
            (copy.field("host"), copy.field("authorization")),
            (Some("shadow.test"), Some("Basic eA=="))
        );
        assert!(copy.body == body && backend.requests().pop().unwrap().body == body);
    }
}

#[test]
fn a_copy_without_body_has_no_length_of_one() {
    let (backend, shadow) = (Backend::echo("b"), Backend::echo("s"));
    let target = format!("http://{}/copy", shadow.address());
    let mirror = [("mirror-target", target.as_str()), ("mirror-request-body", "off")];
    let proxy = TestProxy::start(&annotated(backend.address(), &mirror), &[]);
    assert_eq!(post(&proxy, b"body"), 200);
    eventually("the copy arrives", || shadow.requests().len() == 1);
    let copy = shadow.requests().pop().unwrap();
    assert_eq!((copy.line.as_str(), copy.body.len()), ("POST /copy?b=c HTTP/1.1", 0));
    assert_eq!((copy.field("content-length"), copy.field("transfer-encoding")), (None, None));
    assert_eq!(backend.requests().pop().unwrap().body, b"body");
}

#[test]
fn nobody_waits_for_a_target_that_is_gone_or_silent() {
    let backend = Backend::echo("b");
    let silent = Backend::script(|stream, _| {
        let _ = std::io::Read::read(&mut &stream, &mut [0; 1]);
        std::thread::park_timeout(std::time::Duration::from_secs(5));
    });
    for target in [refusing(), silent.address()] {
        let target = format!("http://{target}/");
        let proxy = TestProxy::start(&annotated(backend.address(), &[("mirror-target", &target)]), &[]);
        assert_eq!([post(&proxy, b"1"), post(&proxy, b"2")], [200, 200]);
    }
}
