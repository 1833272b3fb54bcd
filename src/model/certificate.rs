//! Facts about certificates, without keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ObjectKey;

/// What is known about the certificate of a Secret without holding its key. Made by `cert`, read by `compile::tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertInfo {
    /// SHA-256 over certificate chain and key: changes exactly when the material does.
    pub id: [u8; 32],
    /// DNS names: subject alternative names, or the common name where there are none; lower case.
    pub names: Vec<String>,
    /// End of validity, seconds since 1970.
    pub not_after: i64,
    /// Start of validity, seconds since 1970.
    pub not_before: i64,
    /// Subject common name, issuer common name, issuer organization, serial number (decimal or hex text), public key
    /// algorithm: for metrics and the admin API.
    pub subject_common_name: String,
    /// See above.
    pub issuer_common_name: String,
    /// See above.
    pub issuer_organization: String,
    /// See above.
    pub serial_number: String,
    /// See above.
    pub public_key_algorithm: &'static str,
}

/// Every TLS Secret that was looked at: usable, or why not.
pub type CertCatalog = BTreeMap<ObjectKey, Result<Arc<CertInfo>, String>>;
