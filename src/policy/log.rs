//! `enable-access-log`, `skip-access-log-urls`: which requests are written to the access log. `enable-rewrite-log` is
//! known and means nothing here.

use super::RoutePolicies;
use super::annotation::{Fidelity, Reader, Risk, Scope, Spec};
use super::global::Globals;
use crate::request::RequestView;

const ACCESS_LOG: Spec = Spec::new("enable-access-log", Scope::Location, Risk::Low)
    .values("true", "false")
    .doc("Write requests of this Ingress to the access log.");
const REWRITE_LOG: Spec = Spec::new("enable-rewrite-log", Scope::Location, Risk::Low)
    .fidelity(Fidelity::AcceptedNoEffect("there is no rewrite log; `explain` tells what a request meets"))
    .values("false", "true")
    .doc("Write rewrites to the error log.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[ACCESS_LOG, REWRITE_LOG];

/// Reads `enable-access-log`.
pub fn read(reader: &mut Reader<'_>) -> bool {
    reader.bool(&REWRITE_LOG);
    reader.bool(&ACCESS_LOG).or(true)
}

/// True when the request is to be written.
pub fn writes(policies: &RoutePolicies, globals: &Globals, view: &RequestView<'_>) -> bool {
    policies.access_log
        && !globals.disable_access_log
        && !globals.skip_access_log_urls.iter().any(|test| test.matches(view.target))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::annotation::sample::{fields, read as read_with, view};
    use crate::policy::global::TextTest;

    #[test]
    fn the_log_is_on_unless_switched_off() {
        assert!(read_with(&[], read));
        assert!(!read_with(&[("enable-access-log", "false")], read));
        assert!(read_with(&[("enable-access-log", "off")], read));
    }

    #[test]
    fn skipped_urls_are_compared_with_the_raw_target() {
        let tests = ["/health", "~^/api/.*/ping$"].map(|text| TextTest::parse(text).unwrap());
        let globals = Globals { skip_access_log_urls: Arc::from(tests), ..Globals::default() };
        let policies = RoutePolicies::defaults(&globals);
        let fields = fields(&[]);
        for (target, expect) in
            [("/health", false), ("/health?x", true), ("/api/v1/ping", false), ("/", true)]
        {
            assert_eq!(writes(&policies, &globals, &view(target, &fields)), expect, "{target}");
        }
    }
}
