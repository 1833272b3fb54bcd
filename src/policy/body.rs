//! `proxy-body-size`, `client-body-buffer-size`: how large a request body may be and how much of it stays in memory.

use super::annotation::{Reader, Risk, Scope, Spec};
use super::global::Globals;

const SIZE: Spec = Spec::new("proxy-body-size", Scope::Location, Risk::Medium)
    .fail_closed()
    .values("ConfigMap proxy-body-size (1m)", "8m")
    .doc("Largest request body; above it the answer is 413. `0` means no limit.");
const BUFFER: Spec = Spec::new("client-body-buffer-size", Scope::Location, Risk::Low)
    .values("ConfigMap client-body-buffer-size (8k)", "16k")
    .doc("Bytes of a request body that are held in memory before a file is used.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[SIZE, BUFFER];

/// Limits of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes above which the answer is 413; `None` for no limit.
    pub max: Option<u64>,
    /// Bytes held in memory before a spool file is used.
    pub memory: u64,
}

impl BodyLimits {
    /// Reads the family over the ConfigMap's values. An empty size counts as absent: the limit of the ConfigMap holds.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Self {
        let written = reader.raw(&SIZE).is_some_and(|(_, text)| !text.trim().is_empty());
        let max = if written {
            reader.size(&SIZE).map(limit).or(globals.proxy_body_size)
        } else {
            globals.proxy_body_size
        };
        Self { max, memory: reader.size(&BUFFER).or(globals.client_body_buffer_size) }
    }
}

/// A size of which 0 means no limit.
pub(super) const fn limit(size: u64) -> Option<u64> {
    if size == 0 { None } else { Some(size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{denied, read};

    fn check(value: &str, expect: Option<u64>) {
        let limits =
            read(&[("proxy-body-size", value)], |reader| BodyLimits::read(reader, &Globals::default()));
        assert_eq!(limits.max, expect, "{value:?}");
    }

    #[test]
    fn sizes_have_units_and_zero_is_no_limit() {
        check("8m", Some(8 << 20));
        check("1000", Some(1000));
        check("1K", Some(1024));
        check("0", None);
        check("", Some(1 << 20));
        check("99999999999", Some(1 << 20));
    }

    #[test]
    fn a_broken_limit_shuts_the_routes() {
        let body = |reader: &mut Reader<'_>| BodyLimits::read(reader, &Globals::default());
        assert_eq!(denied(&[("proxy-body-size", "much")], body), Some("InvalidAnnotation"));
        assert_eq!(denied(&[("proxy-body-size", "")], body), None);
        assert_eq!(denied(&[("client-body-buffer-size", "much")], body), None);
    }
}
