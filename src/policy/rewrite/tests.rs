use super::*;
use crate::pattern::{Anchor, Case};
use crate::policy::annotation::sample::{diagnostics, fields, read as read_with, view};
use crate::policy::template::RouteFacts;
use crate::request::{normalize, split_target};

fn outcome(path: &str, target: &str, request: &str) -> Result<Option<Outcome>, RewriteError> {
    let rewrite = Rewrite { target: Substitution::parse(target).unwrap() };
    let pattern = Pattern::compile(path, Case::Insensitive, Anchor::None).unwrap();
    let norm = normalize(request.as_bytes()).unwrap();
    let fields = fields(&[("X-Up", "a b")]);
    let view = view(request, &fields);
    let facts = Facts { view: &view, route: RouteFacts { service: "svc", ..RouteFacts::default() } };
    let (sent, query) = split_target(request.as_bytes());
    apply(&rewrite, &pattern, &norm, query, sent, None, &facts)
}

fn rewritten(path: &str, target: &str, request: &str) -> Result<Option<String>, RewriteError> {
    Ok(outcome(path, target, request)?.map(|done| match done {
        Outcome::Forward(done) => String::from_utf8(done.target).unwrap(),
        Outcome::Redirect(url) => panic!("a redirect to {url}"),
    }))
}

fn check(path: &str, target: &str, request: &str, expect: &str) {
    assert_eq!(rewritten(path, target, request), Ok(Some(expect.to_owned())), "{path} {target} {request}");
}

#[test]
fn groups_are_filled_in_and_the_rest_is_dropped() {
    check("/svc(/|$)(.*)", "/$2", "/svc/x", "/x");
    check("/svc(/|$)(.*)", "/$2", "/svc", "/");
    check("/api", "/", "/api/x/y", "/");
    check("/svc", "/api", "/svc/deep/path?x=1", "/api?x=1");
    check("/u/(?<uid>[0-9]+)", "/users/$uid", "/u/42/x", "/users/42");
    check("/x/(.*)", "$1", "/x/abc", "abc");
    check("/a(b)?", "/$1/$9/$nope", "/a", "///");
    check("/a(.)", "/$10", "/ax", "/x0");
    check("/API/(.*)", "/$1", "/api/K", "/K");
}

#[test]
fn names_that_are_no_groups_are_variables() {
    check("/x/(.*)", "/$service_name/$host/$1", "/x/k", "/svc/host.test/k");
    check("/x/(.*)", "/$http_x_up/$1", "/x/k", "/a%20b/k");
    check("/x/(?<host>.*)", "/$host", "/x/k", "/k");
    check("/x/(.*)", "/$request_uri", "/x/k?a=b", "//x/k%3Fa=b?a=b");
    check("/x/(.*)", "/$upstream_status/$1", "/x/k", "//k");
}

#[test]
fn an_empty_result_fails() {
    assert_eq!(rewritten("/x/(.*)", "$1", "/x/"), Err(RewriteError::Empty));
}

#[test]
fn whatever_groups_bring_the_result_names_no_other_host() {
    for (request, expect) in [
        ("/x/@evil/", "/@evil/"),
        ("/x/*", "/*"),
        ("/x/.evil.test/", "/.evil.test/"),
        ("/x/http:%2F%2Fevil/", "/http:/evil/"),
        ("/x/:8080/", "/:8080/"),
        ("/x/%3Fa=b", "/%3Fa=b"),
    ] {
        check("/x/(.*)", "$1", request, expect);
    }
    check("/x/(.*)", "http$1", "/x/:%2F%2Fevil", "/http:/evil");
    check("/x/(.*)", "https://$1", "/x/evil.test/a", "/https://evil.test/a");
}

