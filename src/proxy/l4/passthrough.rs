//! `ssl-passthrough`: the greeting of a TLS connection is read, not answered; where its server name belongs to such a
//! host, the connection goes to the host's backend as it is. All others go on to our own TLS with what was read
//! (`security.md` E-10, G-7).

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Session, Way, connect, tcp};
use crate::listener::client_hello::{self, Parse};
use crate::listener::proxy_protocol::encode_v1;
use crate::policy::ip_access::contains;
use crate::policy::ssl_passthrough::refuses;
use crate::proxy::connection::ConnectionFacts;
use crate::proxy::prefixed::Prefixed;
use crate::proxy::worker::Worker;
use crate::route::stream::Transport;
use crate::telemetry::metrics::Counter;

/// Limit on the greeting.
const GREETING: Duration = Duration::from_secs(5);

/// Takes the connection if its host hands TLS through. Gives it back with everything that was read if not; `None` when
/// it was taken, or closed.
pub async fn intercept(
    worker: &Rc<Worker>,
    mut stream: TcpStream,
    ahead: Bytes,
    facts: &ConnectionFacts,
) -> Option<(TcpStream, Bytes)> {
    let greeting = tokio::select! {
        biased;
        greeting = timeout(GREETING, read_greeting(&mut stream, ahead)) => greeting,
        () = worker.drain.ending_tunnels() => return None,
    };
    let Ok(Some((read, name))) = greeting else {
        worker.metrics.count(Counter::TlsErrors);
        tracing::debug!(peer = %facts.peer, "no whole TLS greeting in time");
        return None;
    };
    let Some(name) = name else { return Some((stream, read)) };
    let snapshot = worker.reader.load();
    let globals = &snapshot.table.globals;
    let Some(target) = snapshot.table.hosts.find(&name).and_then(|server| server.passthrough.as_ref()) else {
        return Some((stream, read));
    };
    let believed = facts.proxied.filter(|_| contains(&globals.proxy_real_ip_cidr, facts.peer.ip()));
    let local = stream.local_addr().unwrap_or(facts.local);
    let (client, destination): (SocketAddr, SocketAddr) = believed.unwrap_or((facts.peer, local));
    let mut session = Session::begin(worker, Transport::Tcp, client, facts.local, globals);
    session.backend = Arc::clone(&target.backend.name);
    session.server_name = Some(name);
    session.number = facts.number;
    session.proxied = facts.proxied.map(|(source, _)| source);
    if refuses(&target.policies, globals, client.ip()) {
        session.status = 403;
        return None;
    }
    let way = Way { backend: &target.backend, snippet: None };
    let Some(mut backend) = connect(worker, &snapshot, way, &mut session).await else {
        session.status = 502;
        return None;
    };
    if worker.l4.passthrough_header {
        let line = encode_v1(client, destination);
        if !matches!(
            timeout(globals.proxy_send_timeout, backend.write_all(line.as_bytes())).await,
            Ok(Ok(()))
        ) {
            session.status = 502;
            return None;
        }
    }
    let idle = globals.stream_timeout;
    drop(snapshot);
    tcp::relay(worker, Prefixed::new(read, stream), backend, idle, session, None).await;
    None
}

/// Reads until the greeting is whole or known to be none; `None` when it ends or grows beyond bounds before.
async fn read_greeting(stream: &mut TcpStream, ahead: Bytes) -> Option<(Bytes, Option<String>)> {
    let mut bytes = BytesMut::from(ahead);
    loop {
        match client_hello::parse(&bytes) {
            Parse::Done(name) => return Some((bytes.freeze(), name)),
            // Our own TLS, or who answers clear text there, knows what to say.
            Parse::Other => return Some((bytes.freeze(), None)),
            Parse::Need if bytes.len() >= client_hello::LONGEST => return None,
            Parse::Need => {}
        }
        bytes.reserve(2048);
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
