//! An authority for this one run and the certificate that it gives to the hosts of the example, so that clients can
//! check it instead of looking away.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::NAMESPACE;

/// Certificate of the authority, for `curl --cacert`.
pub(super) const AUTHORITY_FILE: &str = "ca.crt";
/// Secret that the Ingresses of the example name.
const SECRET: &str = "demo-tls";
/// Hosts with TLS.
const HOSTS: &[&str] = &["shop.localhost", "api.localhost", "chat.localhost"];
/// Years of validity; the files may be kept.
const FROM_YEAR: i32 = 2024;
const TO_YEAR: i32 = 2044;

pub(super) struct Certificates {
    /// PEM.
    pub(super) authority: String,
    /// A `kubernetes.io/tls` Secret as YAML.
    pub(super) secret: String,
}

pub(super) fn make() -> Result<Certificates, rcgen::Error> {
    let mut authority = params(&[], "Narthex demo authority")?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let mut server = params(HOSTS, "shop.localhost")?;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &issuer)?;
    Ok(Certificates {
        authority: authority_certificate.pem(),
        secret: secret(&certificate.pem(), &key.serialize_pem()),
    })
}

fn params(hosts: &[&str], common_name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = rcgen::date_time_ymd(FROM_YEAR, 1, 1);
    params.not_after = rcgen::date_time_ymd(TO_YEAR, 1, 1);
    Ok(params)
}

fn secret(certificate: &str, key: &str) -> String {
    let indent = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "# Made anew at each start of the demo.\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n  \
         name: {SECRET}\n  namespace: {NAMESPACE}\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indent(certificate),
        indent(key)
    )
}
