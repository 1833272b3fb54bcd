//! OCSP (RFC 6960) as far as stapling needs it: the question about a certificate, and whether an answer may be shown.
//!
//! Pure: who asks is `stapler`. An answer is shown when its signature is the issuer's (or that of a responder whom the
//! issuer named), it is about this certificate, says good, and is in its time; clients judge it again.

use rustls_pki_types::{CertificateDer, UnixTime};
use sha1::{Digest, Sha1};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::asn1_rs::{Any, Class, FromDer, GeneralizedTime};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::X509Certificate;

/// Bytes of an answer that is read.
pub const MAX_ANSWER: usize = 64 << 10;
/// Responders of one certificate that are asked.
const MAX_RESPONDERS: usize = 4;
/// How far clocks may differ, seconds.
const SLACK: i64 = 300;
/// How long an answer counts that names no end, seconds.
const WITHOUT_END: i64 = 3600;

/// 1.3.14.3.2.26 with parameters NULL: SHA-1, which names issuers here and protects nothing.
const SHA1: [u8; 11] = [0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00];
/// id-pkix-ocsp-basic.
const BASIC: [u8; 9] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// id-kp-OCSPSigning.
const OCSP_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09];

/// What is asked, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// URLs of responders, as the certificate names them (`http` only).
    pub responders: Vec<String>,
    /// The request, DER.
    pub request: Vec<u8>,
    /// `CertID` of the certificate.
    id: Vec<u8>,
}

/// An answer that may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From when on it counts, seconds since 1970.
    pub from: i64,
    /// Until when.
    pub until: i64,
}

/// Why an answer is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It does not parse, or is about something else.
    #[error("the answer is no OCSP response about this certificate")]
    Malformed,
    /// The responder said no.
    #[error("the responder answers with status {0}")]
    Status(u8),
    /// The certificate is revoked.
    #[error("the certificate is revoked")]
    Revoked,
    /// The responder does not know the certificate.
    #[error("the responder does not know the certificate")]
    Unknown,
    /// It is not signed by whom it should be.
    #[error("the signature of the answer is not the issuer's")]
    Signature,
    /// It is not valid now.
    #[error("the answer is not valid now")]
    Time,
}

/// The question about the first certificate of a chain; `None` when it names no responder or its issuer is missing.
pub fn question(chain: &[CertificateDer<'_>]) -> Option<Question> {
    let [leaf, issuer, ..] = chain else { return None };
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    let (_, issuer) = X509Certificate::from_der(issuer).ok()?;
    if leaf.issuer().as_raw() != issuer.subject().as_raw() {
        return None;
    }
    let responders = responders(&leaf);
    let name = Sha1::digest(leaf.issuer().as_raw());
    let key = Sha1::digest(&issuer.public_key().subject_public_key.data);
    let parts = [SHA1.to_vec(), tlv(0x04, &name), tlv(0x04, &key), tlv(0x02, leaf.raw_serial())];
    let id = tlv(0x30, &parts.concat());
    let request = tlv(0x30, &tlv(0x30, &tlv(0x30, &tlv(0x30, &id))));
    (!responders.is_empty()).then_some(Question { responders, request, id })
}

/// `http` URLs of the certificate's authority information.
fn responders(leaf: &X509Certificate<'_>) -> Vec<String> {
    let access = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => Some(access),
        _ => None,
    });
    let Some(access) = access else { return Vec::new() };
    let urls = access.accessdescs.iter().filter_map(|one| match &one.access_location {
        GeneralName::URI(url) if one.access_method.to_id_string() == "1.3.6.1.5.5.7.48.1" => Some(*url),
        _ => None,
    });
    urls.filter(|url| url.starts_with("http://")).take(MAX_RESPONDERS).map(str::to_owned).collect()
}

/// A DER element of one-byte tag.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let used = bytes.iter().skip_while(|byte| **byte == 0).copied().collect::<Vec<_>>();
            out.push(0x80 | u8::try_from(used.len()).unwrap_or(8));
            out.extend_from_slice(&used);
        }
    }
    out.extend_from_slice(content);
    out
}

/// One element: class, tag number, content, and all its bytes.
struct Element<'d> {
    class: Class,
    tag: u32,
    content: &'d [u8],
    raw: &'d [u8],
}

/// Reads elements one after the other.
struct Elements<'d>(&'d [u8]);

impl<'d> Elements<'d> {
    fn peek(&self) -> Option<Element<'d>> {
        let (rest, any) = Any::from_der(self.0).ok()?;
        let raw = self.0.get(..self.0.len().checked_sub(rest.len())?)?;
        Some(Element { class: any.class(), tag: any.tag().0, content: any.data, raw })
    }

    fn next(&mut self) -> Option<Element<'d>> {
        let element = self.peek()?;
        self.0 = self.0.get(element.raw.len()..)?;
        Some(element)
    }

    /// The next one, which must have this universal tag.
    fn take(&mut self, tag: u32) -> Option<Element<'d>> {
        self.next().filter(|element| element.class == Class::Universal && element.tag == tag)
    }

    /// The next one if it has this context tag.
    fn context(&mut self, tag: u32) -> Option<Element<'d>> {
        self.peek().filter(|element| element.class == Class::ContextSpecific && element.tag == tag)?;
        self.next()
    }

    fn sequence(&mut self) -> Option<Self> {
        self.take(16).map(|element| Elements(element.content))
    }

    /// Nothing may follow: clients read an answer to its last byte, and would not take what we only read in part.
    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Judges an answer about the first certificate of a chain. `now` is seconds since 1970.
