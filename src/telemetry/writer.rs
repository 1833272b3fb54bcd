//! Lines on their way out: bounded, never in the way of who writes them.
//!
//! Every worker owns a [`Lane`], a buffer with a bound. One thread swaps the buffers out and writes them; a lane's lock
//! is held for a pointer swap or for one line, so a slow or closed stdout never reaches a worker. When a lane is full,
//! lines are dropped and counted (`F-20`). Used by the access log and by the diagnostic log.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

pub mod syslog;

use syslog::Sender;
pub use syslog::Server;

/// Lines that may wait over all lanes (`F-20`).
pub const MAX_LINES: usize = 64 * 1024;
/// Bytes that may wait over all lanes, the batch being written included (`F-20`).
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// How long lines are gathered while there is traffic: one write and no wake-up per line.
const GATHER: Duration = Duration::from_millis(10);
/// A destination that takes no lines is told of so often.
const REPEAT: Duration = Duration::from_secs(60);
/// A buffer larger than this is given back to the allocator once it is written.
const KEEP_CAPACITY: usize = 256 * 1024;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to this file, which is created when it does not exist.
    File(PathBuf),
    /// Sent to a syslog server, one datagram for each line.
    Syslog(Server),
}

impl Destination {
    /// The meaning of a path in the ConfigMap: the paths that are links to stdout and stderr in the image of
    /// ingress-nginx stand for these.
    pub fn from_path(path: &str) -> Self {
        match path {
            "" | "-" | "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" | "/var/log/nginx/access.log" => {
                Self::Stdout
            }
            "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" | "/var/log/nginx/error.log" => Self::Stderr,
            "off" => Self::File(PathBuf::from("/dev/null")),
            path => Self::File(PathBuf::from(path)),
        }
    }

    fn open(&self) -> Result<Sink, OpenError> {
        let opened = match self {
            Self::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
            Self::Stderr => io::stderr().as_fd().try_clone_to_owned().map(File::from),
            Self::File(path) => open_file(path),
            // Its name is resolved by the thread that sends: that may take a while.
            Self::Syslog(server) => return Ok(Sink::Syslog(Box::new(Sender::new(server)))),
        };
        let path = || self.path().to_owned();
        opened.map(|file| Sink::File(file, path())).map_err(|reason| OpenError { path: path(), reason })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Stdout => Path::new("/dev/stdout"),
            Self::Stderr => Path::new("/dev/stderr"),
            Self::File(path) => path,
            Self::Syslog(_) => Path::new("syslog"),
        }
    }
}

/// Opening a pipe waits for its reader, and who opens logs has no time to wait: a pipe that nobody reads is an error.
fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    let is_pipe = std::fs::metadata(path).is_ok_and(|facts| facts.file_type().is_fifo());
    // Held until the pipe is open for writing as well.
    let _reader_is_there = if is_pipe {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        Some(options.clone().custom_flags(flags).open(path)?)
    } else {
        None
    };
    options.open(path)
}

/// An open destination.
#[derive(Debug)]
enum Sink {
    File(File, PathBuf),
    Syslog(Box<Sender>),
}

/// A log that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open log {}: {reason}", path.display())]
pub struct OpenError {
    path: PathBuf,
    /// The system's; in the text, since who is told of it sees one line.
    reason: io::Error,
}

/// Size of the waiting room.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Lanes that will be asked for; each gets an equal share.
    pub lanes: usize,
    /// Lines over all lanes.
    pub lines: usize,
    /// Bytes over all lanes and the batch being written.
    pub bytes: usize,
}

impl Bounds {
    /// The default bounds for so many lanes.
    pub const fn for_lanes(lanes: usize) -> Self {
        Self { lanes, lines: MAX_LINES, bytes: MAX_BYTES }
    }
}

/// The writing side: a thread and what it shares with its lanes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LineWriter(Arc<Shared>);

/// One producer's buffer. Cheap to use from one thread, correct from several.
#[derive(Debug)]
pub struct Lane {
    buffer: Arc<Mutex<Waiting>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    lanes: Mutex<Vec<Arc<Mutex<Waiting>>>>,
    thread: OnceLock<Thread>,
    parked: AtomicBool,
    orders: Mutex<Orders>,
    progress: Condvar,
    lane_lines: usize,
    lane_bytes: usize,
    written: AtomicU64,
    dropped: AtomicU64,
    errors: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    lines: usize,
}

