use super::*;
use crate::model::{Meta, Secret, SecretBytes, SharedMap};
use crate::policy::annotation::Objects;
use crate::policy::annotation::sample::{PREFIX, fields, ingress, view};
use crate::policy::template::RouteFacts;

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
const CRL: &str = "-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n";
const SECRET: (&str, &str) = ("auth-tls-secret", "default/ca");

type Outcome = (Option<ClientCertificates>, Option<&'static str>);

fn read_with(annotations: &[(&str, &str)], data: &[(&str, &str)]) -> Outcome {
    let key = ObjectKey::new("default", "ca");
    let data = data.iter().map(|(key, text)| ((*key).to_owned(), SecretBytes::new(text.as_bytes())));
    let secret =
        Secret { meta: Meta::named(key.clone()), secret_type: "Opaque".into(), data: data.collect() };
    let secrets = SharedMap::from([(key, Arc::new(secret))]);
    let ingress = ingress(annotations);
    let objects = Objects { secrets: &secrets, ..Objects::NONE };
    let mut reader = Reader::new(&ingress, PREFIX, true).with_objects(objects);
    let read = ClientCertificates::read(&mut reader);
    (read, reader.denied())
}

fn auth(annotations: &[(&str, &str)]) -> Arc<ClientAuth> {
    let all: Vec<_> = std::iter::once(SECRET).chain(annotations.iter().copied()).collect();
    match read_with(&all, &[("ca.crt", PEM)]) {
        (Some(ClientCertificates::Ask(auth)), None) => auth,
        other => panic!("{annotations:?}: {other:?}"),
    }
}

#[test]
fn absent_typical_and_full() {
    assert_eq!(read_with(&[], &[]), (None, None));
    let plain = auth(&[]);
    assert_eq!((plain.group.verify, plain.group.depth, plain.pass_certificate), (Verify::On, 1, false));
    let full = auth(&[
        ("auth-tls-verify-client", "optional_no_ca"),
        ("auth-tls-verify-depth", "3"),
        ("auth-tls-error-page", "https://$host/needed"),
        ("auth-tls-pass-certificate-to-upstream", "true"),
        ("auth-tls-match-cn", "CN=.*[.]test"),
    ]);
    assert_eq!((full.group.verify, full.group.depth), (Verify::OptionalNoCa, 3));
    assert!(full.error_page.is_some() && full.pass_certificate && full.match_cn.is_some());
    let (with, denied) = read_with(&[SECRET], &[("ca.crt", PEM), ("ca.crl", CRL)]);
    assert!(matches!(with, Some(ClientCertificates::Ask(auth)) if auth.group.bundle.revocations.len() == 1));
    assert_eq!(denied, None);
}

#[test]
fn invalid_details_count_as_the_strictest_or_as_none() {
    for bad in ["", "yes", "ON"] {
        assert_eq!(auth(&[("auth-tls-verify-client", bad)]).group.verify, Verify::On, "{bad}");
    }
    for bad in ["0", "-1", "x", "99"] {
        assert_eq!(auth(&[("auth-tls-verify-depth", bad)]).group.depth, 1, "{bad}");
    }
    for bad in ["junk", "javascript:x", "//x.test", "@named", "/path", "https://"] {
        assert_eq!(auth(&[("auth-tls-error-page", bad)]).error_page, None, "{bad}");
    }
}

#[test]
fn whatever_is_missing_or_broken_shuts_the_host() {
    let sound = [("ca.crt", PEM)];
    for (annotations, data) in [
        (vec![("auth-tls-secret", "absent")], &sound[..]),
        (vec![("auth-tls-secret", "other/ca")], &sound),
        (vec![("auth-tls-secret", "")], &sound),
        (vec![SECRET], &[]),
        (vec![SECRET], &[("tls.crt", PEM)]),
        (vec![SECRET], &[("ca.crt", "junk")]),
        (vec![SECRET], &[("ca.crt", "")]),
        (vec![SECRET], &[("ca.crt", PEM), ("ca.crl", "junk")]),
        (vec![SECRET, ("auth-tls-match-cn", "")], &sound),
        (vec![SECRET, ("auth-tls-match-cn", "O=x")], &sound),
        (vec![SECRET, ("auth-tls-match-cn", "CN=(")], &sound),
    ] {
        let (read, denied) = read_with(&annotations, data);
        assert_eq!(read, Some(ClientCertificates::Broken), "{annotations:?} {data:?}");
        assert!(denied.is_some(), "{annotations:?} {data:?}");
    }
    let (read, denied) = read_with(&[("auth-tls-match-cn", "CN=x")], &sound);
    assert_eq!((read, denied), (None, Some("ClientCertificatesUnavailable")));
}

#[test]
fn each_mode_refuses_what_nginx_refuses() {
    let unknown = Shown::Faulty { reason: "x", unknown_authority: true };
    let expired = Shown::Faulty { reason: "x", unknown_authority: false };
    let shown = [Shown::Nothing, Shown::Sound, unknown, expired];
    for (mode, expect) in [
        ("on", [400, 0, 400, 400]),
        ("optional", [0, 0, 400, 400]),
        ("optional_no_ca", [0, 0, 0, 400]),
        ("off", [0, 0, 0, 0]),
    ] {
        let auth = auth(&[("auth-tls-verify-client", mode)]);
        let found = shown
            .clone()
            .map(|shown| auth.refusal(&shown, "CN=x").map_or(0, |reply| reply.status().as_u16()));
        assert_eq!(found, expect, "{mode}");
    }
}

#[test]
fn names_are_matched_from_the_start_of_a_cn_and_nowhere_else() {
    for (pattern, subject, admitted) in [
        ("CN=ann", "CN=ann", true),
        ("CN=ann", "CN=ann-client,O=x", true),
        ("CN=ann", "O=x,CN=ann", true),
        ("CN=ann", "O=x+CN=ann", true),
        ("CN=ann$", "CN=ann,O=x", false),
        ("CN=ann,O=x$", "CN=ann,O=x", true),
        ("CN=ann", "CN=bob", false),
        ("CN=ann", "CN=xann", false),
        ("CN=ann", "O=CN=ann,CN=bob", false),
        ("CN=ann", "O=a\\,CN=ann,CN=bob", false),
        ("CN=ann", "", false),
        ("CN=(ann|bob)", "CN=bob", true),
    ] {
        let auth = auth(&[("auth-tls-match-cn", pattern)]);
        let refused = auth.refusal(&Shown::Sound, subject) == Some(LocalReply::CertificateUnauthorized);
        assert_eq!(!refused, admitted, "{pattern} {subject}");
    }
}

#[test]
fn an_error_page_is_for_certificates_and_not_for_names() {
    let auth = auth(&[("auth-tls-error-page", "https://$host/needed")]);
    let fields = fields(&[]);
    let view = view("/", &fields);
    let facts = Facts { view: &view, route: RouteFacts::default() };
    let page = auth.page_for(LocalReply::CertificateMissing, &facts);
    assert!(matches!(page, LocalReply::Redirect { location, .. } if location == "https://host.test/needed"));
    let other = auth.page_for(LocalReply::CertificateUnauthorized, &facts);
    assert_eq!(other, LocalReply::CertificateUnauthorized);
}
