//! Two byte streams joined: WebSocket and every other upgrade, extended CONNECT, TCP pass-through.
//!
//! Half-close aware, with one idle limit over both directions, and cut on demand (drain deadline). A WebSocket is not
//! cut at once: both sides hear Close 1001 between two of their frames (F-9). Buffers are released while a direction
//! idles, so ten thousand silent tunnels cost little.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use self::websocket::Frames;

mod websocket;

/// Size of a direction's buffer while bytes are under way.
const BUFFER: usize = 16 * 1024;

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Both sides finished.
    Closed,
    /// A side failed.
    Broken,
    /// No byte for the idle limit.
    Idle,
    /// We cut it (drain deadline).
    Cut,
}

/// What went through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Bytes from client to backend.
    pub up: u64,
    /// Bytes from backend to client.
    pub down: u64,
}

/// Between the Close frames of ours and the end, for clients that do not close.
const LINGER: Duration = Duration::from_secs(1);

/// How a tunnel ends that is told to.
pub enum Farewell {
    /// At once.
    Cut,
    /// Close 1001 to both sides, between two frames; at the latest when `at_last` resolves.
    WebSocket {
        /// Masking key of the frame for the backend.
        mask: [u8; 4],
        /// The end of all patience.
        at_last: Pin<Box<dyn Future<Output = ()>>>,
    },
}

/// Copies both ways until both sides closed, one failed, `idle` passed without a byte, or `cut` resolves.
/// `carried` is called as bytes are delivered with the running totals.
pub async fn join<A, B>(
    client: A,
    backend: B,
    idle: Duration,
    cut: impl Future<Output = ()>,
    carried: impl FnMut(Carried),
) -> Ended
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    join_with(client, backend, idle, cut, Farewell::Cut, carried).await
}

/// As [`join`]; once `end` resolves the tunnel ends as `farewell` says.
pub async fn join_with<A, B>(
    mut client: A,
    mut backend: B,
    idle: Duration,
    end: impl Future<Output = ()>,
    mut farewell: Farewell,
    mut carried: impl FnMut(Carried),
) -> Ended
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let framed = matches!(farewell, Farewell::WebSocket { .. });
    let mut up = Direction::new(framed);
    let mut down = Direction::new(framed);
    let sleep = tokio::time::sleep(idle);
    tokio::pin!(sleep, end);
    let mut last = Carried::default();
    let mut leaving = false;
    std::future::poll_fn(|cx| {
        if !leaving && end.as_mut().poll(cx).is_ready() {
            leaving = true;
            if let Farewell::WebSocket { mask, .. } = &farewell {
                up.leave(websocket::close_to_server(*mask));
                down.leave(websocket::close_to_client());
            }
        }
        if leaving {
            let over = match &mut farewell {
                Farewell::Cut => true,
                Farewell::WebSocket { at_last, .. } => at_last.as_mut().poll(cx).is_ready(),
            };
            if over {
                return Poll::Ready(Ended::Cut);
            }
        }
        let told = up.is_told() && down.is_told();
        let first = up.poll(cx, &mut client, &mut backend);
        let second = down.poll(cx, &mut backend, &mut client);
        let now = Carried { up: up.total, down: down.total };
        if now != last {
            last = now;
            carried(now);
            touch(sleep.as_mut(), idle);
        }
        if !told && up.is_told() && down.is_told() {
            touch(sleep.as_mut(), LINGER);
        }
        let ended = match (first, second) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Ended::Broken,
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Ended::Closed,
            _ if sleep.as_mut().poll(cx).is_ready() => Ended::Idle,
            _ => return Poll::Pending,
        };
        Poll::Ready(if leaving { Ended::Cut } else { ended })
    })
    .await
}

fn touch(sleep: Pin<&mut Sleep>, idle: Duration) {
    sleep.reset(Instant::now() + idle);
}

/// One direction: read some, write all of it, then read again; after the reader's end shut the writer.
#[derive(Default)]
struct Direction {
    buffer: Vec<u8>,
    start: usize,
    total: u64,
    state: State,
    /// Of a WebSocket.
    frames: Option<Frames>,
    /// What is to be written between two frames, instead of all that follows.
    farewell: Option<Vec<u8>>,
    /// The farewell is under way or was written.
    leaving: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Flushing,
    Closing,
    /// What still comes is read and thrown away, so that no reset takes the farewell away.
    Draining,
    Done,
}