#[derive(Debug, Default)]
struct Orders {
    reopen: Option<Sink>,
    stop: bool,
    ended: bool,
    asked: u64,
    flushed: u64,
}

// === impl LineWriter ===

impl LineWriter {
    /// Opens the destination and starts the thread.
    ///
    /// # Errors
    /// When the destination cannot be opened or the thread not be started.
    pub fn start(destination: &Destination, bounds: Bounds) -> Result<Self, OpenError> {
        let file = destination.open()?;
        let shares = bounds.lanes.max(1);
        let shared = Arc::new(Shared {
            lanes: Mutex::default(),
            thread: OnceLock::new(),
            parked: AtomicBool::new(false),
            orders: Mutex::default(),
            progress: Condvar::new(),
            lane_lines: (bounds.lines / shares).max(1),
            lane_bytes: (bounds.bytes / (shares + 1)).max(1),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        });
        let of_thread = Arc::clone(&shared);
        let handle = thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || of_thread.run(file))
            .map_err(|reason| OpenError { path: destination.path().to_owned(), reason })?;
        // The thread is never joined: it may hang in a write. `close` waits for it with a bound.
        let _ = shared.thread.set(handle.thread().clone());
        Ok(Self(shared))
    }

    /// A new producer.
    pub fn lane(&self) -> Lane {
        let buffer = Arc::new(Mutex::new(Waiting::default()));
        lock(&self.0.lanes).push(Arc::clone(&buffer));
        Lane { buffer, shared: Arc::clone(&self.0) }
    }

    /// Writes to `destination` from now on (also after the file was rotated away).
    ///
    /// # Errors
    /// When it cannot be opened; then lines keep going where they went.
    pub fn reopen(&self, destination: &Destination) -> Result<(), OpenError> {
        let file = destination.open()?;
        lock(&self.0.orders).reopen = Some(file);
        self.0.wake();
        Ok(())
    }

    /// Waits until everything accepted before the call is written; false when that took longer than `patience`.
    pub fn flush(&self, patience: Duration) -> bool {
        let mut orders = lock(&self.0.orders);
        orders.asked += 1;
        let ticket = orders.asked;
        self.0.wake();
        let done = |orders: &mut Orders| orders.flushed < ticket && !orders.ended;
        let waited = self.0.progress.wait_timeout_while(orders, patience, done);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Writes what is there and ends the thread; false when that took longer than `patience`.
    pub fn close(&self, patience: Duration) -> bool {
        let mut orders = lock(&self.0.orders);
        orders.stop = true;
        self.0.wake();
        let waited = self.0.progress.wait_timeout_while(orders, patience, |orders| !orders.ended);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Lines that reached the destination.
    pub fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// Lines lost: the lane was full, or the destination refused them.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Failed writes.
    pub fn errors(&self) -> u64 {
        self.0.errors.load(Ordering::Relaxed)
    }
}

// === impl Lane ===

impl Lane {
    /// Appends one line, which `render` adds to the buffer without its line feed. False when it was dropped.
    pub fn append(&self, render: impl FnOnce(&mut Vec<u8>)) -> bool {
        let shared = &*self.shared;
        let (before, after) = {
            let mut waiting = lock(&self.buffer);
            if waiting.lines >= shared.lane_lines || waiting.text.len() >= shared.lane_bytes {
                drop(waiting);
                shared.dropped.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            let before = waiting.text.len();
            render(&mut waiting.text);
            waiting.text.push(b'\n');
            waiting.lines += 1;
            (before, waiting.text.len())
        };
        // The thread sets `parked` before it looks at the lanes a last time, so either it sees this line or we see
        // the flag: the lane's lock orders the two.
        let half = shared.lane_bytes / 2;
        if shared.parked.load(Ordering::Relaxed) || (before < half && after >= half) {
            shared.wake();
        }
        true
    }
}

// === impl Shared ===

impl Shared {
    fn wake(&self) {
        self.parked.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn run(&self, mut sink: Sink) {
        let mut batch = Waiting::default();
        let mut trouble = Trouble::default();
        loop {
            let (ticket, stop) = {
                let mut orders = lock(&self.orders);
                if let Some(other) = orders.reopen.take() {
                    sink = other;
                }
                (orders.asked, orders.stop)
            };
            let busy = self.drain_lanes(&mut batch, &mut sink, &mut trouble);
            {
                let mut orders = lock(&self.orders);
                orders.flushed = ticket;
                orders.ended = stop && !busy;
                self.progress.notify_all();
                if orders.ended {
                    return;
                }
            }
            if busy {
                thread::park_timeout(GATHER);
            } else {
                self.parked.store(true, Ordering::Relaxed);
                if self.is_idle() {
                    thread::park();
                }
                self.parked.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Writes what every lane holds; true when there was something.
    fn drain_lanes(&self, batch: &mut Waiting, sink: &mut Sink, trouble: &mut Trouble) -> bool {
        let lanes = {
            let mut lanes = lock(&self.lanes);
            // A lane whose producer is gone leaves once it is empty.
            lanes.retain(|lane| Arc::strong_count(lane) > 1 || lock(lane).lines > 0);
            lanes.clone()
        };
        let mut busy = false;
        for lane in &lanes {
            std::mem::swap(&mut *lock(lane), batch);
            if batch.lines > 0 {
                busy = true;
                let lines = batch.lines as u64;
                let (written, failures) = match sink {
                    Sink::File(file, path) => match self.write(file, &batch.text) {
                        Ok(()) => (lines, 0),
                        Err(error) => {
                            trouble.tell(&path.display(), &error);
                            (0, 1)
                        }
                    },
                    Sink::Syslog(sender) => {
                        let (sent, failure) = sender.send(&batch.text);
                        if let Some(error) = &failure {
                            trouble.tell_beside(sender.server(), error);
                        }
                        (sent, u64::from(failure.is_some()))
                    }
                };
                self.written.fetch_add(written, Ordering::Relaxed);
                self.dropped.fetch_add(lines.saturating_sub(written), Ordering::Relaxed);
                self.errors.fetch_add(failures, Ordering::Relaxed);
            }
            batch.lines = 0;
            batch.text.clear();
            batch.text.shrink_to(KEEP_CAPACITY);
        }
        busy
    }

    /// Like `write_all`, and waits where the descriptor is non-blocking (container runtimes share it).
    fn write(&self, file: &mut File, mut text: &[u8]) -> io::Result<()> {
        let mut patience: Option<Instant> = None;
        while !text.is_empty() {
            match file.write(text) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    text = text.get(written..).unwrap_or_default();
                    patience = None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let since = *patience.get_or_insert_with(Instant::now);
                    if lock(&self.orders).stop && since.elapsed() > Duration::from_secs(1) {
                        return Err(error);
                    }
                    thread::park_timeout(GATHER);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        let orders = lock(&self.orders);
        let asked = orders.reopen.is_some() || orders.stop || orders.flushed < orders.asked;
        drop(orders);
        !asked && lock(&self.lanes).iter().all(|lane| lock(lane).lines == 0)
    }
}

/// What the operator was told of a destination that takes no lines.
#[derive(Debug, Default)]
struct Trouble {
    told: Option<Instant>,
}

impl Trouble {
    /// Once, and once more each [`REPEAT`] while it lasts or comes again: this line may be for the same destination.
    fn tell(&mut self, destination: &dyn fmt::Display, error: &io::Error) {
        if self.told.is_none_or(|told| told.elapsed() >= REPEAT) {
            self.told = Some(Instant::now());
            tracing::error!(%destination, %error, "a log cannot be written, its lines are lost");
        }
    }

    /// As [`Trouble::tell`] for a syslog server: all logs go there, so standard error is what is left.
    fn tell_beside(&mut self, server: &Server, error: &io::Error) {
        if self.told.is_none_or(|told| told.elapsed() >= REPEAT) {
            self.told = Some(Instant::now());
            let text = format!("syslog server {server} cannot be reached, lines of logs are lost: {error}\n");
            // There is nobody left to tell of a failure.
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }
}

/// A panic while a line was rendered leaves the buffer usable, so poison is no reason to stop logging.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
