//! When a connection between two requests is to end: `connection` asks before the handshake, the drivers of HTTP with each
//! request. What a connection says to its client then is the drivers' own.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::ConnectionFacts;
use crate::proxy::worker::Worker;

/// What a connection accepted before the drain gets to send its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Resolves when the connection is to be closed between two requests.
pub(super) struct Farewell {
    worker: Rc<Worker>,
    facts: Rc<ConnectionFacts>,
    moment: Moment,
}

/// Time for a first request while the process drains or after the address was closed. Boxed: it is seldom needed, and
/// every idle connection would carry room for it.
type Moment = Option<Pin<Box<tokio::time::Sleep>>>;

impl Farewell {
    pub(super) fn new(worker: Rc<Worker>, facts: Rc<ConnectionFacts>) -> Self {
        Self { worker, facts, moment: None }
    }
}

impl Future for Farewell {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { worker, facts, moment } = &mut *self;
        poll_farewell(worker, facts, moment, cx)
    }
}

/// Ready when room runs out and the connection idles (D-6), or the process or its listener drains. A connection that has carried no
/// request by then gets a moment for its first: it was accepted, so what its client sent before the drain is answered
/// (F-9). A look costs two loads, and each request takes several.
fn poll_farewell(
    worker: &Worker,
    facts: &ConnectionFacts,
    moment: &mut Moment,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if facts.presence.is_asked(cx) {
        return Poll::Ready(());
    }
    // Whoever came before the drain is woken by it: `Worker::maintain`.
    if !worker.drain.is_draining() && !facts.presence.is_dismissed() {
        return Poll::Pending;
    }
    if facts.requests.get() > 0 {
        return Poll::Ready(());
    }
    moment.get_or_insert_with(|| Box::pin(tokio::time::sleep(FIRST_REQUEST))).as_mut().poll(cx)
}

/// [`Farewell`] for a while.
pub(super) async fn farewell(worker: &Worker, facts: &ConnectionFacts) {
    let mut moment = None;
    std::future::poll_fn(|cx| poll_farewell(worker, facts, &mut moment, cx)).await;
}
