//! Certificates that webpki cannot read and OpenSSL takes: version 1 of X.509, which `openssl x509 -req` makes of a
//! request where it is given no extensions, and such as hold a critical extension that webpki does not know.
//!
//! `pair` compares keys here, `proxy` proves that a client has the key of what it shows, and `client` asks whether an
//! authority signed it. Not for chains: an intermediate of version 1 stays refused, as nothing says that it is one.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use webpki::{EndEntityCert, RawPublicKeyEntity};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

use super::own::limits_names;

/// What is wrong with a certificate of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is of another version, or cannot be read.
    Kind,
    /// No authority of ours signed it.
    Issuer,
    /// It ended.
    Expired,
    /// It has not begun.
    NotYet,
}

/// Judges a certificate of version 1 that one of `authorities` signed itself; those may issue, and are in force.
///
/// # Errors
/// [`Wrong`].
pub(super) fn verify(leaf: &[u8], authorities: &[&[u8]], now: UnixTime) -> Result<(), Wrong> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| Wrong::Kind)?;
    // A certificate of version 1 has no extensions, so none is passed over here.
    if leaf.version() != X509Version::V1 || !leaf.extensions().is_empty() {
        return Err(Wrong::Kind);
    }
    let is_issuer = |der: &[u8]| {
        // Limits to names are about what the parser of chains reads, which this is not.
        !limits_names(der)
            && X509Certificate::from_der(der).is_ok_and(|(_, authority)| {
                authority.subject().as_raw() == leaf.issuer().as_raw()
                    && is_signed_by(&leaf, authority.public_key().raw)
            })
    };
    if !authorities.iter().any(|authority| is_issuer(authority)) {
        return Err(Wrong::Issuer);
    }
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    let now = now.ok_or(Wrong::Expired)?;
    if now < leaf.validity().not_before {
        return Err(Wrong::NotYet);
    }
    if now > leaf.validity().not_after { Err(Wrong::Expired) } else { Ok(()) }
}

/// The signature of `certificate` is that of the holder of this key.
fn is_signed_by(certificate: &X509Certificate<'_>, key: &[u8]) -> bool {
    let key = SubjectPublicKeyInfoDer::from(key);
    let Ok(key) = RawPublicKeyEntity::try_from(&key) else { return false };
    let named = certificate.signature_algorithm.algorithm.as_bytes();
    let (message, signature) = (certificate.tbs_certificate.as_ref(), &certificate.signature_value.data);
    aws_lc_rs::default_provider().signature_verification_algorithms.all.iter().any(|algorithm| {
        // An object identifier: tag, length, value.
        let is_named = matches!(algorithm.signature_alg_id().as_ref(), [6, length, rest @ ..]
            if rest.get(..usize::from(*length)) == Some(named));
        is_named && key.verify_signature(*algorithm, message, signature).is_ok()
    })
}

/// Proves over TLS 1.2 that the peer has the key of `certificate`.
///
/// # Errors
/// As `rustls` has them.
pub fn prove_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let Some(key) = unread_key(certificate) else {
        return verify_tls12_signature(message, certificate, signature, algorithms);
    };
    let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
    let offered = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signature.scheme);
    let (_, offered) = offered.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    let proven = offered
        .iter()
        .any(|algorithm| key.verify_signature(*algorithm, message, signature.signature()).is_ok());
    if proven { Ok(HandshakeSignatureValid::assertion()) } else { Err(CertificateError::BadSignature.into()) }
}

/// Proves over TLS 1.3 that the peer has the key of `certificate`.
///
/// # Errors
/// As `rustls` has them.
pub fn prove_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    match unread_key(certificate) {
        Some(key) => verify_tls13_signature_with_raw_key(message, &key, signature, algorithms),
        None => verify_tls13_signature(message, certificate, signature, algorithms),
    }
}

/// The key of a certificate that webpki does not read and we do.
fn unread_key(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    if EndEntityCert::try_from(certificate).is_ok() {
        return None;
    }
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(SubjectPublicKeyInfoDer::from(certificate.public_key().raw.to_vec()))
}
