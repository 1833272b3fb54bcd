//! TCP and UDP services: ports that come and go, bytes both ways, PROXY headers, the log of sessions.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::backend::{Backend, refusing};
use crate::support::client::{Raw, get};
use crate::support::manifests::{config_map, ingress, service};
use crate::support::{TestProxy, eventually};

/// A port that is free, for TCP and UDP, and that the system gives to nobody who asks for any port: these begin above.
fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) + 50 * (std::process::id() as usize % 100);
        let port = 12_000 + u16::try_from(next % 18_000).unwrap();
        if TcpListener::bind(at(port)).is_ok() && UdpSocket::bind(at(port)).is_ok() {
            return port;
        }
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A ConfigMap of services, ports to entries.
fn services(name: &str, entries: &[(u16, &str)]) -> String {
    let data: String = entries.iter().map(|(port, entry)| format!("  \"{port}\": {entry:?}\n")).collect();
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata:\n{data}"
    )
}

const TCP: &str = "--tcp-services-configmap=default/tcp";
const UDP: &str = "--udp-services-configmap=default/udp";

/// Says its name, then gives back what it gets, and says goodbye after the client's end.
fn parrot(name: &'static str) -> Backend {
    Backend::script(move |mut stream, _| {
        if stream.write_all(name.as_bytes()).is_err() {
            return;
        }
        let mut part = [0; 4096];
        while let Ok(read) = stream.read(&mut part) {
            if read == 0 {
                let _ = stream.write_all(b"bye");
                return;
            }
            if stream.write_all(&part[..read]).is_err() {
                return;
            }
        }
    })
}

