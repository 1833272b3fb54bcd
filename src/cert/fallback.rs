//! The certificate for hosts that have none, when no `--default-ssl-certificate` names a better one: self-signed, made
//! anew at each start, with the names that ingress-nginx gives it (`routing.md` section 2.6).

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use super::{Pair, pair};

/// Common name of the certificate.
pub const FALLBACK_NAME: &str = "Kubernetes Ingress Controller Fake Certificate";
/// Its one DNS name.
const DNS_NAME: &str = "ingress.local";
/// Its validity, as ingress-nginx has it.
const VALIDITY: Duration = Duration::from_hours(24 * 365);
/// How far back it is valid, for clients whose clock is late.
const SLACK: Duration = Duration::from_hours(24);

/// Makes the certificate. `now` is seconds since 1970.
///
/// # Errors
/// When the system has no randomness, or the library refuses what it made itself; said in words.
pub fn self_signed(now: i64) -> Result<Arc<Pair>, String> {
    let mut params = CertificateParams::new(vec![DNS_NAME.to_owned()]).map_err(|error| error.to_string())?;
    params.distinguished_name.push(DnType::OrganizationName, "Acme Co");
    params.distinguished_name.push(DnType::CommonName, FALLBACK_NAME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let since_1970 = Duration::from_secs(u64::try_from(now).unwrap_or_default());
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_1970;
    params.not_before = now - SLACK;
    params.not_after = now + VALIDITY;
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    let (chain, key) = (certificate.pem(), key.serialize_pem());
    let id = pair::identity(chain.as_bytes(), key.as_bytes());
    pair::read(chain.as_bytes(), key.as_bytes(), id).map(Arc::new).map_err(|refusal| refusal.reason)
}
