//! The certificate door: pairs that are taken, twenty ways to break one, and what stays while one is broken.

use std::collections::BTreeMap;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};

use super::pair::{self, CHAIN, KEY};
use super::*;
use crate::model::{Meta, Secret, SecretBytes, SharedMap};

/// 2026-01-01.
const NOW: i64 = 1_767_225_600;

struct Pem {
    chain: String,
    key: String,
}

fn pem(common_name: &str, names: &[&str]) -> Pem {
    pem_valid(common_name, names, 2025, 2035)
}

fn pem_valid(common_name: &str, names: &[&str], from: i32, to: i32) -> Pem {
    let mut params =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let key = KeyPair::generate().unwrap();
    Pem { chain: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn secret(parts: &[(&str, &[u8])]) -> Arc<Secret> {
    Arc::new(Secret {
        meta: Meta::named(ObjectKey::new("ns", "s")),
        secret_type: "kubernetes.io/tls".into(),
        data: parts.iter().map(|(name, bytes)| ((*name).to_owned(), SecretBytes::new(*bytes))).collect(),
    })
}

fn secret_of(pem: &Pem) -> Arc<Secret> {
    secret(&[(CHAIN, pem.chain.as_bytes()), (KEY, pem.key.as_bytes())])
}

fn world(secrets: &[(&str, &Arc<Secret>)]) -> SharedMap<ObjectKey, Arc<Secret>> {
    secrets.iter().map(|(name, secret)| (ObjectKey::new("ns", *name), Arc::clone(secret))).collect()
}

fn keeper() -> Keeper {
    Keeper::new(self_signed(NOW).unwrap())
}

#[test]
fn a_pair_is_read_with_its_facts() {
    let pem = pem("CN.example", &["A.example", "*.b.example"]);
    let id = pair::identity(pem.chain.as_bytes(), pem.key.as_bytes());
    let pair = pair::read(pem.chain.as_bytes(), pem.key.as_bytes(), id).unwrap();
    assert_eq!(pair.info.names, ["a.example", "*.b.example"]);
    assert_eq!(pair.info.subject_common_name, "CN.example");
    assert_eq!(pair.info.public_key_algorithm, "ECDSA");
    assert_eq!(pair.info.not_after, 2_051_222_400);
    assert!(pair.info.serial_number.bytes().all(|byte| byte.is_ascii_digit()), "{}", pair.info.serial_number);
    assert_eq!(pair.info.id, id);
    assert_ne!(id, [0; 32]);
}

#[test]
fn the_common_name_counts_only_without_alternative_names() {
    let names =
        |pem: &Pem| pair::read(pem.chain.as_bytes(), pem.key.as_bytes(), [0; 32]).unwrap().info.names.clone();
    assert_eq!(names(&pem("Only.example", &[])), ["only.example"]);
    assert_eq!(names(&pem("not.example", &["127.0.0.1"])), [""; 0]);
}

#[test]
fn every_supported_kind_of_key_is_taken() {
    for (algorithm, expect) in [(&PKCS_ED25519, "Ed25519"), (&PKCS_ECDSA_P384_SHA384, "ECDSA")] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let chain =
            CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap().pem();
        let pair = pair::read(chain.as_bytes(), key.serialize_pem().as_bytes(), [0; 32]).unwrap();
        assert_eq!(pair.info.public_key_algorithm, expect);
    }
}

#[test]
fn the_fallback_has_the_names_that_ingress_nginx_gives_it() {
    let pair = self_signed(NOW).unwrap();
    assert_eq!(pair.info.subject_common_name, "Kubernetes Ingress Controller Fake Certificate");
    assert_eq!(pair.info.names, ["ingress.local"]);
    assert!(pair.info.not_before < NOW && pair.info.not_after > NOW + 360 * 86_400);
}

/// A chain of a leaf below an authority, and the leaf's key.
fn issued() -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["leaf.example".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    (leaf.pem(), authority.pem(), key.serialize_pem())
}

#[test]
fn a_chain_is_taken_leaf_first() {
    let (leaf, authority, key) = issued();
    let pair = pair::read((leaf + &authority).as_bytes(), key.as_bytes(), [0; 32]).unwrap();
    assert_eq!(pair.key.cert.len(), 2);
    assert_eq!(pair.info.names, ["leaf.example"]);
}

/// Twenty ways to break a Secret, and the part and words that say so.
fn broken() -> Vec<(Arc<Secret>, &'static str, &'static str)> {
    let good = pem("good", &["good.example"]);
    let other = pem("other", &["other.example"]);
    let (leaf, authority, leaf_key) = issued();
    let (chain, key) = (good.chain.as_bytes(), good.key.as_bytes());
    let both = |chain: &[u8], key: &[u8]| secret(&[(CHAIN, chain), (KEY, key)]);
    let unended = good.chain.replace("-----END CERTIFICATE-----", "");
    let no_base64 = good.chain.replacen("MII", "!!!", 1);
    let truncated = pem_of("CERTIFICATE", b"0\x82\x01\x00");
    let long = [chain, &vec![b' '; MAX_BYTES]].concat();
    let many = good.chain.repeat(MAX_CHAIN + 1);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let no_key = pem_of("PRIVATE KEY", b"0\x03\x02\x01\x00");
    let (rsa_chain, rsa_key) = (include_bytes!("tests/rsa-1024.crt"), include_bytes!("tests/rsa-1024.key"));
    let (curve_chain, curve_key) =
        (include_bytes!("tests/secp256k1.crt"), include_bytes!("tests/secp256k1.key"));
    vec![
        (secret(&[]), CHAIN, "missing"),
        (secret(&[(CHAIN, chain)]), KEY, "missing"),
        (secret(&[(KEY, key)]), CHAIN, "missing"),
        (both(b"", key), CHAIN, "is empty"),
        (both(b" \n", key), CHAIN, "is empty"),
        (both(chain, b""), KEY, "is empty"),
        (both(b"junk", key), CHAIN, "is no PEM"),
        (both(chain, b"\xff\x00junk"), KEY, "is no PEM"),
        (both(unended.as_bytes(), key), CHAIN, "no END line"),
        (both(no_base64.as_bytes(), key), CHAIN, "no base64"),
        (both(truncated.as_bytes(), key), CHAIN, "no X.509"),
        (both(key, chain), CHAIN, "holds a key, but no certificate"),
        (both(chain, chain), KEY, "holds a certificate, but no key"),
        (both(chain, encrypted.as_bytes()), KEY, "is encrypted"),
        (both(chain, no_key.as_bytes()), KEY, "no key of a kind that is supported"),
        (both(chain, other.key.as_bytes()), KEY, "does not belong"),
        (both((authority + &leaf).as_bytes(), leaf_key.as_bytes()), KEY, "certificate 2 of the chain"),
        (both(&long, key), CHAIN, "at most 65536"),
        (both(many.as_bytes(), key), CHAIN, "more than 16 certificates"),
        (both(rsa_chain, rsa_key), CHAIN, "1024 bits, at least 2048"),
        (both(curve_chain, curve_key), KEY, "no key of a kind that is supported"),
    ]
}

fn pem_of(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

#[test]
fn each_way_to_break_a_secret_is_told_apart_and_hurts_only_that_secret() {
    let good = secret_of(&pem("good", &["good.example"]));
    let ways = broken();
    assert!(ways.len() >= 20);
    for (secret, part, words) in ways {
        let mut keeper = keeper();
        let judged = keeper.judge(&world(&[("bad", &secret), ("good", &good)]), None, NOW);
        let names: Vec<_> = judged.store.pairs.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["ns/good"], "{words}");
        assert_eq!(judged.diagnostics.len(), 1, "{words}: {:?}", judged.diagnostics);
        let found = &judged.diagnostics[0];
        assert_eq!(
            (found.code, found.field.as_str()),
            ("CertificateInvalid", format!("data[{part}]").as_str()),
            "{found}"
        );
        assert!(found.reason.contains(words), "{found}");
        assert!(found.reason.ends_with("get the default certificate"), "{found}");
        assert!(judged.catalog[&ObjectKey::new("ns", "bad")].is_err(), "{words}");
        assert!(judged.catalog[&ObjectKey::new("ns", "good")].is_ok(), "{words}");
    }
}

#[test]
fn among_a_thousand_secrets_no_way_to_break_one_touches_the_others() {
    let good = secret_of(&pem("a.example", &["a.example"]));
    let mut secrets: SharedMap<_, _> =
        (0..1000).map(|number| (ObjectKey::new("ns", format!("s{number}")), Arc::clone(&good))).collect();
    let mut keeper = keeper();
    let before = keeper.judge(&secrets, None, NOW).store;
    let victim = ObjectKey::new("ns", "s500");
    let mut ways = broken();
    let with = |chain: &[u8], key: &[u8]| secret(&[(CHAIN, chain), (KEY, key)]);
    let part = |name: &str| good.data[name].expose().to_vec();
    for (chain, key) in [
        (Vec::new(), Vec::new()),
        (vec![0; 1 << 20], part(KEY)),
        (part(CHAIN), vec![b'-'; 1 << 20]),
        (part(KEY), part(CHAIN)),
        (part(CHAIN)[..200].to_vec(), part(KEY)),
        (part(CHAIN), part(KEY)[..40].to_vec()),
        ([part(CHAIN), vec![0xff; 9]].concat(), Vec::new()),
        (part(CHAIN).repeat(40), part(KEY)),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(), part(KEY)),
    ] {
        ways.push((with(&chain, &key), "", ""));
    }
    println!("measured: {} ways to break one of 1,000 Secrets, 999 pairs unchanged each time", ways.len());
    for (way, (damaged, ..)) in ways.into_iter().enumerate() {
        secrets.insert(victim.clone(), damaged);
        let judged = keeper.judge(&secrets, None, NOW);
        assert!(judged.stale.contains(&victim), "way {way} is no damage");
        for (key, pair) in &before.pairs {
            assert!(Arc::ptr_eq(pair, &judged.store.pairs[key]), "way {way}: {key}");
        }
        assert_eq!(judged.diagnostics.len(), 1, "way {way}: {:?}", judged.diagnostics);
    }
}

