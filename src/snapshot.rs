//! Where the planes meet: one immutable value behind one pointer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use crate::cert::CertStore;
use crate::diagnostic::Diagnostic;
use crate::route::{EndpointMap, Table};

/// Everything a request may look at. Immutable; replaced whole, never edited.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows by one with each publication; 1 is the first.
    pub generation: u64,
    /// Routes and policies.
    pub table: Arc<Table>,
    /// Endpoints of the table's backends.
    pub endpoints: Arc<EndpointMap>,
    /// Keys and certificates.
    pub certs: Arc<CertStore>,
    /// What the compilation had to say (read by the admin API only).
    pub diagnostics: Arc<[Diagnostic]>,
}

/// The one writer. Not `Clone`: the control loop owns it.
///
/// It keeps what was replaced until no request holds it: whoever lets go last frees a whole table, which takes a large one
/// some ten milliseconds, and that is never to be a worker.
#[derive(Debug)]
pub struct Publisher {
    pointer: Arc<ArcSwap<Snapshot>>,
    replaced: Vec<Arc<Snapshot>>,
}

/// A reader; cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader(Arc<ArcSwap<Snapshot>>);

/// A reader of one thread: looking again costs one load while nothing was published, and holding what it gives costs
/// nothing that other threads hear of. Keeps the last snapshot that it gave; whoever has one looks now and then.
#[derive(Debug)]
pub struct LocalReader(RefCell<Last>);

#[derive(Debug)]
struct Last {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    #[expect(clippy::redundant_allocation, reason = "counted by this thread alone: no other hears of it")]
    given: Rc<Arc<Snapshot>>,
}

/// A writer and a reader over a first snapshot.
pub fn channel(first: Snapshot) -> (Publisher, Reader) {
    let pointer = Arc::new(ArcSwap::from_pointee(first));
    (Publisher { pointer: Arc::clone(&pointer), replaced: Vec::new() }, Reader(pointer))
}

impl Publisher {
    /// Makes `next` what every new request sees.
    pub fn publish(&mut self, next: Snapshot) {
        self.replaced.push(self.pointer.swap(Arc::new(next)));
    }

    /// What is published now.
    pub fn current(&self) -> Arc<Snapshot> {
        self.pointer.load_full()
    }

    /// Frees what was replaced and is held by nobody any more; large parts piece by piece, with `pause` between.
    pub fn free(&mut self, pause: fn()) {
        // None of them is behind the pointer any more, so who holds none gets none.
        for snapshot in self.replaced.extract_if(.., |snapshot| Arc::strong_count(snapshot) == 1) {
            // The same table may stand in snapshots that are held.
            if let Some(table) =
                Arc::into_inner(snapshot).and_then(|snapshot| Arc::into_inner(snapshot.table))
            {
                table.hosts.free(pause);
            }
        }
    }

    /// True while something that was replaced is still held; [`Publisher::free`] is to be called again.
    pub fn waits(&self) -> bool {
        !self.replaced.is_empty()
    }
}

impl Reader {
    /// The current snapshot, held for as long as the caller likes (a request holds it to its end).
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }
}

impl LocalReader {
    /// A reader of this thread.
    pub fn new(reader: &Reader) -> Self {
        let mut cache = Cache::new(Arc::clone(&reader.0));
        let given = Rc::new(Arc::clone(cache.load()));
        Self(RefCell::new(Last { cache, given }))
    }

    /// The current snapshot, held for as long as the caller likes.
    pub fn load(&self) -> Rc<Arc<Snapshot>> {
        let mut last = self.0.borrow_mut();
        let Last { cache, given } = &mut *last;
        let current = cache.load();
        if !Arc::ptr_eq(current, given) {
            *given = Rc::new(Arc::clone(current));
        }
        Rc::clone(given)
    }
}
