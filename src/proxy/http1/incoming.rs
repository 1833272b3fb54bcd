//! The body of a request on its way from the connection to the handler.
//!
//! The handler polls an [`Incoming`]; the driver sees that it is wanted, decodes and hands one frame over. One frame
//! at a time, so a slow handler slows the client. Both ends live on one thread, usually in one task, but the handle
//! may be polled by another task too.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use crate::message::{BodyError, Flow, Meter, Piped, trailers_of};
use crate::pipe::{self, Pipe};
use crate::wire::{BodyDecoder, Step};

/// Small chunks are put together up to this size, so a client cannot make us write one byte at a time.
const GATHER: usize = 16 * 1024;
/// Data from this size on is handed over without a copy.
const NO_COPY: usize = 4 * 1024;

type Item = Result<Frame<Bytes>, BodyError>;

#[derive(Default)]
struct Channel {
    slot: RefCell<Option<Item>>,
    /// Bytes that went into the pipe and were not told of yet.
    piped: Cell<usize>,
    /// The driver can fill pipes.
    pipes: Cell<bool>,
    /// Where the handler wants the next bytes; else they go into the slot.
    pipe: RefCell<Option<Rc<Pipe>>>,
    /// No frame follows the one in the slot.
    ended: Cell<bool>,
    wanted: Cell<bool>,
    /// `wanted` rose since the driver looked last.
    asked: Cell<bool>,
    orphaned: Cell<bool>,
    remaining: Cell<Option<u64>>,
    /// A body that announces more is too large.
    most: Cell<Option<u64>>,
    reader: RefCell<Option<Waker>>,
    driver: RefCell<Option<Waker>>,
}

/// The handler's end.
pub(super) struct Incoming(Rc<Channel>);

impl Flow for Incoming {
    fn takes_pipe(&self) -> bool {
        self.0.pipes.get()
    }

    fn poll_pipe(self: Pin<&mut Self>, cx: &mut Context<'_>, pipe: &Rc<Pipe>) -> Option<Poll<Piped>> {
        let channel = &self.0;
        let moved = channel.piped.take();
        if moved > 0 {
            return Some(Poll::Ready(Ok(moved)));
        }
        if !channel.pipes.get() || channel.ended.get() || channel.slot.borrow().is_some() {
            *channel.pipe.borrow_mut() = None;
            return None;
        }
        channel.pipe.borrow_mut().get_or_insert_with(|| Rc::clone(pipe));
        ask(channel, cx);
        Some(Poll::Pending)
    }

    fn expect_at_most(&self, bytes: u64) {
        self.0.most.set(Some(bytes));
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let channel = &self.0;
        if channel.piped.get() > 0 {
            // Whoever asked for a pipe has bytes in it that come first.
            return Poll::Ready(Some(Err(BodyError::Aborted("bytes passed unseen"))));
        }
        if let Some(item) = channel.slot.borrow_mut().take() {
            return Poll::Ready(Some(item));
        }
        if channel.ended.get() {
            return Poll::Ready(None);
        }
        *channel.pipe.borrow_mut() = None;
        ask(channel, cx);
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.0.ended.get() && self.0.slot.borrow().is_none() && self.0.piped.get() == 0
    }

