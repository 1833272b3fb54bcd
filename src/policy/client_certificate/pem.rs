//! PEM (RFC 7468) to DER, for certificates and revocation lists of Secrets: nothing secret is read here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Bytes of one file.
const MAX_BYTES: usize = 1 << 20;
/// Sections of it.
const MAX_SECTIONS: usize = 256;

/// The sections called `label`, in order. `None` when one of them is broken or there are too many.
pub(in crate::policy) fn sections(text: &[u8], label: &str) -> Option<Vec<Box<[u8]>>> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_BYTES)?;
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, section)) = rest.split_once(&begin) {
        let (body, after) = section.split_once(&end)?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(body).ok()?;
        // Everything that is meant here is a SEQUENCE.
        if der.first() != Some(&0x30) || found.len() == MAX_SECTIONS {
            return None;
        }
        found.push(der.into());
        rest = after;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_among_others_and_broken_ones_break_all() {
        let one = "-----BEGIN CERTIFICATE-----\nMAMC\nAQE=\n-----END CERTIFICATE-----\n";
        let der: &[u8] = &[0x30, 3, 2, 1, 1];
        let check = |text: &str| sections(text.as_bytes(), "CERTIFICATE").map(|found| found.len());
        assert_eq!(&*sections(one.as_bytes(), "CERTIFICATE").unwrap()[0], der);
        assert_eq!(check(&format!("# text\n{one}{}{one}", one.replace("CERTIFICATE", "KEY"))), Some(2));
        assert_eq!(check(""), Some(0));
        assert_eq!(check("junk"), Some(0));
        assert_eq!(check(&one.replace("MAMC", "!!!!")), None);
        assert_eq!(check(&one.replace("MAMC", "AAMC")), None);
        assert_eq!(check(one.trim_end().trim_end_matches('-')), None);
    }
}
