use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::compile(text, Case::Insensitive, Anchor::Start).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn check(text: &str, input: &[u8], groups: Option<&[Option<&str>]>) {
    let found = pattern(text).find(input).unwrap().map(|captures| {
        (0..captures.spans.len())
            .map(|i| captures.group(i).map(|group| String::from_utf8_lossy(group).into_owned()))
            .collect::<Vec<_>>()
    });
    let expect = groups.map(|groups| groups.iter().map(|group| group.map(str::to_owned)).collect::<Vec<_>>());
    assert_eq!(found, expect, "{text} on {:?}", String::from_utf8_lossy(input));
}

fn matches(text: &str, input: &[u8]) -> bool {
    pattern(text).is_match(input).unwrap()
}

#[test]
fn patterns_are_tied_to_the_start_only_and_ignore_case() {
    check("/api", b"/API/x", Some(&[Some("/API")]));
    check("/api", b"/x/api", None);
    check("/foo(/|$)(.*)", b"/foo/bar", Some(&[Some("/foo/bar"), Some("/"), Some("bar")]));
    check("/foo(/|$)(.*)", b"/foo", Some(&[Some("/foo"), Some(""), Some("")]));
    check("/foo(/|$)(.*)", b"/foobar", None);
    check("/a(b)?(c)", b"/ac", Some(&[Some("/ac"), None, Some("c")]));
    check("/(?i)A", b"/a", Some(&[Some("/a")]));
    check("/(?-i)A", b"/a", None);
}

#[test]
fn the_start_binds_to_the_first_alternative_only() {
    assert!(matches("/a|/b", b"/x/b"));
    assert!(!matches("/a|/b", b"/x/a"));
    assert!(!matches("(?:/a|/b)", b"/x/b"));
}

#[test]
fn a_dollar_also_stands_before_a_final_newline() {
    assert!(matches("/n/.+$", b"/n/a\n"));
    assert!(!matches("/n/.+$", b"/n/\n"));
    assert!(!matches("/n/.+$", b"/n/a\nb"));
    check("/foo(/|$)(.*)", b"/foo\n", Some(&[Some("/foo"), Some(""), Some("")]));
    assert!(matches(r"/a\Z", b"/a\n"));
    assert!(!matches(r"/a\z", b"/a\n"));
    assert!(matches("(?m)/a$", b"/a\nb"));
}

#[test]
fn a_dot_is_one_byte_and_no_newline() {
    assert!(matches("/u/.$", b"/u/a"));
    assert!(!matches("/u/.$", "/u/é".as_bytes()));
    assert!(matches("/u/..$", "/u/é".as_bytes()));
    assert!(matches("/u/é", "/u/é".as_bytes()));
    assert!(!matches("/u/é", "/u/É".as_bytes()));
    assert!(matches("/u/[é]{2}$", "/u/é".as_bytes()));
    assert!(!matches("/a.b", b"/a\nb"));
    assert!(matches("(?s)/a.b", b"/a\nb"));
    assert!(matches(r"/\xC3\xa9", "/é".as_bytes()));
}

#[test]
fn classes_are_ascii() {
    assert!(matches(r"/v\d+/x\.json$", b"/v12/x.json"));
    assert!(!matches(r"/v\d+/x\.json$", b"/v12/xajson"));
    assert!(!matches(r"/\w$", b"/\xe9"));
    assert!(matches(r"/\W", b"/\xe9"));
    assert!(matches(r"/[[:alpha:]]+-[^[:digit:]]$", b"/ab-c"));
    assert!(matches(r"/[]a]+$", b"/]a"));
    assert!(matches(r"/[a\-z]+$", b"/a-z"));
    assert!(matches(r"/[[a]+$", b"/[a"));
    assert!(matches(r"/[a&&b~~]+$", b"/&~"));
    assert!(matches(r"/[A-Z]{3}", b"/uuid"));
    assert!(matches(r"/[\d-x]+$", b"/1-x"));
}

