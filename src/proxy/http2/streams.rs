//! The streams of one connection and what is done on each: a handler that works, an answer that is sent, a body that
//! still comes. Streams that have something to send take turns of one frame each.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::Http2Options;
use super::answer::{Answer, Piece, complete};
use super::connection::guarded;
use super::inbox::{Inbox, Read, StreamBody};
use super::ready::{Mark, Ready};
use super::tunnel;
use crate::limit::Memory;
use crate::message::{BodyError, Meter, Request, RequestBody, Response, ResponseBody};
use crate::proxy::http1::timer::Timer;
use crate::proxy::patience::Patience;
use crate::wire::http2_session::{Code, Session};
use crate::wire::{Fields, Reject, RequestHead};

/// What goes on on a stream.
enum Work<F> {
    Nothing,
    Handler(Pin<Box<F>>),
    Answer(Answer),
    /// The answer is sent, and the request's body still comes.
    Rest,
}

/// A place for a stream; one after the other has it.
struct Slot<F> {
    mark: Arc<Mark>,
    waker: Waker,
    work: Work<F>,
    inbox: Option<Rc<Inbox>>,
    meter: Option<Rc<Meter>>,
    /// The request is HEAD.
    head_only: bool,
    /// The request is CONNECT.
    connects: bool,
    /// It had no turn yet.
    unseen: bool,
    /// It stands in the queue of those that send.
    queued: bool,
    /// It stands among those that wait for the window of the connection.
    parked: bool,
}

/// All of them.
pub(super) struct Streams<S, F> {
    service: S,
    slots: Vec<Slot<F>>,
    ready: Arc<Ready>,
    /// Streams that were opened and had no turn.
    begun: Vec<usize>,
    /// Room for a list.
    pub(super) woken: Vec<usize>,
    /// Streams that may have something to send, in the order of their turns.
    sending: VecDeque<usize>,
    /// Streams that have bytes to send for which the window of the connection has no room. What needs no window (an end
    /// without bytes, trailers, a reset) does not wait behind them (RFC 9113 section 6.9.1).
    parked: Vec<usize>,
    /// Streams that wait for their own window.
    shut: Vec<usize>,
    read: Read,
    window: u32,
    body_timeout: Duration,
    body_rate: u64,
    send_timeout: Duration,
    memory: Memory,
    /// When to look for clients that take nothing.
    pub(super) next_stall: Option<Instant>,
    /// When the last stream ended, or the peer last took a piece of a body.
    pub(super) quiet_since: Instant,
    /// Streams that were reset before they had a turn.
    pub(super) unseen_resets: usize,
    /// Streams so far; wraps.
    pub(super) opened: u32,
}