#[test]
fn a_target_that_is_a_url_redirects() {
    let url = |request| outcome("/x/(.*)", "https://there.test/$1", request);
    assert_eq!(url("/x/a?b=c"), Ok(Some(Outcome::Redirect("https://there.test/a?b=c".into()))));
    assert_eq!(url("/x/"), Ok(Some(Outcome::Redirect("https://there.test/".into()))));
    // As nginx writes it, byte by byte (the case `rewrite-redirect` of the differential suite).
    for (sent, expect) in [
        ("/x/a<b>|c", "a<b>|c"),
        ("/x/a^b`c{d}", "a^b`c{d}"),
        ("/x/%3C%7C%5E", "<|^"),
        ("/x/a%20b", "a%20b"),
        ("/x/a%26b%3D+c", "a&b=+c"),
        ("/x/%E4%B8%AD", "%E4%B8%AD"),
        ("/x/%25%23", "%25%23"),
    ] {
        let expect = format!("https://there.test/{expect}");
        assert_eq!(url(sent), Ok(Some(Outcome::Redirect(expect))), "{sent}");
    }
    assert_eq!(url("/x/a%20b%0d%0ac").map(|done| done.is_some()), Ok(true));
}

#[test]
fn a_result_over_eight_kibibytes_fails() {
    let long = format!("/x/{}", "%20".repeat(3000));
    assert_eq!(rewritten("/x/(.*)", "/$1", &long), Err(RewriteError::TooLong));
}

#[test]
fn text_is_encoded_again_as_nginx_does() {
    let same = |request: &str, expect: &str| check("/p/(.*)", "/q/$1", request, expect);
    same("/p/a,~!$'()*b", "/q/a,~!$'()*b");
    same("/p/a<b>", "/q/a%3Cb%3E");
    same("/p/a^b`c{d}", "/q/a%5Eb%60c%7Bd%7D");
    same("/p/%7B%7D%5E%60%3C%3E", "/q/%7B%7D%5E%60%3C%3E");
    same("/p/%7F%01", "/q/%7F%01");
    same("/p/%5B%5D", "/q/[]");
    same("/p/%2C%7E%21", "/q/,~!");
    same("/p/a%3Ab%40c", "/q/a:b@c");
    same("/p/%09", "/q/%09");
    same("/p/a%252Fb", "/q/a%252Fb");
    same("/p/a%0Ab", "/q/a");
    same("/p/a%5Cb", "/q/a%5Cb");
    same("/p/a%7Cb", "/q/a%7Cb");
    same("/p/%E4%B8%AD", "/q/%E4%B8%AD");
    same("/p/a%26b%3Dc%2Bd", "/q/a&b=c+d");
    same("/p/a%3Fb", "/q/a%3Fb");
    same("/p/?", "/q/");
    same("/p/?a", "/q/?a");
}

#[test]
fn a_prefix_takes_groups_of_the_same_match() {
    let rewrite = Rewrite { target: Substitution::parse("/$2").unwrap() };
    let prefix = super::super::forwarded_prefix::ForwardedPrefix(Substitution::parse("/$1").unwrap());
    let pattern = Pattern::compile("/(t[0-9])/(.*)", Case::Insensitive, Anchor::None).unwrap();
    let path = normalize(b"/t1/y").unwrap();
    let none = fields(&[]);
    let view = view("/", &none);
    let facts = Facts { view: &view, route: RouteFacts::default() };
    let done = apply(&rewrite, &pattern, &path, None, b"/t1/y", Some(&prefix), &facts).unwrap().unwrap();
    assert_eq!(
        done,
        Outcome::Forward(Rewritten { target: b"/y".to_vec(), forwarded_prefix: Some("/t1".into()) })
    );
}

#[test]
fn bad_targets_count_as_absent() {
    for bad in ["/a?b=$1", "/a b", "/$", "/$0", "/${1}", "/a$/b", "/a;b", "/a\nb"] {
        let annotations = [("rewrite-target", bad)];
        assert_eq!(read_with(&annotations, read), None, "{bad:?}");
        assert_eq!(diagnostics(&annotations, read), ["InvalidAnnotation"], "{bad:?}");
    }
    assert_eq!(read_with(&[("rewrite-target", "")], read), None);
    assert_eq!(read_with(&[], read), None);
    assert_eq!(&*read_with(&[("rewrite-target", " /x ")], read).unwrap().target.text, "/x");
}

#[test]
fn names_that_the_path_lacks_can_be_told() {
    let target = Substitution::parse("/$a/$b").unwrap();
    let pattern = Pattern::compile("/(?<a>.)", Case::Insensitive, Anchor::None).unwrap();
    assert_eq!(target.unknown_names(&pattern).collect::<Vec<_>>(), ["b"]);
}
