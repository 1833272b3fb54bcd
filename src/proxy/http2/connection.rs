//! The life of one connection: reads, turns of streams, writes and deadlines, in rounds. Everything that came is taken in
//! before a stream has its turn, and everything that streams have to say goes out with one write.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::Http2Options;
use super::life::{Activity, Life, Next};
use super::ready::{Mark, Ready, SOCKET};
use super::socket::{Arrived, Socket};
use super::streams::Streams;
use crate::message::{Request, Response};
use crate::proxy::http1::timer::Timer;
use crate::proxy::turns::{Place, Turns};
use crate::wire::Flood;
use crate::wire::http2_session::{Code, Event, Fatal, Limits, Session};

/// Bytes that wait for the socket before streams wait with theirs.
const ENOUGH: usize = 64 * 1024;
/// Bytes that wait for the socket before nothing more is read: a peer that takes no answers asks for no more.
const TOO_MUCH: usize = 256 * 1024;
/// Reads of one round.
const READS: usize = 4;
/// Rounds before other connections have their turn.
const ROUNDS: usize = 16;
/// Streams that are opened and reset before they had a turn, in one go.
const UNSEEN_RESETS: usize = 20;
/// Time for the last words.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a connection ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// The peer is gone, or nobody listens any more.
    Cut,
    /// All is served that will be.
    Done,
    /// It broke the rules.
    Broken(Option<Flood>),
}

/// One connection with its streams.
pub(super) struct Connection<IO, S, F> {
    session: Session,
    socket: Socket<IO>,
    socket_mark: Arc<Mark>,
    socket_waker: Waker,
    ready: Arc<Ready>,
    streams: Streams<S, F>,
    /// Places whose turn it is.
    turns: Vec<usize>,
    life: Life,
    begun: Instant,
    timer: Timer,
    /// When the timer looks again.
    armed: Option<(Instant, Waker)>,
    ping: (Duration, Duration),
    send_timeout: Duration,
    /// When the peer was last heard.
    heard: Instant,
    pinged: Option<Instant>,
    /// Since when the socket takes nothing.
    stuck: Option<Instant>,
    retired: bool,
    beginnings: Turns,
    place: Place,
    /// Streams that the last read opened, at least one: as many as the next one may.
    expected: u32,
}

