//! From declared objects to the routing table. Pure and total: any world gives a table and diagnostics.
//!
//! `class` says which Ingress is ours; `object` compiles each alone into a contribution; `merge` lays contributions
//! over each other in the one order there is (`age`) into a plan per host; `canary` hangs canaries on backends;
//! `server` makes virtual hosts of plans; `endpoints` resolves ports and addresses; `tls` chooses certificates;
//! `names` adds aliases and twins; `stream` reads the TCP and UDP services. `incremental` does all this for what changed only.

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::model::{CertCatalog, World};
use crate::route::{EndpointMap, Table};

pub mod class;
pub mod named;
pub mod object;
pub mod options;

mod age;
mod backend;
mod canary;
mod endpoints;
mod expression;
mod finding;
mod follow;
mod incremental;
mod last_good;
mod meaning;
mod merge;
mod missing;
mod names;
mod ownership;
mod pause;
mod server;
mod stream;
mod tls;

pub use incremental::Compiler;
pub use last_good::LastGood;
pub use meaning::semantics_differences;
pub use missing::missing;
pub use options::{Options, PathSemantics};
pub use pause::Pause;

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

/// Compiles a world from scratch.
pub fn compile(inputs: &Inputs<'_>) -> Compiled {
    Compiler::new().compile(inputs)
}
