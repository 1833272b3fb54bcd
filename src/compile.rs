//! From declared objects to the routing table. Pure and total: any world gives a table and diagnostics.
//!
//! Each Ingress is compiled alone into a contribution (`object`, cached); `merge` lays contributions over each other
//! in the one order there is; `backend` resolves ports and endpoints; `tls` chooses certificates.

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::model::{CertCatalog, World};
use crate::route::{EndpointMap, Table};

pub mod backend;
pub mod class;
pub mod merge;
pub mod object;
pub mod options;
pub mod tls;

pub use options::{Options, PathSemantics};

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
