//! The body of a request on its way from the connection to whoever reads it. What was read is given back to the client's
//! windows, so a slow reader slows its client and nobody else.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use crate::limit::Held;
use crate::message::{BodyError, Flow, Meter, trailers_of};
use crate::proxy::http1::timer::Timer;
use crate::proxy::patience::Patience;
use crate::wire::Fields;

/// Bytes read on all streams that the connection does not hear of yet.
const UNTOLD: u32 = 128 * 1024;

/// A piece below this is put together with others: a frame may carry one byte, and costs what a large one costs.
const SMALL: usize = 4 * 1024;

/// Most that is put together, bytes.
const GATHERED: usize = 16 * 1024;

/// Bytes of bodies that were read on one connection and not yet given back.
pub(super) type Read = Rc<Cell<u32>>;

/// How the body ends.
#[derive(Debug)]
enum End {
    NotYet,
    Whole(Option<Fields>),
    Told,
    Failed(BodyError),
}

/// One body; the connection fills it.
#[derive(Debug)]
pub(super) struct Inbox(RefCell<State>);

#[derive(Debug)]
struct State {
    pieces: VecDeque<Bytes>,
    /// Small pieces behind the others, put together.
    tail: BytesMut,
    end: End,
    reader: Option<Waker>,
    /// Wakes the connection for this stream.
    stream: Waker,
    /// Read, and not yet given back to the window of the stream.
    read: u32,
    read_by_all: Read,
    window: u32,
    abandoned: bool,
}

impl Inbox {
    /// `window`: that of the stream; `stream` wakes the connection.
    pub(super) fn new(window: u32, stream: Waker, read_by_all: Read) -> Rc<Self> {
        Rc::new(Self(RefCell::new(State {
            pieces: VecDeque::new(),
            tail: BytesMut::new(),
            end: End::NotYet,
            reader: None,
            stream,
            read: 0,
            read_by_all,
            window,
            abandoned: false,
        })))
    }

    /// A piece came; `last`: nothing follows. A piece that nobody wants counts as read.
    pub(super) fn push(&self, piece: &[u8], last: bool) {
        let mut state = self.0.borrow_mut();
        if state.abandoned {
            state.count(piece.len());
        } else if !piece.is_empty() {
            state.keep(piece);
        }
        if last {
            state.end = End::Whole(None);
        }
        state.wake(last || !piece.is_empty());
    }

    /// The body ended with trailers.
    pub(super) fn finish(&self, trailers: Fields) {
        let mut state = self.0.borrow_mut();
        state.end = End::Whole(Some(trailers));
        state.wake(true);
    }

    /// Nothing more comes, unless all of it came before.
    pub(super) fn fail(&self, error: BodyError) {
        let mut state = self.0.borrow_mut();
        if matches!(state.end, End::NotYet) {
            state.end = End::Failed(error);
            let given_up = state.drop_unread();
            state.count(given_up);
            state.wake(true);
        }
    }

    /// Bytes that were read since the last question.
    pub(super) fn take_read(&self) -> u32 {
        mem::take(&mut self.0.borrow_mut().read)
    }

    /// Something of it is still to come.
    pub(super) fn is_coming(&self) -> bool {
        matches!(self.0.borrow().end, End::NotYet)
    }

