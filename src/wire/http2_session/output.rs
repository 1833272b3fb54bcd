//! Bytes on their way to the peer: frames one after the other, large pieces of data between them without a copy.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::frame::FrameHeader;

/// Data below this size is copied behind its frame header: cheaper than one more slice for the kernel.
const COPY: usize = 4 * 1024;
/// Room that an empty queue keeps.
const KEEP: usize = 16 * 1024;

/// Data that stands between two places of the text.
#[derive(Debug)]
struct Piece {
    /// How much of the text goes before it.
    at: usize,
    data: Bytes,
}

/// What was not written yet.
#[derive(Debug, Default)]
pub struct Output {
    text: Vec<u8>,
    /// Bytes at the start of `text` that were written.
    written: usize,
    pieces: VecDeque<Piece>,
    /// Bytes of all pieces.
    beside: usize,
    /// DATA is part of it.
    data: bool,
}

impl Output {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.text.len() - self.written + self.beside
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// DATA is among what waits, or went with the last bytes of it.
    pub fn holds_data(&self) -> bool {
        self.data
    }

    /// Where frames are written, at its end.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// A whole frame with a short payload.
    pub(super) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let header = FrameHeader { length: payload.len(), kind, flags, stream };
        self.text.extend_from_slice(&header.bytes());
        self.text.extend_from_slice(payload);
    }

    /// A DATA frame.
    pub(super) fn data(&mut self, flags: u8, stream: u32, data: Bytes) {
        self.data = true;
        if data.len() < COPY {
            return self.frame(super::frame::DATA, flags, stream, &data);
        }
        let header = FrameHeader { length: data.len(), kind: super::frame::DATA, flags, stream };
        self.text.extend_from_slice(&header.bytes());
        self.beside += data.len();
        self.pieces.push_back(Piece { at: self.text.len(), data });
    }

    /// The next bytes as slices, as many as `slices` takes; says how many slices are used.
    pub fn slices<'o>(&'o self, slices: &mut [IoSlice<'o>]) -> usize {
        let mut from = self.written;
        let mut used = 0;
        let mut pieces = self.pieces.iter();
        while used < slices.len() {
            let piece = pieces.next();
            let to = piece.map_or(self.text.len(), |piece| piece.at);
            let text = self.text.get(from..to).unwrap_or(&[]);
            from = to;
            let data = piece.map_or(&[][..], |piece| &piece.data);
            for part in [text, data] {
                if !part.is_empty()
                    && let Some(slice) = slices.get_mut(used)
                {
                    *slice = IoSlice::new(part);
                    used += 1;
                }
            }
            if piece.is_none() {
                break;
            }
        }
        used
    }

    /// So many bytes were written.
    pub fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let Some(piece) = self.pieces.front_mut() else {
                self.written = self.text.len().min(self.written + bytes);
                break;
            };
            let before = bytes.min(piece.at.saturating_sub(self.written));
            self.written += before;
            bytes -= before;
            let taken = bytes.min(piece.data.len());
            if taken > 0 || piece.data.is_empty() {
                piece.data.advance(taken);
                self.beside -= taken;
                bytes -= taken;
            }
            if self.written == piece.at && piece.data.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.tidy();
    }

    /// Lets go of what was written.
    fn tidy(&mut self) {
        if self.is_empty() {
            self.pieces.clear();
            self.text.clear();
            self.text.shrink_to(KEEP);
            (self.written, self.data) = (0, false);
        } else if self.written > KEEP && self.written * 2 > self.text.len() {
            self.text.drain(..self.written);
            self.pieces.iter_mut().for_each(|piece| piece.at -= self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written when every write takes `step` bytes.
    fn written(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let used = output.slices(&mut slices);
            let next: Vec<u8> =
                slices[..used].iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
            assert!(!next.is_empty(), "no slice, and {} bytes wait", output.len());
            output.advance(next.len());
            all.extend(next);
        }
        all
    }

    #[test]
    fn frames_and_pieces_leave_in_order_however_much_a_write_takes() {
        let (small, large) = (Bytes::from(vec![b's'; 10]), Bytes::from(vec![b'l'; 20_000]));
        let mut expect: Option<Vec<u8>> = None;
        for step in [1, 9, 4_096, 19_999, 1 << 20] {
            let mut output = Output::default();
            for stream in 1..4 {
                output.frame(4, 1, 0, b"");
                output.data(0, stream, large.clone());
                output.data(0, stream, large.clone());
                output.data(1, stream, small.clone());
            }
            let all = written(&mut output, step);
            assert_eq!(all.len(), 3 * (9 + 2 * 20_009 + 19), "{step}");
            assert_eq!(*expect.get_or_insert(all.clone()), all, "{step}");
            assert!(!output.holds_data());
        }
    }
}
