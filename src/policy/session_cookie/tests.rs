use super::*;
use crate::policy::annotation::sample::{diagnostics, read};

const PLAIN: Sent<'_> = Sent { rule_path: "/foo", scheme: Scheme::Http, user_agent: "", now: 0 };

fn cookie(annotations: &[(&str, &str)]) -> SessionCookie {
    read(annotations, SessionCookie::read)
}

#[test]
fn the_value_is_byte_compatible_with_ingress_nginx() {
    let tag = backend_tag("default-a-80");
    assert_eq!(tag, "452371c8807476367bd103adbd36bb9c");
    assert!(is_of("abc|452371c8807476367bd103adbd36bb9c", &tag));
    assert!(is_of(&value("k", &tag), &tag));
    for foreign in ["abc", "abc|", "", "abc|452371c8807476367bd103adbd36bb9d"] {
        assert!(!is_of(foreign, &tag), "{foreign:?}");
    }
    for (text, expect) in
        [("abc", Some("abc")), ("abc|t", Some("abc")), ("a|b|c", Some("a")), ("|t", None), ("", None)]
    {
        assert_eq!(key(text), expect, "{text:?}");
    }
}

#[test]
fn without_annotations_the_cookie_has_path_and_http_only() {
    let cookie = SessionCookie::default();
    assert_eq!(cookie.set_cookie("v", &PLAIN), "INGRESSCOOKIE=v; Path=/foo; HttpOnly");
    let tls = Sent { scheme: Scheme::Https, ..PLAIN };
    assert_eq!(cookie.set_cookie("v", &tls), "INGRESSCOOKIE=v; Path=/foo; Secure; HttpOnly");
}

#[test]
fn all_parts_stand_in_the_old_order() {
    let cookie = cookie(&[
        ("session-cookie-name", "route"),
        ("session-cookie-expires", "172800"),
        ("session-cookie-max-age", "172800"),
        ("session-cookie-path", "/p"),
        ("session-cookie-domain", "h.test"),
        ("session-cookie-samesite", "None"),
        ("session-cookie-secure", "true"),
    ]);
    let sent = Sent { now: 1_289_906_855, ..PLAIN };
    assert_eq!(
        cookie.set_cookie("k|t", &sent),
        "route=k|t; Expires=Thu, 18-Nov-10 11:27:35 GMT; Max-Age=172800; Domain=h.test; Path=/p; Secure; HttpOnly; SameSite=None",
    );
}

#[test]
fn cookie_times_have_two_digit_years_until_2037() {
    assert_eq!(cookie_time(0), "Thu, 01-Jan-70 00:00:00 GMT");
    assert_eq!(cookie_time(-5), "Thu, 01-Jan-70 00:00:00 GMT");
    assert_eq!(cookie_time(2_145_916_799), "Thu, 31-Dec-37 23:59:59 GMT");
    assert_eq!(cookie_time(2_145_916_800), "Fri, 01-Jan-2038 00:00:00 GMT");
    assert_eq!(cookie_time(i64::MAX), "Fri, 31-Dec-9999 23:59:59 GMT");
}

#[test]
fn same_site_none_is_left_out_only_for_old_browsers_and_only_when_asked() {
    let text = |conditional: &str, value: &str, user_agent: &str| {
        let cookie = cookie(&[
            ("session-cookie-samesite", value),
            ("session-cookie-conditional-samesite-none", conditional),
        ]);
        cookie.set_cookie("v", &Sent { user_agent, ..PLAIN }).contains("SameSite")
    };
    let old = "Mozilla/5.0 (X11) Chrome/55.0 Safari/537.36";
    assert!(!text("true", "None", old));
    assert!(!text("true", "None", "Mozilla/5.0 (iPhone; CPU iPhone OS 12_1 like Mac OS X)"));
    assert!(!text("true", "None", "Mozilla/5.0 (iPad; CPU OS 12_1 like Mac OS X)"));
    assert!(text("true", "None", "Mozilla/5.0 (iPad; CPU OS 13_1 like Mac OS X)"));
    assert!(text("true", "None", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_2) Chrome/80.0 Safari/537"));
    assert!(!text(
        "true",
        "None",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_2) Version/12.0 Safari/605.1"
    ));
    assert!(text("true", "None", "Mozilla/5.0 (X11) Chrome/120.0 Safari/537.36"));
    assert!(text("true", "none", old));
    assert!(text("true", "Lax", old));
    assert!(text("false", "None", old));
}

#[test]
fn values_that_could_split_the_cookie_are_refused() {
    for (name, bad) in [
        ("session-cookie-name", "a;b"),
        ("session-cookie-name", "a b"),
        ("session-cookie-path", "/a;Domain=x"),
        ("session-cookie-path", "relative"),
        ("session-cookie-domain", "a;b"),
        ("session-cookie-samesite", "Sometimes"),
        ("session-cookie-expires", "1d"),
        ("session-cookie-max-age", "007"),
        ("session-cookie-secure", "on"),
    ] {
        assert_eq!(cookie(&[(name, bad)]), SessionCookie::default(), "{name} {bad}");
        assert_eq!(diagnostics(&[(name, bad)], SessionCookie::read), ["InvalidAnnotation"], "{name} {bad}");
    }
    assert_eq!(cookie(&[("session-cookie-max-age", "0")]).max_age, Some(0));
}
