//! A WebSocket echo: as much of RFC 6455 as it takes to send back what came.

use std::io;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

mod accept_key;

/// The longest frame that is echoed; a longer one ends the connection with code 1009.
const LONGEST: u64 = 1024 * 1024;

// Opcodes, RFC 6455 section 5.2.
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Answers an upgrade request and echoes from then on; `None` when it is none.
pub(super) fn accept(request: &mut Request<Incoming>) -> Option<Response<Full<Bytes>>> {
    let headers = request.headers();
    let wanted = headers.get(UPGRADE)?.as_bytes().eq_ignore_ascii_case(b"websocket");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| wanted)?;
    let accept = HeaderValue::from_str(&accept_key::of(key.as_bytes())).ok()?;
    let upgrade = hyper::upgrade::on(request);
    tokio::task::spawn_local(async move {
        if let Ok(upgraded) = upgrade.await {
            // A tunnel may be cut at any time.
            let _cut = echo(TokioIo::new(upgraded)).await;
        }
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Some(response)
}

/// Sends every frame back without its mask; fragments as they come.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    loop {
        let first = stream.read_u8().await?;
        let second = stream.read_u8().await?;
        let length = match second & 0x7f {
            126 => u64::from(stream.read_u16().await?),
            127 => stream.read_u64().await?,
            short => u64::from(short),
        };
        // Clients must mask, RFC 6455 section 5.1.
        if second & 0x80 == 0 {
            return close(&mut stream, 1002).await;
        }
        if length > LONGEST {
            return close(&mut stream, 1009).await;
        }
        let mut mask = [0; 4];
        stream.read_exact(&mut mask).await?;
        let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
        stream.read_exact(&mut payload).await?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        let end_and_reserved = first & 0xf0;
        match first & 0x0f {
            CLOSE => return send(&mut stream, first, &payload).await,
            PING => send(&mut stream, end_and_reserved | PONG, &payload).await?,
            PONG => {}
            _ => send(&mut stream, first, &payload).await?,
        }
    }
}

async fn close(stream: &mut (impl AsyncWrite + Unpin), code: u16) -> io::Result<()> {
    send(stream, 0x80 | CLOSE, &code.to_be_bytes()).await
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), first: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(u8::try_from(short).unwrap_or_default()),
        long => {
            if let Ok(long) = u16::try_from(long) {
                frame.push(126);
                frame.extend(long.to_be_bytes());
            } else {
                frame.push(127);
                frame.extend(u64::try_from(long).unwrap_or_default().to_be_bytes());
            }
        }
    }
    frame.extend(payload);
    stream.write_all(&frame).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![first];
        match u8::try_from(payload.len()) {
            Ok(short @ 0..=125) => frame.push(0x80 | short),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn echoed(sent: &[u8]) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut near, far) = tokio::io::duplex(1 << 20);
            near.write_all(sent).await.unwrap();
            near.shutdown().await.unwrap();
            let _cut = echo(far).await;
            let mut received = Vec::new();
            near.read_to_end(&mut received).await.unwrap();
            received
        })
    }

    #[test]
    fn frames_come_back_without_their_mask() {
        let long = vec![7; 300];
        let mut back_long = vec![0x82, 126, 1, 44];
        back_long.extend(&long);
        for (sent, back) in [
            (masked(0x81, b"hello"), [&[0x81, 5][..], b"hello"].concat()),
            (masked(0x89, b"p"), [&[0x8a, 1][..], b"p"].concat()),
            (masked(0x82, &long), back_long),
            (masked(0x88, &[3, 232]), vec![0x88, 2, 3, 232]),
            (vec![0x81, 5], vec![0x88, 2, 3, 234]),
            (vec![0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0], vec![0x88, 2, 3, 241]),
        ] {
            assert_eq!(echoed(&sent), back, "{sent:?}");
        }
    }

    #[test]
    fn nothing_is_said_after_close() {
        let sent = [masked(0x88, b""), masked(0x81, b"late")].concat();
        assert_eq!(echoed(&sent), vec![0x88, 0]);
    }
}
