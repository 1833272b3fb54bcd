//! `ssl-session-ticket-key`, `ssl-ciphers`: texts of OpenSSL and nginx as what the TLS library is told.

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

/// What there is for TLS 1.2, by OpenSSL's name and the one of the registry.
const SUITES: [(&str, &str, u16); 6] = [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 0xc02b),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", 0xc02c),
    ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 0xc02f),
    ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", 0xc030),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca9),
    ("ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca8),
];
/// Words of OpenSSL that stand for all of these.
const ALL: [&str; 8] = ["ALL", "COMPLEMENTOFDEFAULT", "DEFAULT", "ECDHE", "EECDH", "HIGH", "TLSV1.2", "AEAD"];

/// The suites that a list of OpenSSL names, less those that it excludes. Strings that a list may hold and that name
/// nothing we have are passed over, as by nginx; one that leaves nothing is an error.
pub(super) fn ciphers(text: &str) -> Result<Arc<[u16]>, String> {
    let mut chosen: Vec<u16> = Vec::new();
    let mut excluded: Vec<u16> = Vec::new();
    for word in text.split([':', ',', ' ', ';']).filter(|word| !word.is_empty()) {
        if !word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_!+@=.".contains(&byte)) {
            return Err(format!("{word:?} is no name of a cipher suite"));
        }
        let (list, name) = match word.strip_prefix(['!', '-']) {
            Some(name) => (&mut excluded, name),
            None => (&mut chosen, word.trim_start_matches('+')),
        };
        let named = |(openssl, registry, _): &&(&str, &str, u16)| {
            name.eq_ignore_ascii_case(openssl) || name.eq_ignore_ascii_case(registry)
        };
        match SUITES.iter().find(named) {
            Some((_, _, number)) => list.push(*number),
            // `EECDH+AESGCM` and the like choose among what we have at most.
            None if ALL
                .iter()
                .any(|all| name.split('+').next().is_some_and(|part| part.eq_ignore_ascii_case(all))) =>
            {
                list.extend(SUITES.iter().map(|(_, _, number)| *number));
            }
            None => {}
        }
    }
    chosen.retain(|number| !excluded.contains(number));
    chosen.sort_unstable();
    chosen.dedup();
    if chosen.is_empty() {
        let known: Vec<&str> = SUITES.iter().map(|(openssl, _, _)| *openssl).collect();
        return Err(format!("names none of the suites there are: {}", known.join(", ")));
    }
    Ok(chosen.into())
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

    #[test]
    fn cipher_lists_choose_among_the_suites_there_are() {
        for (text, expect) in [
            ("ECDHE-RSA-AES128-GCM-SHA256", Some(vec![0xc02f])),
            ("ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256", Some(vec![0xc02f, 0xc030])),
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some(vec![0xc02f])),
            ("DHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305", Some(vec![0xcca8])),
            ("HIGH:!aNULL:!MD5", Some(vec![0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9])),
            ("ALL:!ECDHE-RSA-AES128-GCM-SHA256", Some(vec![0xc02b, 0xc02c, 0xc030, 0xcca8, 0xcca9])),
            ("EECDH+AESGCM:!aNULL", Some(vec![0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9])),
            ("AES128-SHA", None),
            ("HIGH:!ALL", None),
            ("a b$", None),
            ("", None),
        ] {
            assert_eq!(ciphers(text).ok().map(|list| list.to_vec()), expect, "{text}");
        }
    }
}
