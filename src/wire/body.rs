//! One decoder over every way the end of a body is told.

use super::chunked::{ChunkLimits, ChunkedDecoder, Leniency, Step};
use super::fields::Fields;
use super::head::Framing;
use super::verdict::Reject;

/// Decoder of one body. The chunked one is boxed: most bodies are not chunked and the decoder lives in every
/// connection.
#[derive(Debug)]
pub enum BodyDecoder {
    /// Bytes left.
    Length(u64),
    /// Chunked.
    Chunked(Box<ChunkedDecoder>),
    /// Until the connection closes.
    UntilClose,
}

impl BodyDecoder {
    /// A decoder for `framing`.
    pub fn new(framing: Framing, leniency: Leniency, limits: ChunkLimits) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::new(ChunkedDecoder::new(leniency, limits))),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Goes on with `buf`, the bytes after those that the last step took. After [`Step::Data`] call again with the
    /// bytes after the range, even when none are left: [`Step::End`] may follow without another byte.
    ///
    /// # Errors
    /// As [`ChunkedDecoder::decode`].
    pub fn decode(&mut self, buf: &[u8]) -> Result<Step, Reject> {
        match self {
            Self::Length(0) => Ok(Step::End(0)),
            Self::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                *left -= take as u64;
                Ok(if take == 0 { Step::More } else { Step::Data(0..take) })
            }
            Self::Chunked(decoder) => decoder.decode(buf),
            Self::UntilClose => Ok(if buf.is_empty() { Step::More } else { Step::Data(0..buf.len()) }),
        }
    }

    /// Takes note of `bytes` that passed without being looked at, which only bytes of known number may.
    pub fn passed(&mut self, bytes: usize) {
        if let Self::Length(left) = self {
            *left = left.saturating_sub(bytes as u64);
        }
    }

    /// True when no byte of the body is missing.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(decoder) => decoder.is_done(),
            Self::UntilClose => false,
        }
    }

    /// True when the connection may end here without the body being cut short.
    pub fn may_end(&self) -> bool {
        matches!(self, Self::UntilClose) || self.is_done()
    }

    /// Bytes of data still to come, where the framing tells.
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Bytes of a chunked body that were seen or announced: it will be that long at least.
    pub fn announced(&self) -> u64 {
        match self {
            Self::Chunked(decoder) => decoder.announced(),
            Self::Length(_) | Self::UntilClose => 0,
        }
    }

    /// True when nothing more will come out: no data, no trailers.
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(decoder) => decoder.is_done() && decoder.trailers().is_empty(),
            Self::UntilClose => false,
        }
    }

    /// Takes the trailer section of a chunked body out; `None` when it is empty or the body is not chunked.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        match self {
            Self::Chunked(decoder) => Some(decoder.take_trailers()).filter(|fields| !fields.is_empty()),
            Self::Length(_) | Self::UntilClose => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder(framing: Framing) -> BodyDecoder {
        BodyDecoder::new(framing, Leniency::Strict, ChunkLimits::default())
    }

    #[test]
    fn a_length_ends_at_its_last_byte_and_leaves_the_rest() {
        let mut body = decoder(Framing::Length(5));
        assert_eq!(body.decode(b""), Ok(Step::More));
        assert_eq!(body.decode(b"hel"), Ok(Step::Data(0..3)));
        assert_eq!((body.remaining(), body.may_end()), (Some(2), false));
        assert_eq!(body.decode(b"loGET /"), Ok(Step::Data(0..2)));
        assert_eq!(body.decode(b"GET /"), Ok(Step::End(0)));
        assert!(body.is_done());
    }

    #[test]
    fn a_body_until_close_never_ends_by_itself() {
        let mut body = decoder(Framing::UntilClose);
        assert_eq!(body.decode(b"abc"), Ok(Step::Data(0..3)));
        assert_eq!(body.decode(b""), Ok(Step::More));
        assert!(!body.is_done() && body.may_end());
    }

    #[test]
    fn no_body_is_complete_from_the_start() {
        assert_eq!(decoder(Framing::None).decode(b"GET"), Ok(Step::End(0)));
        assert!(!decoder(Framing::Chunked).may_end());
    }
}
