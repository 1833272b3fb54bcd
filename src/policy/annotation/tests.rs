use super::*;
use crate::policy::annotation::sample::{ingress, read};

const PLAIN: Spec = Spec::new("app-root", Scope::Location, Risk::Low).values("none", "x").doc("");
const ALIASED: Spec = Spec::new("new", Scope::Location, Risk::Low).aliases(&["old"]);
const REFERENCE: Spec = Spec::new("auth-secret", Scope::Location, Risk::Low);

fn value<T>(text: &str, get: impl FnOnce(&mut Reader<'_>) -> Value<T>) -> Value<T> {
    read(&[("app-root", text)], get)
}

#[test]
fn booleans_are_those_of_go() {
    for (text, expect) in [
        ("1", Value::Present(true)),
        ("t", Value::Present(true)),
        ("True", Value::Present(true)),
        ("  true ", Value::Present(true)),
        ("FALSE", Value::Present(false)),
        ("0", Value::Present(false)),
        ("yes", Value::Invalid),
        ("tRUE", Value::Invalid),
        ("on", Value::Invalid),
        ("", Value::Absent),
    ] {
        assert_eq!(value(text, |reader| reader.bool(&PLAIN)), expect, "{text:?}");
    }
    assert_eq!(read(&[], |reader| reader.bool(&PLAIN)), Value::Absent);
}

#[test]
fn numbers_sizes_and_durations_have_bounds() {
    let int = |text: &str| parse_int(text).ok();
    assert_eq!((int("-5"), int("0012"), int("9999999999")), (Some(-5), Some(12), Some(9_999_999_999)));
    assert_eq!(int("+5"), Some(5));
    assert_eq!(
        (int("+-5"), int("1e3"), int("99999999999"), int("-"), int("")),
        (None, None, None, None, None)
    );
    let size = |text: &str| parse_size(text).ok();
    assert_eq!(
        (size("8k"), size("1G"), size("5b"), size("7")),
        (Some(8192), Some(1 << 30), Some(5), Some(7))
    );
    assert_eq!(
        (size("1.5m"), size("m"), size("-1"), size("1kb"), size("1 k")),
        (None, None, None, None, None)
    );
    let seconds = |text: &str| parse_duration(text).ok().map(|duration| duration.as_millis());
    assert_eq!(
        (seconds("5"), seconds("5s"), seconds("200ms"), seconds("2m")),
        (Some(5000), Some(5000), Some(200), Some(120_000))
    );
    assert_eq!(
        (seconds("1k"), seconds(""), seconds("1h30m"), seconds("9999999999")),
        (None, None, None, None)
    );
    assert_eq!(seconds("999999999d"), Some(86_399_999_913_600_000));
}

#[test]
fn networks_are_masked_and_bounded() {
    let nets =
        |text: &str| parse_cidrs(text).map(|nets| nets.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(
        nets("10.1.2.3/8, ::1 ,1.2.3.4"),
        Ok(vec!["10.0.0.0/8".into(), "::1/128".into(), "1.2.3.4/32".into()])
    );
    assert!(nets("10.0.0.0/33").is_err());
    assert!(nets(" , ").is_err());
    assert!(nets(&"1.1.1.1,".repeat(4097)).is_err());
    assert!(nets(&"1.1.1.1,".repeat(4096)).is_ok());
}

#[test]
fn a_control_character_is_found_before_anything_is_trimmed() {
    for bad in ["true\r", "\rtrue", "true\0", "\u{b}true", "tr\nue", "true\n\n"] {
        assert_eq!(value(bad, |reader| reader.bool(&PLAIN)), Value::Invalid, "{bad:?}");
    }
    assert_eq!(value("true\n", |reader| reader.bool(&PLAIN)), Value::Present(true));
    assert_eq!(value("\ttrue\t", |reader| reader.bool(&PLAIN)), Value::Present(true));
}

#[test]
fn lines_are_trimmed_one_by_one() {
    let text = value("  a \n\n b\n", |reader| reader.read_lines(&PLAIN, |text| Ok(text.to_owned())));
    assert_eq!(text, Value::Present("a\n\nb".to_owned()));
}

#[test]
fn the_alias_counts_only_when_the_name_is_absent_or_empty() {
    let word = |annotations: &[(&str, &str)]| {
        read(annotations, |reader| reader.read(&ALIASED, |text| Ok(text.to_owned())))
    };
    assert_eq!(word(&[("old", "o")]), Value::Present("o".to_owned()));
    assert_eq!(word(&[("old", "o"), ("new", "n")]), Value::Present("n".to_owned()));
    assert_eq!(word(&[("old", "o"), ("new", " ")]), Value::Present("o".to_owned()));
}

#[test]
fn a_finding_names_the_annotation_as_it_is_written() {
    let ingress = ingress(&[("old", "o")]);
    let mut reader = Reader::new(&ingress, "nginx.ingress.kubernetes.io", true);
    assert_eq!(reader.bool(&ALIASED), Value::Invalid);
    let (found, _) = reader.finish();
    assert_eq!(found[0].field, "metadata.annotations[nginx.ingress.kubernetes.io/old]");
}

#[test]
fn references_stay_in_their_namespace_unless_allowed() {
    let key = |text: &str, cross: bool| {
        let ingress = ingress(&[("auth-secret", text)]);
        let mut reader =
            Reader::new(&ingress, "nginx.ingress.kubernetes.io", true).with_cross_namespace(cross);
        reader.reference(&REFERENCE).ok().map(|key| key.to_string())
    };
    assert_eq!(key("users", false).as_deref(), Some("default/users"));
    assert_eq!(key("default/users", false).as_deref(), Some("default/users"));
    assert_eq!(key("other/users", false), None);
    assert_eq!(key("other/users", true).as_deref(), Some("other/users"));
    for bad in ["a/b/c", "../x", "A", "/x", "x/", "a b"] {
        assert_eq!(key(bad, true), None, "{bad}");
    }
}

#[test]
fn a_value_over_64_kib_is_invalid() {
    let huge = "x".repeat(MAX_VALUE + 1);
    assert_eq!(value(&huge, |reader| reader.read(&PLAIN, |_| Ok(()))), Value::Invalid);
}

#[test]
fn without_validation_unusual_letters_pass_and_control_characters_do_not() {
    let text = |text: &str, validate: bool| {
        let ingress = ingress(&[("app-root", text)]);
        Reader::new(&ingress, "nginx.ingress.kubernetes.io", validate).text(&PLAIN, "it", is_basic).ok()
    };
    assert_eq!(text("a;b", true), None);
    assert_eq!(text("a;b", false).as_deref(), Some("a;b"));
    assert_eq!(text("a\rb", false), None);
}

#[test]
fn protected_fields_cannot_be_set() {
    for name in ["Host", "TE", "content-length", "Transfer-Encoding", "a b", "", ":path"] {
        assert!(is_protected_field(name), "{name}");
    }
    assert!(!is_protected_field("X-Ok"));
}