#[test]
fn pcre_habits_are_understood() {
    assert!(matches(r"/a{b}", b"/a{b}"));
    assert!(matches(r"/a{,2}", b"/a{,2}"));
    assert!(matches(r"/a{2}$", b"/aa"));
    assert!(matches(r"/\/x\-y\_\<", b"//x-y_<"));
    assert!(matches(r"/\Qa.b\E$", b"/a.b"));
    assert!(!matches(r"/\Qa.b\E$", b"/axb"));
    assert!(matches("/(?x) a b # comment", b"/ab"));
    assert!(matches("/a(?#comment)b", b"/ab"));
    assert!(matches(r"/\101", b"/a"));
    assert!(matches(r"/a\b/", b"/a/"));
    check("/(?<uid>[0-9]+)/(?P<two>.)", b"/42/x", Some(&[Some("/42/x"), Some("42"), Some("x")]));
    let named = pattern("/(?<uid>[0-9]+)");
    assert_eq!(named.find(b"/42").unwrap().unwrap().name("uid"), Some(&b"42"[..]));
    assert!(named.has_group("uid") && !named.has_group("gid"));
}

#[test]
fn look_around_and_back_references_run_on_the_other_engine() {
    let lookahead = pattern("/(?!admin)(.*)");
    assert!(!lookahead.is_linear());
    check("/(?!admin)(.*)", b"/user/1", Some(&[Some("/user/1"), Some("user/1")]));
    check("/(?!admin)(.*)", b"/ADMIN", None);
    check(r"/(a|b)\1$", b"/aa", Some(&[Some("/aa"), Some("a")]));
    check(r"/(a|b)\1$", b"/ab", None);
    check(r"/(?<x>a|b)\k<x>$", b"/bb", Some(&[Some("/bb"), Some("b")]));
    check(r"/(a)\g{-1}$", b"/aa", Some(&[Some("/aa"), Some("a")]));
    check("/(?<=/)x", b"/x", Some(&[Some("/x")]));
    check("/(?>a+)b", b"/aab", Some(&[Some("/aab")]));
    check("/a++a", b"/aaa", None);
    check("/(?!x).(.)", "/é".as_bytes(), Some(&[Some("/é"), Some("\u{fffd}")]));
    check("/(?!x)a$", b"/a\n", Some(&[Some("/a")]));
    assert!(pattern("/a").is_linear());
}

#[test]
fn a_search_that_takes_too_many_steps_is_given_up() {
    let slow = pattern(r"/(a|aa)+\1b$");
    let input = [b"/".to_vec(), vec![b'a'; 200], b"!".to_vec()].concat();
    assert_eq!(slow.is_match(&input), Err(StepLimit));
    assert_eq!(pattern("/a").is_match(&vec![b'/'; MAX_INPUT + 1]), Err(StepLimit));
}

#[test]
fn broken_and_oversized_patterns_are_refused() {
    for bad in
        ["/(", "/)", "/[", "/a**", "*", "/\\", "/[b-a]", "/(?<a", "/x(?P<a>b)(?P<a>c)", "/[[:nope:]]", "/(?#"]
    {
        let error = Pattern::compile(bad, Case::Insensitive, Anchor::Start);
        assert!(matches!(error, Err(PatternError::Syntax(_))), "{bad}: {error:?}");
    }
    for odd in [r"/\p{L}", "/(?|a|b)", "/(?R)", "/(*FAIL)", r"/\y", r"/\x{100}"] {
        let error = Pattern::compile(odd, Case::Insensitive, Anchor::Start);
        assert!(matches!(error, Err(PatternError::Unsupported(_))), "{odd}: {error:?}");
    }
    let nested = format!("/{}{}", "(".repeat(60), ")".repeat(60));
    for large in ["x".repeat(3000).as_str(), &nested, "/(?:[a-z]{1000}){100}"] {
        let error = Pattern::compile(large, Case::Insensitive, Anchor::Start);
        assert!(matches!(error, Err(PatternError::TooLarge(_))), "{large:.20}: {error:?}");
    }
}

#[test]
fn literal_prefixes_end_before_the_first_metacharacter() {
    for (text, prefix) in [
        ("/foo(/|$)(.*)", "/foo"),
        ("/foo.*", "/foo"),
        ("/foo?", "/fo"),
        (r"/a\.b(", "/a.b"),
        (r"/v\d+", "/v"),
        ("/a|/b", ""),
        ("/[", "/"),
        ("/plain", "/plain"),
        ("^/x", "/x"),
        ("/x{2}", "/"),
        ("/é(", "/é"),
        ("", ""),
    ] {
        assert_eq!(literal_prefix(text), prefix, "{text}");
    }
}

