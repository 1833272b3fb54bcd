use super::*;
use crate::policy::annotation::sample::{diagnostics, fields, read, view};

fn canary(annotations: &[(&str, &str)]) -> Canary {
    let all: Vec<(&str, &str)> =
        [("canary", "true")].into_iter().chain(annotations.iter().copied()).collect();
    read(&all, Canary::read).unwrap()
}

fn check(annotations: &[(&str, &str)], lines: &[(&str, &str)], expect: Choice) {
    let fields = fields(lines);
    let choice = canary(annotations).decide(&view("/", &fields)).0;
    assert_eq!(choice, expect, "{annotations:?} {lines:?}");
}

#[test]
fn without_canary_true_there_is_no_canary_and_its_other_annotations_are_reported() {
    assert_eq!(read(&[], Canary::read), None);
    assert_eq!(read(&[("canary", "maybe")], Canary::read), None);
    assert_eq!(diagnostics(&[("canary-weight", "10")], Canary::read), ["NotACanary"]);
}

#[test]
fn header_always_and_never_decide_and_other_values_do_not() {
    let rule = [("canary-by-header", "X-C"), ("canary-weight", "0")];
    check(&rule, &[("x-c", "always")], Choice::Canary);
    check(&rule, &[("x-c", "Always")], Choice::Primary);
    let full = [("canary-by-header", "X-C"), ("canary-weight", "100")];
    check(&full, &[("X-C", "never")], Choice::Primary);
    check(&full, &[("X-C", "other")], Choice::Canary);
    check(&full, &[], Choice::Canary);
}

#[test]
fn a_header_name_with_underscore_finds_the_field_with_dash() {
    check(&[("canary-by-header", "X_Under")], &[("X-Under", "always")], Choice::Canary);
}

#[test]
fn a_header_value_takes_over_from_always_never_and_pattern() {
    let rule = [
        ("canary-by-header", "X-C"),
        ("canary-by-header-value", "yes"),
        ("canary-by-header-pattern", "^always$"),
    ];
    check(&rule, &[("X-C", "yes")], Choice::Canary);
    check(&rule, &[("X-C", "always")], Choice::Primary);
    check(
        &[rule[0], rule[1], ("canary-by-cookie", "c")],
        &[("X-C", "no"), ("Cookie", "c=always")],
        Choice::Canary,
    );
}

#[test]
fn a_header_value_may_hold_spaces_and_lines_of_one_field_are_one_list() {
    let rule = |value: &'static str| [("canary-by-header", "X-C"), ("canary-by-header-value", value)];
    check(&rule("do it"), &[("X-C", "do it")], Choice::Canary);
    check(&rule("do it"), &[("X-C", "always")], Choice::Primary);
    check(&rule("a"), &[("X-C", "a"), ("x-c", "b")], Choice::Primary);
    let pattern = [("canary-by-header", "X-C"), ("canary-by-header-pattern", "^a, b$")];
    check(&pattern, &[("X-C", "a"), ("x-c", "b")], Choice::Canary);
}

#[test]
fn names_of_cookies_compare_without_case() {
    let rule = [("canary-by-cookie", "SidE")];
    check(&rule, &[("Cookie", "x=1; side=always")], Choice::Canary);
    check(&rule, &[("Cookie", "SIDE=never; SidE=always")], Choice::Primary);
}

#[test]
fn a_header_pattern_matches_anywhere_and_case_counts() {
    let rule = [("canary-by-header", "X-C"), ("canary-by-header-pattern", "be(t)a")];
    check(&rule, &[("X-C", "my beta 2")], Choice::Canary);
    check(&rule, &[("X-C", "BETA")], Choice::Primary);
}

#[test]
fn a_broken_pattern_keeps_requests_with_the_header_on_the_primary() {
    let rule =
        [("canary-by-header", "X-C"), ("canary-by-header-pattern", "[][**da?$&*"), ("canary-by-cookie", "c")];
    check(&rule, &[("X-C", "DoCanary"), ("Cookie", "c=always")], Choice::Primary);
    check(&rule, &[("Cookie", "c=always")], Choice::Canary);
    let all = [("canary", "true"), rule[0], rule[1]];
    assert_eq!(diagnostics(&all, Canary::read), ["InvalidPattern"]);
}

#[test]
fn header_beats_cookie_and_cookie_beats_weight() {
    let rule = [("canary-by-header", "X-C"), ("canary-by-cookie", "c"), ("canary-weight", "100")];
    check(&rule, &[("X-C", "never"), ("Cookie", "c=always")], Choice::Primary);
    check(&rule, &[("Cookie", "a=b; c=never")], Choice::Primary);
    check(&rule, &[("Cookie", "c=perhaps")], Choice::Canary);
}

#[test]
fn weight_is_a_share_of_a_total_of_at_least_100() {
    let share = |annotations: &[(&str, &str)]| {
        let canary = canary(annotations);
        (0..1000).filter(|roll| canary.by_weight(*roll) == Choice::Canary).count()
    };
    assert_eq!(share(&[("canary-weight", "50")]), 500);
    assert_eq!(share(&[("canary-weight", "50"), ("canary-weight-total", "50")]), 500);
    assert_eq!(share(&[("canary-weight", "50"), ("canary-weight-total", "1000")]), 50);
    assert_eq!(share(&[("canary-weight", "0")]), 0);
    assert_eq!(share(&[("canary-weight", "5000")]), 1000);
    assert_eq!(share(&[("canary-weight", "-5")]), 0);
}