/// Who is behind a port: the first bytes of a parrot.
fn who(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(at(port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut name = [0; 3];
    stream.read_exact(&mut name).ok()?;
    String::from_utf8(name.to_vec()).ok()
}

#[test]
fn bytes_pass_both_ways_and_each_side_may_end_first() {
    let backend = parrot("one");
    let port = free_port();
    let proxy = TestProxy::start(
        &(services("tcp", &[(port, "default/b:80")]) + &service("b", &[backend.address()])),
        &[TCP],
    );
    let mut client = Raw::connect(at(port));
    assert_eq!(client.exactly(3), b"one");
    let large = vec![7; 300_000];
    let mut writer = client.stream.try_clone().unwrap();
    let sent = large.clone();
    let sending =
        std::thread::spawn(move || writer.write_all(&sent).map(|()| writer.shutdown(Shutdown::Write)));
    assert_eq!(client.exactly(large.len()), large);
    let _ = sending.join().unwrap().unwrap();
    assert_eq!(client.rest(), b"bye", "the answer after the client's end arrives");
    let metric = |proxy: &TestProxy| get(proxy.admin(), "localhost", "/metrics").text();
    eventually("the session counted", || {
        metric(&proxy).contains("narthex_stream_sessions_total{protocol=\"TCP\",status=\"200\"} 1")
    });
    assert!(metric(&proxy).contains("narthex_stream_received_bytes_total 300000"));
}

#[test]
fn ports_come_go_and_turn_without_touching_others_or_their_sessions() {
    let (one, two) = (parrot("one"), parrot("two"));
    let (stays, changes, comes) = (free_port(), free_port(), free_port());
    let backends = service("a", &[one.address()]) + &service("b", &[two.address()]);
    let world = |entries: &[(u16, &str)]| services("tcp", entries) + &backends;
    let proxy = TestProxy::start(
        &world(&[(stays, "default/a:80"), (changes, "default/a:80")]),
        &[TCP, "--workers=2"],
    );
    let mut on_stays = Raw::connect(at(stays));
    let mut on_changes = Raw::connect(at(changes));
    assert_eq!((on_stays.exactly(3), on_changes.exactly(3)), (b"one".to_vec(), b"one".to_vec()));
    proxy.swap(&world(&[(stays, "default/a:80"), (changes, "default/b:80"), (comes, "default/b:80")]));
    assert_eq!(who(changes).as_deref(), Some("two"), "new sessions go where the entry leads now");
    eventually("the new port", || who(comes).as_deref() == Some("two"));
    proxy.swap(&world(&[(stays, "default/a:80"), (comes, "default/b:80")]));
    eventually("the old port closed", || TcpStream::connect(at(changes)).is_err());
    for session in [&mut on_stays, &mut on_changes] {
        session.send("still");
        assert_eq!(session.exactly(5), b"still", "sessions outlive tables and their port");
    }
    assert_eq!((who(stays).as_deref(), who(comes).as_deref()), (Some("one"), Some("two")));
}

#[test]
fn a_port_that_changes_its_families_keeps_its_sessions() {
    let six = |port| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    if TcpListener::bind(six(0)).is_err() {
        return; // There is no IPv6 here.
    }
    let (backend, port) = (parrot("one"), free_port());
    let world = |keys: &[(&str, &str)]| {
        let always = [("disable-access-log", "true"), ("worker-shutdown-timeout", "1ms")];
        services("tcp", &[(port, "default/b:80")])
            + &service("b", &[backend.address()])
            + &config_map(&[keys, &always].concat())
    };
    let flags = [TCP, "--configmap=default/config", "--http-addr=[::]:0", "--workers=2"];
    let proxy = TestProxy::start(&world(&[]), &flags);
    let mut sessions = [at(port), six(port)].map(Raw::connect);
    let mut all_go_on = || {
        for session in &mut sessions {
            session.send("one");
            assert_eq!(session.exactly(3), b"one");
        }
    };
    all_go_on();
    proxy.swap(&world(&[("bind-address", "127.0.0.4")]));
    eventually("IPv4 left to the address that is named", || TcpStream::connect(at(port)).is_err());
    for _ in 0..100 {
        all_go_on();
        assert!(TcpStream::connect(six(port)).is_ok(), "the new socket is there");
    }
    proxy.swap(&world(&[]));
    eventually("IPv4 as before", || who(port).is_some());
    all_go_on();
}

#[test]
fn a_bad_entry_hurts_only_itself_and_is_told() {
    let backend = parrot("one");
    let [good, gone, nonsense] = [(); 3].map(|()| free_port());
    let world = services(
        "tcp",
        &[
            (good, "default/b:80"),
            (gone, "default/missing:80"),
            (nonsense, "what is this"),
            (10254, "default/b:80"),
        ],
    ) + &service("b", &[backend.address()]);
    let proxy = TestProxy::start(&world, &[TCP]);
    assert_eq!(who(good).as_deref(), Some("one"));
    assert!(TcpStream::connect(at(gone)).is_err() && TcpStream::connect(at(nonsense)).is_err());
    let told = get(proxy.admin(), "localhost", "/api/v1/diagnostics").text();
    for word in ["ServiceNotFound", "InvalidStreamService", "controller's own", &format!("data[{gone}]")] {
        assert!(told.contains(word), "{word}: {told}");
    }
    // A Service that appears later is served from then on.
    proxy.swap(&(world + &service("missing", &[backend.address()])));
    eventually("the Service that appeared", || who(gone).as_deref() == Some("one"));
}

#[test]
fn a_port_that_another_process_holds_is_opened_once_it_is_free() {
    let backend = parrot("one");
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let other = free_port();
    let entries = services("tcp", &[(port, "default/b:80"), (other, "default/b:80")]);
    let _proxy = TestProxy::start(&(entries + &service("b", &[backend.address()])), &[TCP]);
    assert_eq!(who(other).as_deref(), Some("one"), "the other entry is served");
    drop(held);
    eventually("the port", || who(port).as_deref() == Some("one"));
}

#[test]
fn sessions_go_round_the_endpoints_and_past_those_that_refuse() {
    let (one, two) = (parrot("one"), parrot("two"));
    let port = free_port();
    let endpoints = [one.address(), refusing(), two.address()];
    let _proxy = TestProxy::start(
        &(services("tcp", &[(port, "default/b:80")]) + &service("b", &endpoints)),
        &[TCP, "--workers=1"],
    );
    let seen: Vec<String> = (0..6).filter_map(|_| who(port)).collect();
    let count = |name: &str| seen.iter().filter(|seen| *seen == name).count();
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert!(count("one") >= 2 && count("two") >= 2, "{seen:?}");
}

#[test]
fn without_next_upstream_a_session_ends_with_the_endpoint_that_refuses() {
    let backend = parrot("one");
    let port = free_port();
    let world = services("tcp", &[(port, "default/b:80")])
        + &service("b", &[backend.address(), refusing()])
        + &config_map(&[("proxy-stream-next-upstream", "false"), ("disable-access-log", "true")]);
    let _proxy = TestProxy::start(&world, &[TCP, "--workers=1", "--configmap=default/config"]);
    let seen: Vec<Option<String>> = (0..4).map(|_| who(port)).collect();
    assert_eq!(seen.iter().flatten().count(), 2, "{seen:?}");
}

#[test]
fn proxy_headers_are_read_and_sent_as_the_entry_says() {
    // Answers with the first line it gets.
    let backend = Backend::script(|stream, _| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream;
        let mut line = String::new();
        let _ = reader.read_line(&mut line);
        let _ = writer.write_all(line.as_bytes());
    });
    let [reads, sends, both] = [(); 3].map(|()| free_port());
    let entries =
        [(reads, "default/b:80:PROXY"), (sends, "default/b:80::PROXY"), (both, "default/b:80:PROXY:PROXY")];
    let _proxy = TestProxy::start(&(services("tcp", &entries) + &service("b", &[backend.address()])), &[TCP]);
    let ask = |port: u16, parts: &[&str]| {
        let mut client = Raw::connect(at(port));
        for part in parts {
            client.send(part);
        }
        let own = client.stream.local_addr().unwrap().port();
        (String::from_utf8(client.rest()).unwrap(), own)
    };
    let header = "PROXY TCP4 203.0.113.9 10.0.0.1 4000 25\r\n";
    assert_eq!(ask(reads, &[header, "hello\r\n"]).0, "hello\r\n");
    assert_eq!(ask(reads, &["PROXY TC", "P4 203.0.113.9 10.0.0.1 4000 25\r\nhel", "lo\r\n"]).0, "hello\r\n");
    let (line, own) = ask(sends, &["hello\r\n"]);
    assert_eq!(line, format!("PROXY TCP4 127.0.0.1 127.0.0.1 {own} {sends}\r\n"));
    assert_eq!(ask(both, &[header, "hello\r\n"]).0, header);
    let before = backend.connections();
    assert_eq!(ask(reads, &["hello\r\n"]).0, "", "no header, no session");
    assert_eq!(backend.connections(), before);
}

#[test]
fn a_silent_session_ends_after_its_timeout() {
    let backend = parrot("one");
    let port = free_port();
    let world = services("tcp", &[(port, "default/b:80")])
        + &service("b", &[backend.address()])
        + &config_map(&[("proxy-stream-timeout", "1s"), ("disable-access-log", "true")]);
    let _proxy = TestProxy::start(&world, &[TCP, "--configmap=default/config"]);
    let mut client = Raw::connect(at(port));
    assert_eq!(client.exactly(3), b"one");
    assert!(client.is_closed());
}

#[test]
fn sessions_have_a_part_in_the_drain() {
    let backend = parrot("one");
    let port = free_port();
    let world = services("tcp", &[(port, "default/b:80")]) + &service("b", &[backend.address()]);
    let proxy = TestProxy::start(&world, &[TCP]);
    let mut client = Raw::connect(at(port));
    assert_eq!(client.exactly(3), b"one");
    proxy.terminate();
    eventually("the port closed", || TcpStream::connect(at(port)).is_err());
    client.send("late");
    assert_eq!(client.exactly(4), b"late", "what runs goes on");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"bye");
    proxy.join();
}