#[test]
fn escaped_text_matches_itself_only() {
    let text = r"/a.b*c(d)[e]{f}^$|\g+é#& -~";
    let pattern = Pattern::compile(&escape(text), Case::Sensitive, Anchor::Start).unwrap();
    assert_eq!(pattern.is_match(text.as_bytes()), Ok(true));
    assert_eq!(pattern.is_match(text.replace("a.b", "axb").as_bytes()), Ok(false));
}

fn set(texts: &[&str]) -> PatternSet {
    PatternSet::new(texts.iter().map(|text| Arc::new(pattern(text))).collect())
}

#[test]
fn the_first_pattern_in_order_wins() {
    let many = set(&["/foo/bar/.+", "/(?!x)foo/b", "/foo", "/a|/deep", "/b(.)\\1", "/"]);
    for (input, expect) in [
        ("/foo/bar/1", 0),
        ("/foo/bar", 1),
        ("/foobar", 2),
        ("/x/deep", 3),
        ("/bzz", 4),
        ("/bzy", 5),
        ("/FOO", 2),
    ] {
        assert_eq!(many.find(input.as_bytes()), Ok(Some(expect)), "{input}");
    }
    assert_eq!(set(&["/a", "/b"]).find(b"/c"), Ok(None));
    assert_eq!(set(&[]).find(b"/c"), Ok(None));
}

#[test]
fn a_set_answers_as_its_patterns_one_by_one() {
    let texts = ["/a.*c$", "/ab", "/(?=ab)ab", "/a(/|$)(.*)", "/[^b]+$", "/.*z|/q", "/\\w+", "/a"];
    let many = set(&texts);
    let singles: Vec<Pattern> = texts.iter().map(|text| pattern(text)).collect();
    for input in
        ["/a", "/ab", "/abc", "/abc\n", "/a\n", "/b", "/zz", "/x/q", "/", "/é", "/a/b", "/_\nz", "", "x"]
    {
        let expect = singles.iter().position(|single| single.is_match(input.as_bytes()).unwrap());
        assert_eq!(many.find(input.as_bytes()), Ok(expect), "{input:?}");
    }
}

#[test]
fn a_search_over_its_limit_is_told_with_the_pattern() {
    let slow = r"/(a|aa)+\1b$";
    let many = set(&["/first", slow, "/"]);
    let input = [b"/".to_vec(), vec![b'a'; 200], b"!".to_vec()].concat();
    assert_eq!(many.find(&input), Err((1, StepLimit)));
    assert_eq!(many.find(b"/first"), Ok(Some(0)));
}

/// Pieces that are the same in both engines; look-ahead that always holds forces the backtracking one.
fn pieces() -> impl proptest::strategy::Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "a", "b", "/", ".", "\\d", "\\w", "[ab]", "[^a]", "(a|b)", "(?:a/)", "(b)?", "a*", "b+", "a{2}", "$",
        "é", "\\.", "(", ")", "[", "*", "|", "{", "(?i)", "\\", "]", "x?", "(?=a)", "\\1",
    ]);
    proptest::strategy::Strategy::prop_map(proptest::collection::vec(piece, 0..8), |pieces| pieces.concat())
}

proptest::proptest! {
    #[test]
    fn both_engines_find_the_same(text in pieces(), input in "[ab/x.\n0é]{0,10}") {
        let plain = Pattern::compile(&text, Case::Insensitive, Anchor::Start);
        let forced = Pattern::compile(&format!("(?=)(?:{text})"), Case::Insensitive, Anchor::Start);
        if let (Ok(plain), Ok(forced)) = (plain, forced) {
            let spans = |pattern: &Pattern| {
                pattern.find(input.as_bytes()).map(|found| found.map(|captures| captures.spans))
            };
            // A top-level alternative escapes `^` in one and not in the other.
            if plain.is_linear() && !plain.translated.top_alternation {
                proptest::prop_assert_eq!(spans(&plain), spans(&forced), "{} on {:?}", text, input);
            }
        }
    }

    #[test]
    fn no_text_makes_compiling_or_searching_panic(text in ".{0,60}", input in proptest::collection::vec(0_u8.., 0..60)) {
        if let Ok(pattern) = Pattern::compile(&text, Case::Sensitive, Anchor::None) {
            let _ = pattern.find(&input);
        }
        let prefix = literal_prefix(&text);
        proptest::prop_assert!(prefix.len() <= text.len());
        let exact = Pattern::compile(&escape(&prefix), Case::Sensitive, Anchor::Start).unwrap();
        proptest::prop_assert_eq!(exact.is_match(prefix.as_bytes()), Ok(true));
    }
}
