//! `service-upstream`: the cluster address of a Service instead of its endpoints.

use super::annotation::{Reader, Risk, Scope, Spec};

const SERVICE_UPSTREAM: Spec = Spec::new("service-upstream", Scope::Upstream, Risk::Low)
    .values("ConfigMap service-upstream (false)", "true")
    .doc("Use clusterIP:port of the Service as its only endpoint.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[SERVICE_UPSTREAM];

/// Reads the annotation; `None` means the ConfigMap's.
pub fn read(reader: &mut Reader<'_>) -> Option<bool> {
    reader.bool(&SERVICE_UPSTREAM).ok()
}

#[cfg(test)]
mod tests {
    use crate::policy::annotation::sample::read;

    #[test]
    fn absent_and_false_are_different() {
        let upstream = |text| read(&[("service-upstream", text)], super::read);
        assert_eq!(read(&[], super::read), None);
        assert_eq!(upstream("false"), Some(false));
        assert_eq!(upstream("true"), Some(true));
        assert_eq!(upstream("yes"), None);
    }
}