#[test]
fn sessions_are_logged_by_their_own_format_in_their_own_file_which_is_opened_again_on_demand() {
    let backend = parrot("one");
    let port = free_port();
    let logs = tempfile::tempdir().unwrap();
    let path = logs.path().join("stream.log");
    let world = |format: &str| {
        services("tcp", &[(port, "default/b:80:PROXY")])
            + &service("b", &[backend.address()])
            + &config_map(&[
                ("disable-http-access-log", "true"),
                ("stream-access-log-path", path.to_str().unwrap()),
                ("log-format-stream", format),
            ])
    };
    let format =
        "$remote_addr $protocol $status $bytes_sent $bytes_received $upstream_addr $proxy_upstream_name";
    let proxy = TestProxy::start(&world(format), &[TCP, "--configmap=default/config"]);
    let session = || {
        let mut client = Raw::connect(at(port));
        client.send("PROXY TCP4 203.0.113.9 10.0.0.1 4000 25\r\nhello");
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest(), b"onehellobye");
    };
    session();
    let text = || std::fs::read_to_string(&path).unwrap_or_default();
    let expect = format!("203.0.113.9 TCP 200 11 5 {} tcp-default-b-80\n", backend.address());
    eventually("the line", || text() == expect);
    let moved = logs.path().join("stream.log.1");
    std::fs::rename(&path, &moved).unwrap();
    proxy.reopen_logs();
    proxy.swap(&world("again $status"));
    session();
    eventually("a line in the new file", || text() == "again 200\n");
    assert_eq!(std::fs::read_to_string(&moved).unwrap(), expect);
    // Switched off, a session leaves no line; the one after it is switched on again does.
    proxy.swap(&(world("never") + "  disable-stream-access-log: \"true\"\n"));
    session();
    proxy.swap(&world("last"));
    session();
    eventually("the last line", || text() == "again 200\nlast\n");
}

