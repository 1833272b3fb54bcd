//! Which connections are kept, used again, given up.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers every request on every connection.
async fn patient() -> Scripted {
    serve(|_, mut conn| async move {
        while !conn.head().await.is_empty() {
            conn.write(OK).await;
        }
    })
    .await
}

async fn get(upstreams: &Upstreams, peer: &Peer) -> Result<bool, Failed> {
    let answer = Ask::get(peer).send(upstreams).await?;
    let (reused, (data, _, error)) = (answer.reused, read(answer.content).await);
    assert_eq!((data.as_slice(), error), (&b"ok"[..], None));
    Ok(reused)
}

#[test]
fn one_connection_serves_one_request_after_the_other() {
    local(async {
        let (backend, upstreams) = (patient().await, upstreams());
        let peer = clear(backend.address);
        let mut reused = Vec::new();
        for _ in 0..5 {
            reused.push(get(&upstreams, &peer).await.unwrap());
        }
        assert_eq!(reused, [false, true, true, true, true]);
        assert_eq!((backend.accepted.get(), upstreams.kept_connections().0), (1, 1));
    });
}

#[test]
fn a_fresh_connection_is_made_where_asked() {
    local(async {
        let (backend, upstreams) = (patient().await, upstreams());
        let peer = clear(backend.address);
        get(&upstreams, &peer).await.unwrap();
        let answer = Ask { reuse: Reuse::Fresh, ..Ask::get(&peer) }.send(&upstreams).await.unwrap();
        assert!(!answer.reused);
        read(answer.content).await;
        assert_eq!((backend.accepted.get(), upstreams.kept_connections().0), (2, 2));
    });
}

#[test]
fn limits_on_requests_age_idle_time_and_number_are_kept() {
    let check = |limits: UpstreamKeepalive, requests: usize, connections: usize, kept: usize| {
        local(async {
            let backend = patient().await;
            let settings = Settings { keepalive: limits, ..settings() };
            let upstreams =
                Upstreams::with_resolver(settings, Resolver::with_lookup(|_| Box::pin(async { None })));
            let peer = clear(backend.address);
            for _ in 0..requests {
                get(&upstreams, &peer).await.unwrap();
            }
            let found = (backend.accepted.get(), upstreams.kept_connections().0);
            assert_eq!(found, (connections, kept), "{limits:?}");
        });
    };
    check(UpstreamKeepalive { requests: 2, ..KEEPALIVE }, 5, 3, 1);
    check(UpstreamKeepalive { connections: 0, ..KEEPALIVE }, 3, 3, 0);
    check(UpstreamKeepalive { time: Duration::ZERO, ..KEEPALIVE }, 3, 3, 0);
    check(UpstreamKeepalive { timeout: Duration::ZERO, ..KEEPALIVE }, 3, 3, 0);
}

#[test]
fn at_the_limit_the_longest_idle_connection_makes_room() {
    local(async {
        let settings =
            Settings { keepalive: UpstreamKeepalive { connections: 2, ..KEEPALIVE }, ..settings() };
        let upstreams =
            Upstreams::with_resolver(settings, Resolver::with_lookup(|_| Box::pin(async { None })));
        let backends = [patient().await, patient().await, patient().await];
        let peers = backends.each_ref().map(|backend| clear(backend.address));
        for peer in &peers {
            get(&upstreams, peer).await.unwrap();
        }
        assert_eq!(upstreams.kept_connections().0, 2);
        let mut reused = Vec::new();
        for peer in peers.iter().rev() {
            reused.push(get(&upstreams, peer).await.unwrap());
        }
        assert_eq!(reused, [true, true, false]);
    });
}

/// A backend that ends its first connection as `end` says while it idles, and then answers on.
async fn ends_idle(end: &'static str) -> (Scripted, Rc<tokio::sync::Notify>) {
    let ended = Rc::new(tokio::sync::Notify::new());
    let tell = Rc::clone(&ended);
    let backend = serve(move |number, mut conn| {
        let tell = Rc::clone(&tell);
        async move {
            conn.head().await;
            conn.write(OK).await;
            match (number, end) {
                (0, "fin") => conn.stream.shutdown().await.unwrap(),
                (0, "reset") => conn.reset(),
                (0, junk) => conn.write(junk).await,
                _ => return,
            }
            tell.notify_one();
            std::future::pending::<()>().await;
        }
    })
    .await;
    (backend, ended)
}

