//! The decoder: complete header blocks, field by field, into a [`Sink`].

use super::table::Table;
use super::{Appetite, HpackError, Known, Line, Mark, OVERHEAD, Sink, Tag, Value, huffman, integer, statics};

/// Decodes the header blocks of one connection, in their order.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// What we told the peer that the table may hold.
    most: usize,
    /// The last string that came in Huffman code.
    decoded: Vec<u8>,
}

impl Decoder {
    /// Of a connection whose SETTINGS_HEADER_TABLE_SIZE we said is `max_table` bytes (4096 if we said nothing).
    pub fn new(max_table: u32) -> Self {
        let most = usize::try_from(max_table).unwrap_or(usize::MAX);
        Self { table: Table::new(most), most, decoded: Vec::new() }
    }

    /// Decodes one complete block. The sink cannot end it, since the table has to stay in step with the peer's; a sink
    /// that is full costs no more than the walk.
    ///
    /// # Errors
    /// [`HpackError`]: COMPRESSION_ERROR for the connection.
    pub fn decode(&mut self, block: &[u8], sink: &mut impl Sink) -> Result<(), HpackError> {
        let mut rest = block;
        let (mut begun, mut appetite) = (false, Appetite::More);
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            match *first {
                0x80.. => {
                    let index = integer::read(*first, 7, &mut rest)?;
                    let line = self.indexed(index)?;
                    if appetite == Appetite::More {
                        appetite = sink.line(&line);
                    }
                }
                0x20..0x40 => {
                    let size = integer::read(*first, 5, &mut rest)?;
                    if begun || size > self.most {
                        return Err(HpackError::Size);
                    }
                    self.table.resize(size);
                    continue;
                }
                _ => self.literal(*first, &mut rest, sink, &mut appetite)?,
            }
            begun = true;
        }
        self.table.rest();
        if self.decoded.capacity() > 4 * self.most.max(1024) {
            self.decoded = Vec::new();
        }
        Ok(())
    }

    fn indexed(&self, index: usize) -> Result<Line<'_>, HpackError> {
        if let Some(row) = statics::row(index) {
            return Ok(row);
        }
        let nth = index.checked_sub(statics::LENGTH + 1).ok_or(HpackError::Index)?;
        let entry = self.table.entry(nth).ok_or(HpackError::Index)?;
        Ok(Line {
            text: self.table.text_of(entry),
            name: entry.name as usize,
            mark: entry.mark,
            size: entry.size as usize,
        })
    }

    /// A literal field (RFC 7541 section 6.2), written to the end of the table's text, where it stays or not.
    fn literal(
        &mut self,
        first: u8,
        rest: &mut &[u8],
        sink: &mut impl Sink,
        appetite: &mut Appetite,
    ) -> Result<(), HpackError> {
        let keep = first & 0x40 != 0;
        let index = integer::read(first, if keep { 6 } else { 4 }, rest)?;
        let start = self.table.begin();
        let (name, known, tag) = self.name(index, rest)?;
        self.table.push_str(": ");
        let (length, value) = self.value(rest)?;
        self.table.push_str("\r\n");
        let size = name + length + OVERHEAD;
        let mark = Mark { known, value, tag };
        if *appetite == Appetite::More {
            *appetite = sink.line(&Line { text: self.table.draft(start), name, mark, size });
        }
        if keep {
            self.table.keep_draft(start, name, size, mark);
        } else {
            self.table.drop_draft(start);
        }
        Ok(())
    }

    /// Writes the name, and says its length and what is known of it.
    fn name(&mut self, index: usize, rest: &mut &[u8]) -> Result<(usize, Known, Tag), HpackError> {
        if let Some(row) = statics::row(index) {
            self.table.push_str(row.name());
            return Ok((row.name, row.mark.known, row.mark.tag));
        }
        if let Some(nth) = index.checked_sub(statics::LENGTH + 1) {
            let entry = *self.table.entry(nth).ok_or(HpackError::Index)?;
            self.table.push_name_of(entry);
            return Ok((entry.name as usize, entry.mark.known, entry.mark.tag));
        }
        let name = string(rest, &mut self.decoded)?;
        let (known, kinds) = Known::of(name);
        match std::str::from_utf8(name) {
            Ok(text) => self.table.push_str(text),
            // Nobody will read it, but its length counts.
            Err(_) => self.table.push_unread(name.len()),
        }
        Ok((name.len(), known, Tag::scanned(name, kinds).written()))
    }

    /// Writes the value, and says how many bytes it had and what is known of it.
    fn value(&mut self, rest: &mut &[u8]) -> Result<(usize, Value), HpackError> {
        let bytes = string(rest, &mut self.decoded)?;
        let (value, text) = Value::of(bytes);
        match text {
            Some(text) => self.table.push_str(text),
            None if value == Value::Raw => self.table.push_bytes(bytes),
            None => self.table.push_unread(bytes.len()),
        }
        Ok((bytes.len(), value))
    }
}

/// A string (RFC 7541 section 5.2), which lies in the block or is decoded.
fn string<'s, 'b: 's>(rest: &mut &'b [u8], decoded: &'s mut Vec<u8>) -> Result<&'s [u8], HpackError> {
    let Some((first, tail)) = rest.split_first() else { return Err(HpackError::Short) };
    *rest = tail;
    let length = integer::read(*first, 7, rest)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(HpackError::Short)?;
    *rest = tail;
    if first & 0x80 == 0 {
        return Ok(text);
    }
    decoded.clear();
    huffman::decode(text, decoded)?;
    Ok(decoded)
}
