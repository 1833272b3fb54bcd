//! Certificates of clients: authorities and revocation lists as webpki reads them, the verdict on a chain, and the
//! texts that nginx makes of a certificate.
//!
//! rustls' own verifier would end the handshake; ours is asked afterwards, so that the client gets an answer in HTTP.

use std::fmt::{self, Write};
use std::ops::RangeInclusive;

use rustls::DistinguishedName;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sha1::{Digest, Sha1};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
    anchor_from_trusted_cert,
};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;
use x509_parser::x509::{X509Name, X509Version};

use super::old;
use super::own::{self, Side};

/// Whom to trust about clients.
pub struct Authority {
    /// DER of all that was given.
    trusted: Vec<Box<[u8]>>,
    /// Those of them that may issue.
    issuers: Vec<Issuer>,
    revocations: Vec<CertRevocationList<'static>>,
    /// Subjects of the authorities, which clients choose their certificate by.
    pub subjects: Vec<DistinguishedName>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({} issuers of {})", self.issuers.len(), self.trusted.len())
    }
}

/// A certificate that others may be issued by, while it is in force.
struct Issuer {
    der: Box<[u8]>,
    anchor: TrustAnchor<'static>,
    /// Seconds since 1970.
    force: RangeInclusive<i64>,
}

/// Why a chain does not stand up, in OpenSSL's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The words.
    pub reason: &'static str,
    /// Only the authority is unknown.
    pub unknown_authority: bool,
}

impl Authority {
    /// Reads DER. `None` when a part cannot be used: half an authority could let somebody in who was revoked.
    pub fn read(authorities: &[Box<[u8]>], revocations: &[Box<[u8]>]) -> Option<Self> {
        let mut authority = Self {
            trusted: authorities.to_vec(),
            issuers: Vec::new(),
            revocations: Vec::new(),
            subjects: Vec::new(),
        };
        for der in authorities {
            let certificate = CertificateDer::from(&**der);
            let anchor = anchor_from_trusted_cert(&certificate).ok()?;
            let (_, parsed) = X509Certificate::from_der(der).ok()?;
            authority.subjects.push(DistinguishedName::from(parsed.subject().as_raw().to_vec()));
            if may_issue(&parsed) {
                let validity = parsed.validity();
                let force = validity.not_before.timestamp()..=validity.not_after.timestamp();
                authority.issuers.push(Issuer { der: der.clone(), anchor: anchor.to_owned(), force });
            }
        }
        for der in revocations {
            let list = OwnedCertRevocationList::from_der(der).ok()?;
            authority.revocations.push(CertRevocationList::Owned(list));
        }
        (!authority.trusted.is_empty()).then_some(authority)
    }

    /// Judges a chain, the client's certificate first. At most `depth` authorities may stand between it and ours.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn verify(&self, chain: &[CertificateDer<'_>], depth: u32, now: UnixTime) -> Result<(), Fault> {
        let broken = Fault { reason: "certificate rejected", unknown_authority: false };
        let (leaf, intermediates) = chain.split_first().ok_or(broken)?;
        let end = match EndEntityCert::try_from(leaf) {
            Ok(end) => end,
            Err(Error::UnsupportedCertVersion) => return self.verify_old(leaf, now),
            Err(error) => return Err(fault(&error, leaf)),
        };
        let lists: Vec<&CertRevocationList<'_>> = self.revocations.iter().collect();
        // As nginx's ssl_crl: every authority of the chain needs a list, and a list that ran out counts as none.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let within = |path: &VerifiedPath<'_>| {
            let between = path.intermediate_certificates().count();
            if u32::try_from(between).is_ok_and(|between| between <= depth) {
                Ok(())
            } else {
                Err(Error::MaximumPathDepthExceeded)
            }
        };
        let anchors: Vec<_> = self.in_force(now).map(|issuer| issuer.anchor.clone()).collect();
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
        end.verify_for_usage(
            algorithms,
            &anchors,
            intermediates,
            now,
            KeyUsage::client_auth(),
            revocation,
            Some(&within),
        )
        .map(|_path| ())
        .or_else(|error| match error {
            Error::CaUsedAsEndEntity | Error::UnknownIssuer if self.is_own(leaf, now) => Ok(()),
            // Whose authority ended has none that is unknown: nobody may let it pass for that.
            Error::UnknownIssuer if anchors.len() < self.issuers.len() => {
                Err(Fault { reason: "certificate has expired", unknown_authority: false })
            }
            _ => Err(fault(&error, leaf)),
        })
    }

    /// Version 1 of X.509, as the usual instructions make it with OpenSSL before 3.2. With revocation lists it stays
    /// refused.
    fn verify_old(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Fault> {
        let known = |reason| Err(Fault { reason, unknown_authority: false });
        let issuers: Vec<&[u8]> = self.in_force(now).map(|issuer| &*issuer.der).collect();
        match old::verify(leaf, &issuers, now) {
            Ok(()) if self.revocations.is_empty() => Ok(()),
            Ok(()) => known("unable to get certificate CRL"),
            Err(old::Wrong::Kind) => known("certificate rejected"),
            Err(old::Wrong::Issuer) => Err(fault(&Error::UnknownIssuer, leaf)),
            Err(old::Wrong::Expired) => known("certificate has expired"),
            Err(old::Wrong::NotYet) => known("certificate is not yet valid"),
        }
    }

    /// Those that may issue now.
    fn in_force(&self, now: UnixTime) -> impl Iterator<Item = &Issuer> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.issuers.iter().filter(move |issuer| issuer.force.contains(&now))
    }

    /// True for a certificate of `ca.crt` in the hand of its own holder. With revocation lists it stays refused: nobody
    /// above it could have said whether it still counts.
    fn is_own(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> bool {
        self.revocations.is_empty()
            && self.trusted.iter().any(|der| **der == **leaf)
            && own::may_be_shown(leaf, Side::Client, now)
    }
}