#[test]
fn a_connection_that_became_readable_while_idle_is_never_used() {
    for end in ["fin", "reset", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"] {
        local(async {
            let (backend, ended) = ends_idle(end).await;
            let (upstreams, peer) = (upstreams(), clear(backend.address));
            get(&upstreams, &peer).await.unwrap();
            ended.notified().await;
            // Let the event loop see the socket.
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(!get(&upstreams, &peer).await.unwrap(), "{end}");
            assert_eq!(backend.accepted.get(), 2, "{end}");
        });
    }
}

#[test]
fn the_sweep_drops_dead_connections() {
    local(async {
        let (backend, ended) = ends_idle("fin").await;
        let (upstreams, peer) = (upstreams(), clear(backend.address));
        get(&upstreams, &peer).await.unwrap();
        assert_eq!(upstreams.kept_connections().0, 1);
        ended.notified().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        upstreams.sweep();
        assert_eq!(upstreams.kept_connections().0, 0);
    });
}

#[test]
fn a_close_that_crosses_the_next_request_allows_one_fresh_try_to_those_who_may() {
    for (method, framing, body, fresh) in [
        (Method::GET, Framing::None, RequestBody::Empty, true),
        (Method::PUT, Framing::Length(1), RequestBody::Full(Bytes::from_static(b"x")), true),
        (Method::PUT, Framing::Length(1), stream_of(vec![Bytes::from_static(b"x")], None), false),
        (Method::POST, Framing::Length(1), RequestBody::Full(Bytes::from_static(b"x")), false),
    ] {
        local(async {
            // Reads the second request and closes instead of answering.
            let backend = serve(|number, mut conn| async move {
                conn.head().await;
                conn.write(OK).await;
                conn.head().await;
                if number > 0 {
                    conn.write(OK).await;
                }
            })
            .await;
            let (upstreams, peer) = (upstreams(), clear(backend.address));
            get(&upstreams, &peer).await.unwrap();
            let idempotent = method != Method::POST;
            let failed = Ask { method, framing, body, ..Ask::get(&peer) }.send(&upstreams).await.unwrap_err();
            assert!(failed.error.reused && failed.error.sent && !failed.error.answered, "{failed:?}");
            assert_eq!(failed.allows_fresh_try(idempotent), fresh, "{failed:?}");
        });
    }
}

#[test]
fn a_fresh_connection_that_breaks_allows_no_extra_try() {
    local(async {
        let backend = serve(|_, mut conn| async move {
            conn.head().await;
        })
        .await;
        let (upstreams, peer) = (upstreams(), clear(backend.address));
        let failed = Ask::get(&peer).send(&upstreams).await.unwrap_err();
        assert!(!failed.allows_fresh_try(true), "{failed:?}");
        assert_eq!(failed.error.failure(), Some(crate::policy::retry::Failure::Reset));
    });
}

