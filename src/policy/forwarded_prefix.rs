//! `x-forwarded-prefix`: a request field that tells the backend which prefix a rewrite cut off.

use super::annotation::{Reader, Risk, Scope, Spec};
use super::rewrite::Substitution;
use crate::diagnostic::Severity;

const PREFIX: Spec = Spec::new("x-forwarded-prefix", Scope::Location, Risk::Medium)
    .values("none", "/app")
    .doc("`X-Forwarded-Prefix` to the backend, only where rewrite-target is in effect; `$1` to `$9` are groups of the path.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[PREFIX];

/// Value with captures of the rewrite's pattern. Sent only on locations with an effective rewrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedPrefix(pub Substitution);

impl ForwardedPrefix {
    /// Reads the annotation.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let prefix = reader.read(&PREFIX, Substitution::parse).ok()?;
        // It was a switch before ingress-nginx 0.24.
        if matches!(&*prefix.text, "true" | "false") {
            let reason = format!("is no switch: backends get the field with the text {:?}", prefix.text);
            let hint = "write the prefix, such as /app, or remove the annotation";
            reader.report(PREFIX.name, Severity::Warning, "BooleanPrefix", reason, hint);
        }
        Some(Self(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{diagnostics, read};

    #[test]
    fn groups_are_allowed_and_spaces_are_not() {
        let prefix = |text| read(&[("x-forwarded-prefix", text)], ForwardedPrefix::read);
        assert_eq!(read(&[], ForwardedPrefix::read), None);
        assert_eq!(prefix(""), None);
        assert_eq!(prefix("/a b"), None);
        assert_eq!(&*prefix("/v/$1").unwrap().0.text, "/v/$1");
    }

    #[test]
    fn a_switch_is_taken_as_text_and_told() {
        let codes =
            |text| diagnostics(&[("x-forwarded-prefix", text)], |reader| drop(ForwardedPrefix::read(reader)));
        assert_eq!(codes("true"), ["BooleanPrefix"]);
        assert_eq!(codes("false"), ["BooleanPrefix"]);
        assert!(codes("/true").is_empty());
    }
}
