//! Certificates and keys: from the bytes of a Secret to what rustls serves, and to the facts that `compile` reads (`model::CertInfo`).
//! Keys never leave this module's types: no `Debug` of material, no `Serialize`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use crate::model::{CertInfo, ObjectKey};

/// A usable pair.
pub struct Pair {
    /// What rustls serves.
    pub key: Arc<CertifiedKey>,
    /// Facts.
    pub info: Arc<CertInfo>,
}

/// Every usable pair by Secret, and the default.
pub struct CertStore {
    /// Usable pairs by Secret.
    pub pairs: BTreeMap<ObjectKey, Arc<Pair>>,
    /// `--default-ssl-certificate`, else the self-signed one made at start.
    pub default: Arc<Pair>,
}

impl fmt::Debug for CertStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertStore({} pairs)", self.pairs.len())
    }
}