    /// Nobody reads it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.0.borrow().abandoned
    }

    /// The next piece; `None` at the end.
    pub(super) fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut state = self.0.borrow_mut();
        if let Some(piece) = state.next_piece() {
            state.count(piece.len());
            return Poll::Ready(Some(Ok(piece)));
        }
        match state.end {
            End::Failed(error) => Poll::Ready(Some(Err(error))),
            End::Whole(_) | End::Told => Poll::Ready(None),
            End::NotYet => {
                if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                    state.reader = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn take_trailers(&self) -> Option<Fields> {
        let mut state = self.0.borrow_mut();
        let End::Whole(trailers) = &mut state.end else { return None };
        let trailers = trailers.take();
        state.end = End::Told;
        trailers
    }

    fn is_at_end(&self) -> bool {
        let state = self.0.borrow();
        state.pieces.is_empty() && state.tail.is_empty() && matches!(state.end, End::Whole(None) | End::Told)
    }

    /// Nobody reads it from now on: what came and comes counts as read for the connection, and the stream gets no more
    /// window.
    pub(super) fn abandon(&self) {
        let mut state = self.0.borrow_mut();
        state.abandoned = true;
        let unread = state.drop_unread();
        state.count(unread);
        // Usually all of it was read.
        if matches!(state.end, End::NotYet) || unread > 0 {
            state.stream.wake_by_ref();
        }
    }
}

impl State {
    fn keep(&mut self, piece: &[u8]) {
        let is_small = piece.len() < SMALL;
        if !is_small || self.tail.len() + piece.len() > GATHERED {
            self.end_tail();
        }
        if is_small {
            self.tail.extend_from_slice(piece);
        } else {
            self.pieces.push_back(Bytes::copy_from_slice(piece));
        }
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(mem::take(&mut self.tail).freeze());
        }
    }

    fn next_piece(&mut self) -> Option<Bytes> {
        let waiting = self.pieces.pop_front();
        waiting.or_else(|| (!self.tail.is_empty()).then(|| mem::take(&mut self.tail).freeze()))
    }

    /// Forgets what nobody read, and says how many bytes that were.
    fn drop_unread(&mut self) -> usize {
        let unread = self.pieces.drain(..).map(|piece| piece.len()).sum::<usize>() + self.tail.len();
        self.tail = BytesMut::new();
        unread
    }

    fn count(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if !self.abandoned {
            self.read = self.read.saturating_add(bytes);
        }
        let all = self.read_by_all.get().saturating_add(bytes);
        self.read_by_all.set(all);
        // Well before the stream's window is used up, whatever the session has not granted again yet.
        if self.read >= self.window / 4 || all >= UNTOLD {
            self.stream.wake_by_ref();
        }
    }

    fn wake(&mut self, news: bool) {
        if news && let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// What reads the body for the handler, with the limits of time.
pub(super) struct StreamBody {
    pub(super) inbox: Rc<Inbox>,
    pub(super) meter: Rc<Meter>,
    pub(super) patience: Patience,
    pub(super) timer: Timer,
    /// What is still to come, where the client said so.
    pub(super) left: Option<u64>,
    /// What the client may have sent ahead.
    pub(super) window: Held,
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.window.set(0);
        self.inbox.abandon();
    }
}

impl Flow for StreamBody {}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match this.inbox.poll_piece(cx) {
            Poll::Ready(piece) => {
                let length = piece.as_ref().and_then(|piece| piece.as_ref().ok()).map_or(0, Bytes::len);
                this.patience.rest(length as u64);
                this.left = this.left.map(|left| left.saturating_sub(length as u64));
                Meter::add(&this.meter.request_bytes, length);
                Poll::Ready(match piece {
                    Some(piece) => Some(piece.map(Frame::data)),
                    None => {
                        this.inbox.take_trailers().map(|fields| Ok(Frame::trailers(trailers_of(&fields))))
                    }
                })
            }
            Poll::Pending => {
                this.patience.wait();
                match this.patience.end() {
                    Some(end) if this.timer.poll_until(end, cx).is_ready() => {
                        Poll::Ready(Some(Err(BodyError::Timeout)))
                    }
                    _ => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inbox.is_at_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox() -> Rc<Inbox> {
        Inbox::new(64 * 1024, Waker::noop().clone(), Rc::new(Cell::new(0)))
    }

    fn pieces(inbox: &Inbox) -> Vec<Bytes> {
        let mut cx = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| match inbox.poll_piece(&mut cx) {
            Poll::Ready(Some(Ok(piece))) => Some(piece),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn frames_of_a_byte_take_about_a_byte_each() {
        let inbox = inbox();
        for at in 0..60_000_u32 {
            inbox.push(&[at.to_le_bytes()[0]], false);
        }
        let kept = pieces(&inbox);
        assert!(kept.len() <= 4, "{} pieces", kept.len());
        let expected: Vec<u8> = (0..60_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        assert_eq!(kept.concat(), expected);
        assert_eq!(inbox.take_read(), 60_000);
    }

    #[test]
    fn small_and_large_pieces_keep_their_order() {
        let inbox = inbox();
        let sent = [vec![b'a'; 10], vec![b'b'; 5_000], vec![b'c'; 20], vec![b'd'; 30], vec![b'e'; 4_096]];
        for piece in &sent {
            inbox.push(piece, false);
        }
        inbox.push(b"f", true);
        assert!(!inbox.is_at_end());
        assert_eq!(pieces(&inbox).concat(), [&sent.concat()[..], b"f"].concat());
        assert!(inbox.is_at_end());
    }

    #[test]
    fn what_is_given_up_counts_as_read_for_the_connection() {
        let read = Rc::new(Cell::new(0));
        let inbox = Inbox::new(64 * 1024, Waker::noop().clone(), Rc::clone(&read));
        inbox.push(&[0; 5_000], false);
        inbox.push(&[0; 7], false);
        inbox.abandon();
        assert_eq!(read.get(), 5_007);
        inbox.push(&[0; 3], true);
        assert_eq!(read.get(), 5_010);
    }
}