/// What OpenSSL takes for an authority of clients: `CA:TRUE`, or nothing said of that but the right to sign certificates,
/// or a root of version 1.
fn may_issue(certificate: &X509Certificate<'_>) -> bool {
    let (Ok(constraints), Ok(usage), Ok(extended)) =
        (certificate.basic_constraints(), certificate.key_usage(), certificate.extended_key_usage())
    else {
        return false;
    };
    let signs = usage.as_ref().is_none_or(|usage| usage.value.key_cert_sign());
    let clients = extended.is_none_or(|extended| extended.value.client_auth || extended.value.any);
    let root = certificate.version() == X509Version::V1 && certificate.subject() == certificate.issuer();
    let stands = constraints.map_or_else(|| root || usage.is_some(), |constraints| constraints.value.ca);
    signs && clients && stands
}

fn fault(error: &Error, leaf: &CertificateDer<'_>) -> Fault {
    let known = |reason| Fault { reason, unknown_authority: false };
    match error {
        Error::UnknownIssuer => {
            let own = facts(leaf).is_some_and(|facts| facts.subject == facts.issuer);
            let reason =
                if own { "self-signed certificate" } else { "unable to verify the first certificate" };
            Fault { reason, unknown_authority: true }
        }
        Error::CertExpired { .. } => known("certificate has expired"),
        Error::CertNotValidYet { .. } => known("certificate is not yet valid"),
        Error::CertRevoked => known("certificate revoked"),
        Error::CrlExpired { .. } => known("CRL has expired"),
        Error::UnknownRevocationStatus => known("unable to get certificate CRL"),
        Error::MaximumPathDepthExceeded => known("certificate chain too long"),
        Error::RequiredEkuNotFoundContext(_) => known("unsuitable certificate purpose"),
        Error::InvalidSignatureForPublicKey => known("certificate signature failure"),
        _ => known("certificate rejected"),
    }
}

/// Names of a certificate as nginx tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// `$ssl_client_s_dn`.
    pub subject: String,
    /// `$ssl_client_i_dn`.
    pub issuer: String,
}

/// The names of a certificate (RFC 2253); `None` when it cannot be read.
pub fn facts(certificate: &CertificateDer<'_>) -> Option<Names> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(Names { subject: name(parsed.subject()), issuer: name(parsed.issuer()) })
}

/// What nginx tells of a certificate beside its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// `$ssl_client_serial`: hexadecimal, upper case.
    pub serial: String,
    /// `$ssl_client_fingerprint`: SHA-1, hexadecimal, lower case.
    pub fingerprint: String,
    /// `$ssl_client_v_start`, as OpenSSL prints a time.
    pub not_before: String,
    /// `$ssl_client_v_end`.
    pub not_after: String,
    /// `$ssl_client_v_remain`: whole days, 0 once it ended.
    pub days_left: i64,
}

