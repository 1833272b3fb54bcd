//! `load-balance`, `upstream-hash-by*`: how an endpoint is chosen when no cookie decides.

use super::template::Template;

/// Algorithm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadBalance {
    /// In turn, from a random start per worker.
    #[default]
    RoundRobin,
    /// Peak EWMA over two random candidates.
    Ewma,
}

/// Consistent hash over an expression.
#[derive(Debug, Clone, PartialEq)]
pub struct HashBy {
    /// `upstream-hash-by`.
    pub template: Template,
    /// Subset size when `upstream-hash-by-subset` is on.
    pub subset: Option<u32>,
}
