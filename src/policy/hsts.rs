//! HSTS: the `Strict-Transport-Security` field of every TLS response (RFC 6797). ConfigMap keys `hsts*` only; the
//! annotation family has no name of its own.

use super::global::Globals;
use crate::request::Scheme;
use crate::wire::fields::OwnName;

/// Field name.
pub const NAME: &str = "Strict-Transport-Security";

/// [`NAME`] for a section in which it does not stand yet.
pub(super) const OWN: OwnName = OwnName::new("Strict-Transport-Security: ");

/// The field's value for a response on a connection of `scheme`. It replaces a backend's own.
pub fn field(globals: &Globals, scheme: Scheme) -> Option<&str> {
    match scheme {
        Scheme::Https => globals.hsts.as_deref(),
        Scheme::Http => None,
    }
}

/// The value from its settings.
pub fn value(max_age: u64, include_subdomains: bool, preload: bool) -> String {
    let subdomains = if include_subdomains { "; includeSubDomains" } else { "" };
    let preload = if preload { "; preload" } else { "" };
    format!("max-age={max_age}{subdomains}{preload}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_responses_carry_it() {
        let globals = Globals::default();
        assert_eq!(field(&globals, Scheme::Https), Some("max-age=31536000; includeSubDomains"));
        assert_eq!(field(&globals, Scheme::Http), None);
    }

    #[test]
    fn parts_stand_in_order() {
        assert_eq!(value(86400, false, true), "max-age=86400; preload");
        assert_eq!(value(1, true, true), "max-age=1; includeSubDomains; preload");
        assert_eq!(value(0, false, false), "max-age=0");
    }
}
