//! A TLS client that takes any certificate: what the tests judge is the answer, or the certificate itself.

use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

/// Accepts every certificate and every signature, and keeps the OCSP answer of the last handshake.
#[derive(Debug, Default)]
pub struct AnyCertificate {
    ocsp: Mutex<Vec<u8>>,
}

impl AnyCertificate {
    /// What was stapled last, in DER; empty when nothing was.
    pub fn stapled(&self) -> Vec<u8> {
        self.ocsp.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.ocsp.lock().unwrap_or_else(PoisonError::into_inner) = ocsp.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A client without a certificate of its own; callers add protocols before they share it.
pub fn config(versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    judged_by(&Arc::default(), versions)
}

/// The same with a judge the caller keeps, to ask it what was stapled.
pub fn judged_by(
    judge: &Arc<AnyCertificate>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("the provider knows TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(judge) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth()
}

/// A certificate of version 1 of X.509 for the holder of `key`, as `openssl x509 -req` makes it: `issuer` is the CN of
/// who signs it by `signer`, `until` the end of its life (`YYMMDDHHMMSSZ`). Keys are those of `KeyPair::generate`.
pub fn version_1(subject: &str, key: &KeyPair, issuer: &str, signer: &KeyPair, until: &str) -> Vec<u8> {
    // ecdsa-with-SHA256.
    let algorithm = der(0x30, &[&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]]);
    let name = |text: &str| {
        let attribute = der(0x30, &[&[0x06, 0x03, 0x55, 0x04, 0x03], &der(0x0c, &[text.as_bytes()])]);
        der(0x30, &[&der(0x31, &[&attribute])])
    };
    let life = der(0x30, &[&der(0x17, &[b"200101000000Z"]), &der(0x17, &[until.as_bytes()])]);
    let public = key.subject_public_key_info();
    let told = der(0x30, &[&[0x02, 0x01, 0x05], &algorithm, &name(issuer), &life, &name(subject), &public]);
    let signature = signer.sign(&told).expect("a signature");
    der(0x30, &[&told, &algorithm, &der(0x03, &[&[0], &signature])])
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = match u8::try_from(content.len()) {
        Ok(short @ ..0x80) => vec![tag, short],
        Ok(long) => vec![tag, 0x81, long],
        Err(_) => {
            let [high, low] = u16::try_from(content.len()).expect("a short content").to_be_bytes();
            vec![tag, 0x82, high, low]
        }
    };
    out.extend(content);
    out
}
