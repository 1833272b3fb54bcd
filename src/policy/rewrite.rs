//! `rewrite-target`, `use-regex`: the path a backend is asked for.

/// One piece of a substitution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text.
    Literal(Box<str>),
    /// `$1` to `$9`.
    Group(u8),
    /// `$name`.
    Name(Box<str>),
}

/// Text with captures of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substitution {
    /// As written.
    pub text: Box<str>,
    /// Its pieces.
    pub pieces: Box<[Piece]>,
}

/// `rewrite-target`: replaces the whole path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The new path.
    pub target: Substitution,
}
