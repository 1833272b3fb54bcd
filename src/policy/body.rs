//! `proxy-body-size`, `client-body-buffer-size`: how large a request body may be and how much of it stays in memory.

use super::annotation::{Reader, Risk, Scope, Spec};
use super::global::Globals;

const SIZE: Spec = Spec::new("proxy-body-size", Scope::Location, Risk::Medium)
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
    /// Reads the family over the ConfigMap's values, whose limit also holds where the Ingress' own cannot be read.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Self {
        Self {
            max: reader.size(&SIZE).map(limit).or(globals.proxy_body_size),
            memory: reader.size(&BUFFER).or(globals.client_body_buffer_size),
        }
    }
}

/// A size of which 0 means no limit.
pub(super) const fn limit(size: u64) -> Option<u64> {
    if size == 0 { None } else { Some(size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{diagnostics, read};

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
    fn where_a_limit_cannot_be_read_that_of_the_config_map_holds() {
        check("15r", Some(1 << 20));
        check("much", Some(1 << 20));
        let body = |reader: &mut Reader<'_>| BodyLimits::read(reader, &Globals::default());
        for name in ["proxy-body-size", "client-body-buffer-size"] {
            assert_eq!(diagnostics(&[(name, "much")], body), ["InvalidAnnotation"], "{name}");
        }
    }
}