#[test]
fn the_last_good_pair_stays_while_its_secret_is_broken() {
    let (first, second) = (pem("first", &["a.example"]), pem("second", &["a.example"]));
    let name = ObjectKey::new("ns", "s");
    for (broken, _, words) in broken() {
        let mut keeper = keeper();
        let served = |judged: &Judged| judged.store.pairs[&name].info.subject_common_name.clone();
        keeper.judge(&world(&[("s", &secret_of(&first))]), None, NOW);
        let judged = keeper.judge(&world(&[("s", &broken)]), None, NOW);
        assert_eq!(served(&judged), "first", "{words}");
        assert!(judged.catalog[&name].is_ok() && judged.stale.contains(&name), "{words}");
        assert!(judged.diagnostics[0].reason.ends_with("the last good pair stays in use"), "{words}");
        let judged = keeper.judge(&world(&[("s", &secret_of(&second))]), None, NOW);
        assert_eq!(served(&judged), "second", "{words}");
        assert!(judged.stale.is_empty() && judged.diagnostics.is_empty(), "{words}");
    }
}

#[test]
fn a_secret_that_is_deleted_and_made_again_is_served_through_the_gap() {
    let pair = secret_of(&pem("kept", &["a.example"]));
    let mut keeper = keeper();
    keeper.judge(&world(&[("s", &pair)]), None, NOW);
    let judged = keeper.judge(&world(&[]), None, NOW + 1);
    assert_eq!((judged.store.pairs.len(), judged.review_at), (1, Some(NOW + 1 + GAP_SECONDS)));
    let judged = keeper.judge(&world(&[]), None, NOW + GAP_SECONDS);
    assert_eq!(judged.store.pairs.len(), 1);
    let judged = keeper.judge(&world(&[("s", &pair)]), None, NOW + GAP_SECONDS);
    assert_eq!((judged.store.pairs.len(), judged.review_at), (1, None));
    keeper.judge(&world(&[]), None, NOW + 100);
    let judged = keeper.judge(&world(&[]), None, NOW + 100 + GAP_SECONDS);
    assert_eq!((judged.store.pairs.len(), judged.catalog.len(), judged.review_at), (0, 0, None));
}