impl<IO, S, F> Connection<IO, S, F>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Fn(Request) -> Pin<Box<F>>,
    F: Future<Output = Response>,
{
    pub(super) fn new(io: IO, service: S, options: &Http2Options) -> Self {
        let begun = Instant::now();
        let ready = Arc::new(Ready::default());
        let socket_mark = Mark::new(SOCKET, &ready);
        let window = super::window(options);
        let session = Session::new(Limits {
            streams: options.max_streams,
            header_list: options.max_header_list,
            window,
            head: options.head,
            frames: options.frames,
            provoked_resets: options.provoked_resets,
        });
        Self {
            session,
            socket: Socket::new(io),
            socket_waker: Waker::from(Arc::clone(&socket_mark)),
            socket_mark,
            streams: Streams::new(service, options, window, begun, &ready),
            ready,
            turns: Vec::new(),
            life: Life::new(begun, options),
            begun,
            timer: Timer::default(),
            armed: None,
            ping: options.ping,
            send_timeout: options.send_timeout,
            heard: begun,
            pinged: None,
            stuck: None,
            retired: false,
            beginnings: options.turns.clone(),
            place: Place::default(),
            expected: 1,
        }
    }

    /// Goes on until there is nothing to do.
    pub(super) fn poll<D: Future<Output = ()>>(
        &mut self,
        mut drained: Pin<&mut D>,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        let now = Instant::now();
        self.streams.unseen_resets = 0;
        for _ in 0..ROUNDS {
            if let Err(end) = self.round(now) {
                return Poll::Ready(end);
            }
            if !self.is_idle() {
                continue;
            }
            if !self.retired && drained.as_mut().poll(cx).is_ready() {
                self.retire(now);
                continue;
            }
            match self.poll_deadlines(now, cx) {
                Poll::Ready(Some(end)) => return Poll::Ready(end),
                Poll::Ready(None) => continue,
                Poll::Pending => {}
            }
            if self.ready.wait(cx.waker()) {
                return Poll::Pending;
            }
        }
        if let Err(end) = self.write(now) {
            return Poll::Ready(end);
        }
        // Others first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One round: who was woken, what came, whose turn it is, what there is to say.
    fn round(&mut self, now: Instant) -> Result<(), End> {
        self.take_woken();
        if self.socket.readable && self.session.output.len() < TOO_MUCH && self.may_read() {
            self.read(now)?;
        }
        for at in 0..self.turns.len() {
            if let Some(place) = self.turns.get(at).copied() {
                self.streams.turn(place, &mut self.session, now);
            }
        }
        self.turns.clear();
        self.streams.give_back(&mut self.session);
        self.streams.send(&mut self.session, ENOUGH, now);
        self.take_woken();
        // What else is there to be said goes with it.
        if self.turns.is_empty() || self.session.output.len() >= ENOUGH {
            self.write(now)?;
        }
        if self.session.is_done() && self.session.output.is_empty() {
            return Err(End::Done);
        }
        Ok(())
    }

    fn take_woken(&mut self) {
        self.streams.take_begun(&mut self.turns);
        let mut woken = std::mem::take(&mut self.streams.woken);
        self.ready.take(&mut woken);
        for place in woken.drain(..) {
            if place == SOCKET {
                self.socket_mark.clear();
                (self.socket.readable, self.socket.writable) = (true, true);
            } else {
                self.turns.push(place);
            }
        }
        self.streams.woken = woken;
    }

    /// Nothing can be done without a wake-up.
    fn is_idle(&self) -> bool {
        // A place that was called since, or what came under way since it was asked for, is asked for once more.
        let reads = self.socket.readable
            && self.session.output.len() < TOO_MUCH
            && (!self.beginnings.lets_wait(&self.place) || self.streams.await_peer());
        let writes = self.socket.writable && !self.session.output.is_empty();
        let sends = self.streams.may_send(&self.session) && self.session.output.len() < ENOUGH;
        self.turns.is_empty() && !reads && !writes && !sends && !self.streams.has_begun()
    }

    /// What came may be requests, and those of one connection are begun in the same turn of the worker: their answers go
    /// out together. Nothing that is under way waits for a turn.
    fn may_read(&mut self) -> bool {
        if self.beginnings.is_full() && self.streams.await_peer() {
            (self.place, self.expected) = (Place::default(), 0);
            return true;
        }
        let cx = Context::from_waker(&self.socket_waker);
        self.beginnings.poll_begin(&mut self.place, self.expected, &cx).is_ready()
    }

    fn read(&mut self, now: Instant) -> Result<(), End> {
        let before = self.streams.opened;
        let outcome = self.read_frames(now);
        let opened = self.streams.opened.wrapping_sub(before);
        self.beginnings.correct(self.expected, opened);
        self.expected = opened.max(1);
        outcome
    }

    fn read_frames(&mut self, now: Instant) -> Result<(), End> {
        let waker = self.socket_waker.clone();
        let mut cx = Context::from_waker(&waker);
        let elapsed = u64::try_from((now - self.begun).as_millis()).unwrap_or(u64::MAX);
        for _ in 0..READS {
            let room = match self.socket.poll_read(&mut cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Arrived::End) => return Err(End::Cut),
                Poll::Ready(Arrived::Bytes(room)) => room,
            };
            (self.heard, self.pinged) = (now, None);
            let mut input = room.bytes();
            let taken = loop {
                match self.session.next(&mut input, elapsed) {
                    Ok(None) => break Ok(()),
                    Ok(Some(event)) => self.take(event, now),
                    Err(Fatal { flood, .. }) => break Err(End::Broken(flood)),
                }
            };
            let left = input.len();
            self.socket.keep(room, left);
            taken?;
            if self.streams.unseen_resets > UNSEEN_RESETS {
                self.session.abort(Code::ENHANCE_YOUR_CALM);
                return Err(End::Broken(None));
            }
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, now: Instant) {
        match event {
            Event::Request { place, head, refused, ended, length } => {
                self.streams.open(place, head, refused, ended, length);
            }
            Event::Data { place, data, ended } => {
                self.streams.data(place, data, ended, &mut self.session, now);
            }
            Event::Trailers { place, fields } => self.streams.trailers(place, fields, &self.session, now),
            Event::Reset { place } => self.streams.is_reset(place, now),
            Event::Room { place } => self.streams.resume(Some(place), now),
            Event::RoomForAll => self.streams.resume(None, now),
        }
    }

    fn write(&mut self, now: Instant) -> Result<(), End> {
        let held_data = self.session.output.holds_data();
        let waker = self.socket_waker.clone();
        let written = self.socket.write(&mut self.session, &mut Context::from_waker(&waker));
        let Ok(written) = written else { return Err(End::Cut) };
        if written > 0 && held_data {
            self.streams.quiet_since = now;
        }
        if self.session.output.is_empty() {
            self.stuck = None;
        } else if written > 0 {
            self.stuck = Some(now);
        } else {
            self.stuck.get_or_insert(now);
        }
        Ok(())
    }

    fn retire(&mut self, now: Instant) {
        self.retired = true;
        self.life.retire(now);
        self.session.retire();
    }

    /// Waits for the next deadline. Ready with nothing: there is something to say.
    fn poll_deadlines(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Option<End>> {
        // Whoever answers no PING opens no streams for ever.
        if self.life.has_been_told(now) && self.session.leave() {
            return Poll::Ready(None);
        }
        let activity = Activity {
            open: self.session.open(),
            served: self.session.served(),
            quiet_since: self.streams.quiet_since,
        };
        let mut until = match self.life.next(now, activity) {
            Next::Wait(until) => until,
            // The peer had its time; TLS still says its word (RFC 8446 section 6.1), bounded as every farewell.
            Next::Cut => return Poll::Ready(Some(End::Done)),
            Next::Retire => {
                self.retire(now);
                return Poll::Ready(None);
            }
        };
        match self.pinged {
            Some(pinged) if now >= pinged + self.ping.1 => {
                self.session.abort(Code::NO_ERROR);
                return Poll::Ready(Some(End::Broken(None)));
            }
            None if now >= self.heard + self.ping.0 => {
                self.pinged = Some(now);
                self.session.ping();
                return Poll::Ready(None);
            }
            Some(pinged) => until = until.min(pinged + self.ping.1),
            None => until = until.min(self.heard + self.ping.0),
        }
        if let Some(stuck) = self.stuck {
            if now >= stuck + self.send_timeout {
                return Poll::Ready(Some(End::Cut));
            }
            until = until.min(stuck + self.send_timeout);
        }
        if let Some(stalled) = self.streams.next_stall {
            if now >= stalled {
                self.streams.give_up_stalled(&mut self.session, now);
                return Poll::Ready(None);
            }
            until = until.min(stalled);
        }
        self.poll_timer(until, now, cx)
    }

    /// Asks the timer only where it would not wake this task early enough by itself.
    fn poll_timer(&mut self, until: Instant, now: Instant, cx: &mut Context<'_>) -> Poll<Option<End>> {
        if let Some((armed, waker)) = &self.armed
            && now < *armed
            && *armed <= until
            && waker.will_wake(cx.waker())
        {
            return Poll::Pending;
        }
        self.armed = Some((until, cx.waker().clone()));
        self.timer.poll_until(until, cx).map(|()| None)
    }

    /// Ends it: nothing is worked on from here on, and the last words go out if the peer takes them.
    pub(super) async fn close(mut self, end: End) -> Option<Flood> {
        self.streams.clear();
        let flood = match end {
            End::Cut => return None,
            End::Done => None,
            End::Broken(flood) => flood,
        };
        let words = std::future::poll_fn(|cx| self.socket.poll_close(&mut self.session, cx));
        let _in_time = timeout(FAREWELL, words).await;
        flood
    }
}

/// Runs `work`; a panic in it hurts its own stream.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}
