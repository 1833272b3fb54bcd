//! `proxy-buffering: on`: reads an answer ahead of a slow client, so that its backend is free again.
//!
//! A task of its own reads; what waits is bounded by the route and by the memory for bodies. Off (the default) an answer
//! streams at the pace of its client. `forward` puts this around the body of a backend.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::limit::{Bodies, Held, Memory};
use crate::message::{BodyError, Flow, ResponseBody};

/// Reads `body` ahead, at most `most` bytes.
pub(super) fn read(body: ResponseBody, most: u64, memory: &Memory) -> ResponseBody {
    let ResponseBody::Stream(_) = body else { return body };
    let left = body.size_hint();
    let queue = Rc::new(RefCell::new(Queue {
        frames: VecDeque::new(),
        bytes: 0,
        most,
        held: memory.hold(0),
        ended: false,
        reader: None,
        writer: None,
    }));
    let task = tokio::task::spawn_local(pump(body, Rc::clone(&queue)));
    ResponseBody::Stream(Box::pin(Ahead { queue, left, task }))
}

/// What was read and not yet taken.
struct Queue {
    frames: VecDeque<Result<Frame<Bytes>, BodyError>>,
    bytes: u64,
    most: u64,
    held: Held,
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Queue {
    /// Something may always wait: without it nothing would move.
    fn has_room(&self) -> bool {
        self.frames.is_empty() || (self.bytes < self.most && self.held.memory().bodies() == Bodies::Plenty)
    }

    fn count(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.held.set(bytes);
    }

    fn push(&mut self, frame: Result<Frame<Bytes>, BodyError>) {
        let data = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        self.count(self.bytes.saturating_add(data));
        self.frames.push_back(frame);
        wake(&mut self.reader);
    }

    fn pop(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        let frame = self.frames.pop_front()?;
        let data = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        self.count(self.bytes.saturating_sub(data));
        wake(&mut self.writer);
        Some(frame)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

async fn pump(mut body: ResponseBody, queue: Rc<RefCell<Queue>>) {
    loop {
        poll_fn(|cx| {
            let mut queue = queue.borrow_mut();
            if queue.has_room() {
                return Poll::Ready(());
            }
            queue.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let mut queue = queue.borrow_mut();
        let over = !matches!(frame, Some(Ok(_)));
        queue.ended |= over;
        match frame {
            Some(frame) => queue.push(frame),
            None => wake(&mut queue.reader),
        }
        if over {
            return;
        }
    }
}

struct Ahead {
    queue: Rc<RefCell<Queue>>,
    left: SizeHint,
    task: JoinHandle<()>,
}

impl Flow for Ahead {}

impl Body for Ahead {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = {
            let mut queue = self.queue.borrow_mut();
            match queue.pop() {
                Some(frame) => frame,
                None if queue.ended => return Poll::Ready(None),
                None => {
                    queue.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        };
        if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref)
            && let Some(exact) = self.left.exact()
        {
            self.left = SizeHint::with_exact(exact.saturating_sub(data.len() as u64));
        }
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        let queue = self.queue.borrow();
        queue.ended && queue.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.left
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // The client is gone: so is the way to the backend.
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Gives so many parts of ten bytes, and counts them.
    struct Parts {
        left: usize,
        given: Rc<Cell<usize>>,
        fails: bool,
    }

    impl Flow for Parts {}

    impl Body for Parts {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            let Some(left) = self.left.checked_sub(1) else {
                let fails = std::mem::take(&mut self.fails);
                return Poll::Ready(fails.then_some(Err(BodyError::Upstream)));
            };
            self.left = left;
            self.given.set(self.given.get() + 1);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"0123456789")))))
        }
    }

    /// Runs on a worker's kind of runtime; gives the parts that were read before anybody took one, and all bytes.
    fn run(parts: usize, most: u64, memory: &Memory, fails: bool) -> (usize, usize, bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let given = Rc::new(Cell::new(0));
            let body = Parts { left: parts, given: Rc::clone(&given), fails };
            let mut body = read(ResponseBody::Stream(Box::pin(body)), most, memory);
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            let (ahead, mut bytes, mut failed) = (given.get(), 0, false);
            while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                match frame {
                    Ok(frame) => bytes += frame.into_data().unwrap().len(),
                    Err(_) => failed = true,
                }
            }
            (ahead, bytes, failed)
        })
    }

    #[test]
    fn so_much_is_read_ahead_and_everything_arrives() {
        let memory = Memory::new(None);
        assert_eq!(run(100, 50, &memory, false), (5, 1000, false));
        assert_eq!(run(3, 1000, &memory, false), (3, 30, false));
        assert_eq!(run(0, 1000, &memory, false), (0, 0, false));
        assert_eq!(run(7, 20, &memory, true), (2, 70, true));
        assert_eq!(memory.held(), 0, "what was taken does not count any more");
    }

    #[test]
    fn where_memory_is_scarce_one_part_waits() {
        let memory = Memory::new(Some(100));
        let _others = memory.hold(90);
        assert_eq!(run(10, 1000, &memory, false), (1, 100, false));
    }
}
