//! A connection of a TCP service: PROXY header in, an endpoint, PROXY header out, then bytes both ways until both sides
//! are done. The table is asked once, at the beginning; publications do not touch a session.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Removed, Session, Way, connect, cut};
use crate::limit::Pressure;
use crate::listener::proxy_protocol::encode_v1;
use crate::policy::ip_access::contains;
use crate::proxy::connection::read_proxy_header;
use crate::proxy::prefixed::Prefixed;
use crate::proxy::tunnel::{self, Ended};
use crate::proxy::worker::Worker;
use crate::route::stream::{ProxyHeaders, Transport};
use crate::upstream::Tunnel;

/// Serves one accepted connection to its end. `listener` is where it was accepted.
pub async fn run(
    worker: Rc<Worker>,
    mut stream: TcpStream,
    peer: SocketAddr,
    listener: SocketAddr,
    removed: Removed,
) {
    if worker.memory.pressure() >= Pressure::Critical {
        return worker.metrics.rejected("memory");
    }
    let snapshot = worker.reader.load();
    // The port was closed between the kernel's word and ours.
    let Some(service) = snapshot.table.streams.service(Transport::Tcp, listener.port()) else { return };
    let globals = &snapshot.table.globals;
    let mut session = Session::begin(&worker, Transport::Tcp, peer, listener, globals);
    session.number = worker.next_connection();
    session.backend = Arc::clone(&service.backend.name);
    let mut destination = stream.local_addr().unwrap_or(listener);
    let mut ahead = Bytes::new();
    if service.accept == ProxyHeaders::Required {
        let read = timeout(globals.proxy_protocol_header_timeout, read_proxy_header(&mut stream)).await;
        let Ok(Ok((header, rest))) = read else {
            session.status = 400;
            return tracing::debug!(%peer, port = listener.port(), "session without a sound PROXY header");
        };
        ahead = rest;
        session.proxied = header.addresses.map(|(source, _)| source);
        // The header is taken from anybody, because the port is defined to have one; believed is who may say so.
        if let Some((source, target)) = header.addresses
            && contains(&globals.proxy_real_ip_cidr, peer.ip())
        {
            (session.client, destination) = (source, target);
        }
    }
    if service.refuses(session.client.ip()) {
        session.status = 403;
        return;
    }
    let most = globals.limits.per_client;
    let counted = (most > 0).then(|| worker.clients.connect(session.client.ip(), most));
    if matches!(counted, Some(None)) {
        session.status = 503;
        return worker.metrics.rejected("connections-per-client");
    }
    let Some(mut backend) = Box::pin(connect(&worker, &snapshot, Way::of(service), &mut session)).await
    else {
        session.status = 502;
        return;
    };
    if service.send == ProxyHeaders::Required {
        let line = encode_v1(session.client, destination);
        // A fresh connection takes these few bytes at once or is broken.
        if !matches!(
            timeout(globals.proxy_send_timeout, backend.write_all(line.as_bytes())).await,
            Ok(Ok(()))
        ) {
            session.status = 502;
            return;
        }
    }
    let idle = service.timeout(globals.stream_timeout);
    drop(snapshot);
    relay(&worker, Prefixed::new(ahead, stream), backend, idle, session, Some(removed)).await;
    drop(counted);
}

/// Joins both sides until the end of the session.
pub(super) async fn relay(
    worker: &Rc<Worker>,
    client: Prefixed<TcpStream>,
    backend: Tunnel,
    idle: std::time::Duration,
    mut session: Session,
    removed: Option<Removed>,
) {
    session.status = 200;
    let end = cut(worker, removed);
    let ended = tunnel::join(client, backend, idle, end, |carried| {
        (session.received, session.sent) = (carried.up, carried.down);
    })
    .await;
    if ended == Ended::Cut {
        worker.metrics.cut();
    }
}
