//! The choice of the protocol by its first bytes, and what a connection takes in memory.

use super::*;
use tokio::io::duplex;

fn preface_of(parts: &[&[u8]]) -> Option<(bool, Vec<u8>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, mut server) = duplex(64);
        let send = async {
            for part in parts {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (read, ()) = tokio::join!(read_preface(&mut server), send);
        read.ok().map(|(preface, ahead)| (preface, ahead.to_vec()))
    })
}

#[test]
fn the_preface_is_known_at_any_cut_and_nothing_read_is_lost() {
    assert_eq!(preface_of(&[PREFACE]), Some((true, PREFACE.to_vec())));
    for cut in 1..PREFACE.len() {
        assert_eq!(preface_of(&[&PREFACE[..cut], &PREFACE[cut..]]), Some((true, PREFACE.to_vec())), "{cut}");
    }
    assert_eq!(preface_of(&[b"G"]), Some((false, b"G".to_vec())));
    assert_eq!(preface_of(&[b"PRI * HTTP/1.1\r\n"]).map(|(preface, _)| preface), Some(false));
    assert_eq!(preface_of(&[b"PRI"]), Some((false, b"PRI".to_vec())));
    assert_eq!(preface_of(&[]), None);
}

/// Bytes of the future that `make` returns; it is not called.
fn future_of<A, B, C, F: Future>(_make: impl Fn(A, B, C) -> F) -> usize {
    size_of::<F>()
}

/// Memory for each connection and request is a promise; these limits change on purpose only.
#[test]
fn futures_of_connections_and_requests_stay_small() {
    let request = future_of(service::handle);
    let connection = future_of(|worker, stream: TcpStream, (peer, scheme, local)| {
        run(worker, stream, peer, scheme, local)
    });
    let idle = future_of(|worker, stream: Prefixed<TcpStream>, facts| {
        serve_http1(worker, stream, BytesMut::new(), facts)
    });
    assert!(request <= 6016, "a request takes {request} bytes");
    assert!(connection + idle <= 1792, "an idle connection takes {connection} + {idle} bytes");
}
