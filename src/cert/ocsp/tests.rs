//! Against answers that `openssl ocsp` makes, and bent ones.

use std::path::Path;
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SerialNumber,
};

use super::*;

/// An authority, a leaf that names a responder, and a folder for openssl.
struct Scene {
    folder: tempfile::TempDir,
    chain: Vec<CertificateDer<'static>>,
}

/// `AuthorityInfoAccess` with one OCSP responder.
fn access(url: &str) -> CustomExtension {
    let method = tlv(0x06, &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01]);
    let description = tlv(0x30, &[method, tlv(0x86, url.as_bytes())].concat());
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], tlv(0x30, &description))
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
        authority.distinguished_name.push(DnType::CommonName, "ocsp-root");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority_key = KeyPair::generate().unwrap();
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, &authority_key);
        let mut leaf = CertificateParams::new(vec!["h.test".to_owned()]).unwrap();
        leaf.serial_number = Some(SerialNumber::from(0x1234_u64));
        leaf.custom_extensions = vec![access("http://127.0.0.1:1/ocsp")];
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        let mut responder = CertificateParams::new(Vec::<String>::new()).unwrap();
        responder.distinguished_name.push(DnType::CommonName, "responder");
        responder.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        let responder_key = KeyPair::generate().unwrap();
        let responder = responder.signed_by(&responder_key, &issuer).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", &authority_certificate.pem());
        write("ca.key", &authority_key.serialize_pem());
        write("leaf.pem", &leaf.pem());
        write("responder.pem", &responder.pem());
        write("responder.key", &responder_key.serialize_pem());
        let chain = vec![leaf.der().clone(), authority_certificate.der().clone()];
        Self { folder, chain }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// openssl's answer to our request. `status` is `V` or `R` of its index.
    fn answer(&self, status: char, signer: &str, more: &[&str]) -> Vec<u8> {
        let revoked = if status == 'R' { "250101000000Z" } else { "" };
        let line = format!("{status}\t350101000000Z\t{revoked}\t1234\tunknown\t/CN=h.test\n");
        std::fs::write(self.path("index"), line).unwrap();
        std::fs::write(self.path("request"), question(&self.chain).unwrap().request).unwrap();
        let signer = (self.path(&format!("{signer}.pem")), self.path(&format!("{signer}.key")));
        let out = Command::new("openssl")
            .args(["ocsp", "-index", &self.path("index"), "-CA", &self.path("ca.pem")])
            .args(["-rsigner", &signer.0, "-rkey", &signer.1, "-reqin", &self.path("request")])
            .args(["-respout", &self.path("response")])
            .args(more)
            .output()
            .expect("openssl runs");
        assert!(Path::new(&self.path("response")).exists(), "{}", String::from_utf8_lossy(&out.stderr));
        std::fs::read(self.path("response")).unwrap()
    }

    fn judge(&self, answer: &[u8], now: i64) -> Result<Validity, Unusable> {
        judge(answer, &question(&self.chain).unwrap(), &self.chain, now)
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

#[test]
fn answers_of_the_issuer_and_of_its_responder_are_shown_in_their_time() {
    let scene = Scene::new();
    assert_eq!(question(&scene.chain).unwrap().responders, ["http://127.0.0.1:1/ocsp"]);
    for signer in ["ca", "responder"] {
        let answer = scene.answer('V', signer, &["-ndays", "2"]);
        let validity = scene.judge(&answer, now()).unwrap();
        assert_eq!(validity.until - validity.from, 2 * 86_400, "{signer}");
        assert_eq!(scene.judge(&answer, validity.until), Err(Unusable::Time));
        assert_eq!(scene.judge(&answer, validity.from - SLACK - 1), Err(Unusable::Time));
    }
    let endless = scene.answer('V', "ca", &[]);
    let validity = scene.judge(&endless, now()).unwrap();
    assert_eq!(validity.until - validity.from, WITHOUT_END);
}

#[test]
fn what_does_not_say_good_by_the_right_hand_is_not_shown() {
    let scene = Scene::new();
    assert_eq!(scene.judge(&scene.answer('R', "ca", &["-ndays", "2"]), now()), Err(Unusable::Revoked));
    let good = scene.answer('V', "ca", &["-ndays", "2"]);
    let other = Scene::new();
    // Same serial, other authority: the name of the issuer is the same, its key is not.
    assert_eq!(other.judge(&good, now()), Err(Unusable::Signature));
    // What is signed stands at the start.
    for at in 0..150 {
        let mut bent = good.clone();
        bent[at] ^= 1;
        assert!(scene.judge(&bent, now()).is_err(), "byte {at}");
    }
    assert_eq!(scene.judge(&tlv(0x30, &[0x0a, 1, 6]), now()), Err(Unusable::Status(6)));
    for junk in [&b""[..], b"<html>", &good[..good.len() / 2], &[0x30, 0x80]] {
        assert_eq!(scene.judge(junk, now()), Err(Unusable::Malformed));
    }
}

#[test]
fn a_signer_whom_the_issuer_did_not_name_for_that_counts_for_nothing() {
    let scene = Scene::new();
    // A certificate of the same authority that may not sign answers: the leaf's own would do, as long as it has a key.
    let other = Scene::new();
    for name in ["responder.pem", "responder.key"] {
        std::fs::copy(other.path(name), scene.path(name)).unwrap();
    }
    let answer = scene.answer('V', "responder", &["-ndays", "2"]);
    assert_eq!(scene.judge(&answer, now()), Err(Unusable::Signature));
}

#[test]
fn a_chain_without_issuer_or_responder_asks_nothing() {
    let scene = Scene::new();
    assert_eq!(question(&scene.chain[..1]), None);
    let swapped = vec![scene.chain[1].clone(), scene.chain[0].clone()];
    assert_eq!(question(&swapped), None);
    assert_eq!(question(&[]), None);
}
