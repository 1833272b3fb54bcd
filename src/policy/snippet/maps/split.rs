//! `split_clients` blocks: a share of all texts for each value, by the hash that nginx takes (MurmurHash2), so that a client
//! falls into the same share here as there. Made and asked by `maps`.

use super::super::lex::{Fault, Statement, Word};
use crate::policy::template::Template;

/// The entries of one `split_clients`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shares {
    /// Hashes below this one, in order; `None` for all that are left (`*`).
    shares: Vec<(Option<u32>, Template)>,
    /// For what no share takes.
    none: Template,
}

/// Hundredths of a percent.
const WHOLE: u64 = 10_000;

impl Shares {
    /// Reads the block.
    ///
    /// # Errors
    /// [`Fault`] for what nginx would refuse.
    pub(super) fn read(lines: &[Statement]) -> Result<Self, Fault> {
        let mut shares = Vec::new();
        let (mut sum, mut last) = (0_u64, 0_u64);
        for line in lines {
            let [key, value] = line.words.as_slice() else {
                return Err(Fault::new(line.at, "an entry is a percentage and a value"));
            };
            let end = if key.text == "*" {
                None
            } else {
                let share = percentage(key)?;
                sum = sum.saturating_add(share);
                if sum > WHOLE {
                    return Err(Fault::new(key.at, "the shares are more than 100%"));
                }
                last = last.saturating_add(u64::from(u32::MAX).saturating_mul(share) / WHOLE);
                Some(u32::try_from(last).unwrap_or(u32::MAX))
            };
            shares.push((end, Template::plain(&value.text)));
        }
        Ok(Self { shares, none: Template::plain("") })
    }

    /// The value of the share that a text falls into.
    pub(super) fn look(&self, text: &[u8]) -> &Template {
        let hash = murmur2(text);
        let found = self.shares.iter().find(|(end, _)| end.is_none_or(|end| hash < end || end == u32::MAX));
        found.map_or(&self.none, |(_, value)| value)
    }
}

/// `12.5%`, in hundredths of a percent: at most two digits after the dot, more than nothing.
fn percentage(word: &Word) -> Result<u64, Fault> {
    let read = || {
        let (whole, part) = match word.text.strip_suffix('%')?.split_once('.') {
            Some((whole, part)) => (whole, part),
            None => (word.text.strip_suffix('%')?, ""),
        };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 || whole.len() > 3 || whole.is_empty() {
            return None;
        }
        let part: u64 = format!("{part:0<2}").parse().ok()?;
        let share = whole.parse::<u64>().ok()?.saturating_mul(100).saturating_add(part);
        (share > 0).then_some(share)
    };
    read().ok_or_else(|| Fault::new(word.at, format!("{} is no percentage", word.text)))
}

/// MurmurHash2 of 32 bits with seed 0 xor the length, as in nginx.
fn murmur2(text: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let (words, rest) = text.as_chunks::<4>();
    for word in words {
        let mut key = u32::from_le_bytes(*word).wrapping_mul(M);
        key ^= key >> 24;
        hash = hash.wrapping_mul(M) ^ key.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::super::super::lex;
    use super::*;

    fn read(text: &str) -> Result<Shares, Fault> {
        Shares::read(&lex::parse(text, lex::MAX_TEXT)?)
    }

    #[test]
    fn clients_fall_into_the_shares_of_nginx() {
        // Seen with nginx 1.22: split_clients $arg_x $v { 10% a; 20.5% b; * c; }
        let shares = read("10% a; 20.5% b; * c;").expect("sound");
        for (text, expect) in OBSERVED {
            assert_eq!(shares.look(text.as_bytes()).constant(), Some(*expect), "{text}");
        }
        let shares = read("0.01% a;").expect("sound");
        assert_eq!(shares.look(b"one").constant(), Some(""));
    }

    const OBSERVED: &[(&str, &str)] = &[
        ("", "a"),
        ("a", "c"),
        ("one", "c"),
        ("three", "c"),
        ("1.2.3.4", "c"),
        ("longer-text-of-some-length", "c"),
        ("user1", "a"),
        ("user2", "b"),
        ("user3", "c"),
        ("user4", "c"),
        ("user5", "c"),
        ("user6", "c"),
    ];

    #[test]
    fn what_nginx_would_refuse_is_a_fault() {
        for text in ["60% a; 50% b;", "x a;", "0% a;", "1.234% a;", "10 a;", "10%;", "% a;"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