#[test]
fn a_clock_that_steps_loses_no_pair_and_judges_validity_anew() {
    const DAY: i64 = 86_400;
    let pair = secret_of(&pem("kept", &["a.example"]));
    let mut keeper = keeper();
    keeper.judge(&world(&[("s", &pair)]), None, NOW);
    // Back by a day within a gap: the gap is as long as ever, counted from there.
    keeper.judge(&world(&[]), None, NOW + 1);
    let judged = keeper.judge(&world(&[]), None, NOW - DAY);
    assert_eq!((judged.store.pairs.len(), judged.review_at), (1, Some(NOW - DAY + GAP_SECONDS)));
    let judged = keeper.judge(&world(&[]), None, NOW - DAY + GAP_SECONDS);
    assert_eq!(judged.store.pairs.len(), 0);
    // Years forward and back: the pair stays, and what is said about it follows the clock.
    let codes = |keeper: &mut Keeper, now| -> Vec<&'static str> {
        let judged = keeper.judge(&world(&[("s", &pair)]), None, now);
        assert_eq!(judged.store.pairs.len(), 1);
        judged.diagnostics.iter().map(|found| found.code).collect()
    };
    assert_eq!(codes(&mut keeper, NOW), Vec::<&str>::new());
    assert_eq!(codes(&mut keeper, NOW + 40_000 * DAY), ["CertificateExpired"]);
    assert_eq!(codes(&mut keeper, NOW - 40_000 * DAY), ["CertificateNotYetValid"]);
    assert_eq!(codes(&mut keeper, NOW), Vec::<&str>::new());
}

