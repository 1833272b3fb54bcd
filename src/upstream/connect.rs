//! One TCP connection, and TLS over it where asked.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::error::ErrorKind;
use super::stream::Stream;
use super::tls::ClientTls;

/// Written bytes that nobody acknowledges for this time break the connection: a node that vanished (F-16).
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects within `limit`; the TLS handshake gets twice that (5 s and 10 s by default, D.1).
pub(super) async fn connect(
    address: SocketAddr,
    tls: Option<&ClientTls>,
    limit: Duration,
) -> Result<Stream, ErrorKind> {
    let stream = match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(refused(&error)),
        Err(_) => return Err(ErrorKind::ConnectTimeout),
    };
    // Neither option decides whether the connection works.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT));
    let Some(tls) = tls else { return Ok(Stream::Clear(stream)) };
    let handshake = handshake(stream, tls.config(), tls.server_name());
    match timeout(limit.saturating_mul(2), handshake).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ErrorKind::ConnectTimeout),
    }
}

/// The kernel's own connection timeout is a timeout too.
fn refused(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::TimedOut => ErrorKind::ConnectTimeout,
        kind => ErrorKind::Connect(kind),
    }
}

async fn handshake(
    stream: TcpStream,
    config: &Arc<rustls::ClientConfig>,
    name: &ServerName<'static>,
) -> Result<Stream, ErrorKind> {
    match TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(error) => Err(ErrorKind::Tls(error.to_string().into())),
    }
}
