//! Counting the frames of one HTTP/2 connection: what keeps a peer from costing more than it asks for
//! (`security.md` D.4). Frames that ask for nothing (PING, SETTINGS, PRIORITY, unknown types, empty DATA, window updates)
//! cost time each, and so do streams that are opened and reset.

use super::frame::{CONTINUATION, Code, DATA, FrameHeader, HEADERS, RST_STREAM, unpadded};

/// Length of the window in which frames are counted, milliseconds.
const WINDOW: u64 = 10_000;
/// Bytes sent to the peer that explain as much as one useful frame: who downloads must send window updates.
const BYTES_PER_USEFUL: u64 = 1024;

/// What a peer may do in ten seconds (`security.md` D.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// Frames that ask for nothing. Only with more than [`FrameLimits::idle_ratio`] of them for each useful one.
    pub idle: u64,
    /// Idle frames that one useful frame excuses.
    pub idle_ratio: u64,
    /// Streams that the peer opened and reset; only when they are more than half of those it opened.
    pub resets: u64,
    /// CONTINUATION frames of one header block.
    pub continuations: u32,
    /// Bytes of one header block, compressed.
    pub header_block: u32,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self { idle: 1_000, idle_ratio: 10, resets: 100, continuations: 8, header_block: 64 * 1024 }
    }
}

/// The flood that was seen, or what ends a connection as a flood does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flood {
    /// Frames that ask for nothing.
    #[error("more HTTP/2 frames that ask for nothing than allowed")]
    Idle,
    /// Streams opened and reset (CVE-2023-44487).
    #[error("more HTTP/2 streams opened and reset than allowed")]
    Resets,
    /// A header block without end (CVE-2024-27316).
    #[error("a longer HTTP/2 header block than allowed")]
    HeaderBlock,
    /// No flood: what breaks the protocol from the start (RFC 9113 section 3.4).
    #[error("an HTTP/2 connection without SETTINGS at its start")]
    Malformed,
}

impl Flood {
    /// A constant word for metric labels.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "http2-idle-frames",
            Self::Resets => "http2-resets",
            Self::HeaderBlock => "http2-header-block",
            Self::Malformed => "http2-malformed",
        }
    }

    /// The code that GOAWAY says.
    pub const fn code(self) -> Code {
        match self {
            Self::Idle | Self::Resets | Self::HeaderBlock => Code::ENHANCE_YOUR_CALM,
            Self::Malformed => Code::PROTOCOL_ERROR,
        }
    }
}

/// Judges what a client sends on one connection.
#[derive(Debug)]
pub(super) struct FrameCounter {
    limits: FrameLimits,
    window: u64,
    idle: u64,
    useful: u64,
    sent: u64,
    opened: u64,
    resets: u64,
    block: usize,
    continuations: u32,
}

impl FrameCounter {
    pub(super) const fn new(limits: FrameLimits) -> Self {
        Self {
            limits,
            window: 0,
            idle: 0,
            useful: 0,
            sent: 0,
            opened: 0,
            resets: 0,
            block: 0,
            continuations: 0,
        }
    }

    /// So many bytes went to the client; they excuse the window updates that come back.
    pub(super) const fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    /// Milliseconds since any fixed point.
    pub(super) fn at(&mut self, now: u64) {
        let window = now / WINDOW;
        if window != self.window {
            self.window = window;
            (self.idle, self.useful, self.sent, self.opened, self.resets) = (0, 0, 0, 0, 0);
        }
    }

    /// Takes one frame in; `opens`: it opens a stream.
    ///
    /// # Errors
    /// The limit that was passed; the connection is to be closed with [`Flood::code`].
    pub(super) fn count(&mut self, frame: &FrameHeader, payload: &[u8], opens: bool) -> Result<(), Flood> {
        match frame.kind {
            HEADERS => {
                self.opened = self.opened.saturating_add(u64::from(opens));
                self.useful = self.useful.saturating_add(1);
                (self.block, self.continuations) = (frame.length, 0);
                self.check_block()
            }
            CONTINUATION => {
                self.block = self.block.saturating_add(frame.length);
                self.continuations = self.continuations.saturating_add(1);
                self.check_block()
            }
            // What only pads asks for nothing.
            DATA if unpadded(*frame, payload).is_some_and(|data| !data.is_empty()) => {
                self.useful = self.useful.saturating_add(1);
                Ok(())
            }
            RST_STREAM => {
                self.resets = self.resets.saturating_add(1);
                let most = self.resets.saturating_mul(2) > self.opened;
                if self.resets > self.limits.resets && most { Err(Flood::Resets) } else { Ok(()) }
            }
            _ => {
                self.idle = self.idle.saturating_add(1);
                let useful = self.useful.saturating_add(self.sent / BYTES_PER_USEFUL);
                let excused = useful.saturating_mul(self.limits.idle_ratio);
                if self.idle > self.limits.idle && self.idle > excused { Err(Flood::Idle) } else { Ok(()) }
            }
        }
    }

    const fn check_block(&self) -> Result<(), Flood> {
        if self.block > self.limits.header_block as usize || self.continuations > self.limits.continuations {
            return Err(Flood::HeaderBlock);
        }
        Ok(())
    }
}
