//! `ssl-session-ticket-key`: keys that replicas share, so that each opens the tickets of all.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

/// Keys in one ConfigMap.
const MAX_KEYS: usize = 8;

/// Key material of session tickets; it has no text.
#[derive(Clone)]
pub struct TicketKey(Arc<[u8]>);

impl TicketKey {
    /// Takes 48 or 80 bytes, the lengths that nginx takes.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        matches!(bytes.len(), 48 | 80).then(|| Self(bytes.into()))
    }

    /// The bytes, for the one who derives keys from them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for TicketKey {
    fn eq(&self, other: &Self) -> bool {
        bool::from(self.0.ct_eq(&other.0))
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey")
    }
}

/// One key or several, separated by commas or white space.
pub(super) fn ticket_keys(text: &str) -> Result<Arc<[TicketKey]>, String> {
    let words = || text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    if words().count() > MAX_KEYS {
        return Err(format!("holds more than {MAX_KEYS} keys"));
    }
    let key = |word: &str| {
        let bytes = STANDARD.decode(word).map_err(|_| "is no base64".to_owned())?;
        TicketKey::of(&bytes).ok_or_else(|| format!("is a key of {} bytes, not of 48 or 80", bytes.len()))
    };
    words().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_key_is_base64_of_a_length_that_nginx_takes() {
        let text = |length: usize| STANDARD.encode(vec![7; length]);
        for (value, expect) in [
            (text(48), Some(1)),
            (text(80), Some(1)),
            (format!("{}, {}\n{}", text(80), text(48), text(48)), Some(3)),
            (text(32), None),
            (text(81), None),
            ("not base64!".to_owned(), None),
            (vec![text(48); 9].join(","), None),
            (String::new(), Some(0)),
        ] {
            assert_eq!(ticket_keys(&value).ok().map(|keys| keys.len()), expect, "{value}");
        }
        let key = TicketKey::of(&[7; 48]).unwrap();
        assert_eq!(format!("{key:?}"), "TicketKey");
        assert!(key != TicketKey::of(&[8; 48]).unwrap() && key != TicketKey::of(&[7; 80]).unwrap());
    }
}
