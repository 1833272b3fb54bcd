//! `default-backend`: the Service that serves when a location's own has no endpoints, and its error pages.

use std::sync::Arc;

use super::annotation::{Reader, Risk, Scope, Spec, is_dns_name};

const DEFAULT_BACKEND: Spec = Spec::new("default-backend", Scope::Location, Risk::Low)
    .values("--default-backend-service", "fallback")
    .doc("Service of the same namespace (first port) that serves when the rule's own has no endpoints, and that makes the pages of custom-http-errors.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[DEFAULT_BACKEND];

/// Reads the annotation: a Service name.
pub fn read(reader: &mut Reader<'_>) -> Option<Arc<str>> {
    reader
        .read(&DEFAULT_BACKEND, |text| {
            let letter = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
            let sound = letter && !text.contains('.') && is_dns_name(text, 63);
            if sound { Ok(Arc::from(text)) } else { Err("is no Service name (RFC 1035 label)".into()) }
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use crate::policy::annotation::sample::read;

    #[test]
    fn only_service_names_are_taken() {
        let name = |text| read(&[("default-backend", text)], super::read);
        assert_eq!(read(&[], super::read), None);
        assert_eq!(name("fallback").as_deref(), Some("fallback"));
        for bad in ["other/fallback", "1st", "a.b", "UPPER", "-a", ""] {
            assert_eq!(name(bad), None, "{bad:?}");
        }
    }
}
