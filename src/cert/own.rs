//! What OpenSSL takes of a certificate and webpki refuses: a certificate that is its own authority (`CA:TRUE`, as
//! `openssl req -x509` makes it), and a name that stands in the subject only. Not the verdict on a chain: whoever holds
//! one asks here after webpki refused, `client` for clients and `upstream` for backends.

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// Who shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A client.
    Client,
    /// A backend.
    Server,
}

/// True when a certificate of `ca.crt` may be shown by its own holder: it is in force and made for that. Whether it
/// stands in `ca.crt`, and that the key is there, others see to.
pub fn may_be_shown(der: &CertificateDer<'_>, side: Side, now: UnixTime) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    let extended = certificate.extended_key_usage().is_ok_and(|usage| {
        usage.is_none_or(|usage| match side {
            Side::Client => usage.value.client_auth,
            Side::Server => usage.value.server_auth,
        })
    });
    // As OpenSSL, which asks for one of these where anything is said.
    let plain = certificate.key_usage().is_ok_and(|usage| {
        usage.is_none_or(|usage| {
            let usage = usage.value;
            usage.digital_signature()
                || usage.key_agreement()
                || (side == Side::Server && usage.key_encipherment())
        })
    });
    extended && plain && now.is_some_and(|now| certificate.validity().is_valid_at(now))
}

/// True when a certificate without any DNS name is for `host` by a CN of its subject.
pub fn is_called(der: &CertificateDer<'_>, host: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let unnamed = certificate.subject_alternative_name().is_ok_and(|names| {
        let is_dns = |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(_));
        names.is_none_or(|names| !names.value.general_names.iter().any(is_dns))
    });
    let mut names = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    unnamed && names.any(|name| covers(name, host))
}

/// True when an authority limits the names below it (or cannot be read): those limits are about SANs, and a CN would
/// slip past them.
pub fn limits_names(der: &[u8]) -> bool {
    !X509Certificate::from_der(der)
        .is_ok_and(|(_, certificate)| certificate.name_constraints().is_ok_and(|limits| limits.is_none()))
}

/// A star stands for one whole label, before at least two others.
fn covers(name: &str, host: &str) -> bool {
    let rest = |text: &str| text.split_once('.').map(|(_, rest)| rest.to_owned());
    match name.strip_prefix("*.") {
        Some(parent) => {
            parent.contains('.') && rest(host).is_some_and(|rest| rest.eq_ignore_ascii_case(parent))
        }
        None => name.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
        IsCa, KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
    };

    use super::*;

    fn made(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "B.test");
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2100, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    /// May a client, and a backend, show it?
    fn shown(change: impl FnOnce(&mut CertificateParams)) -> (bool, bool) {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000));
        let der = made(change);
        (may_be_shown(&der, Side::Client, now), may_be_shown(&der, Side::Server, now))
    }

    #[test]
    fn it_is_shown_in_its_time_and_for_its_purpose() {
        assert_eq!(shown(|_| {}), (true, true));
        assert_eq!(shown(|params| params.not_after = date_time_ymd(2001, 1, 1)), (false, false));
        assert_eq!(shown(|params| params.not_before = date_time_ymd(2099, 1, 1)), (false, false));
        let server = vec![ExtendedKeyUsagePurpose::ServerAuth];
        assert_eq!(shown(|params| params.extended_key_usages = server), (false, true));
        let client = vec![ExtendedKeyUsagePurpose::ClientAuth];
        assert_eq!(shown(|params| params.extended_key_usages = client), (true, false));
        for (usage, expect) in [
            (KeyUsagePurpose::DigitalSignature, (true, true)),
            (KeyUsagePurpose::KeyEncipherment, (false, true)),
            (KeyUsagePurpose::KeyCertSign, (false, false)),
        ] {
            assert_eq!(shown(|params| params.key_usages = vec![usage]), expect, "{usage:?}");
        }
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000));
        assert!(!may_be_shown(&CertificateDer::from(vec![0x30, 0]), Side::Client, now));
    }

    #[test]
    fn a_common_name_counts_where_there_is_no_dns_name() {
        let plain = made(|_| {});
        assert!(is_called(&plain, "b.test") && !is_called(&plain, "a.test"));
        let address = SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        assert!(is_called(&made(|params| params.subject_alt_names = vec![address]), "b.test"));
        let named = SanType::DnsName("other.test".try_into().unwrap());
        assert!(!is_called(&made(|params| params.subject_alt_names = vec![named]), "b.test"));
        assert!(!is_called(&CertificateDer::from(vec![0x30, 0]), "b.test"));
        for (name, host, expect) in [
            ("*.b.test", "a.B.test", true),
            ("*.b.test", "b.test", false),
            ("*.b.test", "x.a.b.test", false),
            ("*.test", "b.test", false),
            ("*", "b.test", false),
        ] {
            assert_eq!(covers(name, host), expect, "{name} {host}");
        }
    }

    #[test]
    fn authorities_that_limit_names_are_known() {
        assert!(!limits_names(&made(|_| {})));
        let limits = NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::IpAddress(CidrSubnet::V4(
                [10, 0, 0, 0],
                [255, 0, 0, 0],
            ))],
            excluded_subtrees: Vec::new(),
        };
        assert!(limits_names(&made(|params| params.name_constraints = Some(limits))));
        assert!(limits_names(b"junk"));
    }
}
