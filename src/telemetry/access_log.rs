//! The access log: one line per request, byte-compatible with ingress-nginx's `log-format-upstream`.
//!
//! The ConfigMap's format is compiled once into a [`Format`]; a worker renders each [`Record`] straight into its
//! [`LogLane`]. Which requests are logged at all (`enable-access-log`, `skip-access-log-urls`) is the caller's decision.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::record::Record;
use super::writer::{Bounds, Destination, Lane, LineWriter, OpenError};

pub mod clock;
pub mod escape;
pub mod format;
pub mod object;
pub mod stream;
pub mod template;
pub mod variable;

pub use clock::Clock;
pub use escape::Escape;
pub use format::{DEFAULT_FORMAT, Format};
pub use stream::{StreamFormat, StreamRecord};
pub use template::Problem;

/// The access log of the process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLog {
    writer: LineWriter,
    formats: Arc<Formats>,
}

#[derive(Debug)]
struct Formats {
    /// Grows when anything below changes.
    version: AtomicU64,
    http: Mutex<Arc<Format>>,
    stream: Mutex<Arc<StreamFormat>>,
    /// Where lines of sessions go, if not where those of requests go; with a number that grows when it is another one.
    apart: Mutex<(u64, Option<LineWriter>)>,
    bounds: Bounds,
}

/// One worker's way into the access log. Not `Sync`: each worker has its own.
#[derive(Debug)]
pub struct LogLane {
    lane: Lane,
    formats: Arc<Formats>,
    seen: RefCell<Seen>,
}

/// What a lane knows: formats as of `version`, and the text of the current second.
#[derive(Debug)]
struct Seen {
    version: u64,
    http: Arc<Format>,
    stream: Arc<StreamFormat>,
    /// Into `Formats::apart`, with its number.
    apart: (u64, Option<Rc<Lane>>),
    clock: Clock,
}

// === impl AccessLog ===

impl AccessLog {
    /// Opens the destination and starts the writer thread; `lanes` is the number of workers.
    ///
    /// # Errors
    /// When the destination cannot be opened.
    pub fn open(destination: &Destination, lanes: usize) -> Result<Self, OpenError> {
        let formats = Formats {
            version: AtomicU64::new(0),
            http: Mutex::new(Arc::new(Format::default())),
            stream: Mutex::new(Arc::new(StreamFormat::default())),
            apart: Mutex::default(),
            bounds: Bounds::for_lanes(lanes),
        };
        let writer = LineWriter::start(destination, formats.bounds)?;
        Ok(Self { writer, formats: Arc::new(formats) })
    }

    /// Formats that every lane uses from its next line on (the ConfigMap changed).
    pub fn set_formats(&self, http: Arc<Format>, stream: Arc<StreamFormat>) {
        *self.formats.http.lock().unwrap_or_else(PoisonError::into_inner) = http;
        *self.formats.stream.lock().unwrap_or_else(PoisonError::into_inner) = stream;
        self.formats.version.fetch_add(1, Ordering::Release);
    }

    /// A lane for one worker.
    pub fn lane(&self) -> LogLane {
        LogLane {
            lane: self.writer.lane(),
            formats: Arc::clone(&self.formats),
            seen: RefCell::new(Seen::of(&self.formats, (0, None))),
        }
    }

    /// Goes on in `destination` (changed path, or the same one after rotation).
    ///
    /// # Errors
    /// When it cannot be opened; lines keep going where they went.
    pub fn reopen(&self, destination: &Destination) -> Result<(), OpenError> {
        self.writer.reopen(destination)
    }

    /// Sends lines of sessions to a place of their own, or with `None` to where lines of requests go. Called with the
    /// same place it opens that again.
    ///
    /// # Errors
    /// When it cannot be opened; lines keep going where they went.
    pub fn place_streams(&self, destination: Option<&Destination>) -> Result<(), OpenError> {
        let mut place = self.formats.apart.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, apart) = &mut *place;
        match (&*apart, destination) {
            (None, None) => return Ok(()),
            (Some(writer), Some(destination)) => return writer.reopen(destination),
            (Some(writer), None) => {
                // Lines that workers hand over until they hear of it are lost.
                writer.close(Duration::from_secs(1));
                *apart = None;
            }
            (None, Some(destination)) => {
                *apart = Some(LineWriter::start(destination, self.formats.bounds)?);
            }
        }
        *number += 1;
        self.formats.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Waits until all lines so far are written; false when that took longer than `patience`.
    pub fn flush(&self, patience: Duration) -> bool {
        self.writer.flush(patience)
    }

    /// Writes what is left and ends the thread; false when that took longer than `patience`.
    pub fn close(&self, patience: Duration) -> bool {
        let apart = self.formats.apart.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = apart.1.as_ref().is_none_or(|writer| writer.close(patience));
        self.writer.close(patience) && rest
    }

    /// Counters of the writer, for metrics.
    pub fn writer(&self) -> &LineWriter {
        &self.writer
    }
}

// === impl LogLane ===

impl LogLane {
    /// Logs one request. Never blocks on the destination; false when the line was dropped.
    pub fn write(&self, record: &Record<'_>) -> bool {
        let mut seen = self.seen.borrow_mut();
        seen.refresh(&self.formats);
        let Seen { http, clock, .. } = &mut *seen;
        self.lane.append(|out| http.render(record, clock, out))
    }

    /// False when the format shows no response field, so none has to be kept.
    pub fn wants_response_fields(&self) -> bool {
        let mut seen = self.seen.borrow_mut();
        seen.refresh(&self.formats);
        seen.http.wants_response_fields()
    }

    /// False when the format shows no variable of the configuration's own.
    pub fn wants_own(&self) -> bool {
        let mut seen = self.seen.borrow_mut();
        seen.refresh(&self.formats);
        seen.http.wants_own()
    }

    /// False when the format shows no field of a backend's own answer.
    pub fn wants_upstream_fields(&self) -> bool {
        let mut seen = self.seen.borrow_mut();
        seen.refresh(&self.formats);
        seen.http.wants_upstream_fields()
    }

    /// Logs one TCP or UDP session.
    pub fn write_stream(&self, record: &StreamRecord<'_>) -> bool {
        let mut seen = self.seen.borrow_mut();
        seen.refresh(&self.formats);
        let Seen { stream, clock, apart, .. } = &mut *seen;
        apart.1.as_deref().unwrap_or(&self.lane).append(|out| stream.render(record, clock, out))
    }
}

// === impl Seen ===

impl Seen {
    fn of(formats: &Formats, before: (u64, Option<Rc<Lane>>)) -> Self {
        // The version is read first: a change in between costs one more refresh, never a stale format.
        let version = formats.version.load(Ordering::Acquire);
        let http = Arc::clone(&formats.http.lock().unwrap_or_else(PoisonError::into_inner));
        let stream = Arc::clone(&formats.stream.lock().unwrap_or_else(PoisonError::into_inner));
        let place = formats.apart.lock().unwrap_or_else(PoisonError::into_inner);
        let apart = if place.0 == before.0 {
            before
        } else {
            (place.0, place.1.as_ref().map(|writer| Rc::new(writer.lane())))
        };
        Self { version, http, stream, apart, clock: Clock::system() }
    }

    fn refresh(&mut self, formats: &Formats) {
        if formats.version.load(Ordering::Acquire) != self.version {
            *self = Self::of(formats, self.apart.clone());
        }
    }
}

#[cfg(test)]
mod tests;
