//! `canary*`: which requests a canary takes. The sticky-cookie rule that stands before all of these is the
//! balancer's, which owns the cookie.

use std::sync::Arc;

use crate::pattern::Pattern;

/// Policy of a canary Ingress.
#[derive(Debug, Clone, PartialEq)]
pub struct Canary {
    /// `canary-weight`.
    pub weight: u32,
    /// `canary-weight-total`, at least 100.
    pub total: u32,
    /// `canary-by-header` with its value or pattern.
    pub header: Option<HeaderRule>,
    /// `canary-by-cookie`.
    pub cookie: Option<Arc<str>>,
}

/// The header rule.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderRule {
    /// Field name.
    pub name: Arc<str>,
    /// What its value must be.
    pub test: HeaderTest,
}

/// What the header's value must be.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderTest {
    /// `always` takes the canary, `never` the primary, anything else decides nothing.
    Switch,
    /// This value takes the canary.
    Value(Arc<str>),
    /// A value that matches takes the canary.
    Pattern(Arc<Pattern>),
    /// The pattern does not compile: a request with the header stays with the primary.
    Broken,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The canary's backend.
    Canary,
    /// The primary backend.
    Primary,
}
