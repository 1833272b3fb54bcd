//! `x-forwarded-prefix`: a request field that tells the backend which prefix a rewrite cut off.

use super::rewrite::Substitution;

/// Value with captures of the rewrite's pattern. Sent only on locations with an effective rewrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedPrefix(pub Substitution);
