//! DATA and the windows in both directions (RFC 9113 sections 5.2, 6.1 and 6.9).

use bytes::Bytes;

use super::frame::{Code, END_STREAM, FrameHeader, MAX_PAYLOAD, MAX_WINDOW, WINDOW_UPDATE, number, unpadded};
use super::{CONNECTION_WINDOW, Event, Fault, Session};

impl Session {
    pub(super) fn data<'b>(
        &mut self,
        header: FrameHeader,
        payload: &'b [u8],
    ) -> Result<Option<Event<'b>>, Fault> {
        let id = header.stream;
        self.refuse_idle(id)?;
        let data = unpadded(header, payload).ok_or(Fault::Connection(Code::PROTOCOL_ERROR))?;
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.window -= i64::from(bytes);
        if self.window < 0 {
            return Err(Fault::Connection(Code::FLOW_CONTROL_ERROR));
        }
        let Some(place) = self.streams.find(id) else {
            self.consumed_by_all(bytes);
            return if self.is_forgiven(id) { Ok(None) } else { Err(Fault::Stream(id, Code::STREAM_CLOSED)) };
        };
        let taken = self.take_data(place, id, bytes, data.len() as u64, header.has(END_STREAM));
        if let Err(fault) = taken {
            self.consumed_by_all(bytes);
            return Err(fault);
        }
        // What pads is used up at once.
        let padding = bytes.saturating_sub(u32::try_from(data.len()).unwrap_or(bytes));
        self.consumed(place, padding);
        self.consumed_by_all(padding);
        let ended = header.has(END_STREAM);
        if ended {
            self.end_of_request(place);
        }
        Ok(Some(Event::Data { place, data, ended }))
    }

    /// Takes a piece off the window of its stream and off the length that was told.
    fn take_data(&mut self, place: usize, id: u32, bytes: u32, data: u64, ended: bool) -> Result<(), Fault> {
        let stream = self.streams.at(place).filter(|stream| stream.receives);
        let stream = stream.ok_or(Fault::Stream(id, Code::STREAM_CLOSED))?;
        stream.window -= i64::from(bytes);
        if stream.window < 0 {
            return Err(Fault::Stream(id, Code::FLOW_CONTROL_ERROR));
        }
        if let Some(left) = &mut stream.left {
            let rest = left.checked_sub(data).filter(|rest| !ended || *rest == 0);
            *left = rest.ok_or(Fault::Stream(id, Code::PROTOCOL_ERROR))?;
        }
        Ok(())
    }

    pub(super) fn window_update<'b>(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event<'b>>, Fault> {
        let id = header.stream;
        if payload.len() != 4 {
            return Err(Fault::Connection(Code::FRAME_SIZE_ERROR));
        }
        let more = i64::from(number(payload).unwrap_or(0) & 0x7fff_ffff);
        if id == 0 {
            self.send_window += more;
            let sound = more > 0 && self.send_window <= MAX_WINDOW;
            let code = if more == 0 { Code::PROTOCOL_ERROR } else { Code::FLOW_CONTROL_ERROR };
            return if sound { Ok(None) } else { Err(Fault::Connection(code)) };
        }
        self.refuse_idle(id)?;
        let Some(place) = self.streams.find(id) else { return Ok(None) };
        if more == 0 {
            return Err(Fault::Stream(id, Code::PROTOCOL_ERROR));
        }
        let Some(stream) = self.streams.at(place) else { return Ok(None) };
        stream.send_window += more;
        if stream.send_window > MAX_WINDOW {
            return Err(Fault::Stream(id, Code::FLOW_CONTROL_ERROR));
        }
        if stream.waits && stream.send_window > 0 {
            stream.waits = false;
            return Ok(Some(Event::Room { place }));
        }
        Ok(None)
    }

    /// So many bytes of a request body were used up: the peer may send as many again on this stream.
    pub fn consumed(&mut self, place: usize, bytes: u32) {
        let most = self.limits.window;
        if bytes > 0
            && let Some(stream) = self.streams.at(place).filter(|stream| stream.receives)
        {
            stream.owed = stream.owed.saturating_add(bytes);
            if stream.owed >= most / 2 {
                let owed = std::mem::take(&mut stream.owed);
                stream.window += i64::from(owed);
                let id = stream.id;
                self.output.frame(WINDOW_UPDATE, 0, id, &owed.to_be_bytes());
            }
        }
    }

    /// The same for all streams together, where every byte counts that came.
    pub fn consumed_by_all(&mut self, bytes: u32) {
        self.owed = self.owed.saturating_add(bytes);
        if self.owed >= CONNECTION_WINDOW / 2 {
            let owed = std::mem::take(&mut self.owed);
            self.window += i64::from(owed);
            self.output.frame(WINDOW_UPDATE, 0, 0, &owed.to_be_bytes());
        }
    }

    /// Bytes that the next DATA frame of a stream may carry.
    pub fn room(&self, place: usize) -> usize {
        let own = self.streams.peek(place).map_or(0, |stream| stream.send_window);
        let most = own.min(self.send_window).max(0);
        usize::try_from(most).unwrap_or(usize::MAX).min(MAX_PAYLOAD)
    }

    /// The window of the connection is open.
    pub fn has_room(&self) -> bool {
        self.send_window > 0
    }

    /// Asks for [`Event::Room`] once the window of the stream opens.
    pub fn wait(&mut self, place: usize) {
        if let Some(stream) = self.streams.at(place) {
            stream.waits = true;
        }
    }

    /// Writes one DATA frame, no longer than [`Session::room`]; `end`: it is the last one.
    pub fn send(&mut self, place: usize, data: Bytes, end: bool) {
        let Some(stream) = self.streams.at(place) else { return };
        let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
        stream.send_window -= length;
        self.send_window -= length;
        let id = stream.id;
        self.output.data(if end { END_STREAM } else { 0 }, id, data);
        if end {
            self.end_of_answer(place);
        }
    }

    pub(super) fn end_of_request(&mut self, place: usize) {
        let Some(stream) = self.streams.at(place) else { return };
        stream.receives = false;
        if !stream.sends {
            self.streams.close(place);
        }
    }

    pub(super) fn end_of_answer(&mut self, place: usize) {
        let Some(stream) = self.streams.at(place) else { return };
        stream.sends = false;
        if !stream.receives {
            self.streams.close(place);
        }
    }
}
