//! Bytes that pass from one socket to another without being read: the kernel moves them through a pipe (`splice(2)`).
//!
//! A pipe is filled only while it is empty and drained before it is filled again, so "would block" always speaks of the
//! socket. Large clear bodies of known length take this way in both directions; `message` says how a body offers it,
//! the drivers of HTTP/1 decide to take it. Nothing here looks at a byte or knows where a message ends: callers say
//! how many may pass.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::limit::{Bodies, Held, Memory, PIPES_PER_WORKER};

/// What a pipe can hold, and what passes at once, bytes. The kernel lets any user have that much. With less each side
/// is woken more often, which costs more than the copies that are saved.
pub const CAPACITY: usize = 1024 * 1024;
/// What passes of an answer before other connections of the thread get their turn, bytes. They keep their clients busy
/// meanwhile, and where the kernel paces what is sent (BBR) fewer of its timers go off.
pub const TURN: usize = 512 * 1024;
/// Bodies with less to come are copied, bytes.
pub const WORTH_IT: u64 = 64 * 1024;
/// Pipes of one thread. Bodies beyond that are copied.
const MOST: usize = PIPES_PER_WORKER;
/// Pipes that are kept for the next body.
const KEPT: usize = MOST;

thread_local! {
    static PIPES: Pipes = const { Pipes { free: RefCell::new(Vec::new()), leased: Cell::new(0), refused: Cell::new(false) } };
}