#[test]
fn a_client_that_leaves_closes_the_backend_connection() {
    for (before, when) in
        [("", "before the head"), ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", "in the body")]
    {
        local(async {
            let (told, closed) = tokio::sync::oneshot::channel();
            let told = Cell::new(Some(told));
            let backend = serve(move |_, mut conn| {
                let told = told.take();
                async move {
                    conn.head().await;
                    conn.write(before).await;
                    let _ = told.unwrap().send(conn.closed().await);
                }
            })
            .await;
            let (upstreams, peer) = (upstreams(), clear(backend.address));
            let gone =
                tokio::time::timeout(Duration::from_millis(50), Ask::get(&peer).send(&upstreams)).await;
            drop(gone);
            assert!(closed.await.unwrap(), "{when}");
            assert_eq!(upstreams.kept_connections().0, 0, "{when}");
        });
    }
}

#[test]
fn endpoints_have_a_limit_of_connections() {
    local(async {
        let backend = serve(|_, mut conn| async move {
            conn.head().await;
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab").await;
            conn.closed().await;
        })
        .await;
        let settings = Settings { endpoint_connections: 1, ..settings() };
        let upstreams =
            Upstreams::with_resolver(settings, Resolver::with_lookup(|_| Box::pin(async { None })));
        let peer = clear(backend.address);
        let first = Ask::get(&peer).send(&upstreams).await.unwrap();
        let failed = Ask::get(&peer).send(&upstreams).await.unwrap_err();
        assert_eq!((failed.error.reason(), failed.error.sent), ("busy", false));
        drop(first);
        assert!(Ask::get(&peer).send(&upstreams).await.is_ok());
    });
}

#[test]
fn addresses_that_the_rule_refuses_are_never_connected_to() {
    local(async {
        let backend = patient().await;
        let refused = backend.address;
        let settings = Settings { address_rule: Rc::new(move |address| address != refused), ..settings() };
        let upstreams =
            Upstreams::with_resolver(settings, Resolver::with_lookup(|_| Box::pin(async { None })));
        let peer = clear(backend.address);
        let failed = Ask::get(&peer).send(&upstreams).await.unwrap_err();
        assert_eq!((failed.error.reason(), backend.accepted.get()), ("denied", 0));
    });
}

#[test]
fn a_publication_that_is_overtaken_forgets_nothing_of_the_newer_table() {
    use std::sync::Arc;
    use std::time::Instant;

    use super::balance::PickFacts;
    use crate::policy::BackendPolicies;
    use crate::policy::load_balance::LoadBalance;
    use crate::route::{Backend, BackendKey, BackendSlot, EndpointAddress, EndpointMap, EndpointSet};

    let backend = |number: u32| {
        let key = BackendKey {
            namespace: "default".into(),
            service: format!("s{number:04}").into(),
            port: "80".into(),
        };
        let (name, policies) = ("s".into(), BackendPolicies::default());
        Arc::new(Backend { key, name, slot: BackendSlot(number), policies, canary: None })
    };
    local(async {
        let (old, fresh, upstreams) =
            ((0..2_000).map(backend).collect::<Vec<_>>(), backend(2_000), upstreams());
        let address = patient().await.address;
        let set = Arc::new(EndpointSet { ready: vec![EndpointAddress::Socket(address)], empty_because: "" });
        let facts = PickFacts {
            hash_key: None,
            sticky_key: None,
            tried: &[],
            default_balance: LoadBalance::default(),
        };
        let now = Instant::now();
        // What may be retried is the state that shows: without any it is never used up.
        let use_up = |backend: &Backend| {
            assert!(upstreams.pick(backend, &set, &facts, now).is_some());
            (0..10_000).any(|_| !upstreams.may_retry(backend, now))
        };
        let gone = backend(2_001);
        assert!(use_up(&gone));
        get(&upstreams, &clear(address)).await.unwrap();
        let newer: Arc<[_]> = old.iter().chain([&fresh]).cloned().collect();
        let sets = EndpointMap::default();
        let publication =
            upstreams.publish(old.iter().map(Arc::as_ref), &sets, KEEPALIVE, || Some(Arc::clone(&newer)));
        // The first request for it comes between two pieces.
        let ((), used_up) = tokio::join!(publication, async { use_up(&fresh) });
        assert!(used_up && !upstreams.may_retry(&fresh, now), "the state of the newer backend is kept");
        assert!(upstreams.may_retry(&gone, now), "that of a backend that is gone is not");
        assert_eq!(upstreams.kept_connections().0, 1, "connections are the next publication's");
        upstreams.publish(newer.iter().map(Arc::as_ref), &sets, KEEPALIVE, || None).await;
        assert!(!upstreams.may_retry(&fresh, now));
        assert_eq!(upstreams.kept_connections().0, 0);
    });
}

#[test]
fn publishing_retires_the_connections_of_vanished_endpoints_only() {
    use crate::route::{EndpointAddress, EndpointMap, EndpointSet};
    local(async {
        let (stays, goes, upstreams) = (patient().await, patient().await, upstreams());
        for backend in [&stays, &goes] {
            get(&upstreams, &clear(backend.address)).await.unwrap();
        }
        let ready = vec![EndpointAddress::Socket(stays.address)];
        let set = EndpointSet { ready, empty_because: "" };
        upstreams.publish(std::iter::empty(), &EndpointMap::new(vec![set.into()]), KEEPALIVE, || None).await;
        assert_eq!(upstreams.kept_connections().0, 1);
        assert!(get(&upstreams, &clear(stays.address)).await.unwrap());
        assert!(!get(&upstreams, &clear(goes.address)).await.unwrap());
    });
}
