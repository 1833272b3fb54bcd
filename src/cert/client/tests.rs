use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName as Dn, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

use super::*;

struct Signer {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = Dn::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    params
}

fn signer(name: &str, by: Option<&Signer>) -> Signer {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let made = match by {
        Some(by) => params.signed_by(&key, &by.issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let der = made.der().clone();
    Signer { issuer: Issuer::new(params, key), der }
}

fn leaf(by: &Signer, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = params("client");
    params.serial_number = Some(SerialNumber::from(7));
    change(&mut params);
    params.signed_by(&KeyPair::generate().unwrap(), &by.issuer).unwrap().der().clone()
}

fn boxed(der: &[u8]) -> Box<[u8]> {
    der.into()
}

fn authority(signer: &Signer) -> Authority {
    Authority::read(&[boxed(&signer.der)], &[]).unwrap()
}

const NOW: u64 = 1_700_000_000;

fn judged(authority: &Authority, chain: &[CertificateDer<'_>], depth: u32) -> &'static str {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
    authority.verify(chain, depth, now).map_or_else(|fault| fault.reason, |()| "sound")
}

#[test]
fn chains_are_sound_within_their_depth_time_and_purpose() {
    let root = signer("root", None);
    let (one, other) = (signer("one", Some(&root)), signer("other", None));
    let two = signer("two", Some(&one));
    let trusted = authority(&root);
    let client = |by: &Signer| leaf(by, |_| {});
    assert_eq!(judged(&trusted, &[client(&root)], 1), "sound");
    assert_eq!(judged(&trusted, &[client(&one), one.der.clone()], 1), "sound");
    assert_eq!(judged(&trusted, &[client(&one)], 1), "unable to verify the first certificate");
    let long = [client(&two), two.der.clone(), one.der.clone()];
    assert_ne!(judged(&trusted, &long, 1), "sound");
    assert_eq!(judged(&trusted, &long, 2), "sound");
    assert_eq!(judged(&trusted, &[client(&other)], 1), "unable to verify the first certificate");
    assert_eq!(judged(&trusted, &[], 1), "certificate rejected");
    let old = leaf(&root, |params| params.not_after = date_time_ymd(2001, 1, 1));
    assert_eq!(judged(&trusted, &[old], 1), "certificate has expired");
    let young = leaf(&root, |params| params.not_before = date_time_ymd(2099, 1, 1));
    assert_eq!(judged(&trusted, &[young], 1), "certificate is not yet valid");
    let server = leaf(&root, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(judged(&trusted, &[server], 1), "unsuitable certificate purpose");
    let own = params("own").self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert_eq!(judged(&trusted, &[own.der().clone()], 1), "self-signed certificate");
}

#[test]
fn a_certificate_that_is_its_own_authority_is_sound() {
    let (own, other) = (signer("own", None), signer("own", None));
    let free = |change: fn(&mut CertificateParams)| {
        let mut params = params("own");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        (Authority::read(&[boxed(&other.der), boxed(&der)], &[]).unwrap(), der)
    };
    let (trusted, der) = free(|_| {});
    assert_eq!(judged(&trusted, std::slice::from_ref(&der), 1), "sound");
    assert_ne!(judged(&authority(&other), std::slice::from_ref(&der), 1), "sound", "one of the same name");
    assert_ne!(
        judged(&authority(&own), std::slice::from_ref(&own.der), 1),
        "sound",
        "made to sign certificates only"
    );
    let (trusted, old) = free(|params| params.not_after = date_time_ymd(2001, 1, 1));
    assert_eq!(judged(&trusted, &[old], 1), "certificate has expired");
    let listed = Authority::read(&[boxed(&der), boxed(&own.der)], &[list(&own, &[], 2100)]).unwrap();
    assert_ne!(judged(&listed, &[der], 1), "sound", "nobody says that it still counts");
}

#[test]
fn only_authorities_in_force_issue() {
    let made = |change: fn(&mut CertificateParams)| {
        let mut params = params("pinned");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Signer { issuer: Issuer::new(params, key), der }
    };
    let client = |by: &Signer| leaf(by, |_| {});
    let pinned = made(|params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    assert_eq!(judged(&authority(&pinned), std::slice::from_ref(&pinned.der), 1), "sound", "in its own hand");
    assert_eq!(judged(&authority(&pinned), &[client(&pinned)], 1), "unable to verify the first certificate");
    let silent = made(|params| params.is_ca = IsCa::NoCa);
    assert_ne!(judged(&authority(&silent), &[client(&silent)], 1), "sound");
    let servers = made(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert_ne!(judged(&authority(&servers), &[client(&servers)], 1), "sound", "an authority of servers");
    let ended = made(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    assert_eq!(judged(&authority(&ended), &[client(&ended)], 1), "certificate has expired");
}

fn list(by: &Signer, revoked: &[u64], until: i32) -> Box<[u8]> {
    let revoked = revoked.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2010, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2010, 1, 1),
        next_update: date_time_ymd(until, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    boxed(params.signed_by(&by.issuer).unwrap().der())
}

#[test]
fn revoked_clients_and_worn_out_lists_are_refused() {
    let (root, other) = (signer("root", None), signer("other", None));
    let client = leaf(&root, |_| {});
    let with = |lists: &[Box<[u8]>]| {
        let authority = Authority::read(&[boxed(&root.der)], lists).unwrap();
        judged(&authority, std::slice::from_ref(&client), 1)
    };
    assert_eq!(with(&[list(&root, &[8], 2100)]), "sound");
    assert_eq!(with(&[list(&root, &[7], 2100)]), "certificate revoked");
    assert_eq!(with(&[list(&root, &[8], 2011)]), "CRL has expired");
    assert_eq!(with(&[list(&other, &[], 2100)]), "unable to get certificate CRL");
}

#[test]
fn half_an_authority_is_none() {
    let root = signer("root", None);
    assert!(Authority::read(&[], &[]).is_none());
    assert!(Authority::read(&[boxed(&root.der), boxed(&[0x30, 0])], &[]).is_none());
    assert!(Authority::read(&[boxed(&root.der)], &[boxed(&[0x30, 0])]).is_none());
    assert_eq!(authority(&root).subjects.len(), 1);
}

#[test]
fn names_are_written_as_nginx_writes_them() {
    let root = signer("root", None);
    let named = leaf(&root, |params| {
        params.distinguished_name = Dn::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::OrganizationName, " A, B+C\\ <x>; ");
        params.distinguished_name.push(DnType::OrganizationalUnitName, "#1");
        params.distinguished_name.push(DnType::CommonName, "Jörg \"J\"");
    });
    let names = facts(&named).unwrap();
    assert_eq!(names.subject, "CN=J\\C3\\B6rg \\\"J\\\",OU=\\#1,O=\\ A\\, B\\+C\\\\ \\<x\\>\\;\\ ,C=DE");
    assert_eq!(names.issuer, "CN=root");
    assert_eq!(facts(&CertificateDer::from(vec![0x30, 0])), None);
}

#[test]
fn details_are_written_as_openssl_prints_them() {
    let root = signer("root", None);
    let found = details(&leaf(&root, |params| {
        params.serial_number = Some(SerialNumber::from(vec![0x00, 0xab, 0x01]));
        params.not_before = date_time_ymd(2001, 2, 3);
    }))
    .unwrap();
    assert_eq!(found.serial, "AB01");
    assert_eq!(found.not_before, "Feb  3 00:00:00 2001 GMT");
    assert_eq!(found.not_after, "Jan  1 00:00:00 2100 GMT");
    assert!(found.days_left > 20_000, "{}", found.days_left);
    assert!(found.fingerprint.len() == 40 && found.fingerprint.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(details(&CertificateDer::from(b"junk".to_vec())), None);
}

#[test]
fn a_certificate_is_escaped_pem_for_backends() {
    let text = escaped_pem(&CertificateDer::from(vec![0xff; 50]));
    assert!(text.starts_with("-----BEGIN%20CERTIFICATE-----%0A%2F%2F%2F%2F"), "{text}");
    assert!(text.ends_with("%0A-----END%20CERTIFICATE-----%0A"), "{text}");
    assert_eq!(text.matches("%0A").count(), 4, "a line has 64 letters");
}
