//! Request bodies that are read whole before a backend is asked (`proxy-request-buffering: on`) and do not fit in
//! memory: they wait in a file without a name, which is gone with the last one who reads it, whatever happens.
//!
//! All bodies of the process share one budget. Files are read and written off the request threads.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::message::{BodyError, LocalBody, Replay, RequestBody};

/// Bytes of all bodies in files (`D.2`).
const BUDGET: u64 = 1 << 30;
/// Bytes gathered before they are written.
const WRITE: usize = 256 * 1024;
/// Bytes read at once.
const READ: u64 = 64 * 1024;

/// Room for bodies. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    budget: Arc<Budget>,
    directory: Arc<Path>,
}

#[derive(Debug)]
struct Budget {
    used: AtomicU64,
    limit: u64,
}

/// A body in a file, with its share of the budget.
#[derive(Debug)]
struct Stored {
    file: File,
    length: u64,
    budget: Arc<Budget>,
}

impl Default for Spool {
    fn default() -> Self {
        Self::new()
    }
}

impl Spool {
    /// Room for 1 GiB, where temporary files of the system go (`TMPDIR`).
    pub fn new() -> Self {
        Self::in_directory(std::env::temp_dir())
    }

    /// As [`Spool::new`], elsewhere.
    pub fn in_directory(directory: PathBuf) -> Self {
        let budget = Arc::new(Budget { used: AtomicU64::new(0), limit: BUDGET });
        Self { budget, directory: directory.into() }
    }

    /// An empty file without a name; `None` where there is no place for one, which is said once.
    pub async fn file(&self) -> Option<File> {
        static TOLD: Once = Once::new();
        let directory = Arc::clone(&self.directory);
        match spawn_blocking(move || tempfile::tempfile_in(directory)).await {
            Ok(Ok(file)) => Some(file),
            Ok(Err(error)) => {
                TOLD.call_once(|| {
                    tracing::warn!(%error, "no temporary files: long request bodies are streamed and not sent twice");
                });
                None
            }
            Err(_) => None,
        }
    }

    /// Reads a body to its end into `file`, `first` being what was read already.
    ///
    /// # Errors
    /// Those of the body; [`BodyError::NoRoom`] when the budget is spent or the file cannot be written.
    pub async fn store(
        &self,
        file: File,
        first: BytesMut,
        mut rest: LocalBody,
    ) -> Result<RequestBody, BodyError> {
        let mut stored = Stored { file, length: 0, budget: Arc::clone(&self.budget) };
        let mut pending = BytesMut::new();
        stored.reserve(first.len())?;
        pending.unsplit(first);
        while let Some(frame) = std::future::poll_fn(|cx| rest.as_mut().poll_frame(cx)).await {
            // Trailers of a buffered body have no place in a request with a length (`H1-09`).
            let Ok(data) = frame?.into_data() else { break };
            stored.reserve(data.len())?;
            pending.extend_from_slice(&data);
            if pending.len() >= WRITE {
                stored = stored.append(pending.split().freeze()).await?;
            }
        }
        let stored = stored.append(pending.freeze()).await?;
        Ok(RequestBody::Kept(Box::pin(Spooled { stored: Arc::new(stored), at: 0, reading: None })))
    }
}

impl Stored {
    fn reserve(&mut self, bytes: usize) -> Result<(), BodyError> {
        let (bytes, limit) = (bytes as u64, self.budget.limit);
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
        let taken = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map_err(|_| BodyError::NoRoom)?;
        self.length += bytes;
        Ok(())
    }

    /// Writes the bytes that were reserved last.
    async fn append(self, data: Bytes) -> Result<Self, BodyError> {
        blocking(move || {
            self.file.write_all_at(&data, self.length.saturating_sub(data.len() as u64))?;
            Ok(self)
        })
        .await
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.length, Ordering::Relaxed);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, BodyError> {
    match spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a request body cannot be kept in a file");
            Err(BodyError::NoRoom)
        }
        Err(_) => Err(BodyError::NoRoom),
    }
}

struct Spooled {
    stored: Arc<Stored>,
    at: u64,
    reading: Option<JoinHandle<std::io::Result<Bytes>>>,
}

impl Body for Spooled {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let (at, left) = (this.at, this.stored.length - this.at);
        if left == 0 {
            return Poll::Ready(None);
        }
        let stored = &this.stored;
        let reading = this.reading.get_or_insert_with(|| {
            let stored = Arc::clone(stored);
            spawn_blocking(move || {
                let mut part = vec![0; usize::try_from(left.min(READ)).unwrap_or(0)];
                stored.file.read_exact_at(&mut part, at)?;
                Ok(part.into())
            })
        });
        let read = ready!(Pin::new(reading).poll(cx));
        this.reading = None;
        Poll::Ready(Some(match read {
            Ok(Ok(part)) => {
                this.at += part.len() as u64;
                Ok(Frame::data(part))
            }
            Ok(Err(_)) | Err(_) => Err(BodyError::Aborted("a request body kept in a file cannot be read")),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.stored.length
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.stored.length - self.at)
    }
}

impl Replay for Spooled {
    fn again(&self) -> Pin<Box<dyn Replay>> {
        Box::pin(Self { stored: Arc::clone(&self.stored), at: 0, reading: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::body;

    struct Parts(Vec<Bytes>);

    impl crate::message::Flow for Parts {}

    impl Body for Parts {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.0.pop().map(|part| Ok(Frame::data(part))))
        }
    }

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    async fn store(spool: &Spool, parts: usize) -> Result<RequestBody, BodyError> {
        let part = Bytes::from(vec![b'x'; 100_000]);
        let file = spool.file().await.unwrap();
        spool.store(file, BytesMut::from(&b"first"[..]), Box::pin(Parts(vec![part; parts]))).await
    }

    async fn length(mut body: RequestBody) -> usize {
        let mut sum = 0;
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            sum += frame.unwrap().into_data().unwrap().len();
        }
        sum
    }

    #[test]
    fn a_body_comes_back_whole_as_often_as_it_is_asked_for() {
        block(async {
            let spool = Spool::new();
            let body = store(&spool, 7).await.unwrap();
            assert_eq!(body.size_hint().exact(), Some(700_005));
            let again = body::replay(&body).unwrap();
            assert_eq!(length(body).await, 700_005);
            assert_eq!(spool.budget.used.load(Ordering::Relaxed), 700_005, "somebody may still read it");
            assert_eq!(length(again).await, 700_005);
            assert_eq!(spool.budget.used.load(Ordering::Relaxed), 0);
        });
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_nothing_behind() {
        block(async {
            let budget = Arc::new(Budget { used: AtomicU64::new(0), limit: 250_000 });
            let spool = Spool { budget, ..Spool::new() };
            assert!(matches!(store(&spool, 3).await, Err(BodyError::NoRoom)));
            assert_eq!(spool.budget.used.load(Ordering::Relaxed), 0);
            let held = store(&spool, 2).await.unwrap();
            assert!(matches!(store(&spool, 1).await, Err(BodyError::NoRoom)));
            drop(held);
            assert!(store(&spool, 1).await.is_ok());
        });
    }
}