/// Details of a certificate; `None` when it cannot be read.
pub fn details(certificate: &CertificateDer<'_>) -> Option<Details> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    let serial = match parsed.raw_serial() {
        // The sign of a number whose first bit is set.
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    Some(Details {
        serial: hex(serial).to_ascii_uppercase(),
        fingerprint: hex(&Sha1::digest(certificate)),
        not_before: printed(&validity.not_before),
        not_after: printed(&validity.not_after),
        days_left: (validity.not_after.timestamp().saturating_sub(now) / 86_400).max(0),
    })
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

/// As `ASN1_TIME_print` has it: `Jan  2 15:04:05 2026 GMT`.
fn printed(time: &ASN1Time) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let time = time.to_datetime();
    let month = usize::from(u8::from(time.month())).checked_sub(1).and_then(|month| MONTHS.get(month));
    format!(
        "{} {:2} {:02}:{:02}:{:02} {} GMT",
        month.unwrap_or(&""),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.year()
    )
}

/// A name as OpenSSL's `XN_FLAG_RFC2253` writes it: last attribute first, bytes outside ASCII escaped.
fn name(name: &X509Name<'_>) -> String {
    let sets: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for (place, set) in sets.into_iter().rev().enumerate() {
        if place > 0 {
            text.push(',');
        }
        for (place, attribute) in set.iter().enumerate() {
            if place > 0 {
                text.push('+');
            }
            let oid = attribute.attr_type().to_id_string();
            let value = attribute.attr_value();
            match (short_name(&oid), utf8(value)) {
                (Some(short), Some(value)) => {
                    text.push_str(short);
                    text.push('=');
                    escape(&value, &mut text);
                }
                (known, _) => {
                    text.push_str(known.unwrap_or(&oid));
                    text.push_str("=#");
                    let mut der = Vec::new();
                    dump(value, &mut der);
                    for byte in der {
                        let _infallible = write!(text, "{byte:02X}");
                    }
                }
            }
        }
    }
    text
}

/// OpenSSL's short names of attributes.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "2.5.4.43" => "initials",
        "2.5.4.46" => "dnQualifier",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

/// The value as UTF-8; `None` for types that are no text.
fn utf8(value: &x509_parser::der_parser::asn1_rs::Any<'_>) -> Option<String> {
    const UTF8: u32 = 12;
    const NUMERIC: u32 = 18;
    const PRINTABLE: u32 = 19;
    const TELETEX: u32 = 20;
    const IA5: u32 = 22;
    const VISIBLE: u32 = 26;
    const BMP: u32 = 30;
    match value.header.tag().0 {
        UTF8 | NUMERIC | PRINTABLE | IA5 | VISIBLE => String::from_utf8(value.data.to_vec()).ok(),
        TELETEX => Some(value.data.iter().map(|byte| char::from(*byte)).collect()),
        BMP => {
            let units: Vec<u16> = value
                .data
                .chunks_exact(2)
                .map(|pair| pair.iter().fold(0, |unit, byte| unit << 8 | u16::from(*byte)))
                .collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// DER of a value that is no text.
fn dump(value: &x509_parser::der_parser::asn1_rs::Any<'_>, der: &mut Vec<u8>) {
    let tag = u8::try_from(value.header.tag().0 & 0x1f).unwrap_or(0);
    der.push(tag | if value.header.is_constructed() { 0x20 } else { 0 });
    match u8::try_from(value.data.len()) {
        Ok(short @ 0..=127) => der.push(short),
        _ => {
            let length = value.data.len().to_be_bytes();
            let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
            der.push(0x80 | u8::try_from(length.len()).unwrap_or(0));
            der.extend(length);
        }
    }
    der.extend_from_slice(value.data);
}

/// RFC 2253 section 2.4, with `ESC_CTRL` and `ESC_MSB`.
fn escape(value: &str, text: &mut String) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'#' if at == 0 => text.push_str("\\#"),
            b' ' if at == 0 || at == last => text.push_str("\\ "),
            0..0x20 | 0x7f.. => {
                let _infallible = write!(text, "\\{byte:02X}");
            }
            _ => text.push(char::from(byte)),
        }
    }
}

/// nginx's `$ssl_client_escaped_cert`: PEM, escaped as part of a URL.
pub fn escaped_pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (at, letter) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    let mut escaped = String::with_capacity(pem.len() * 5 / 4);
    for byte in pem.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            let _infallible = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
