//! One PEM pair to a usable [`Pair`], or the reason why not. Pure: no clock, so expiry is not judged here.

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::Pair;
use crate::model::CertInfo;

/// Most bytes of certificate chain and key together (`spec E-8`).
pub const MAX_BYTES: usize = 64 << 10;
/// Most certificates of a chain (`spec E-8`).
pub const MAX_CHAIN: usize = 16;
/// Shortest RSA key (`spec E-1`).
pub const MIN_RSA_BITS: usize = 2048;

/// Why a pair cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Key of the Secret's data that is to blame.
    pub part: &'static str,
    /// Why, without a final dot; never holds a byte of the material.
    pub reason: String,
}

/// Name of the chain in a Secret.
pub(super) const CHAIN: &str = "tls.crt";
/// Name of the key in a Secret.
pub(super) const KEY: &str = "tls.key";

fn chain_refused(reason: impl Into<String>) -> Refusal {
    Refusal { part: CHAIN, reason: reason.into() }
}

fn key_refused(reason: impl Into<String>) -> Refusal {
    Refusal { part: KEY, reason: reason.into() }
}

/// Hash that identifies a pair: SHA-256 over lengths and bytes of both parts.
pub(super) fn identity(chain: &[u8], key: &[u8]) -> [u8; 32] {
    // rustls' provider brings SHA-256 along; a hash crate of our own would be a second one.
    let rustls::SupportedCipherSuite::Tls13(suite) = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256 else {
        return [0; 32];
    };
    let mut context = suite.common.hash_provider.start();
    context.update(&(chain.len() as u64).to_be_bytes());
    context.update(chain);
    context.update(key);
    let mut identity = [0; 32];
    let output = context.finish();
    for (to, from) in identity.iter_mut().zip(output.as_ref()) {
        *to = *from;
    }
    identity
}

/// Reads a PEM chain (leaf first) and its PEM key.
pub(super) fn read(chain_pem: &[u8], key_pem: &[u8], id: [u8; 32]) -> Result<Pair, Refusal> {
    if chain_pem.len() + key_pem.len() > MAX_BYTES {
        let bytes = chain_pem.len() + key_pem.len();
        return Err(chain_refused(format!("the pair has {bytes} bytes, at most {MAX_BYTES} are taken")));
    }
    let chain = chain(chain_pem)?;
    let leaf_der = chain.first().ok_or_else(|| chain_refused("holds no certificate"))?;
    let info = facts(leaf_der, id)?;
    let key = key(key_pem)?;
    let signing = aws_lc_rs::default_provider().key_provider.load_private_key(key).map_err(|_| {
        key_refused("is no key of a kind that is supported (RSA, ECDSA P-256, P-384, P-521, Ed25519)")
    })?;
    let certified = CertifiedKey::new(chain, signing);
    // Not by `CertifiedKey::keys_match`, which reads certificates as strictly as a verifier: clients judge what they are
    // shown, and version 1 of X.509 or a critical extension is nothing to us.
    match owner(&certified) {
        Some(1) => Ok(Pair::new(certified, info)),
        Some(place) => Err(key_refused(format!(
            "belongs to certificate {place} of the chain, but the certificate of the host must come first"
        ))),
        None => Err(key_refused("does not belong to the certificate")),
    }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Refusal> {
    if pem.iter().all(u8::is_ascii_whitespace) {
        return Err(chain_refused("is empty"));
    }
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        chain.push(certificate.map_err(|error| chain_refused(format!("is no PEM: {}", pem_reason(&error))))?);
        if chain.len() > MAX_CHAIN {
            return Err(chain_refused(format!("holds more than {MAX_CHAIN} certificates")));
        }
    }
    if chain.is_empty() {
        return Err(chain_refused(if contains(pem, "PRIVATE KEY-----") {
            "holds a key, but no certificate"
        } else if contains(pem, "-----BEGIN") {
            "holds PEM, but no certificate"
        } else {
            "is no PEM: no line `-----BEGIN CERTIFICATE-----`"
        }));
    }
    Ok(chain)
}

fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Refusal> {
    if pem.iter().all(u8::is_ascii_whitespace) {
        return Err(key_refused("is empty"));
    }
    if contains(pem, "ENCRYPTED PRIVATE KEY-----") || contains(pem, "Proc-Type: 4,ENCRYPTED") {
        return Err(key_refused("is encrypted"));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound if contains(pem, "-----BEGIN CERTIFICATE-----") => {
            key_refused("holds a certificate, but no key")
        }
        pem::Error::NoItemsFound => key_refused("is no PEM: no line `-----BEGIN PRIVATE KEY-----`"),
        error => key_refused(format!("is no PEM: {}", pem_reason(&error))),
    })
}

/// The crate's own words may quote input bytes; these do not.
fn pem_reason(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "a section is no base64",
        pem::Error::NoItemsFound => "there is no section",
        _ => "it cannot be read",
    }
}

fn contains(text: &[u8], word: &str) -> bool {
    memchr::memmem::find(text, word.as_bytes()).is_some()
}

/// Place (from 1) of the certificate that the key belongs to.
fn owner(certified: &CertifiedKey) -> Option<usize> {
    let public = certified.key.public_key()?;
    certified
        .cert
        .iter()
        .position(|certificate| {
            X509Certificate::from_der(certificate)
                .is_ok_and(|(_, certificate)| certificate.public_key().raw == public.as_ref())
        })
        .map(|position| position + 1)
}

fn facts(leaf: &[u8], id: [u8; 32]) -> Result<CertInfo, Refusal> {
    let (rest, certificate) =
        X509Certificate::from_der(leaf).map_err(|_| chain_refused("its first certificate is no X.509"))?;
    if !rest.is_empty() {
        return Err(chain_refused("its first certificate has bytes after its end"));
    }
    let algorithm = algorithm(certificate.public_key())?;
    let subject_common_name = common_name(certificate.subject());
    Ok(CertInfo {
        id,
        names: names(&certificate, &subject_common_name)?,
        not_after: certificate.validity().not_after.timestamp(),
        not_before: certificate.validity().not_before.timestamp(),
        issuer_common_name: common_name(certificate.issuer()),
        issuer_organization: first_text(certificate.issuer().iter_organization()),
        serial_number: certificate.tbs_certificate.serial.to_string(),
        public_key_algorithm: algorithm,
        subject_common_name,
    })
}

/// Go's name of the algorithm, which the metric `ssl_certificate_info` shows.
fn algorithm(public: &SubjectPublicKeyInfo<'_>) -> Result<&'static str, Refusal> {
    match public.parsed() {
        Ok(PublicKey::RSA(rsa)) if rsa.key_size() < MIN_RSA_BITS => {
            let bits = rsa.key_size();
            Err(chain_refused(format!("its RSA key has {bits} bits, at least {MIN_RSA_BITS} are needed")))
        }
        Ok(PublicKey::RSA(_)) => Ok("RSA"),
        Ok(PublicKey::EC(_)) => Ok("ECDSA"),
        Ok(PublicKey::DSA(_)) => Ok("DSA"),
        Ok(PublicKey::Unknown(_)) if public.algorithm.algorithm.to_id_string() == "1.3.101.112" => {
            Ok("Ed25519")
        }
        Ok(_) => Ok("unknown"),
        Err(_) => Err(chain_refused("its public key cannot be read")),
    }
}

fn names(certificate: &X509Certificate<'_>, common_name: &str) -> Result<Vec<String>, Refusal> {
    let alternative = certificate
        .subject_alternative_name()
        .map_err(|_| chain_refused("its subject alternative names cannot be read"))?;
    let names = match alternative {
        Some(names) => names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            })
            .collect(),
        None if common_name.is_empty() => Vec::new(),
        None => vec![common_name.to_ascii_lowercase()],
    };
    Ok(names)
}

fn common_name(name: &X509Name<'_>) -> String {
    first_text(name.iter_common_name())
}

fn first_text<'n>(
    mut attributes: impl Iterator<Item = &'n x509_parser::x509::AttributeTypeAndValue<'n>>,
) -> String {
    attributes.next().and_then(|attribute| attribute.as_str().ok()).unwrap_or_default().to_owned()
}
