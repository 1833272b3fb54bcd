//! What comes of ports, sockets and those who wait there.

use super::*;
use std::cell::Cell;
use std::io::Read;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[test]
fn a_port_in_use_is_an_error_that_names_address_and_flag() {
    let held = StdListener::bind(loopback()).unwrap();
    let address = held.local_addr().unwrap();
    let text = bind(address, "--http-addr").unwrap_err().to_string();
    assert!(text.contains(&address.to_string()) && text.contains("--http-addr"), "{text}");
    let ours = bind(loopback(), "--http-addr").unwrap();
    let (address, early) = (ours.address, bind(ours.address, "--http-addr").unwrap());
    let _listening = ours.listen(1).unwrap();
    assert!(bind(address, "--http-addr").is_err(), "two processes would share the port");
    assert!(early.listen(1).is_err(), "nor when both were waiting for something to serve");
}

#[test]
fn clients_are_refused_until_somebody_listens() {
    let port = bind(loopback(), "--http-addr").unwrap();
    let address = port.address;
    assert!(std::net::TcpStream::connect(address).is_err());
    let _listening = port.listen(1).unwrap();
    assert!(std::net::TcpStream::connect(address).is_ok());
}

#[test]
fn whoever_gets_through_while_a_port_is_opened_is_with_one_of_the_workers() {
    for _ in 0..200 {
        let port = bind(loopback(), "--http-addr").unwrap();
        let address = port.address;
        let client = std::thread::spawn(move || {
            (0..1_000_000).find_map(|_| std::net::TcpStream::connect(address).ok())
        });
        let sockets = port.listen(2).unwrap();
        let client = client.join().unwrap().unwrap();
        let waiting: Vec<SocketAddr> =
            sockets.iter().filter_map(|socket| socket.accept().ok()).map(|(_, peer)| peer).collect();
        assert_eq!(waiting, [client.local_addr().unwrap()]);
    }
}

#[test]
fn port_zero_gives_every_worker_the_same_free_port() {
    let sockets = bind(loopback(), "--http-addr").unwrap().listen(3).unwrap();
    let ports: std::collections::BTreeSet<u16> =
        sockets.iter().map(|s| s.local_addr().unwrap().port()).collect();
    assert_eq!((sockets.len(), ports.len()), (3, 1));
}

#[test]
fn what_waits_in_the_kernel_is_taken_before_the_socket_closes_and_the_refused_are_closed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = bind(loopback(), "--http-addr").unwrap().listen(1).unwrap().remove(0);
    let address = listener.local_addr().unwrap();
    let mut clients: Vec<std::net::TcpStream> =
        (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let (admitted, taken) = (Cell::new(0), Cell::new(0));
    runtime.block_on(accept(
        listener,
        async {},
        || {
            admitted.set(admitted.get() + 1);
            (admitted.get() < 3).then_some(())
        },
        |_, _, ()| taken.set(taken.get() + 1),
        |error| panic!("{error}"),
    ));
    assert_eq!((admitted.get(), taken.get()), (3, 2));
    assert_eq!(clients[2].read(&mut [0; 1]).unwrap_or(0), 0, "the refused client is closed");
    assert!(std::net::TcpStream::connect(address).is_err(), "the socket is closed");
}

#[test]
fn who_came_when_room_had_gone_waits_for_it_and_is_among_the_last_when_accepting_ends() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let room = tokio::sync::Semaphore::new(0);
    let asked = tokio::sync::Notify::new();
    let taken = Cell::new(0);
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let listener = bind(loopback(), "--http-addr").unwrap().listen(1).unwrap().remove(0);
    let address = listener.local_addr().unwrap();
    let admit = async || {
        asked.notify_one();
        room.acquire().await.ok().map(tokio::sync::SemaphorePermit::forget)
    };
    let stop = async { drop(ended.await) };
    let accepting = accept_paced(
        listener,
        stop,
        async || (),
        || (),
        admit,
        |_, _, ()| taken.set(taken.get() + 1),
        |error| panic!("{error}"),
    );
    let script = async {
        let _first = TcpStream::connect(address).await.unwrap();
        asked.notified().await;
        assert_eq!(taken.get(), 0);
        room.add_permits(1);
        let second = TcpStream::connect(address).await.unwrap();
        asked.notified().await;
        assert_eq!(taken.get(), 1);
        let _third = TcpStream::connect(address).await.unwrap();
        drop(end);
        second.local_addr().unwrap()
    };
    let (peers, second) = runtime.block_on(async {
        let (last, second) = tokio::join!(accepting, script);
        let peers: Vec<SocketAddr> = last.unwrap().map(|(_, peer)| peer).collect();
        (peers, second)
    });
    assert_eq!(
        (peers.len(), peers.first()),
        (2, Some(&second)),
        "who was in hand, then who waits in the kernel"
    );
}