/// Answers each datagram with its name and number, so many times.
struct Datagrams {
    address: SocketAddr,
    seen: Arc<AtomicUsize>,
}

fn datagrams(name: &'static str, answers: usize) -> Datagrams {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    std::thread::spawn(move || {
        let mut space = [0; 70_000];
        while let Ok((length, from)) = socket.recv_from(&mut space) {
            count.fetch_add(1, Ordering::Relaxed);
            for _ in 0..answers {
                let answer = [name.as_bytes(), &space[..length]].concat();
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    Datagrams { address, seen }
}

fn udp_service(name: &str, endpoint: SocketAddr) -> String {
    service(name, &[endpoint]).replace("protocol: TCP", "protocol: UDP")
}

fn udp_client(port: u16) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(at(port)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client
}

fn exchange(client: &UdpSocket, datagram: &[u8]) -> Option<Vec<u8>> {
    client.send(datagram).ok()?;
    let mut space = vec![0; 70_000];
    let length = client.recv(&mut space).ok()?;
    Some(space[..length].to_vec())
}

#[test]
fn datagrams_go_to_one_endpoint_and_answers_come_back_to_who_asked() {
    let echo = datagrams("one ", 1);
    let port = free_port();
    let world = services("udp", &[(port, "default/u:80")]) + &udp_service("u", echo.address);
    let proxy = TestProxy::start(&world, &[UDP, "--workers=2"]);
    let clients: Vec<UdpSocket> = (0..20).map(|_| udp_client(port)).collect();
    for (number, client) in clients.iter().enumerate() {
        let text = format!("question {number}");
        assert_eq!(exchange(client, text.as_bytes()).unwrap(), format!("one {text}").as_bytes());
    }
    // Large ones and empty ones too, from a client that had a session before.
    let large = vec![b'x'; 60_000];
    assert_eq!(exchange(&clients[0], &large).unwrap().len(), 60_004);
    assert_eq!(exchange(&clients[0], b"").unwrap(), b"one ");
    assert_eq!(echo.seen.load(Ordering::Relaxed), 22);
    eventually("sessions end with their answer", || {
        let text = get(proxy.admin(), "localhost", "/metrics").text();
        text.contains("narthex_udp_sessions 0") && text.contains("{protocol=\"UDP\",status=\"200\"} 22")
    });
}

#[test]
fn a_session_lasts_for_the_answers_that_are_expected_and_moves_when_its_endpoint_goes() {
    let (one, two) = (datagrams("one ", 3), datagrams("two ", 3));
    let port = free_port();
    let world = |endpoint: SocketAddr| {
        services("udp", &[(port, "default/u:80")])
            + &udp_service("u", endpoint)
            + &config_map(&[("proxy-stream-responses", "1000"), ("disable-access-log", "true")])
    };
    let proxy = TestProxy::start(&world(one.address), &[UDP, "--configmap=default/config"]);
    let client = udp_client(port);
    let mut space = [0; 100];
    assert_eq!(exchange(&client, b"a").unwrap(), b"one a");
    for _ in 0..2 {
        let length = client.recv(&mut space).unwrap();
        assert_eq!(&space[..length], b"one a", "every answer arrives");
    }
    proxy.swap(&world(two.address));
    assert_eq!(exchange(&client, b"b").unwrap(), b"two b");
    proxy.swap(&services("udp", &[]));
    eventually("the port closed", || UdpSocket::bind(at(port)).is_ok());
}

#[test]
fn a_udp_endpoint_that_refuses_ends_the_session_and_is_no_answer() {
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = free_port();
    let world = services("udp", &[(port, "default/u:80")]) + &udp_service("u", gone);
    let proxy = TestProxy::start(&world, &[UDP]);
    udp_client(port).send(b"anybody?").unwrap();
    eventually("the session ended as failed", || {
        get(proxy.admin(), "localhost", "/metrics").text().contains("{protocol=\"UDP\",status=\"502\"} 1")
    });
}

/// An Ingress of host `h.test` with a `stream-snippet`.
fn with_snippet(name: &str, text: &str) -> String {
    ingress(name, &[("stream-snippet", text)], &[("h.test", &format!("/{name}"), "Prefix", "b")])
}

const PERMISSIVE: [(&str, &str); 2] =
    [("allow-snippet-annotations", "true"), ("annotations-risk-level", "Critical")];

#[test]
fn the_ports_of_stream_snippets_lead_where_they_say_and_follow_changes() {
    let (one, two) = (parrot("one"), parrot("two"));
    let [of_all, own, shut] = [(); 3].map(|()| free_port());
    let global = format!("server {{ listen {of_all}; proxy_pass {}; }}", one.address());
    let world = |to: SocketAddr| {
        let text = format!(
            "upstream x {{ server {to}; }} server {{ listen 127.0.0.1:{own}; proxy_pass x; }} \
             server {{ listen {shut}; proxy_pass x; deny 127.0.0.0/8; allow all; }}"
        );
        config_map(&[PERMISSIVE[0], PERMISSIVE[1], ("stream-snippet", &global)])
            + &with_snippet("a", &text)
            + &service("b", &[one.address()])
    };
    let proxy = TestProxy::start(&world(one.address()), &["--configmap=default/config"]);
    assert_eq!((who(of_all).as_deref(), who(own).as_deref()), (Some("one"), Some("one")));
    assert_eq!(who(shut), None, "deny keeps the client out");
    proxy.swap(&world(two.address()));
    assert_eq!((who(of_all).as_deref(), who(own).as_deref()), (Some("one"), Some("two")));
    proxy.swap(&(config_map(&PERMISSIVE) + &service("b", &[one.address()])));
    eventually("the ports closed", || {
        [of_all, own].iter().all(|port| TcpStream::connect(at(*port)).is_err())
    });
}

#[test]
fn a_port_of_a_snippet_may_lead_to_the_port_of_requests_but_to_no_other_of_ours() {
    let backend = parrot("one");
    let world =
        |text: &str| config_map(&PERMISSIVE) + &with_snippet("a", text) + &service("b", &[backend.address()]);
    let proxy = TestProxy::start(&world("# nothing yet"), &["--configmap=default/config"]);
    let [requests, admin, itself] = [(); 3].map(|()| free_port());
    proxy.swap(&world(&format!(
        "server {{ listen {requests}; proxy_pass {}; }} server {{ listen {admin}; proxy_pass {}; }} \
         server {{ listen {itself}; proxy_pass 127.0.0.1:{itself}; }}",
        proxy.http(),
        proxy.admin()
    )));
    eventually("the port", || TcpStream::connect(at(requests)).is_ok());
    assert_eq!(get(at(requests), "anything.test", "/healthz").status, 200);
    for port in [admin, itself] {
        eventually("the port", || TcpStream::connect(at(port)).is_ok());
        assert_eq!(who(port), None);
    }
    let told = get(proxy.admin(), "localhost", "/api/v1/diagnostics").text();
    assert_eq!(told.matches("EndpointRefused").count(), 2, "{told}");
}

#[test]
fn a_port_belongs_to_services_then_to_the_config_map_then_to_the_oldest_ingress() {
    let (one, two) = (parrot("one"), parrot("two"));
    let [services_port, contested, free] = [(); 3].map(|()| free_port());
    let server = |port: u16, to: SocketAddr| format!("server {{ listen {port}; proxy_pass {to}; }} ");
    let text = server(services_port, two.address()) + &server(contested, two.address());
    let world = services("tcp", &[(services_port, "default/b:80")])
        + &config_map(&PERMISSIVE)
        + &with_snippet("old", &server(contested, one.address()))
        + &with_snippet("late", &(text + &server(free, two.address()) + &server(10254, two.address())))
        + &with_snippet("refused", "server { listen 1; proxy_pass localhost:1; }")
        + &service("b", &[one.address()]);
    let proxy = TestProxy::start(&world, &["--configmap=default/config", TCP]);
    for (port, expect) in [(services_port, "one"), (contested, "one"), (free, "two")] {
        assert_eq!(who(port).as_deref(), Some(expect), "{port}");
    }
    let told = get(proxy.admin(), "localhost", "/api/v1/diagnostics").text();
    assert_eq!(told.matches("\"PortTaken\"").count(), 3, "{told}");
    assert_eq!(told.matches("\"SnippetRefused\"").count(), 1, "{told}");
}

#[test]
fn a_stream_snippet_that_nobody_allowed_opens_nothing() {
    let backend = parrot("one");
    let port = free_port();
    let text = format!("server {{ listen {port}; proxy_pass {}; }}", backend.address());
    for permissive in [&[PERMISSIVE[0]], &[PERMISSIVE[1]]] {
        let world = config_map(permissive) + &with_snippet("a", &text) + &service("b", &[backend.address()]);
        let _proxy = TestProxy::start(&world, &["--configmap=default/config"]);
        assert!(TcpStream::connect(at(port)).is_err());
    }
}
