//! SETTINGS in both directions (RFC 9113 section 6.5).

use super::frame::{ACK, Code, FrameHeader, MAX_PAYLOAD, MAX_WINDOW, SETTINGS, WINDOW_UPDATE};
use super::{CONNECTION_WINDOW, Event, FIRST_WINDOW, Fault, Session};

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
/// RFC 8441 section 3.
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// Largest frame size that anybody may allow.
const MOST_PAYLOAD: u32 = 0xff_ffff;

impl Session {
    /// The first thing a server says.
    pub(super) fn say_settings(&mut self) {
        let mut payload = Vec::with_capacity(30);
        for (name, value) in [
            (MAX_CONCURRENT_STREAMS, self.limits.streams),
            (INITIAL_WINDOW_SIZE, self.limits.window),
            (MAX_FRAME_SIZE, MAX_PAYLOAD as u32),
            (MAX_HEADER_LIST_SIZE, self.limits.header_list),
            (ENABLE_CONNECT_PROTOCOL, 1),
        ] {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        self.output.frame(SETTINGS, 0, 0, &payload);
        self.output.frame(WINDOW_UPDATE, 0, 0, &(CONNECTION_WINDOW - FIRST_WINDOW).to_be_bytes());
    }

    pub(super) fn settings<'b>(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event<'b>>, Fault> {
        if header.stream != 0 {
            return Err(Fault::Connection(Code::PROTOCOL_ERROR));
        }
        if header.has(ACK) {
            if !payload.is_empty() {
                return Err(Fault::Connection(Code::FRAME_SIZE_ERROR));
            }
            self.settings_taken();
            return Ok(None);
        }
        let (entries, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Fault::Connection(Code::FRAME_SIZE_ERROR));
        }
        let before = self.first_send_window;
        for [n0, n1, v0, v1, v2, v3] in entries {
            self.setting(u16::from_be_bytes([*n0, *n1]), u32::from_be_bytes([*v0, *v1, *v2, *v3]))?;
        }
        let change = self.first_send_window - before;
        for stream in self.streams.each() {
            stream.send_window += change;
            if stream.send_window > MAX_WINDOW {
                return Err(Fault::Connection(Code::FLOW_CONTROL_ERROR));
            }
        }
        self.output.frame(SETTINGS, ACK, 0, &[]);
        Ok((change > 0).then_some(Event::RoomForAll))
    }

    fn setting(&mut self, name: u16, value: u32) -> Result<(), Fault> {
        match name {
            HEADER_TABLE_SIZE => self.encoder.set_max_size(value),
            // RFC 8441 section 3 says the same of its own.
            ENABLE_PUSH | ENABLE_CONNECT_PROTOCOL if value > 1 => {
                return Err(Fault::Connection(Code::PROTOCOL_ERROR));
            }
            INITIAL_WINDOW_SIZE if i64::from(value) > MAX_WINDOW => {
                return Err(Fault::Connection(Code::FLOW_CONTROL_ERROR));
            }
            INITIAL_WINDOW_SIZE => self.first_send_window = i64::from(value),
            MAX_FRAME_SIZE if !(MAX_PAYLOAD as u32..=MOST_PAYLOAD).contains(&value) => {
                return Err(Fault::Connection(Code::PROTOCOL_ERROR));
            }
            // Longer frames would let one stream stand in the way of the others.
            _ => {}
        }
        Ok(())
    }

    /// The peer keeps to our settings from here on.
    fn settings_taken(&mut self) {
        let change = i64::from(self.limits.window) - i64::from(self.first_window);
        self.first_window = self.limits.window;
        self.streams.each().for_each(|stream| stream.window += change);
    }
}
