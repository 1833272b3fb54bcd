//! The open streams of one connection: what each may still send and receive.

/// What is known of one stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// 0 for a place that nobody has.
    pub(super) id: u32,
    /// The peer may send more of its request.
    pub(super) receives: bool,
    /// The answer goes on.
    pub(super) sends: bool,
    /// What the peer takes, bytes; less than nothing after it made its windows smaller.
    pub(super) send_window: i64,
    /// What the peer may send, bytes.
    pub(super) window: i64,
    /// Bytes that were used up and not yet granted again.
    pub(super) owed: u32,
    /// What `Content-Length` says is still to come.
    pub(super) left: Option<u64>,
    /// Somebody asked to hear when the window opens.
    pub(super) waits: bool,
}

/// All of them, each in a place that it keeps.
#[derive(Debug, Default)]
pub(super) struct Streams {
    places: Vec<Stream>,
    /// Ids with their places, in order: peers count upwards.
    order: Vec<(u32, usize)>,
    free: Vec<usize>,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Takes a place; ids only grow.
    pub(super) fn open(&mut self, stream: Stream) -> usize {
        let id = stream.id;
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.places.push(Stream::default());
                self.places.len() - 1
            }
        };
        if let Some(room) = self.places.get_mut(place) {
            *room = stream;
        }
        self.order.push((id, place));
        place
    }

    pub(super) fn find(&self, id: u32) -> Option<usize> {
        let at = self.order.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.order.get(at).map(|(_, place)| *place)
    }

    pub(super) fn at(&mut self, place: usize) -> Option<&mut Stream> {
        self.places.get_mut(place).filter(|stream| stream.id != 0)
    }

    pub(super) fn peek(&self, place: usize) -> Option<&Stream> {
        self.places.get(place).filter(|stream| stream.id != 0)
    }

    pub(super) fn each(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.places.iter_mut().filter(|stream| stream.id != 0)
    }

    /// Gives the place back.
    pub(super) fn close(&mut self, place: usize) {
        let Some(stream) = self.at(place) else { return };
        let id = std::mem::take(&mut stream.id);
        if let Ok(at) = self.order.binary_search_by_key(&id, |(id, _)| *id) {
            self.order.remove(at);
        }
        self.free.push(place);
    }
}
