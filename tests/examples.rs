//! The manifests in `examples/` hold what the README says of them: they are sound, and they lead to a local process.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;

use support::TestProxy;
use support::backend::Backend;
use support::client::Raw;

fn example(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).join("app.yaml");
    fs::read_to_string(path).expect("the example is there")
}

/// The example with its fixed ports replaced by those of running backends.
fn with_ports(name: &str, ports: &[(u16, &Backend)]) -> String {
    ports.iter().fold(example(name), |text, (port, backend)| {
        let place = format!("- port: {port}\n");
        assert!(text.contains(&place), "{name} has no endpoint on {port}");
        text.replace(&place, &format!("- port: {}\n", backend.address().port()))
    })
}

#[test]
fn a_local_process_is_reached() {
    let backend = Backend::echo("app");
    let proxy = TestProxy::start(&with_ports("local-process", &[(9000, &backend)]), &[]);
    let mut client = Raw::connect(proxy.http());
    let answer = client.send("GET /x HTTP/1.1\r\nHost: app.example\r\n\r\n").answer();
    assert_eq!((answer.status, answer.field("x-backend")), (200, Some("app")));
    let other = client.send("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n").answer();
    assert_eq!(other.status, 404);
}

#[test]
fn the_canary_takes_who_asks_for_it() {
    let (old, new) = (Backend::echo("old"), Backend::echo("new"));
    let proxy = TestProxy::start(&with_ports("canary", &[(9001, &old), (9002, &new)]), &[]);
    let mut client = Raw::connect(proxy.http());
    for (cookie, expect) in [("new=always", "new"), ("new=never", "old")] {
        let answer =
            client.send(format!("GET / HTTP/1.1\r\nHost: app.example\r\nCookie: {cookie}\r\n\r\n")).answer();
        assert_eq!((answer.status, answer.field("x-backend")), (200, Some(expect)), "{cookie}");
    }
}

#[test]
fn a_host_with_tls_sends_clear_text_to_https() {
    let backend = Backend::echo("app");
    let proxy = TestProxy::start(&with_ports("https", &[(9000, &backend)]), &[]);
    let answer = Raw::connect(proxy.http()).send("GET /x HTTP/1.1\r\nHost: app.example\r\n\r\n").answer();
    assert_eq!((answer.status, answer.field("location")), (308, Some("https://app.example/x")));
}