///
/// # Errors
/// [`Unusable`].
pub fn judge(
    answer: &[u8],
    question: &Question,
    chain: &[CertificateDer<'_>],
    now: i64,
) -> Result<Validity, Unusable> {
    let issuer = chain.get(1).ok_or(Unusable::Malformed)?;
    let mut outer = Elements(answer);
    let mut response = outer.sequence().ok_or(Unusable::Malformed)?;
    outer.end().ok_or(Unusable::Malformed)?;
    match response.take(10).map(|status| status.content) {
        Some([0]) => {}
        Some([status]) => return Err(Unusable::Status(*status)),
        _ => return Err(Unusable::Malformed),
    }
    let basic = basic(&mut response).ok_or(Unusable::Malformed)?;
    let mut whole = Elements(basic);
    let mut basic = whole.sequence().ok_or(Unusable::Malformed)?;
    let signed = Signed::read(&mut basic).ok_or(Unusable::Malformed)?;
    whole.end().and_then(|()| basic.end()).ok_or(Unusable::Malformed)?;
    signed.verify(issuer, now)?;
    single(signed.data, question, now)
}

/// The content of a basic response.
fn basic<'d>(response: &mut Elements<'d>) -> Option<&'d [u8]> {
    let mut bytes = Elements(response.context(0)?.content).sequence()?;
    (bytes.take(6)?.content == BASIC).then_some(())?;
    let octets = bytes.take(4)?.content;
    bytes.end().and_then(|()| response.end()).map(|()| octets)
}

/// A signed response.
struct Signed<'d> {
    /// `ResponseData`: all its bytes.
    data: &'d [u8],
    /// Content of the `AlgorithmIdentifier`.
    algorithm: &'d [u8],
    signature: &'d [u8],
    /// Certificates that came along.
    certificates: Vec<CertificateDer<'d>>,
}

impl<'d> Signed<'d> {
    fn read(basic: &mut Elements<'d>) -> Option<Self> {
        let data = basic.take(16)?.raw;
        let algorithm = basic.take(16)?.content;
        // No unused bits.
        let (0, signature) = basic.take(3)?.content.split_first().map(|(unused, bits)| (*unused, bits))?
        else {
            return None;
        };
        let mut certificates = Vec::new();
        if let Some(list) = basic.context(0) {
            let mut list = Elements(list.content).sequence()?;
            while let Some(certificate) = list.take(16) {
                certificates.push(CertificateDer::from(certificate.raw));
            }
            list.end()?;
        }
        Some(Self { data, algorithm, signature, certificates })
    }

    /// RFC 6960 section 4.2.2.2: the issuer signed it, or a responder whom the issuer certified for that.
    fn verify(&self, issuer: &CertificateDer<'_>, now: i64) -> Result<(), Unusable> {
        if self.is_by(issuer) {
            return Ok(());
        }
        let anchor = anchor_from_trusted_cert(issuer).map_err(|_| Unusable::Signature)?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(now).unwrap_or(0)));
        let named = |responder: &&CertificateDer<'d>| {
            EndEntityCert::try_from(*responder).is_ok_and(|end| {
                let usage = KeyUsage::required(OCSP_SIGNING);
                let anchors = [anchor.clone()];
                end.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], now, usage, None, None).is_ok()
            })
        };
        let found = self.certificates.iter().find(|responder| self.is_by(responder));
        found.filter(named).map(|_| ()).ok_or(Unusable::Signature)
    }

    fn is_by(&self, signer: &CertificateDer<'_>) -> bool {
        let Ok(signer) = EndEntityCert::try_from(signer) else { return false };
        let fits =
            ALL_VERIFICATION_ALGS.iter().filter(|one| one.signature_alg_id().as_ref() == self.algorithm);
        fits.into_iter().any(|one| signer.verify_signature(*one, self.data, self.signature).is_ok())
    }
}

/// The single response about our certificate.
fn single(data: &[u8], question: &Question, now: i64) -> Result<Validity, Unusable> {
    let list = || {
        let mut data = Elements(data).sequence()?;
        data.context(0);
        // Who answers, by name or by key, and when.
        data.next().filter(|who| who.class == Class::ContextSpecific)?;
        data.take(24)?;
        data.sequence()
    };
    let mut list = list().ok_or(Unusable::Malformed)?;
    while let Some(mut one) = list.sequence() {
        let Some(id) = one.take(16) else { break };
        if id.raw != question.id {
            continue;
        }
        let status = one.next().filter(|status| status.class == Class::ContextSpecific);
        match status.map(|status| status.tag) {
            Some(0) => {}
            Some(1) => return Err(Unusable::Revoked),
            Some(2) => return Err(Unusable::Unknown),
            _ => break,
        }
        let from = one.take(24).and_then(|time| seconds(time.raw)).ok_or(Unusable::Malformed)?;
        let until = match one.context(0) {
            Some(next) => seconds(next.content).ok_or(Unusable::Malformed)?,
            None => from.saturating_add(WITHOUT_END),
        };
        let current = from <= now.saturating_add(SLACK) && now < until;
        return if current { Ok(Validity { from, until }) } else { Err(Unusable::Time) };
    }
    Err(Unusable::Malformed)
}

fn seconds(time: &[u8]) -> Option<i64> {
    let (_, time) = GeneralizedTime::from_der(time).ok()?;
    time.utc_datetime().ok().map(|time| time.unix_timestamp())
}

#[cfg(test)]
mod tests;
