//! Every annotation there is, and how the annotations of one Ingress become policies.

use super::IngressPolicies;
use super::global::Globals;
use crate::diagnostic::Diagnostic;
use crate::model::Ingress;