impl<S, F> Streams<S, F>
where
    S: Fn(Request) -> Pin<Box<F>>,
    F: Future<Output = Response>,
{
    pub(super) fn new(
        service: S,
        options: &Http2Options,
        window: u32,
        now: Instant,
        ready: &Arc<Ready>,
    ) -> Self {
        Self {
            service,
            slots: Vec::new(),
            ready: Arc::clone(ready),
            begun: Vec::new(),
            woken: Vec::new(),
            sending: VecDeque::new(),
            parked: Vec::new(),
            shut: Vec::new(),
            read: Rc::new(Cell::new(0)),
            window,
            body_timeout: options.body_timeout,
            body_rate: options.body_rate,
            send_timeout: options.send_timeout,
            memory: options.memory.clone(),
            next_stall: None,
            quiet_since: now,
            unseen_resets: 0,
            opened: 0,
        }
    }

    /// A request came.
    pub(super) fn open(
        &mut self,
        place: usize,
        head: Box<RequestHead>,
        refused: Option<Reject>,
        ended: bool,
        length: Option<u64>,
    ) {
        while self.slots.len() <= place {
            let mark = Mark::new(self.slots.len(), &self.ready);
            self.slots.push(Slot::new(mark));
        }
        let Some(slot) = self.slots.get_mut(place) else { return };
        let meter = Rc::new(Meter::default());
        Meter::add(&meter.request_bytes, head.fields.text_len() + head.target.len());
        slot.head_only = head.method == Method::HEAD;
        slot.connects = head.method == Method::CONNECT;
        let mut body = RequestBody::Empty;
        if slot.connects || !ended {
            let inbox = Inbox::new(self.window, slot.waker.clone(), Rc::clone(&self.read));
            if ended {
                inbox.push(&[], true);
            }
            slot.inbox = Some(Rc::clone(&inbox));
            if !slot.connects {
                let window = u64::from(self.window);
                body = RequestBody::Stream(Box::pin(StreamBody {
                    inbox,
                    meter: Rc::clone(&meter),
                    patience: Patience::new(self.body_timeout, self.body_rate),
                    timer: Timer::default(),
                    left: length,
                    window: self.memory.hold(length.map_or(window, |length| length.min(window))),
                }));
            }
        }
        slot.meter = Some(Rc::clone(&meter));
        slot.unseen = true;
        self.opened = self.opened.wrapping_add(1);
        slot.work = Work::Handler((self.service)(Request { head, body, refused, meter }));
        self.begun.push(place);
    }

    /// What is under way goes on only with what the peer says next: a body that comes, or room for one that leaves.
    pub(super) fn await_peer(&self) -> bool {
        let is_coming = |slot: &Slot<F>| slot.inbox.as_ref().is_some_and(|inbox| inbox.is_coming());
        !self.shut.is_empty()
            || !self.parked.is_empty()
            // Each inbox has a share of it.
            || (Rc::strong_count(&self.read) > 1 && self.slots.iter().any(is_coming))
    }

    /// The window of a stream has opened, or those of all.
    pub(super) fn resume(&mut self, place: Option<usize>, now: Instant) {
        match place {
            Some(place) => {
                self.unshut(place);
                self.enqueue(place, now);
            }
            None => {
                self.shut.clear();
                (0..self.slots.len()).for_each(|place| self.enqueue(place, now));
            }
        }
    }

    fn unshut(&mut self, place: usize) {
        self.shut.retain(|at| *at != place);
    }

    /// Adds the streams that had no turn yet to `turns`.
    pub(super) fn take_begun(&mut self, turns: &mut Vec<usize>) {
        turns.append(&mut self.begun);
    }

    pub(super) fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    pub(super) fn data(
        &mut self,
        place: usize,
        data: &[u8],
        ended: bool,
        session: &mut Session,
        now: Instant,
    ) {
        match self.slots.get(place).and_then(|slot| slot.inbox.as_ref()) {
            Some(inbox) => inbox.push(data, ended),
            None => session.consumed_by_all(u32::try_from(data.len()).unwrap_or(u32::MAX)),
        }
        if ended {
            self.close_if_over(place, session, now);
        }
    }

    pub(super) fn trailers(&mut self, place: usize, fields: Fields, session: &Session, now: Instant) {
        if let Some(inbox) = self.slots.get(place).and_then(|slot| slot.inbox.as_ref()) {
            inbox.finish(fields);
        }
        self.close_if_over(place, session, now);
    }

    /// The stream is over: whoever works on it stops.
    pub(super) fn is_reset(&mut self, place: usize, now: Instant) {
        let Some(slot) = self.slots.get_mut(place) else { return };
        if slot.unseen {
            self.unseen_resets += 1;
        }
        slot.clear();
        self.unshut(place);
        self.quiet_since = now;
    }

    fn close_if_over(&mut self, place: usize, session: &Session, now: Instant) {
        if !session.is_open(place) {
            self.quiet_since = now;
            self.unshut(place);
            self.slots.get_mut(place).into_iter().for_each(Slot::clear);
        }
    }

    /// Gives what was read of bodies back to the window of the connection.
    pub(super) fn give_back(&self, session: &mut Session) {
        let read = self.read.take();
        if read > 0 {
            session.consumed_by_all(read);
        }
    }

    /// One turn of a stream that was woken.
    pub(super) fn turn(&mut self, place: usize, session: &mut Session, now: Instant) {
        let Some(slot) = self.slots.get_mut(place) else { return };
        slot.mark.clear();
        slot.unseen = false;
        if let Some(inbox) = &slot.inbox {
            session.consumed(place, inbox.take_read());
        }
        match &mut slot.work {
            Work::Nothing => {}
            Work::Handler(handler) => {
                let mut cx = Context::from_waker(&slot.waker);
                match guarded(|| handler.as_mut().poll(&mut cx)) {
                    Some(Poll::Pending) => {}
                    Some(Poll::Ready(response)) => self.answer(place, response, session, now),
                    None => self.reset(place, Code::INTERNAL_ERROR, session, now),
                }
            }
            Work::Answer(_) => self.enqueue(place, now),
            Work::Rest => self.rest(place, session, now),
        }
    }

    /// Writes the head of an answer; its body has its turn soon.
    fn answer(&mut self, place: usize, mut response: Response, session: &mut Session, now: Instant) {
        let Some(slot) = self.slots.get_mut(place) else { return };
        // The room of the handler is free for the next one.
        slot.work = Work::Nothing;
        let Some(meter) = slot.meter.take() else { return };
        let takeover = response.upgrade.take().filter(|_| slot.connects && response.head.status.is_success());
        if let (Some(takeover), Some(inbox)) = (takeover, &slot.inbox) {
            let (tunnel, outgoing) = tunnel::pair(Rc::clone(inbox));
            let _none = response.head.fields.remove("content-length");
            response.body = ResponseBody::Stream(Box::pin(outgoing));
            complete(&mut response, false, &meter, now);
            meter.finished.set(true);
            session.answer(place, response.head.status.as_u16(), &response.head.fields, false);
            slot.work = Work::Answer(Answer::new(response.body, None, None));
            tokio::task::spawn_local(tunnel::carry(takeover, tunnel));
            return self.enqueue(place, now);
        }
        if slot.connects
            && let Some(inbox) = &slot.inbox
        {
            inbox.abandon();
        }
        let ended = complete(&mut response, slot.head_only, &meter, now);
        session.answer(place, response.head.status.as_u16(), &response.head.fields, ended);
        if ended {
            drop(response);
            return self.answered(place, session, now);
        }
        slot.work = Work::Answer(Answer::new(response.body, Some(meter), response.guard));
        self.enqueue(place, now);
    }

    /// The last byte of an answer is written.
    fn answered(&mut self, place: usize, session: &mut Session, now: Instant) {
        if let Some(slot) = self.slots.get_mut(place).filter(|_| session.is_open(place)) {
            slot.work = Work::Rest;
            return self.rest(place, session, now);
        }
        self.close_if_over(place, session, now);
    }

    /// Somebody may still read the request. If not, the client need not send what is left of it (RFC 9113 section 8.1).
    fn rest(&mut self, place: usize, session: &mut Session, now: Instant) {
        let Some(slot) = self.slots.get(place) else { return };
        if slot.inbox.as_ref().is_none_or(|inbox| inbox.is_abandoned()) {
            self.reset(place, Code::NO_ERROR, session, now);
        }
    }

    fn reset(&mut self, place: usize, code: Code, session: &mut Session, now: Instant) {
        session.reset(place, code);
        self.close_if_over(place, session, now);
    }

    /// The stream may have something to send.
    fn enqueue(&mut self, place: usize, now: Instant) {
        let Some(slot) = self.slots.get_mut(place) else { return };
        let Work::Answer(answer) = &mut slot.work else { return };
        answer.since.get_or_insert(now);
        self.next_stall.get_or_insert(now + self.send_timeout);
        if !slot.queued {
            slot.queued = true;
            self.sending.push_back(place);
        }
    }

    pub(super) fn may_send(&self, session: &Session) -> bool {
        !self.sending.is_empty() || (!self.parked.is_empty() && session.has_room())
    }

    /// Lets streams send, a frame each, until none has anything or `enough` bytes wait for the socket.
    pub(super) fn send(&mut self, session: &mut Session, enough: usize, now: Instant) {
        if session.has_room() {
            self.unpark();
        }
        while session.output.len() < enough
            && let Some(place) = self.sending.pop_front()
        {
            self.send_one(place, session, now);
        }
    }

    /// Those that waited go first, in their order.
    fn unpark(&mut self) {
        while let Some(place) = self.parked.pop() {
            let Some(slot) = self.slots.get_mut(place) else { continue };
            slot.parked = false;
            if !slot.queued {
                slot.queued = true;
                self.sending.push_front(place);
            }
        }
    }

    fn send_one(&mut self, place: usize, session: &mut Session, now: Instant) {
        let Some(slot) = self.slots.get_mut(place) else { return };
        slot.queued = false;
        let Work::Answer(answer) = &mut slot.work else { return };
        let piece = match answer.poll(&mut Context::from_waker(&slot.waker)) {
            Poll::Pending => {
                answer.since = None;
                return;
            }
            Poll::Ready(Some(piece)) => piece,
            Poll::Ready(None) if !session.has_room() => {
                if !slot.parked {
                    slot.parked = true;
                    self.parked.push(place);
                }
                return;
            }
            Poll::Ready(None) => match session.room(place) {
                0 => {
                    if !self.shut.contains(&place) {
                        self.shut.push(place);
                    }
                    return session.wait(place);
                }
                room => answer.take(room),
            },
        };
        match piece {
            Piece::Data { data, last } => {
                session.send(place, data, last);
                if last { self.sent(place, session, now) } else { self.enqueue(place, now) }
            }
            Piece::Trailers(fields) => {
                session.end_with(place, &fields);
                self.sent(place, session, now);
            }
            Piece::Broken => self.reset(place, Code::INTERNAL_ERROR, session, now),
        }
    }

    fn sent(&mut self, place: usize, session: &mut Session, now: Instant) {
        if let Some(slot) = self.slots.get_mut(place) {
            slot.work = Work::Nothing;
        }
        self.answered(place, session, now);
    }

    /// Gives up streams whose client takes nothing (slow read, CVE-2019-9511; `security.md` D.1).
    pub(super) fn give_up_stalled(&mut self, session: &mut Session, now: Instant) {
        self.next_stall = None;
        for place in 0..self.slots.len() {
            let Some(slot) = self.slots.get(place) else { continue };
            let Work::Answer(answer) = &slot.work else { continue };
            let Some(since) = answer.since.filter(|_| !answer.patient) else { continue };
            let end = since + self.send_timeout;
            if now >= end {
                self.reset(place, Code::CANCEL, session, now);
            } else {
                self.next_stall = Some(self.next_stall.map_or(end, |next| next.min(end)));
            }
        }
    }

    /// Ends all streams.
    pub(super) fn clear(&mut self) {
        self.slots.iter_mut().for_each(Slot::clear);
    }
}

impl<F> Slot<F> {
    fn new(mark: Arc<Mark>) -> Self {
        Self {
            waker: Waker::from(Arc::clone(&mark)),
            mark,
            work: Work::Nothing,
            inbox: None,
            meter: None,
            head_only: false,
            connects: false,
            unseen: false,
            queued: false,
            parked: false,
        }
    }

    /// The stream is over. Whoever still reads its request hears of it, unless all of it came.
    fn clear(&mut self) {
        if let Some(inbox) = self.inbox.take() {
            inbox.fail(BodyError::Gone);
            // Nobody has it yet who could give back what came.
            if self.connects && matches!(self.work, Work::Handler(_)) {
                inbox.abandon();
            }
        }
        self.work = Work::Nothing;
        self.meter = None;
        // It may still stand in the queue.
        self.unseen = false;
    }
}

impl<F> Drop for Slot<F> {
    fn drop(&mut self) {
        self.clear();
    }
}
