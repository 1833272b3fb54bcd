//! The one normal form of a request path (`routing.md` 4.1, `C-6`): percent-decoding once, merged slashes, resolved
//! dot segments.

use std::borrow::Cow;

/// A normalised path: starts with `/`, holds no `//`, no `.` or `..` segment; decoded bytes, not text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormPath<'r>(Cow<'r, [u8]>);

/// Why a target has no normal form; each is a 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Does not start with `/`.
    #[error("the path does not start with a slash")]
    NoSlash,
    /// `..` would leave the root.
    #[error("the path climbs above the root")]
    AboveRoot,
    /// `%` without two hex digits.
    #[error("the path holds a broken percent triple")]
    Percent,
    /// `%00`, or a raw control byte, space, backslash or `#`.
    #[error("the path holds a byte that is not allowed")]
    Byte,
}

impl<'r> NormPath<'r> {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