/// The pipes of a thread.
struct Pipes {
    free: RefCell<Vec<Ends>>,
    leased: Cell<usize>,
    /// The kernel, or what stands before it, does not let us.
    refused: Cell<bool>,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A stream that may be a socket on which bytes pass as they are.
pub trait Socket {
    /// The socket, where what it carries is what the stream carries and nothing of it waits elsewhere.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

/// The bytes of `slices` where they lie in one of them: `send` costs less than `writev`, which asks more before it comes to
/// the socket.
pub fn in_one<'s>(slices: &'s [IoSlice<'_>]) -> Option<&'s [u8]> {
    let mut full = slices.iter().filter(|slice| !slice.is_empty());
    match (full.next(), full.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Writes to `socket` what goes before bytes that wait in a pipe: the kernel puts both in one segment, so that the other
/// side is woken once. Whoever calls this hands over the rest of the pipe at once.
///
/// # Errors
/// Those of the socket.
pub fn poll_write_before(
    socket: &TcpStream,
    slices: &[IoSlice<'_>],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        let sent = socket.try_io(Interest::WRITABLE, || {
            SockRef::from(socket).send_vectored_with_flags(slices, libc::MSG_MORE | libc::MSG_NOSIGNAL)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return Poll::Ready(sent),
        }
    }
}

/// A pipe of one body.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<Ends>,
    held: Cell<usize>,
    _room: Held,
}

// === impl Pipe ===

impl Pipe {
    /// A pipe, unless bodies take up most of what they may or as many pipes are in use as may be.
    pub fn lease(memory: &Memory) -> Option<Rc<Self>> {
        if memory.bodies() != Bodies::Plenty {
            return None;
        }
        let ends = PIPES.try_with(Pipes::take).ok()??;
        Some(Rc::new(Self { ends: Some(ends), held: Cell::new(0), _room: memory.hold(CAPACITY as u64) }))
    }

    /// True when nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.held.get() == 0
    }

    /// Takes up to `most` bytes from `socket`; 0: its peer sends no more. Only while the pipe is empty.
    ///
    /// # Errors
    /// Those of the socket; [`io::ErrorKind::Unsupported`] where this way is closed and nothing was taken.
    pub fn poll_fill(&self, socket: &TcpStream, most: u64, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let most = usize::try_from(most).unwrap_or(CAPACITY).min(CAPACITY);
        let Some(ends) = self.ends.as_ref().filter(|_| self.is_empty()) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        loop {
            ready!(socket.poll_read_ready(cx))?;
            match socket.try_io(Interest::READABLE, || take(socket, &ends.write, most)) {
                Ok(moved) => {
                    self.held.set(moved);
                    return Poll::Ready(Ok(moved));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_refusal(&error) => {
                    let _ends = PIPES.try_with(|pipes| pipes.refused.set(true));
                    return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Hands to `socket` what it takes of the bytes on their way, and says how many. Not while the pipe is empty.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_drain(&self, socket: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Err(io::ErrorKind::Unsupported.into())) };
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            let moved = socket.try_io(Interest::WRITABLE, || {
                Ok(splice(&ends.read, None, socket, None, self.held.get(), flags)?)
            });
            match moved {
                Ok(moved) => {
                    self.held.set(self.held.get().saturating_sub(moved));
                    return Poll::Ready(Ok(moved));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let ends = self.ends.take().filter(|_| self.is_empty());
        // A pipe in which bytes of a cut body lie is closed.
        let _thread_ends = PIPES.try_with(|pipes| pipes.put(ends));
    }
}

/// Moves up to `most` bytes from `socket` into an empty pipe.
///
/// A splice does not pass the mark of urgent data (RFC 9293 section 3.8.5) and says that it would block, where a read goes
/// on behind it: that is [`io::ErrorKind::Unsupported`].
fn take(socket: &TcpStream, into: &OwnedFd, most: usize) -> io::Result<usize> {
    let moved = || splice(socket, None, into, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK);
    match moved() {
        // Bytes may have come since, so it is asked twice.
        Err(Errno::AGAIN) if is_readable(socket) => match moved() {
            Err(Errno::AGAIN) => Err(io::ErrorKind::Unsupported.into()),
            moved => Ok(moved?),
        },
        moved => Ok(moved?),
    }
}

/// True when a read would give a byte.
fn is_readable(socket: &TcpStream) -> bool {
    SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|length| length > 0)
}

/// Old kernels, filters of system calls, sockets that cannot: the body is copied then.
fn is_refusal(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::PERM, Errno::ACCESS, Errno::OPNOTSUPP]
        .iter()
        .any(|refusal| error.raw_os_error() == Some(refusal.raw_os_error()))
}

// === impl Pipes ===

impl Pipes {
    fn take(&self) -> Option<Ends> {
        if self.refused.get() || self.leased.get() >= MOST {
            return None;
        }
        let free = self.free.borrow_mut().pop();
        let ends = free.or_else(Ends::open)?;
        self.leased.set(self.leased.get() + 1);
        Some(ends)
    }

    fn put(&self, ends: Option<Ends>) {
        self.leased.set(self.leased.get().saturating_sub(1));
        let mut free = self.free.borrow_mut();
        if let Some(ends) = ends
            && free.len() < KEPT
        {
            free.push(ends);
        }
    }
}

impl Ends {
    /// None: no descriptors are left, or the user's share of pipe memory is used up and a small pipe gains nothing.
    fn open() -> Option<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        fcntl_setpipe_size(&write, CAPACITY).ok().filter(|size| *size >= CAPACITY)?;
        Some(Self { read, write })
    }
}

// === impl Socket ===

impl Socket for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

/// For tests of drivers.
impl Socket for tokio::io::DuplexStream {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn bytes_are_in_one_slice_when_the_others_are_empty() {
        for (slices, one) in [
            (&[][..], None),
            (&[""], None),
            (&["", "a", ""], Some(&b"a"[..])),
            (&["a", "", "b"], None),
            (&["ab"], Some(b"ab")),
        ] {
            let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice.as_bytes())).collect();
            assert_eq!(in_one(&slices), one);
        }
    }

    #[test]
    fn no_more_passes_than_was_said_and_nothing_is_lost() {
        block(async {
            let (mut client, from) = pair().await;
            let (to, mut backend) = pair().await;
            let pipe = Pipe::lease(&Memory::new(None)).unwrap();
            client.write_all(b"hello, world").await.unwrap();
            let mut passed = 0;
            while passed < 5 {
                passed += poll_fn(|cx| pipe.poll_fill(&from, 5 - passed as u64, cx)).await.unwrap();
                let again = poll_fn(|cx| pipe.poll_fill(&from, 7, cx)).await.unwrap_err();
                assert_eq!(again.kind(), io::ErrorKind::Unsupported, "it is not empty");
                while !pipe.is_empty() {
                    poll_fn(|cx| pipe.poll_drain(&to, cx)).await.unwrap();
                }
            }
            let mut read = [0; 5];
            backend.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"hello");
            let mut rest = String::new();
            let mut from = from;
            drop(client);
            from.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, ", world");
            assert_eq!(
                poll_fn(|cx| pipe.poll_fill(&from, 7, cx)).await.unwrap(),
                0,
                "its peer sends no more"
            );
        });
    }

    #[test]
    fn pipes_are_bounded_and_one_with_bytes_in_it_is_not_used_again() {
        block(async {
            let memory = Memory::new(None);
            let all: Vec<_> = std::iter::from_fn(|| Pipe::lease(&memory)).take(MOST + 1).collect();
            assert!(!all.is_empty() && all.len() <= MOST);
            assert_eq!(memory.held(), (all.len() * CAPACITY) as u64);
            drop(all);
            assert_eq!(memory.held(), 0);
            let (mut client, from) = pair().await;
            client.write_all(b"left over").await.unwrap();
            for _ in 0..2 * MOST {
                let pipe = Pipe::lease(&memory).unwrap();
                assert!(pipe.is_empty());
                let one = poll_fn(|cx| pipe.poll_fill(&from, 1, cx)).await;
                assert!(matches!(one, Ok(1)), "{one:?}");
                client.write_all(b"x").await.unwrap();
            }
            memory.set_budget(10);
            let _bodies = memory.hold(9);
            assert!(Pipe::lease(&memory).is_none(), "bodies take up most of what they may");
        });
    }
}
