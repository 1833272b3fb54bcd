//! The pair that a port of our own shows (the admission webhook): put in and replaced while it is served. Read from PEM
//! that somebody else keeps, or made here with an authority that signs nothing else and whose key is thrown away at once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pair;

/// How long a pair that we make is valid.
pub const VALIDITY: Duration = Duration::from_hours(24 * 365);
/// It is replaced when less than this is left of it.
pub const RENEW_BEFORE: Duration = Duration::from_hours(24 * 120);
/// How far back it is valid, for clients whose clock is late.
const SLACK: Duration = Duration::from_hours(1);

/// Where the pair is put. Cheap to clone.
#[derive(Clone, Default)]
pub struct Serving(Arc<Slot>);

#[derive(Default)]
struct Slot(ArcSwapOption<CertifiedKey>);

/// A pair that was made, in PEM.
pub struct Made {
    /// Who signed it.
    pub authority: String,
    /// The certificate.
    pub chain: String,
    /// Its key.
    pub key: String,
}

impl Serving {
    /// Shows a pair from now on. Gives the end of its validity, seconds since 1970.
    ///
    /// # Errors
    /// Why it cannot be used; never holds a byte of it.
    pub fn put(&self, chain: &[u8], key: &[u8]) -> Result<i64, String> {
        let pair = pair::read(chain, key, pair::identity(chain, key)).map_err(|refusal| refusal.reason)?;
        self.0.0.store(Some(Arc::clone(&pair.key)));
        Ok(pair.info.not_after)
    }

    /// True once a pair is shown.
    pub fn is_ready(&self) -> bool {
        self.0.0.load().is_some()
    }

    /// TLS that shows the pair of the moment, HTTP/1.1 only.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let slot: Arc<dyn ResolvesServerCert> = Arc::clone(&self.0) as _;
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(slot);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serving(ready: {})", self.is_ready())
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Made")
    }
}

/// When a pair in PEM ends, seconds since 1970.
///
/// # Errors
/// Why it cannot be used.
pub fn inspect(chain: &[u8], key: &[u8]) -> Result<i64, String> {
    let pair = pair::read(chain, key, pair::identity(chain, key)).map_err(|refusal| refusal.reason)?;
    Ok(pair.info.not_after)
}

/// Makes a pair for DNS names and IP addresses. `now` is seconds since 1970.
///
/// # Errors
/// When a name is none, or the system has no randomness.
pub fn make(names: &[String], now: i64) -> Result<Made, String> {
    let words = |error: rcgen::Error| error.to_string();
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(now).unwrap_or_default());
    let mut authority = CertificateParams::new(Vec::<String>::new()).map_err(words)?;
    authority.distinguished_name.push(DnType::CommonName, "narthex admission webhook authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (authority.not_before, authority.not_after) = (now - SLACK, now + VALIDITY);
    let authority_key = KeyPair::generate().map_err(words)?;
    let signed = authority.self_signed(&authority_key).map_err(words)?;
    let mut leaf = CertificateParams::new(names.to_vec()).map_err(words)?;
    leaf.distinguished_name.push(DnType::CommonName, "narthex admission webhook");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    (leaf.not_before, leaf.not_after) = (now - SLACK, now + VALIDITY);
    let key = KeyPair::generate().map_err(words)?;
    let issuer = Issuer::new(authority, authority_key);
    let chain = leaf.signed_by(&key, &issuer).map_err(words)?;
    Ok(Made { authority: signed.pem(), chain: chain.pem(), key: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_is_made_is_served_and_is_for_its_names() {
        let serving = Serving::default();
        assert!(!serving.is_ready());
        let names = ["hook.edge.svc".to_owned(), "127.0.0.1".to_owned()];
        let made = make(&names, 1_700_000_000).unwrap();
        let not_after = serving.put(made.chain.as_bytes(), made.key.as_bytes()).unwrap();
        assert_eq!(not_after, 1_700_000_000 + i64::try_from(VALIDITY.as_secs()).unwrap());
        assert!(serving.is_ready());
        assert!(made.authority.contains("BEGIN CERTIFICATE") && !made.authority.contains("PRIVATE KEY"));
    }

    #[test]
    fn what_is_no_pair_leaves_the_one_that_is_served() {
        let serving = Serving::default();
        let (one, two) = (make(&["a".into()], 0).unwrap(), make(&["a".into()], 0).unwrap());
        assert!(serving.put(one.chain.as_bytes(), two.key.as_bytes()).is_err(), "a foreign key");
        assert!(!serving.is_ready());
        serving.put(one.chain.as_bytes(), one.key.as_bytes()).unwrap();
        assert!(serving.put(b"", b"").is_err());
        assert!(serving.is_ready());
    }
}
