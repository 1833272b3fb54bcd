//! Compressing answers on their way to the client. Which ones is decided by `policy::compression`; here is the work.
//!
//! What a backend sent is never held back for more: whenever it pauses, everything so far goes out.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::Method;
use http_body::{Body, Frame};

use super::exchange::Exchange;
use crate::limit::{Bodies, Held};
use crate::message::{BodyError, Flow, Response, ResponseBody};
use crate::policy::compression::{Answered, Coding};

/// Parts of a body taken in one go before other tasks have their turn.
const PARTS: usize = 16;
/// Brotli's slowest level here: higher ones take seconds for a megabyte (`D.2`).
const BROTLI_LEVEL: u32 = 6;
/// Brotli's window: 256 KiB (`D.2`).
const BROTLI_WINDOW: u32 = 18;
/// Zstandard's window: 256 KiB, below the 8 MiB that clients take (RFC 9659 section 3).
const ZSTD_WINDOW: u32 = 18;

/// What an encoder takes up while an answer lasts, bytes; counted with the bodies (`D-4`).
const fn encoder_bytes(coding: Coding) -> u64 {
    match coding {
        Coding::Gzip(_) => 320 << 10,
        Coding::Brotli(_) | Coding::Zstd(_) => 2 << 20,
    }
}

/// Compresses an answer where client and ConfigMap, or a snippet, want it.
pub(super) fn apply(exchange: &Exchange, response: &mut Response) {
    let own = exchange.compression.take();
    let compression = own.as_deref().unwrap_or(&exchange.snapshot.table.globals.compression);
    let is_on = compression.is_on();
    // The head that answers HEAD is that of GET, as in nginx.
    let is_head = exchange.head.method == Method::HEAD;
    let is_empty = matches!(response.body, ResponseBody::Empty) && !is_head;
    if !is_on || response.upgrade.is_some() || is_empty {
        return;
    }
    let told = || response.head.fields.get_str("content-length")?.parse().ok();
    let choice = compression.choose(&Answered {
        version: exchange.head.version,
        asked: &exchange.head.fields,
        status: response.head.status,
        fields: &response.head.fields,
        length: if is_head { told() } else { response.body.size_hint().exact() },
    });
    if choice.vary {
        let _full = response.head.fields.append("Vary", b"Accept-Encoding");
    }
    let Some(coding) = choice.coding else { return };
    // A comfort that costs memory: done without when bodies have taken up all of theirs.
    let memory = &exchange.worker.memory;
    if memory.bodies() == Bodies::Spent {
        return;
    }
    coding.mark(&mut response.head.fields);
    response.body = match std::mem::replace(&mut response.body, ResponseBody::Empty) {
        ResponseBody::Empty => ResponseBody::Empty,
        ResponseBody::Full(bytes) => {
            let mut encoder = Encoder::new(coding);
            encoder.write(&bytes);
            ResponseBody::Full(encoder.finish())
        }
        body => ResponseBody::Stream(Box::pin(Compressed {
            body,
            encoder: Some(Encoder::new(coding)),
            unflushed: false,
            last: None,
            _room: memory.hold(encoder_bytes(coding)),
        })),
    };
}

enum Encoder {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

/// The library refuses parameters out of bounds only.
const SOUND: &str = "level and window are within bounds";
/// Writing to memory does not fail.
const INFALLIBLE: &str = "a vector takes every byte";

impl Encoder {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Gzip(level) => {
                Self::Gzip(Box::new(GzEncoder::new(Vec::new(), flate2::Compression::new(level))))
            }
            Coding::Brotli(level) => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                16 * 1024,
                level.min(BROTLI_LEVEL),
                BROTLI_WINDOW,
            ))),
            Coding::Zstd(level) => {
                let level = i32::try_from(level).unwrap_or(3);
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level).expect(SOUND);
                encoder.window_log(ZSTD_WINDOW).expect(SOUND);
                Self::Zstd(Box::new(encoder))
            }
        }
    }

    fn write(&mut self, data: &[u8]) {
        match self {
            Self::Gzip(encoder) => encoder.write_all(data),
            Self::Brotli(encoder) => encoder.write_all(data),
            Self::Zstd(encoder) => encoder.write_all(data),
        }
        .expect(INFALLIBLE);
    }

    fn flush(&mut self) {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
        .expect(INFALLIBLE);
    }

    /// What came out so far.
    fn take(&mut self) -> Bytes {
        match self {
            Self::Gzip(encoder) => std::mem::take(encoder.get_mut()),
            Self::Brotli(encoder) => std::mem::take(encoder.get_mut()),
            Self::Zstd(encoder) => std::mem::take(encoder.get_mut()),
        }
        .into()
    }

    fn finish(self) -> Bytes {
        match self {
            Self::Gzip(encoder) => encoder.finish().expect(INFALLIBLE),
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Zstd(encoder) => encoder.finish().expect(INFALLIBLE),
        }
        .into()
    }
}

