//! Request bodies on their way up: the route's limit, and buffering so that a try can be repeated.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::spool::Spool;
use crate::message::{BodyError, Flow, LocalBody, Piped, RequestBody};
use crate::pipe::Pipe;

/// A body that ends with [`BodyError::TooLarge`] when more than `limit` bytes come.
pub fn limited(body: RequestBody, limit: Option<u64>) -> RequestBody {
    match (body, limit) {
        (RequestBody::Stream(body), Some(limit)) => {
            body.expect_at_most(limit);
            RequestBody::Stream(Box::pin(Limited { body, left: limit }))
        }
        (body, _) => body,
    }
}

struct Limited {
    body: LocalBody,
    left: u64,
}

impl Flow for Limited {
    fn takes_pipe(&self) -> bool {
        self.body.takes_pipe()
    }

    fn poll_pipe(mut self: Pin<&mut Self>, cx: &mut Context<'_>, pipe: &Rc<Pipe>) -> Option<Poll<Piped>> {
        // What is known not to fit is not begun.
        self.body.size_hint().exact().filter(|length| *length <= self.left)?;
        let piped = self.body.as_mut().poll_pipe(cx, pipe)?;
        if let Poll::Ready(Ok(moved)) = &piped {
            self.left = self.left.saturating_sub(*moved as u64);
        }
        Some(piped)
    }
}

impl Body for Limited {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(self.body.as_mut().poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let Some(left) = self.left.checked_sub(data.len() as u64) else {
                return Poll::Ready(Some(Err(BodyError::TooLarge)));
            };
            self.left = left;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reads a body to its end: into memory when it is at most `memory` bytes, else into a file. It can be sent again
/// (retries, error pages, copies) and goes up with its length. Where no file can be made a long body is streamed.
///
/// # Errors
/// Those of the body; [`BodyError::NoRoom`] when the spool is full.
pub async fn buffered(body: RequestBody, memory: u64, spool: &Spool) -> Result<RequestBody, BodyError> {
    let RequestBody::Stream(mut body) = body else { return Ok(body) };
    if body.size_hint().exact().is_some_and(|length| length > memory) {
        return Box::pin(stored(BytesMut::new(), body, spool)).await;
    }
    let mut read =
        BytesMut::with_capacity(usize::try_from(body.size_hint().exact().unwrap_or(0)).unwrap_or(0));
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(data) => {
                read.extend_from_slice(&data);
                if read.len() as u64 > memory {
                    return Box::pin(stored(read, body, spool)).await;
                }
            }
            // Trailers of a buffered body have no place in a request with a length (`H1-09`).
            Err(_trailers) => break,
        }
    }
    Ok(if read.is_empty() { RequestBody::Empty } else { RequestBody::Full(read.freeze()) })
}

/// A long body: in a file, or streamed where no file can be made (a read-only file system).
async fn stored(first: BytesMut, rest: LocalBody, spool: &Spool) -> Result<RequestBody, BodyError> {
    match spool.file().await {
        Some(file) => spool.store(file, first, rest).await,
        None => {
            let first = Some(first.freeze()).filter(|first| !first.is_empty());
            Ok(RequestBody::Stream(Box::pin(Resumed { first, rest })))
        }
    }
}

/// What was read ahead, then the rest.
struct Resumed {
    first: Option<Bytes>,
    rest: LocalBody,
}

impl Flow for Resumed {
    fn takes_pipe(&self) -> bool {
        self.rest.takes_pipe()
    }

    fn poll_pipe(mut self: Pin<&mut Self>, cx: &mut Context<'_>, pipe: &Rc<Pipe>) -> Option<Poll<Piped>> {
        if self.first.is_some() {
            return None;
        }
        self.rest.as_mut().poll_pipe(cx, pipe)
    }
}

impl Body for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => self.rest.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.first.as_ref().map_or(0, |first| first.len() as u64);
        let rest = self.rest.size_hint();
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(rest.saturating_add(held)),
            None => SizeHint::default(),
        }
    }
}

/// A second copy of a body for another try; `None` when the bytes are gone.
pub fn replay(body: &RequestBody) -> Option<RequestBody> {
    match body {
        RequestBody::Empty => Some(RequestBody::Empty),
        RequestBody::Full(bytes) => Some(RequestBody::Full(bytes.clone())),
        RequestBody::Kept(body) => Some(RequestBody::Kept(body.again())),
        RequestBody::Stream(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    struct Parts(VecDeque<Result<Bytes, BodyError>>);

    impl Flow for Parts {}

    impl Body for Parts {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.0.pop_front().map(|part| part.map(Frame::data)))
        }
    }

    fn parts(texts: &[&'static str]) -> RequestBody {
        RequestBody::Stream(Box::pin(Parts(
            texts.iter().map(|text| Ok(Bytes::from_static(text.as_bytes()))).collect(),
        )))
    }

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    async fn read(mut body: RequestBody) -> Result<String, BodyError> {
        let mut text = String::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            text.push_str(std::str::from_utf8(frame?.data_ref().unwrap()).unwrap());
        }
        Ok(text)
    }

    #[test]
    fn a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
        assert_eq!(block(read(limited(parts(&["ab", "cd"]), Some(4)))), Ok("abcd".into()));
        assert_eq!(block(read(limited(parts(&["ab", "cde"]), Some(4)))), Err(BodyError::TooLarge));
        assert_eq!(block(read(limited(parts(&["ab", "cde"]), None))), Ok("abcde".into()));
    }

    #[test]
    fn a_body_is_kept_for_another_try_in_memory_or_in_a_file() {
        let spool = Spool::new();
        let short = block(buffered(parts(&["ab", "cd"]), 4, &spool)).unwrap();
        assert!(matches!(&short, RequestBody::Full(bytes) if bytes == "abcd"));
        assert!(replay(&short).is_some());
        let long = async {
            let long = buffered(parts(&["ab", "cd", "ef"]), 3, &spool).await.unwrap();
            assert!(matches!(&long, RequestBody::Kept(_)));
            let again = replay(&long).unwrap();
            (read(long).await, read(again).await)
        };
        assert_eq!(block(long), (Ok("abcdef".into()), Ok("abcdef".into())));
        let nowhere = Spool::in_directory("/nowhere".into());
        let streamed = async {
            let long = buffered(parts(&["ab", "cd", "ef"]), 3, &nowhere).await.unwrap();
            assert!(replay(&long).is_none());
            read(long).await
        };
        assert_eq!(block(streamed), Ok("abcdef".into()));
        assert!(matches!(block(buffered(parts(&[]), 3, &spool)), Ok(RequestBody::Empty)));
    }
}
