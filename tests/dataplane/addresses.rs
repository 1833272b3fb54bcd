//! `bind-address` and `disable-ipv6`: where is listened follows the ConfigMap while clients come and go.

use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::support::backend::Backend;
use crate::support::client::{Raw, get};
use crate::support::manifests::{config_map, simple};
use crate::support::{TestProxy, eventually};

const CONFIG: &str = "--configmap=default/config";
const GET: &str = "GET / HTTP/1.1\r\nHost: h.test\r\n\r\n";

fn world(backend: &Backend, keys: &[(&str, &str)]) -> String {
    let quiet = [("disable-access-log", "true")];
    simple(backend.address()) + &config_map(&[keys, &quiet].concat())
}

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], port))
}

fn listens(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

#[test]
fn named_addresses_are_listened_on_from_the_start_and_no_others() {
    let backend = Backend::echo("one");
    let proxy = TestProxy::start(&world(&backend, &[("bind-address", "127.0.0.2,127.0.0.3")]), &[CONFIG]);
    for port in [proxy.http().port(), proxy.https().port()] {
        assert!(listens(at(2, port)) && listens(at(3, port)) && !listens(at(1, port)));
    }
    assert_eq!(get(at(2, proxy.http().port()), "h.test", "/").status, 200);
}

#[test]
fn addresses_come_and_go_and_connections_to_those_that_went_end_in_order() {
    let backend = Backend::echo("one");
    let proxy = TestProxy::start(&world(&backend, &[]), &[CONFIG, "--workers=2"]);
    let port = proxy.http().port();
    let mut early = Raw::connect(at(1, port));
    assert_eq!(early.send(GET).answer().status, 200);
    proxy.swap(&world(&backend, &[("bind-address", "127.0.0.1,127.0.0.2")]));
    eventually("the second address", || listens(at(2, port)));
    assert_eq!(early.send(GET).answer().status, 200, "who is there stays");
    assert_eq!(get(at(2, port), "h.test", "/").status, 200);

    let mut silent = Raw::connect(at(1, port));
    proxy.swap(&world(&backend, &[("bind-address", "127.0.0.2")]));
    eventually("the first address closed", || !listens(at(1, port)));
    assert!(early.is_closed(), "who idles there is let go");
    assert_eq!(silent.send(GET).answer().status, 200, "a first request is still answered");
    assert!(silent.is_closed());
    assert_eq!(get(at(2, port), "h.test", "/").status, 200);

    proxy.swap(&world(&backend, &[]));
    eventually("the address of the flag", || listens(at(1, port)));
    eventually("the named one closed", || !listens(at(2, port)));
}

#[test]
fn an_address_that_is_taken_leaves_the_others_and_is_opened_when_it_is_free() {
    let backend = Backend::echo("one");
    let proxy = TestProxy::start(&world(&backend, &[]), &[CONFIG]);
    let port = proxy.http().port();
    let taken = TcpListener::bind(at(3, port)).unwrap();
    proxy.swap(&world(&backend, &[("bind-address", "127.0.0.3")]));
    // The address of HTTPS is free, and all was tried in one turn.
    eventually("the address of HTTPS", || listens(at(3, proxy.https().port())));
    assert_eq!(
        get(at(1, port), "h.test", "/").status,
        200,
        "HTTP stays where it was as long as it cannot move"
    );
    let findings = || get(proxy.admin(), "localhost", "/api/v1/diagnostics").text();
    let told = format!("127.0.0.3:{port}");
    eventually("the finding", || findings().contains("AddressUnavailable") && findings().contains(&told));
    drop(taken);
    eventually("the move", || listens(at(3, port)) && !listens(at(1, port)));
    eventually("no finding", || !findings().contains("AddressUnavailable"));
}

#[test]
fn a_port_is_shared_with_another_program_where_addresses_are_named_from_the_start() {
    let backend = Backend::echo("one");
    let other = TcpListener::bind(at(3, 0)).unwrap();
    let port = other.local_addr().unwrap().port();
    let flag = format!("--http-addr=0.0.0.0:{port}");
    let proxy = TestProxy::start(&world(&backend, &[("bind-address", "127.0.0.2")]), &[CONFIG, &flag]);
    assert_eq!(get(at(2, port), "h.test", "/").status, 200);
    drop(proxy);
    let refused = TestProxy::try_start(&world(&backend, &[]), &[CONFIG, &flag]).err().unwrap().to_string();
    assert!(refused.contains("--http-addr") && refused.contains(&port.to_string()), "{refused}");
}

#[test]
fn a_wildcard_gives_way_to_one_of_its_addresses() {
    let backend = Backend::echo("one");
    let proxy = TestProxy::start(&world(&backend, &[]), &[CONFIG, "--http-addr=0.0.0.0:0"]);
    let port = proxy.http().port();
    assert!(listens(at(1, port)) && listens(at(4, port)));
    proxy.swap(&world(&backend, &[("bind-address", "127.0.0.4")]));
    eventually("the others closed", || !listens(at(1, port)));
    assert_eq!(get(at(4, port), "h.test", "/").status, 200);
}

#[test]
fn a_wildcard_of_both_families_gives_way_in_one_of_them() {
    let six = |port| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    if TcpListener::bind(six(0)).is_err() {
        return; // There is no IPv6 here.
    }
    let backend = Backend::echo("one");
    let proxy = TestProxy::start(&world(&backend, &[]), &[CONFIG, "--http-addr=[::]:0", "--workers=2"]);
    let port = proxy.http().port();
    assert!(listens(at(1, port)) && listens(six(port)));
    for (keys, one) in [(&[("bind-address", "127.0.0.4")][..], false), (&[], true)] {
        proxy.swap(&world(&backend, keys));
        eventually("IPv4 as it is said", || listens(at(1, port)) == one);
        assert_eq!(get(six(port), "h.test", "/").status, 200);
        assert_eq!(get(at(4, port), "h.test", "/").status, 200);
    }
}

#[test]
fn a_named_address_is_never_a_backend() {
    let backend = Backend::echo("one");
    let keys = [("bind-address", "127.0.0.1,127.0.0.5")];
    let proxy = TestProxy::start(&world(&backend, &keys), &[CONFIG]);
    let own = at(5, proxy.http().port());
    eventually("the address", || listens(own));
    proxy.swap(&(simple(own) + &config_map(&keys)));
    assert_eq!(get(at(1, own.port()), "h.test", "/").status, 502, "no connection is made");
}
