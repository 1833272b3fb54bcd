//! `server-alias`: further names of a host, in nginx's `server_name` syntax.

use std::sync::Arc;

use crate::pattern::Pattern;

/// One further name.
#[derive(Debug, Clone, PartialEq)]
pub enum Alias {
    /// A whole name, lower case.
    Exact(Arc<str>),
    /// `*.foo`: any number of labels before `.foo`; holds `foo`.
    Suffix(Arc<str>),
    /// `foo.*`: any number of labels after `foo.`; holds `foo`.
    Prefix(Arc<str>),
    /// `~expression`, unanchored, case-insensitive.
    Regex(Arc<Pattern>),
}
