//! What went wrong or deserves notice in an object, said to its owner.
//!
//! Compiling never fails; it yields diagnostics. `check` prints them, the admin API lists them, the controller
//! turns them into Events.

use std::fmt;

use crate::model::{ObjectRef, Origin};
use std::sync::Arc;

mod nearest;

pub use nearest::nearest;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know: accepted, and means something else than it may seem.
    Info,
    /// Works, though not as written; or has no effect.
    Warning,
    /// Something declared is not served or answers an error.
    Error,
}

impl Severity {
    /// The word used in text and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One finding about one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The object it is about.
    pub object: ObjectRef,
    /// Stable word in CamelCase, such as `PathConflict`; written by hand, never derived from a type name.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Path of the field, such as `spec.rules[0].http.paths[1].path` or `metadata.annotations[…]`; may be empty.
    pub field: String,
    /// The offending value, shortened to 200 characters; empty when it says nothing or is secret.
    pub value: String,
    /// Why, in one sentence without a final dot.
    pub reason: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// Where the object was read.
    pub origin: Arc<Origin>,
}

impl Diagnostic {
    /// `value` as a diagnostic shows it: at most 200 characters, the last of them an ellipsis when text was cut.
    pub fn shorten(value: &str) -> String {
        const LONGEST: usize = 200;
        if value.chars().nth(LONGEST).is_none() {
            return value.to_owned();
        }
        value.chars().take(LONGEST - 1).chain(['…']).collect()
    }

    /// The line (from 1) of the field, else of the nearest known field around it, else of the object.
    pub fn line(&self) -> Option<u32> {
        let mut field = self.field.as_str();
        while !field.is_empty() {
            if let Some(line) = self.origin.fields.get(field) {
                return Some(line);
            }
            field = field.rfind(['.', '[']).and_then(|end| field.get(..end)).unwrap_or_default();
        }
        self.origin.line
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.origin.file {
            write!(f, "{file}:")?;
            if let Some(line) = self.line() {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}: {} {}", self.severity.as_str(), self.code, self.object)?;
        if !self.field.is_empty() {
            write!(f, " {}", self.field)?;
        }
        if !self.value.is_empty() {
            write!(f, " = {:?}", self.value)?;
        }
        write!(f, ": {}", self.reason)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " (hint: {})", self.hint) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{Kind, ObjectKey};

    #[test]
    fn the_line_is_that_of_the_nearest_known_field() {
        let fields = [("spec.rules[0]", 5), ("spec.rules[0].host", 6), ("spec", 4)];
        let fields: BTreeMap<_, _> =
            fields.into_iter().map(|(field, line)| (field.to_owned(), line)).collect();
        let fields = fields.into();
        let origin = Arc::new(Origin { file: Some("f".into()), line: Some(1), fields });
        let line = |field: &str| {
            let object = ObjectRef { kind: Kind::Ingress, key: ObjectKey::new("a", "b") };
            let found = Diagnostic {
                object,
                code: "X",
                severity: Severity::Info,
                field: field.into(),
                value: String::new(),
                reason: String::new(),
                hint: String::new(),
                origin: Arc::clone(&origin),
            };
            found.line()
        };
        assert_eq!(line("spec.rules[0].host"), Some(6));
        assert_eq!(line("spec.rules[0].http.paths[3].path"), Some(5));
        assert_eq!(line("spec.rules[1].http"), Some(4));
        assert_eq!(line("metadata.annotations[a.b/c]"), Some(1));
        assert_eq!(line(""), Some(1));
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        assert_eq!(Diagnostic::shorten("short"), "short");
        assert_eq!(Diagnostic::shorten(&"é".repeat(200)), "é".repeat(200));
        assert_eq!(Diagnostic::shorten(&"é".repeat(201)), format!("{}…", "é".repeat(199)));
    }
}
