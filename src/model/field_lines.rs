//! Lines of the fields of one document, packed: every object keeps some forty of them for messages that are rarely
//! written, and as a map of texts they took two fifths of all memory. Not a parser of paths; `manifest` writes them,
//! findings look them up.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Lines (from 1) by path, such as `spec.rules[0].http.paths[1].path`. In the order of the paths each entry holds how
/// many bytes it shares with the one before, how many follow, these, and how far below the first line; numbers as LEB128.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FieldLines {
    first: u32,
    /// Objects that are written alike, such as all of one template, share it.
    packed: Arc<[u8]>,
}

impl FieldLines {
    /// The line of `field`.
    pub fn get(&self, field: &str) -> Option<u32> {
        let (mut rest, mut path) = (&*self.packed, Vec::new());
        loop {
            let shared = number(&mut rest)?;
            let length = number(&mut rest)?;
            let (own, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            rest = after;
            path.truncate(usize::try_from(shared).ok()?);
            path.extend_from_slice(own);
            let line = number(&mut rest)?;
            match path.as_slice().cmp(field.as_bytes()) {
                Ordering::Less => {}
                Ordering::Equal => return self.first.checked_add(line),
                Ordering::Greater => return None,
            }
        }
    }

    /// These lines; where one of `others` is written alike, in its memory.
    #[must_use]
    pub fn sharing<'o>(self, mut others: impl Iterator<Item = &'o Self>) -> Self {
        match others.find(|other| other.packed == self.packed) {
            Some(other) => Self { packed: Arc::clone(&other.packed), ..self },
            None => self,
        }
    }
}

impl From<BTreeMap<String, u32>> for FieldLines {
    fn from(lines: BTreeMap<String, u32>) -> Self {
        let first = lines.values().copied().min().unwrap_or_default();
        let (mut packed, mut last) = (Vec::new(), "");
        for (path, line) in &lines {
            let shared = path.bytes().zip(last.bytes()).take_while(|(new, old)| new == old).count();
            let own = path.as_bytes().get(shared..).unwrap_or_default();
            for length in [shared, own.len()] {
                put(&mut packed, u32::try_from(length).unwrap_or(u32::MAX));
            }
            packed.extend_from_slice(own);
            put(&mut packed, line - first);
            last = path;
        }
        Self { first, packed: packed.into() }
    }
}

fn put(packed: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        packed.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    packed.push(number.to_le_bytes()[0]);
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (mut value, mut shift) = (0_u32, 0_u32);
    loop {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if *byte < 0x80 {
            return Some(value);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_found_again_and_no_other() {
        let paths = [
            "",
            "data[ä]",
            "data[ö]",
            "spec",
            "spec.rules",
            "spec.rules[0]",
            "spec.rules[0].host",
            "spec.tls",
        ];
        let lines = [0, 1, 127, 128, 300, 16_383, 16_384, u32::MAX];
        let long = "x".repeat(70_000);
        let mut map: BTreeMap<String, u32> = paths.iter().map(|path| (*path).to_owned()).zip(lines).collect();
        map.insert(long.clone(), 5);
        let packed = FieldLines::from(map.clone());
        for (path, line) in &map {
            assert_eq!(packed.get(path), Some(*line), "{path}");
        }
        for other in ["s", "spec.rule", "spec.rules[0].hosts", "spec.rules[1]", &long[1..], "data[\u{fffd}]"]
        {
            assert_eq!(packed.get(other), None, "{other}");
        }
        let lower: BTreeMap<_, _> = map.iter().map(|(path, line)| (path.clone(), line / 2 + 7)).collect();
        let lower = FieldLines::from(lower).sharing(std::iter::once(&packed));
        assert!(!Arc::ptr_eq(&lower.packed, &packed.packed) && lower.get(&long) == Some(9));
        assert_eq!(FieldLines::default().get(""), None);
        assert_eq!(FieldLines::from(BTreeMap::new()), FieldLines::default());
    }

    #[test]
    fn objects_that_are_written_alike_share_all_but_where_they_stand() {
        let at = |first: u32| {
            let lines = [("metadata", 0), ("spec", 1), ("spec.rules", 300)];
            FieldLines::from(BTreeMap::from(lines.map(|(path, line)| (path.to_owned(), first + line))))
        };
        let (one, two) = (at(5), at(900).sharing([&FieldLines::default(), &at(5)].into_iter()));
        assert!(one != two && one.packed == two.packed);
        let shared = two.clone().sharing([&one].into_iter());
        assert!(Arc::ptr_eq(&shared.packed, &one.packed) && shared == two);
        assert_eq!((one.get("spec.rules"), shared.get("spec.rules")), (Some(305), Some(1200)));
    }
}