impl Direction {
    fn new(framed: bool) -> Self {
        Self { frames: framed.then(Frames::default), ..Self::default() }
    }

    /// Ends this direction with `farewell` at the next boundary.
    fn leave(&mut self, farewell: Vec<u8>) {
        if self.state == State::Open || self.state == State::Flushing {
            self.farewell = Some(farewell);
        }
    }

    /// The writer has heard everything it will hear.
    fn is_told(&self) -> bool {
        matches!(self.state, State::Draining | State::Done)
    }

    /// Takes the farewell up when no frame is under way.
    fn turn(&mut self) {
        let between = self.frames.as_ref().is_none_or(|frames| frames.rest() == 0);
        if between && let Some(farewell) = self.farewell.take() {
            self.buffer = farewell;
            self.start = 0;
            self.leaving = true;
        }
    }

    /// What may be written now: while a farewell waits, no further than the end of the frame.
    fn writable(&self) -> &[u8] {
        let rest = self.buffer.get(self.start..).unwrap_or(&[]);
        match &self.frames {
            Some(frames) if self.farewell.is_some() => {
                let certain = usize::try_from(frames.rest()).unwrap_or(usize::MAX);
                rest.get(..certain).unwrap_or(rest)
            }
            _ => rest,
        }
    }

    fn wrote(&mut self, written: usize) {
        let passed = self.buffer.get(self.start..self.start + written).unwrap_or(&[]);
        if let Some(frames) = &mut self.frames {
            frames.walk(passed);
        }
        self.start += written;
        self.total += written as u64;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
            self.state = State::Flushing;
        }
    }

    fn poll<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if self.state == State::Open {
                self.turn();
            }
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Draining => {
                    // A reader that fails has nothing more to say, as one that ended.
                    if ready!(self.poll_fill(cx, reader)).unwrap_or(0) == 0 {
                        self.state = State::Done;
                    }
                    self.buffer.clear();
                }
                State::Closing => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx))?;
                    self.state = if self.leaving { State::Draining } else { State::Done };
                }
                State::Flushing => {
                    ready!(Pin::new(&mut *writer).poll_flush(cx))?;
                    self.state = if self.leaving { State::Closing } else { State::Open };
                }
                State::Open if self.start < self.buffer.len() => {
                    let written = ready!(Pin::new(&mut *writer).poll_write(cx, self.writable()))?;
                    if written == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    self.wrote(written);
                }
                State::Open => {
                    if ready!(self.poll_fill(cx, reader))? == 0 {
                        self.state = State::Closing;
                    }
                }
            }
        }
    }

    fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
    ) -> Poll<io::Result<usize>> {
        let mut space = [0_u8; BUFFER];
        let mut into = ReadBuf::new(&mut space);
        match Pin::new(reader).poll_read(cx, &mut into) {
            Poll::Pending => {
                // Nothing is held while nothing flows.
                self.buffer = Vec::new();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                self.buffer.extend_from_slice(into.filled());
                Poll::Ready(Ok(into.filled().len()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::paused::block_on;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[test]
    fn bytes_pass_both_ways_and_half_close_is_kept() {
        block_on(async {
            let (mut client, near) = duplex(64);
            let (far, mut backend) = duplex(64);
            let mut seen = Carried::default();
            let script = async {
                client.write_all(b"hello").await.unwrap();
                client.shutdown().await.unwrap();
                let mut got = Vec::new();
                backend.read_to_end(&mut got).await.unwrap();
                assert_eq!(got, b"hello");
                backend.write_all(b"still here").await.unwrap();
                backend.shutdown().await.unwrap();
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).await.unwrap();
                assert_eq!(answer, b"still here");
            };
            let (ended, ()) = tokio::join!(
                join(near, far, Duration::from_secs(60), std::future::pending(), |now| seen = now),
                script
            );
            assert_eq!(ended, Ended::Closed);
            assert_eq!(seen, Carried { up: 5, down: 10 });
        });
    }

    #[test]
    fn a_silent_tunnel_ends_after_the_idle_limit_and_traffic_prolongs_it() {
        block_on(async {
            let (mut client, near) = duplex(64);
            let (far, _backend) = duplex(64);
            let start = Instant::now();
            let script = async {
                tokio::time::sleep(Duration::from_secs(50)).await;
                client.write_all(b"x").await.unwrap();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                ended = join(near, far, Duration::from_secs(60), std::future::pending(), |_| ()) => {
                    assert_eq!(ended, Ended::Idle);
                    assert_eq!(start.elapsed().as_secs(), 110);
                }
                () = script => unreachable!("the script never ends"),
            }
        });
    }

    #[test]
    fn a_broken_side_ends_both() {
        block_on(async {
            let (client, near) = duplex(4);
            let (far, backend) = duplex(4);
            drop(backend);
            let mut client = client;
            let write = async {
                let _broken = client.write_all(&[0; 64]).await;
            };
            let joined = join(near, far, Duration::from_secs(60), std::future::pending(), |_| ());
            let (ended, ()) = tokio::join!(joined, write);
            assert_eq!(ended, Ended::Broken);
        });
    }

    #[test]
    fn a_cut_ends_a_tunnel_at_once() {
        block_on(async {
            let (_client, near) = duplex(4);
            let (far, _backend) = duplex(4);
            let ended = join(near, far, Duration::from_secs(60), async {}, |_| ()).await;
            assert_eq!(ended, Ended::Cut);
        });
    }

    /// A binary frame of a client (zero mask) or a server.
    fn binary(masked: bool, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let mut bytes = vec![0x82, if masked { 0x80 | length } else { length }];
        bytes.extend(if masked { &[0; 4][..] } else { &[] });
        bytes.extend(payload);
        bytes
    }

    fn web_socket(at_last: impl Future<Output = ()> + 'static) -> Farewell {
        Farewell::WebSocket { mask: [0; 4], at_last: Box::pin(at_last) }
    }

    #[test]
    fn a_web_socket_hears_1001_between_two_frames_on_both_sides() {
        block_on(async {
            let (mut client, near) = duplex(64);
            let (far, mut backend) = duplex(64);
            let (tell, told) = tokio::sync::oneshot::channel::<()>();
            let end = async {
                let _ = told.await;
            };
            let script = async {
                let (hello, answer) = (binary(true, b"hello"), binary(false, b"answer"));
                // The client is in the middle of a frame when the end comes; the backend is not.
                client.write_all(&hello[..7]).await.unwrap();
                backend.write_all(&answer).await.unwrap();
                let mut seen = vec![0; 7];
                backend.read_exact(&mut seen).await.unwrap();
                let mut got = vec![0; answer.len()];
                client.read_exact(&mut got).await.unwrap();
                assert_eq!(got, answer);
                tell.send(()).unwrap();
                got = Vec::new();
                client.read_to_end(&mut got).await.unwrap();
                assert_eq!(got, [0x88, 2, 3, 0xe9]);
                // The frame under way is finished, what follows it is not sent.
                client.write_all(&hello[7..]).await.unwrap();
                client.write_all(&binary(true, b"more")).await.unwrap();
                backend.read_to_end(&mut seen).await.unwrap();
                assert_eq!(seen, [hello, vec![0x88, 0x82, 0, 0, 0, 0, 3, 0xe9]].concat());
                drop((client, backend));
            };
            let joined = join_with(
                near,
                far,
                Duration::from_secs(60),
                end,
                web_socket(std::future::pending()),
                |_| (),
            );
            let (ended, ()) = tokio::join!(joined, script);
            assert_eq!(ended, Ended::Cut);
        });
    }

    #[test]
    fn a_web_socket_whose_sides_do_not_close_is_cut_all_the_same() {
        block_on(async {
            let start = Instant::now();
            let (_client, near) = duplex(64);
            let (far, _backend) = duplex(64);
            let farewell = web_socket(std::future::pending());
            let ended = join_with(near, far, Duration::from_secs(60), async {}, farewell, |_| ()).await;
            assert_eq!((ended, start.elapsed()), (Ended::Cut, LINGER));
            // In the middle of a frame that never ends, only the last deadline helps.
            let (mut client, near) = duplex(64);
            let (far, _backend) = duplex(64);
            client.write_all(&[0x82, 0x85, 0]).await.unwrap();
            let end = tokio::time::sleep(Duration::from_secs(1));
            let farewell = web_socket(tokio::time::sleep(Duration::from_secs(9)));
            let ended = join_with(near, far, Duration::from_secs(60), end, farewell, |_| ()).await;
            assert_eq!((ended, start.elapsed()), (Ended::Cut, LINGER + Duration::from_secs(9)));
        });
    }
}