#[test]
fn certificates_outside_their_time_are_served_with_a_warning() {
    for (from, to, code) in [(2020, 2021, "CertificateExpired"), (2030, 2031, "CertificateNotYetValid")] {
        let secret = secret_of(&pem_valid("x", &["a.example"], from, to));
        let judged = keeper().judge(&world(&[("s", &secret)]), None, NOW);
        assert_eq!(judged.store.pairs.len(), 1);
        assert_eq!(judged.diagnostics.iter().map(|found| found.code).collect::<Vec<_>>(), [code]);
    }
}

#[test]
fn the_default_certificate_is_the_named_secret_or_the_fallback() {
    let secret = secret_of(&pem("named", &["a.example"]));
    let mut keeper = keeper();
    let name = ObjectKey::new("ns", "s");
    let default = |judged: &Judged| judged.store.default.info.subject_common_name.clone();
    assert_eq!(default(&keeper.judge(&world(&[("s", &secret)]), None, NOW)), FALLBACK_NAME);
    assert_eq!(default(&keeper.judge(&world(&[("s", &secret)]), Some(&name), NOW)), "named");
    assert_eq!(default(&keeper.judge(&world(&[]), Some(&ObjectKey::new("ns", "none")), NOW)), FALLBACK_NAME);
}

#[test]
fn unchanged_secrets_give_the_same_store() {
    let secret = secret_of(&pem("x", &["a.example"]));
    let mut keeper = keeper();
    let first = keeper.judge(&world(&[("s", &secret)]), None, NOW).store;
    let second = keeper.judge(&world(&[("s", &secret)]), None, NOW + 5).store;
    assert!(Arc::ptr_eq(&first, &second));
    let third = keeper.judge(&world(&[("s", &secret), ("t", &secret)]), None, NOW + 5).store;
    assert!(!Arc::ptr_eq(&first, &third));
}

#[test]
fn secrets_of_other_kinds_are_no_finding() {
    let opaque = Arc::new(Secret {
        meta: Meta::named(ObjectKey::new("ns", "auth")),
        secret_type: "Opaque".into(),
        data: BTreeMap::from([("auth".to_owned(), SecretBytes::new(*b"user:hash"))]),
    });
    let judged = keeper().judge(&world(&[("auth", &opaque)]), None, NOW);
    assert_eq!((judged.diagnostics.len(), judged.store.pairs.len()), (0, 0));
    assert!(judged.catalog[&ObjectKey::new("ns", "auth")].is_err());
}

#[test]
fn debug_text_shows_no_key() {
    let pem = pem("shown", &["a.example"]);
    let pair = pair::read(pem.chain.as_bytes(), pem.key.as_bytes(), [0; 32]).unwrap();
    assert_eq!(format!("{pair:?}"), "Pair(shown)");
}
