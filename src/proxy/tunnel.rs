//! Two byte streams joined: WebSocket and every other upgrade, extended CONNECT, TCP pass-through.
//!
//! Half-close aware, with one idle limit over both directions, and cut on demand (drain deadline). Buffers are
//! released while a direction idles, so ten thousand silent tunnels cost little.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

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

/// Copies both ways until both sides closed, one failed, `idle` passed without a byte, or `cut` resolves.
/// `carried` is called as bytes are delivered with the running totals.
pub async fn join<A, B>(
    mut client: A,
    mut backend: B,
    idle: Duration,
    cut: impl Future<Output = ()>,
    mut carried: impl FnMut(Carried),
) -> Ended
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Direction::default();
    let mut down = Direction::default();
    let sleep = tokio::time::sleep(idle);
    tokio::pin!(sleep, cut);
    let mut last = Carried::default();
    std::future::poll_fn(|cx| {
        if cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ended::Cut);
        }
        let first = up.poll(cx, &mut client, &mut backend);
        let second = down.poll(cx, &mut backend, &mut client);
        let now = Carried { up: up.total, down: down.total };
        if now != last {
            last = now;
            carried(now);
            touch(sleep.as_mut(), idle);
        }
        match (first, second) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(Ended::Broken),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ended::Closed),
            _ if sleep.as_mut().poll(cx).is_ready() => Poll::Ready(Ended::Idle),
            _ => Poll::Pending,
        }
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
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Flushing,
    Closing,
    Done,
}

impl Direction {
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Closing => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx))?;
                    self.state = State::Done;
                }
                State::Flushing => {
                    ready!(Pin::new(&mut *writer).poll_flush(cx))?;
                    self.state = State::Open;
                }
                State::Open if self.start < self.buffer.len() => {
                    let rest = self.buffer.get(self.start..).unwrap_or(&[]);
                    let written = ready!(Pin::new(&mut *writer).poll_write(cx, rest))?;
                    if written == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    self.start += written;
                    self.total += written as u64;
                    if self.start == self.buffer.len() {
                        self.buffer.clear();
                        self.start = 0;
                        self.state = State::Flushing;
                    }
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn local<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(test)
    }

    #[test]
    fn bytes_pass_both_ways_and_half_close_is_kept() {
        local(async {
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
        local(async {
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
        local(async {
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
        local(async {
            let (_client, near) = duplex(4);
            let (far, _backend) = duplex(4);
            let ended = join(near, far, Duration::from_secs(60), async {}, |_| ()).await;
            assert_eq!(ended, Ended::Cut);
        });
    }
}