    fn size_hint(&self) -> SizeHint {
        let waiting = match &*self.0.slot.borrow() {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        match self.0.remaining.get() {
            Some(remaining) => {
                let waiting = waiting.saturating_add(self.0.piped.get() as u64);
                SizeHint::with_exact(remaining.saturating_add(waiting))
            }
            None => SizeHint::default(),
        }
    }
}

/// Tells the driver that the next bytes are wanted.
fn ask(channel: &Channel, cx: &Context<'_>) {
    register(&channel.reader, cx.waker());
    if !channel.wanted.replace(true) {
        channel.asked.set(true);
        if let Some(driver) = &*channel.driver.borrow()
            && !driver.will_wake(cx.waker())
        {
            driver.wake_by_ref();
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.0.orphaned.set(true);
    }
}

fn register(place: &RefCell<Option<Waker>>, waker: &Waker) {
    let mut place = place.borrow_mut();
    if !place.as_ref().is_some_and(|old| old.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

/// What [`Source::supply`] could do.
#[derive(Debug)]
pub(super) enum Supply {
    /// The handler has something new to see.
    Delivered,
    /// The handler waits and the buffer holds too little.
    Hungry,
    /// The handler waits for the next bytes, up to so many, in a pipe.
    Pipe(Rc<Pipe>, u64),
    /// Nothing is asked for, or nothing is left.
    Idle,
}

/// The driver's end: decoder of the body that is on the wire, and the channel if somebody reads it.
pub(super) struct Source {
    decoder: BodyDecoder,
    channel: Option<Rc<Channel>>,
    /// The body broke framing or stalled; nothing after it on this connection can be trusted.
    pub(super) broken: bool,
}

impl Source {
    pub(super) fn new(decoder: BodyDecoder) -> Self {
        Self { decoder, channel: None, broken: false }
    }

    /// Opens the channel and returns the handler's end. `pipes`: bytes can go through pipes.
    pub(super) fn open(&mut self, pipes: bool) -> Incoming {
        let channel = Rc::new(Channel::default());
        channel.pipes.set(pipes);
        channel.remaining.set(self.decoder.remaining());
        channel.ended.set(self.decoder.is_done());
        self.channel = Some(Rc::clone(&channel));
        Incoming(channel)
    }

    /// Takes the whole body out of `buf` when its length is known and all of it is there.
    pub(super) fn take_whole(&mut self, buf: &mut BytesMut, meter: &Meter) -> Option<Bytes> {
        let length = usize::try_from(self.decoder.remaining()?).ok().filter(|length| *length <= buf.len())?;
        self.decoder = BodyDecoder::Length(0);
        Meter::add(&meter.request_bytes, length);
        Some(buf.split_to(length).freeze())
    }

    /// All of the body was received and decoded.
    pub(super) fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// All of the body was received, decoded or not, as far as that can be told without decoding.
    pub(super) fn may_be_complete(&self, buffered: usize) -> bool {
        self.decoder.remaining().is_none_or(|remaining| remaining <= buffered as u64)
    }

    /// Bytes still missing beside `buffered` ones, where the framing tells.
    pub(super) fn missing(&self, buffered: usize) -> Option<u64> {
        self.decoder.remaining().map(|remaining| remaining.saturating_sub(buffered as u64))
    }

    /// The handler still holds the body.
    pub(super) fn is_held(&self) -> bool {
        self.channel.as_ref().is_some_and(|channel| !channel.orphaned.get())
    }

    /// The handler asked for more since [`Source::supply`] ran last.
    pub(super) fn was_asked(&self) -> bool {
        self.channel.as_ref().is_some_and(|channel| channel.asked.get())
    }

    /// Hands the next frame over if it is wanted and `buf` holds one.
    pub(super) fn supply(&mut self, buf: &mut BytesMut, cx: &mut Context<'_>, meter: &Meter) -> Supply {
        let Some(channel) = &self.channel else { return Supply::Idle };
        register(&channel.driver, cx.waker());
        channel.asked.set(false);
        if !channel.wanted.get() || channel.ended.get() || channel.orphaned.get() {
            return Supply::Idle;
        }
        if buf.is_empty()
            && let (Some(pipe), Some(left @ 1..)) = (&*channel.pipe.borrow(), self.decoder.remaining())
        {
            return Supply::Pipe(Rc::clone(pipe), left);
        }
        match take_frame(&mut self.decoder, buf, meter) {
            Some(item) => {
                self.broken |= item.is_err();
                self.deliver(item, cx);
                Supply::Delivered
            }
            None if self.decoder.is_done() => {
                self.end(cx);
                Supply::Delivered
            }
            // As nginx: a chunk that cannot fit is refused by its size, not by its bytes (RFC 9110 section 15.5.14).
            None if channel.most.get().is_some_and(|most| self.decoder.announced() > most) => {
                self.fail(BodyError::TooLarge, cx);
                Supply::Delivered
            }
            None => Supply::Hungry,
        }
    }

    /// `bytes` of the body went into the pipe that the handler gave.
    pub(super) fn piped(&mut self, bytes: usize, cx: &mut Context<'_>, meter: &Meter) {
        self.decoder.passed(bytes);
        Meter::add(&meter.request_bytes, bytes);
        let Some(channel) = &self.channel else { return };
        channel.piped.set(bytes);
        channel.ended.set(self.decoder.is_exhausted());
        channel.remaining.set(self.decoder.remaining());
        wake(channel, cx);
    }

    /// Pipes cannot be filled after all: the handler gets frames.
    pub(super) fn without_pipes(&mut self, cx: &mut Context<'_>) {
        let Some(channel) = &self.channel else { return };
        channel.pipes.set(false);
        *channel.pipe.borrow_mut() = None;
        wake(channel, cx);
    }

    /// The handler takes bytes through a pipe, or may do so: reading ahead would only be a copy.
    pub(super) fn is_piped(&self) -> bool {
        let long = self.decoder.remaining().is_some_and(|remaining| remaining >= pipe::WORTH_IT);
        let piped = |channel: &Rc<Channel>| {
            !channel.orphaned.get() && (channel.pipe.borrow().is_some() || long && channel.pipes.get())
        };
        self.channel.as_ref().is_some_and(piped)
    }

    /// Ends the body with an error. The first one stays.
    pub(super) fn fail(&mut self, error: BodyError, cx: &mut Context<'_>) {
        self.broken = true;
        if self.channel.as_ref().is_some_and(|channel| !channel.ended.get()) {
            self.deliver(Err(error), cx);
        }
    }

    fn deliver(&self, item: Item, cx: &mut Context<'_>) {
        let Some(channel) = &self.channel else { return };
        // A trailer section comes last, an error too.
        let last = item.as_ref().map_or(true, Frame::is_trailers) || self.decoder.is_exhausted();
        channel.ended.set(last);
        channel.remaining.set(self.decoder.remaining());
        *channel.slot.borrow_mut() = Some(item);
        wake(channel, cx);
    }

    fn end(&self, cx: &mut Context<'_>) {
        let Some(channel) = &self.channel else { return };
        channel.ended.set(true);
        wake(channel, cx);
    }

    /// The answer is complete: whoever still reads gets an error, the rest is dropped by [`Source::discard`].
    pub(super) fn close(&mut self, cx: &mut Context<'_>) {
        if !self.is_done() && self.is_held() {
            let broken = self.broken;
            self.fail(BodyError::Aborted("the answer is complete"), cx);
            self.broken = broken;
        }
        self.channel = None;
    }

    /// Drops what `buf` holds of the body. True once the body is complete.
    ///
    /// # Errors
    /// When the body breaks framing.
    pub(super) fn discard(&mut self, buf: &mut BytesMut, meter: &Meter) -> Result<bool, ()> {
        loop {
            let (taken, done) = match self.decoder.decode(buf).map_err(|_| ())? {
                Step::More => (buf.len(), false),
                Step::Data(range) => (range.end, self.decoder.is_done()),
                Step::End(taken) => (taken, true),
            };
            buf.advance(taken);
            Meter::add(&meter.request_bytes, taken);
            if done || buf.is_empty() {
                return Ok(done || self.decoder.is_done());
            }
        }
    }
}

fn wake(channel: &Channel, cx: &mut Context<'_>) {
    channel.wanted.set(false);
    // The driver polls the handler after every delivery, so its own task needs no wake-up.
    if let Some(reader) = channel.reader.borrow_mut().take()
        && !reader.will_wake(cx.waker())
    {
        reader.wake();
    }
}

/// The next frame out of `buf`. None: more bytes are needed, or the body is complete without trailers.
fn take_frame(decoder: &mut BodyDecoder, buf: &mut BytesMut, meter: &Meter) -> Option<Item> {
    let mut gathered = BytesMut::new();
    loop {
        let step = match decoder.decode(buf) {
            Ok(step) => step,
            Err(reject) => return Some(Err(BodyError::Framing(reject.reason))),
        };
        match step {
            Step::Data(range) => {
                Meter::add(&meter.request_bytes, range.end);
                let length = range.len();
                buf.advance(range.start);
                let single =
                    gathered.is_empty() && (length >= NO_COPY || buf.len() == length || decoder.is_done());
                if single || decoder.remaining().is_some() {
                    return Some(Ok(Frame::data(buf.split_to(length).freeze())));
                }
                gathered.extend_from_slice(buf.get(..length).unwrap_or(&[]));
                buf.advance(length);
                if gathered.len() >= GATHER {
                    return Some(Ok(Frame::data(gathered.freeze())));
                }
            }
            Step::More | Step::End(_) if !gathered.is_empty() => {
                // What framing bytes this step saw are in the decoder's state already.
                let taken = if let Step::End(taken) = step { taken } else { buf.len() };
                Meter::add(&meter.request_bytes, taken);
                buf.advance(taken);
                return Some(Ok(Frame::data(gathered.freeze())));
            }
            Step::More => {
                Meter::add(&meter.request_bytes, buf.len());
                buf.clear();
                return None;
            }
            Step::End(taken) => {
                Meter::add(&meter.request_bytes, taken);
                buf.advance(taken);
                return decoder.take_trailers().map(|fields| Ok(Frame::trailers(trailers_of(&fields))));
            }
        }
    }
}
