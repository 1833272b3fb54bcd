//! From declared objects to the routing table. Pure and total: any world gives a table and diagnostics.
//!
//! Each Ingress is compiled alone into a contribution (`object`, cached); `merge` lays contributions over each other
//! in the one order there is; `backend` resolves ports and endpoints; `tls` chooses certificates.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::model::{ObjectKey, World};
use crate::route::{EndpointMap, Table};

pub mod backend;
pub mod class;
pub mod merge;
pub mod object;
pub mod options;
pub mod tls;

pub use options::{Options, PathSemantics};

/// What is known about the certificate of a Secret without holding its key. Made by `cert`, read by `tls`.
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

/// Result of a compilation.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The table.
    pub table: Arc<Table>,
    /// Endpoints of the table's backends.
    pub endpoints: Arc<EndpointMap>,
    /// Findings, sorted by object, then field, then code.
    pub diagnostics: Vec<Diagnostic>,
}

/// Everything a compilation looks at.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'i> {
    /// Objects.
    pub world: &'i World,
    /// Certificates of the Secrets in `world`.
    pub certificates: &'i CertCatalog,
    /// Flags.
    pub options: &'i Options,
}
