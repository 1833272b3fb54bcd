//! Frames of WebSocket (RFC 6455 section 5.2) as far as a tunnel needs them: where one ends, so that a Close frame of
//! ours may stand there when the process stops. Nothing is decoded or judged.

/// Status code of a server that goes away (RFC 6455 section 7.4.1).
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();
/// First byte of a Close frame: FIN and opcode 8.
const CLOSE: u8 = 0x88;
/// Second byte: the payload is masked.
const MASKED: u8 = 0x80;

/// Walks over the frames of one direction.
#[derive(Debug, Clone, Default)]
pub(super) struct Frames {
    head: [u8; 10],
    have: usize,
    /// Masking key and payload still to come of a frame whose length is known.
    rest: u64,
}

impl Frames {
    /// Bytes that certainly belong to the present frame; 0 between two frames.
    pub(super) fn rest(&self) -> u64 {
        if self.have == 0 { self.rest } else { (self.needed() - self.have) as u64 }
    }

    /// These bytes went by.
    pub(super) fn walk(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let length = bytes.len() as u64;
                let passed = self.rest.min(length);
                self.rest -= passed;
                bytes = bytes.get(usize::try_from(passed).unwrap_or(bytes.len())..).unwrap_or(&[]);
                continue;
            }
            let Some((first, others)) = bytes.split_first() else { return };
            bytes = others;
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *first;
            }
            self.have += 1;
            if self.have == self.needed() {
                self.rest = self.length();
                self.have = 0;
            }
        }
    }

    /// Bytes of the head up to the masking key, as far as is known.
    fn needed(&self) -> usize {
        let [_, second, ..] = self.head;
        match (self.have, second & !MASKED) {
            (0 | 1, _) => 2,
            (_, 126) => 4,
            (_, 127) => 10,
            _ => 2,
        }
    }

    /// Masking key and payload of the frame whose head is complete.
    fn length(&self) -> u64 {
        let [_, second, a, b, c, d, e, f, g, h] = self.head;
        let payload = match second & !MASKED {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => u64::from(short),
        };
        payload.saturating_add(if second & MASKED == 0 { 0 } else { 4 })
    }
}

/// A Close frame as a server sends it.
pub(super) fn close_to_client() -> Vec<u8> {
    let [high, low] = GOING_AWAY;
    vec![CLOSE, 2, high, low]
}

/// A Close frame as a client sends it, masked (RFC 6455 section 5.3).
pub(super) fn close_to_server(mask: [u8; 4]) -> Vec<u8> {
    let ([high, low], [first, second, ..]) = (GOING_AWAY, mask);
    let mut frame = vec![CLOSE, MASKED | 2];
    frame.extend(mask);
    frame.extend([high ^ first, low ^ second]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(masked: bool, payload: usize) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut bytes = vec![0x82];
        match payload {
            0..126 => bytes.push(mask | u8::try_from(payload).unwrap()),
            126..0x1_0000 => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend(vec![0xff; payload + if masked { 4 } else { 0 }]);
        bytes
    }

    #[test]
    fn the_end_of_a_frame_is_known_at_any_cut() {
        for masked in [false, true] {
            for payload in [0, 1, 125, 126, 300, 0xffff, 0x1_0000] {
                let bytes = frame(masked, payload);
                let step = bytes.len() / 40 + 1;
                for cut in (0..=bytes.len()).step_by(step).chain(0..bytes.len().min(16)) {
                    let mut frames = Frames::default();
                    frames.walk(&bytes[..cut]);
                    let inside = cut > 0 && cut < bytes.len();
                    assert_eq!(frames.rest() > 0, inside, "{masked} {payload} at {cut}");
                    assert!(frames.rest() <= (bytes.len() - cut) as u64);
                    frames.walk(&bytes[cut..]);
                    assert_eq!(frames.rest(), 0, "{masked} {payload} at {cut}");
                }
            }
        }
    }

    #[test]
    fn following_what_is_certain_never_passes_a_boundary() {
        let bytes = [frame(true, 0), frame(true, 70_000), frame(true, 200)].concat();
        let (mut frames, mut at, mut ends) = (Frames::default(), 0, Vec::new());
        while at < bytes.len() {
            let step = usize::try_from(frames.rest()).unwrap().max(1);
            frames.walk(&bytes[at..at + step]);
            at += step;
            if frames.rest() == 0 {
                ends.push(at);
            }
        }
        assert_eq!(ends, [6, 6 + 70_014, bytes.len()]);
    }

    #[test]
    fn lengths_that_no_stream_reaches_do_not_overflow() {
        let mut frames = Frames::default();
        frames.walk(&[0x82, 0xff]);
        frames.walk(&[0xff; 8]);
        assert_eq!(frames.rest(), u64::MAX);
        frames.walk(&[0; 64]);
        assert_eq!(frames.rest(), u64::MAX - 64);
    }

    #[test]
    fn close_frames_say_1001() {
        assert_eq!(close_to_client(), [0x88, 2, 0x03, 0xe9]);
        let frame = close_to_server([1, 2, 3, 4]);
        assert_eq!(frame, [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2]);
        let mut frames = Frames::default();
        frames.walk(&frame);
        assert_eq!(frames.rest(), 0);
    }
}
