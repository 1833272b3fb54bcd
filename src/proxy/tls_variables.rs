//! Variables that tell of the TLS connection of a request: `$ssl_protocol`, `$ssl_client_s_dn` and the like. Worked out
//! when a format, a snippet or a template names one, never before.

use std::borrow::Cow;
use std::fmt;

use super::connection::TlsFacts;
use super::exchange::Exchange;
use crate::cert::client::{Details, details, escaped_pem, facts};
use crate::variable::{Fixed, Handshake};

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchange({})", self.request_id)
    }
}

impl Handshake for Exchange {
    fn value(&self, variable: Fixed) -> Option<Cow<'_, [u8]>> {
        let tls = self.connection.tls.as_ref()?;
        match variable {
            Fixed::SslProtocol => Some(Cow::Borrowed(tls.protocol.as_bytes())),
            Fixed::SslAlpnProtocol => tls.alpn.as_deref().map(Cow::Borrowed),
            Fixed::SslCipher => Some(Cow::Borrowed(tls.cipher.as_bytes())),
            Fixed::SslCurve => tls.group.map(|group| Cow::Borrowed(group.as_bytes())),
            Fixed::SslServerName => tls.server_name.as_ref().map(|name| Cow::Borrowed(name.as_bytes())),
            Fixed::SslSessionReused => Some(Cow::Borrowed(if tls.resumed { b"r" } else { b"." })),
            // Who was not asked has not been checked: nginx says so in the same word.
            Fixed::SslClientVerify => Some(match self.standing().and_then(|standing| standing.verified()) {
                Some(text) => Cow::Borrowed(text),
                None => Cow::Borrowed(b"NONE"),
            }),
            _ => self
                .standing()
                .and_then(|_| certificate(tls, variable))
                .map(|text| Cow::Owned(text.into_bytes())),
        }
    }
}

/// OpenSSL's name of a group, as `$ssl_curve` shows it.
pub(super) const fn group_name(group: rustls::NamedGroup) -> Option<&'static str> {
    match group {
        rustls::NamedGroup::X25519 => Some("X25519"),
        rustls::NamedGroup::secp256r1 => Some("prime256v1"),
        rustls::NamedGroup::secp384r1 => Some("secp384r1"),
        rustls::NamedGroup::secp521r1 => Some("secp521r1"),
        rustls::NamedGroup::X25519MLKEM768 => Some("X25519MLKEM768"),
        _ => None,
    }
}

/// A fact of the client's certificate.
fn certificate(tls: &TlsFacts, variable: Fixed) -> Option<String> {
    let leaf = tls.client_chain.first()?;
    let detail = |show: fn(&Details) -> String| details(leaf).map(|details| show(&details));
    match variable {
        Fixed::SslClientSubject => facts(leaf).map(|names| names.subject),
        Fixed::SslClientIssuer => facts(leaf).map(|names| names.issuer),
        Fixed::SslClientEscapedCert => Some(escaped_pem(leaf)),
        Fixed::SslClientFingerprint => detail(|details| details.fingerprint.clone()),
        Fixed::SslClientSerial => detail(|details| details.serial.clone()),
        Fixed::SslClientStart => detail(|details| details.not_before.clone()),
        Fixed::SslClientEnd => detail(|details| details.not_after.clone()),
        Fixed::SslClientRemain => detail(|details| details.days_left.to_string()),
        _ => None,
    }
}
