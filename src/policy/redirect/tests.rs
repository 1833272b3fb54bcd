use super::*;
use crate::policy::annotation::sample::{fields, read, view};

fn reply(annotations: &[(&str, &str)]) -> Option<(u16, String)> {
    let redirect = read(annotations, Redirect::read)?;
    let style = read(annotations, |reader| RedirectStyle::read(reader, &Globals::default()));
    let fields = fields(&[]);
    match redirect.reply(style, &view("/foo?z=1", &fields)) {
        LocalReply::Redirect { status, location, .. } => Some((status.as_u16(), location)),
        _ => None,
    }
}

fn check(annotations: &[(&str, &str)], status: u16, location: &str) {
    assert_eq!(reply(annotations), Some((status, location.to_owned())), "{annotations:?}");
}

#[test]
fn the_url_is_used_to_the_letter() {
    check(&[("permanent-redirect", "https://new.example/base?x=1")], 301, "https://new.example/base?x=1");
    check(
        &[("permanent-redirect", "https://n.example"), ("permanent-redirect-code", "300")],
        300,
        "https://n.example",
    );
    check(&[("temporal-redirect", "http://t.example")], 302, "http://t.example");
}

#[test]
fn temporal_wins_over_permanent() {
    check(
        &[("permanent-redirect", "https://p.example"), ("temporal-redirect", "https://t.example")],
        302,
        "https://t.example",
    );
    check(
        &[("permanent-redirect", "https://p.example"), ("temporal-redirect", "/path")],
        301,
        "https://p.example",
    );
}

#[test]
fn codes_out_of_range_fall_back() {
    check(
        &[("temporal-redirect", "https://t.example"), ("temporal-redirect-code", "308")],
        302,
        "https://t.example",
    );
    check(
        &[("permanent-redirect", "https://p.example"), ("permanent-redirect-code", "309")],
        301,
        "https://p.example",
    );
    check(
        &[("permanent-redirect", "https://p.example"), ("permanent-redirect-code", "308")],
        308,
        "https://p.example",
    );
}

#[test]
fn paths_become_absolute_unless_redirects_are_relative() {
    check(&[("permanent-redirect", "/new")], 301, "http://host.test/new");
    check(&[("permanent-redirect", "/new"), ("relative-redirects", "true")], 301, "/new");
}

/// As nginx sends them: only what begins with a slash is made absolute.
#[test]
fn a_permanent_redirect_may_lead_anywhere() {
    for url in ["app://start/here", "mailto:x", "ftp://f.example/x", "HTTP://n.example/", "x/y", "http:///x"]
    {
        check(&[("permanent-redirect", url)], 301, url);
    }
    check(&[("permanent-redirect", "//n.example/x")], 301, "http://host.test//n.example/x");
    check(&[("permanent-redirect", "//n.example/x"), ("relative-redirects", "true")], 301, "//n.example/x");
    assert_eq!(reply(&[("temporal-redirect", "app://start")]), None);
    check(&[("temporal-redirect", "HTTPS://t.example/")], 302, "HTTPS://t.example/");
}

#[test]
fn the_port_is_written_only_when_asked_for_and_unusual() {
    let style = RedirectStyle { relative: false, with_port: true };
    let fields = fields(&[]);
    let mut view = view("/", &fields);
    assert_eq!(style.local(&view, "/x"), "http://host.test/x");
    view.listen_port = 8080;
    assert_eq!(style.local(&view, "/x"), "http://host.test:8080/x");
    assert_eq!(RedirectStyle::default().local(&view, "/x"), "http://host.test/x");
}

#[test]
fn a_missing_slash_keeps_the_query() {
    let fields = fields(&[]);
    let location =
        |target: &str| match RedirectStyle::default().trailing_slash(&view(target, &fields), "/foo/") {
            LocalReply::Redirect { location, .. } => location,
            other => panic!("{other:?}"),
        };
    assert_eq!(location("/foo?a=/b"), "http://host.test/foo/?a=/b");
    assert_eq!(location("/foo"), "http://host.test/foo/");
    let encoded = match RedirectStyle::default().trailing_slash(&view("/caf%C3%A9%20x", &fields), "/café x/")
    {
        LocalReply::Redirect { location, .. } => location,
        other => panic!("{other:?}"),
    };
    assert_eq!(encoded, "http://host.test/caf%C3%A9%20x/");
}

#[test]
fn urls_with_variables_or_escapes_are_refused_and_temporal_ones_without_a_host() {
    for bad in ["https://x$request_uri", "https://a/%20", "https://a/b c", "javascript:alert", "DATA:x", ""] {
        assert_eq!(reply(&[("permanent-redirect", bad)]), None, "{bad}");
        assert_eq!(reply(&[("temporal-redirect", bad)]), None, "{bad}");
    }
    for bad in ["//evil", "https://", "http://?x", "http://:80", "new", "/new"] {
        assert_eq!(reply(&[("temporal-redirect", bad)]), None, "{bad}");
    }
}

#[test]
fn a_request_without_host_gets_a_path() {
    let fields = fields(&[]);
    let mut view = view("/", &fields);
    view.host.name = "".into();
    assert_eq!(RedirectStyle::default().local(&view, "/x"), "/x");
}
