//! `enable-access-log`, `skip-access-log-urls`: which requests are written to the access log. `enable-rewrite-log`: whose
//! rewrites are written to the error log, in nginx's words.

use super::RoutePolicies;
use super::annotation::{Reader, Risk, Scope, Spec};
use super::global::Globals;
use crate::request::RequestView;

const ACCESS_LOG: Spec = Spec::new("enable-access-log", Scope::Location, Risk::Low)
    .values("true", "false")
    .doc("Write requests of this Ingress to the access log.");
const REWRITE_LOG: Spec = Spec::new("enable-rewrite-log", Scope::Location, Risk::Low)
    .values("false", "true")
    .doc("Write rewrites to the error log.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[ACCESS_LOG, REWRITE_LOG];

/// Reads `enable-access-log`.
pub fn read(reader: &mut Reader<'_>) -> bool {
    reader.bool(&ACCESS_LOG).or(true)
}

/// Reads `enable-rewrite-log`.
pub fn read_rewrites(reader: &mut Reader<'_>) -> bool {
    reader.bool(&REWRITE_LOG).or(false)
}

/// Whether rewrites of these routes are told: nginx writes them as notices, which `error-log-level` may hold back.
pub fn tells_rewrites(policies: &RoutePolicies, globals: &Globals) -> bool {
    policies.rewrite_log && matches!(&*globals.error_log_level, "debug" | "info" | "notice")
}

/// The two lines that nginx's `rewrite_log` writes for a rewrite that matched: the expression with the path it was
/// compared with, and what came of it. What a client sent is escaped, so that it cannot forge a line (B-23).
pub fn rewrite_lines(expression: &str, path: &[u8], target: &[u8], about: &str) -> [String; 2] {
    let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let mut halves = target.splitn(2, |byte| *byte == b'?');
    let (data, args) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    [
        format!("\"(?i){expression}\" matches \"{}\", {about}", shown(path)),
        format!("rewritten data: \"{}\", args: \"{}\", {about}", shown(data), shown(args)),
    ]
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
    fn a_rewrite_is_told_in_the_words_of_nginx_on_one_line_each() {
        assert!(!read_with(&[], read_rewrites));
        assert!(read_with(&[("enable-rewrite-log", "true")], read_rewrites));
        assert_eq!(
            rewrite_lines("/something", b"/something\n\"x\"", b"/?a=1?2", "client: 10.1.2.3"),
            [
                r#""(?i)/something" matches "/something\n\"x\"", client: 10.1.2.3"#,
                r#"rewritten data: "/", args: "a=1?2", client: 10.1.2.3"#
            ]
        );
    }

    #[test]
    fn rewrites_are_notices_of_the_error_log() {
        for (level, told) in
            [("debug", true), ("info", true), ("notice", true), ("warn", false), ("emerg", false)]
        {
            let globals = Globals { error_log_level: level.into(), ..Globals::default() };
            let policies = RoutePolicies { rewrite_log: true, ..RoutePolicies::defaults(&globals) };
            assert_eq!(tells_rewrites(&policies, &globals), told, "{level}");
            assert!(!tells_rewrites(&RoutePolicies::defaults(&globals), &globals), "{level}");
        }
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
