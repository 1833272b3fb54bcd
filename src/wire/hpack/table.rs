//! The dynamic table (RFC 7541 section 2.3.2): one text that grows at its end and is freed at its start, with an entry
//! for each line. The decoder's and the encoder's are of one make.

use std::collections::VecDeque;

use super::Mark;

/// Freed bytes at the start of the text that are worth moving the rest for.
const SPENT: usize = 512;

/// A table.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Lines as they are written, freed ones at the start, a draft at the end.
    text: String,
    /// Where the text starts, counted over all that was ever in it.
    base: u32,
    /// Newest first.
    entries: VecDeque<Entry>,
    /// Sum of the sizes of all entries.
    size: usize,
    /// Most that they may sum up to.
    max: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    start: u32,
    length: u32,
    /// Length of the name.
    pub(super) name: u32,
    /// As RFC 7541 section 4.1 counts it.
    pub(super) size: u32,
    pub(super) mark: Mark,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry that so many newer ones stand before.
    pub(super) fn entry(&self, nth: usize) -> Option<&Entry> {
        self.entries.get(nth)
    }

    pub(super) fn text_of(&self, entry: &Entry) -> &str {
        let start = entry.start.wrapping_sub(self.base) as usize;
        self.text.get(start..start + entry.length as usize).unwrap_or("")
    }

    /// Where a draft begins: a line at the end that is no entry yet.
    pub(super) fn begin(&mut self) -> usize {
        let Some(oldest) = self.entries.back() else {
            self.base = self.base.wrapping_add(self.text.len() as u32);
            self.text.clear();
            return 0;
        };
        let spent = oldest.start.wrapping_sub(self.base) as usize;
        // So each byte is moved once at most for each that came.
        if spent >= SPENT && spent >= self.text.len() / 2 {
            self.text.drain(..spent);
            self.base = self.base.wrapping_add(spent as u32);
        }
        self.text.len()
    }

    /// Adds to the draft.
    pub(super) fn push_str(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds bytes to the draft with one character for each.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        self.text.extend(bytes.iter().map(|byte| char::from(*byte)));
    }

    /// Adds something of that length to the draft.
    pub(super) fn push_unread(&mut self, length: usize) {
        self.text.extend(std::iter::repeat_n('?', length));
    }

    /// Adds the name of an entry to the draft.
    pub(super) fn push_name_of(&mut self, entry: Entry) {
        let start = entry.start.wrapping_sub(self.base) as usize;
        let name = start..start + entry.name as usize;
        if self.text.get(name.clone()).is_some() {
            self.text.extend_from_within(name);
        }
    }

    /// The draft that began at `start`.
    pub(super) fn draft(&self, start: usize) -> &str {
        self.text.get(start..).unwrap_or("")
    }

    /// Drops the draft that began at `start`.
    pub(super) fn drop_draft(&mut self, start: usize) {
        self.text.truncate(start);
    }

    /// Makes the draft that began at `start` an entry, and says whether it fits: what is larger than the table empties it
    /// (RFC 7541 section 4.4).
    pub(super) fn keep_draft(&mut self, start: usize, name: usize, size: usize, mark: Mark) -> bool {
        self.shrink_to(self.max.saturating_sub(size));
        if size > self.max {
            self.drop_draft(start);
            return false;
        }
        // The size of a table, and so of all in it, is far below 4 GiB.
        self.entries.push_front(Entry {
            start: self.base.wrapping_add(start as u32),
            length: (self.text.len() - start) as u32,
            name: name as u32,
            size: size as u32,
            mark,
        });
        self.size += size;
        true
    }

    /// Sets how much it may hold.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.shrink_to(max);
    }

    /// Gives back what an unusual block made it take.
    pub(super) fn rest(&mut self) {
        if self.text.capacity() > self.max.saturating_mul(4).max(4 * SPENT) {
            self.begin();
            self.text.shrink_to(self.max);
        }
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size as usize;
        }
    }
}