struct Compressed {
    body: ResponseBody,
    /// `None` once the body has ended.
    encoder: Option<Encoder>,
    unflushed: bool,
    /// Trailers that come after the last data.
    last: Option<Frame<Bytes>>,
    _room: Held,
}

impl Flow for Compressed {}

impl Body for Compressed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        for _ in 0..PARTS {
            let Some(encoder) = &mut this.encoder else { return Poll::Ready(this.last.take().map(Ok)) };
            let ended = match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        encoder.write(&data);
                        this.unflushed = true;
                        false
                    }
                    Err(trailers) => {
                        this.last = Some(trailers);
                        true
                    }
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => true,
                Poll::Pending if this.unflushed => {
                    encoder.flush();
                    this.unflushed = false;
                    let out = encoder.take();
                    return if out.is_empty() {
                        Poll::Pending
                    } else {
                        Poll::Ready(Some(Ok(Frame::data(out))))
                    };
                }
                Poll::Pending => return Poll::Pending,
            };
            let out = if ended { this.encoder.take().map(Encoder::finish) } else { Some(encoder.take()) };
            if let Some(out) = out.filter(|out| !out.is_empty()) {
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.last.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Read;

    use super::*;

    /// Parts of a body; `None` is a pause.
    struct Script(VecDeque<Option<&'static str>>);

    impl Flow for Script {}

    impl Body for Script {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            match self.0.pop_front() {
                None => Poll::Ready(None),
                Some(Some(text)) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))),
                Some(None) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        }
    }

    fn parts(coding: Coding, script: &[Option<&'static str>]) -> Vec<Bytes> {
        let body = ResponseBody::Stream(Box::pin(Script(script.iter().copied().collect())));
        let encoder = Some(Encoder::new(coding));
        let room = crate::limit::Memory::new(None).hold(0);
        let mut body = Box::pin(Compressed { body, encoder, unflushed: false, last: None, _room: room });
        let mut parts = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            match body.as_mut().poll_frame(&mut cx) {
                Poll::Ready(Some(frame)) => parts.push(frame.unwrap().into_data().unwrap()),
                Poll::Ready(None) => return parts,
                Poll::Pending => {}
            }
        }
    }

    fn decoded(coding: Coding, bytes: &[u8]) -> String {
        let mut text = String::new();
        let _cut = match coding {
            Coding::Gzip(_) => flate2::read::GzDecoder::new(bytes).read_to_string(&mut text),
            Coding::Brotli(_) => brotli::Decompressor::new(bytes, 4096).read_to_string(&mut text),
            Coding::Zstd(_) => zstd::Decoder::new(bytes).unwrap().read_to_string(&mut text),
        };
        text
    }

    #[test]
    fn a_pause_of_the_backend_lets_everything_so_far_out() {
        for coding in [Coding::Gzip(1), Coding::Brotli(4), Coding::Zstd(3)] {
            let parts =
                parts(coding, &[Some("data: one\n\n"), None, Some("data: two\n\n"), None, Some("end")]);
            let first = parts.iter().take_while(|part| !part.is_empty()).next().unwrap();
            let mut so_far = first.to_vec();
            let mut texts = vec![decoded(coding, &so_far)];
            for part in &parts[1..] {
                so_far.extend_from_slice(part);
                texts.push(decoded(coding, &so_far));
            }
            assert!(texts.iter().any(|text| text == "data: one\n\n"), "{coding:?}: {texts:?}");
            assert!(texts.iter().any(|text| text == "data: one\n\ndata: two\n\n"), "{coding:?}: {texts:?}");
            assert_eq!(texts.last().unwrap(), "data: one\n\ndata: two\n\nend");
        }
    }

    #[test]
    fn an_empty_body_is_a_sound_empty_stream() {
        for coding in [Coding::Gzip(9), Coding::Brotli(11), Coding::Zstd(9)] {
            let all = parts(coding, &[]).concat();
            assert!(!all.is_empty());
            assert_eq!(decoded(coding, &all), "");
        }
    }
}
