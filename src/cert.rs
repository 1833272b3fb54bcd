//! Certificates and keys: from the bytes of a Secret to what rustls serves, and to the facts that `compile` reads
//! (`model::CertInfo`). Keys never leave this module's types: no `Debug` of material, no `Serialize`.
//!
//! The control loop owns a [`Keeper`] and asks it with every new world; the data plane only sees the [`CertStore`], and
//! asks [`client`] about the certificates of clients, [`own`] about those that are their own authority.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::sign::CertifiedKey;

use crate::model::{CertInfo, ObjectKey, Secret, SecretBytes};

pub mod client;
mod fallback;
mod keeper;
pub mod ocsp;
pub mod old;
pub mod own;
mod pair;
pub mod serving;

pub use fallback::{FALLBACK_NAME, self_signed};
pub use keeper::{GAP_SECONDS, Judged, Keeper};
pub use pair::{MAX_BYTES, MAX_CHAIN, MIN_RSA_BITS, Refusal};
pub use serving::Serving;

/// A usable pair.
pub struct Pair {
    /// What rustls serves.
    pub key: Arc<CertifiedKey>,
    /// Facts.
    pub info: Arc<CertInfo>,
    /// The same with an OCSP answer.
    stapled: ArcSwapOption<Stapled>,
}

/// A key with an OCSP answer.
struct Stapled {
    key: Arc<CertifiedKey>,
    /// Seconds since 1970.
    until: i64,
}

impl Pair {
    /// A pair without an OCSP answer.
    pub(crate) fn new(key: CertifiedKey, info: CertInfo) -> Self {
        Self { key: Arc::new(key), info: Arc::new(info), stapled: ArcSwapOption::empty() }
    }

    /// Shows an OCSP answer beside the certificate until this time, seconds since 1970.
    pub fn staple(&self, answer: Vec<u8>, until: i64) {
        let mut key = CertifiedKey::clone(&self.key);
        key.ocsp = Some(answer);
        self.stapled.store(Some(Arc::new(Stapled { key: Arc::new(key), until })));
    }

    /// True where there is an OCSP answer to show at this time.
    pub fn is_stapled(&self, now: i64) -> bool {
        self.stapled.load().as_ref().is_some_and(|stapled| now < stapled.until)
    }

    /// What a handshake shows at this time, with the OCSP answer where there is one.
    pub fn with_staple(&self, now: i64) -> Arc<CertifiedKey> {
        match &*self.stapled.load() {
            Some(stapled) if now < stapled.until => Arc::clone(&stapled.key),
            _ => Arc::clone(&self.key),
        }
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pair({})", self.info.subject_common_name)
    }
}

/// Every usable pair by Secret, and the default.
pub struct CertStore {
    /// Usable pairs by Secret.
    pub pairs: BTreeMap<ObjectKey, Arc<Pair>>,
    /// `--default-ssl-certificate`, else the self-signed one made at start.
    pub default: Arc<Pair>,
    /// What `proxy-ssl-secret` may name, by Secret.
    pub materials: BTreeMap<ObjectKey, Arc<TlsMaterial>>,
}

/// The parts of a Secret that a TLS client uses, PEM as they stand there. Shared by pointer: a changed Secret is another
/// value.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TlsMaterial {
    /// `ca.crt`.
    pub authority: Option<Arc<[u8]>>,
    /// `tls.crt`.
    pub certificate: Option<Arc<[u8]>>,
    /// `tls.key`.
    pub key: Option<Arc<[u8]>>,
}

impl TlsMaterial {
    /// Those of a Secret; `None` when it has none.
    pub fn of(secret: &Secret) -> Option<Self> {
        let part = |name| secret.data.get(name).map(SecretBytes::share);
        let material = Self { authority: part("ca.crt"), certificate: part("tls.crt"), key: part("tls.key") };
        (material != Self::default()).then_some(material)
    }
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMaterial")
            .field("authority", &self.authority.is_some())
            .field("certificate", &self.certificate.is_some())
            .finish_non_exhaustive()
    }
}

impl CertStore {
    /// True when both hold the same material for the same Secrets.
    pub fn same_as(&self, other: &Self) -> bool {
        self.default.info.id == other.default.info.id
            && self.materials == other.materials
            && self.pairs.len() == other.pairs.len()
            && self.pairs.iter().zip(&other.pairs).all(|((left_key, left), (right_key, right))| {
                left_key == right_key && left.info.id == right.info.id
            })
    }
}

impl fmt::Debug for CertStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertStore({} pairs)", self.pairs.len())
    }
}

#[cfg(test)]
mod tests;
