//! `proxy-cookie-domain`, `proxy-cookie-path`, `proxy-redirect-from`, `proxy-redirect-to`: names of the backend in
//! `Set-Cookie`, `Location` and `Refresh` become those that clients know. Comparing and replacing is nginx's
//! (`proxy_cookie_domain`, `proxy_cookie_path`, `proxy_redirect`).

use std::sync::Arc;

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec};
use super::global::Globals;
use super::redirect::RedirectStyle;
use super::template::{Facts, Template};
use crate::pattern::{Anchor, Captures, Case, Pattern};
use crate::wire::Fields;

mod flags;

pub use flags::{FlagRule, Flags};

const LOCATION: Scope = Scope::Location;

const COOKIE_DOMAIN: Spec = Spec::new("proxy-cookie-domain", LOCATION, Risk::Medium)
    .values("ConfigMap proxy-cookie-domain (off)", "internal.example www.example")
    .doc("Two words: a `Domain` of `Set-Cookie` (or `~expression`) and what replaces it; `off` for none.");
const COOKIE_PATH: Spec = Spec::new("proxy-cookie-path", LOCATION, Risk::Medium)
    .values("ConfigMap proxy-cookie-path (off)", "/one/ /")
    .doc("Two words: the start of a `Path` of `Set-Cookie` (or `~expression`, `~*expression`) and what replaces it; `off` for none.");
const REDIRECT_FROM: Spec = Spec::new("proxy-redirect-from", LOCATION, Risk::Medium)
    .fidelity(Fidelity::Equivalent("`default` changes nothing: it only concerns the name of nginx's own upstream"))
    .values("ConfigMap proxy-redirect-from (off)", "http://internal/")
    .doc("Start of `Location` and of the URL in `Refresh` (or `~expression`, `~*expression`) that is replaced; `off` for none.");
const REDIRECT_TO: Spec = Spec::new("proxy-redirect-to", LOCATION, Risk::Medium)
    .values("ConfigMap proxy-redirect-to (off)", "https://app.example/")
    .doc("What replaces it.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[COOKIE_DOMAIN, COOKIE_PATH, REDIRECT_FROM, REDIRECT_TO];

/// Bytes of a rewritten value above which it stays as it was (`D.2`).
const MAX_VALUE: usize = 8 * 1024;

/// What is rewritten in the head of a backend's answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResponseRewrite {
    /// `Domain` of `Set-Cookie`; the first rule that takes a value counts, here and below.
    pub cookie_domain: Vec<Rule>,
    /// `Path` of `Set-Cookie`.
    pub cookie_path: Vec<Rule>,
    /// Flags of `Set-Cookie` (snippets only).
    pub cookie_flags: Vec<FlagRule>,
    /// `Location` and `Refresh`.
    pub redirect: Vec<Rule>,
}

/// One comparison and its replacement.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    from: From,
    to: Arc<[Piece]>,
}

#[derive(Debug, Clone, PartialEq)]
enum From {
    Text(Template),
    Expression(Arc<Pattern>),
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Group(usize),
    Text(Template),
}

/// Which directive's way of comparing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Domain,
    Start,
}

impl ResponseRewrite {
    /// Reads the family over the ConfigMap's values; `None` when nothing is rewritten.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Option<Self> {
        let domain = reader.read(&COOKIE_DOMAIN, parse_cookie_domain);
        let path = reader.read(&COOKIE_PATH, parse_cookie_path);
        let from = reader
            .read(&REDIRECT_FROM, |text| Ok(Arc::from(text)))
            .or(Arc::clone(&globals.proxy_redirect_from));
        let to =
            reader.read(&REDIRECT_TO, |text| Ok(Arc::from(text))).or(Arc::clone(&globals.proxy_redirect_to));
        let redirect = match redirect(&from, &to) {
            Ok(rule) => rule,
            Err(reason) => {
                reader.read(&REDIRECT_FROM, |_| Err::<(), _>(reason));
                None
            }
        };
        Self {
            cookie_domain: domain.or_else_global(&globals.proxy_cookie_domain),
            cookie_path: path.or_else_global(&globals.proxy_cookie_path),
            cookie_flags: Vec::new(),
            redirect: redirect.into_iter().collect(),
        }
        .some()
    }

    /// The ConfigMap's values.
    pub fn global(globals: &Globals) -> Option<Self> {
        Self {
            cookie_domain: globals.proxy_cookie_domain.iter().cloned().collect(),
            cookie_path: globals.proxy_cookie_path.iter().cloned().collect(),
            cookie_flags: Vec::new(),
            redirect: redirect(&globals.proxy_redirect_from, &globals.proxy_redirect_to)
                .ok()
                .flatten()
                .into_iter()
                .collect(),
        }
        .some()
    }

    /// `None` when nothing is rewritten.
    pub(super) fn some(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }

    /// Rewrites the fields of a backend's answer.
    pub fn apply(&self, fields: &mut Fields, facts: &Facts<'_>, style: RedirectStyle) {
        if !self.redirect.is_empty() {
            let rules = &self.redirect;
            let location = fields.get("location").and_then(|value| first(rules, value, Way::Start, facts));
            if let Some(value) = location {
                // nginx makes a path that came out of a rewrite absolute, unlike one that the backend wrote.
                let value = match std::str::from_utf8(&value) {
                    Ok(path) if path.starts_with('/') => style.local(facts.view, path).into_bytes(),
                    _ => value,
                };
                let _kept_when_unsound = fields.set("Location", &value);
            }
            let refresh = fields.get("refresh").and_then(|value| refresh(rules, value, facts));
            if let Some(value) = refresh {
                let _kept_when_unsound = fields.set("Refresh", &value);
            }
        }
        let of_cookies =
            [self.cookie_domain.is_empty(), self.cookie_path.is_empty(), self.cookie_flags.is_empty()];
        if of_cookies.contains(&false) {
            self.cookies(fields, facts);
        }
    }

    fn cookies(&self, fields: &mut Fields, facts: &Facts<'_>) {
        let rewritten: Vec<(Vec<u8>, Option<Vec<u8>>)> =
            fields.get_all("set-cookie").map(|line| (line.to_vec(), self.cookie(line, facts))).collect();
        if rewritten.iter().any(|(_, new)| new.is_some()) {
            fields.remove("set-cookie");
            for (old, new) in rewritten {
                // A line that came out unsound stays as it was.
                let set = new.is_some_and(|new| fields.append("Set-Cookie", &new).is_ok());
                if !set {
                    let _was_there_before = fields.append("Set-Cookie", &old);
                }
            }
        }
    }

    /// A cookie with its attributes rewritten; `None` when none is. As nginx, which leaves alone what does not begin
    /// with `name=`.
    fn cookie(&self, line: &[u8], facts: &Facts<'_>) -> Option<Vec<u8>> {
        let mut changed = false;
        let mut out = Vec::with_capacity(line.len() + 32);
        let mut flags = Flags::default();
        for (index, attribute) in line.split(|byte| *byte == b';').enumerate() {
            let attribute = attribute.trim_ascii();
            let equals = attribute.iter().position(|byte| *byte == b'=');
            if index == 0 && equals.is_none() {
                return None;
            }
            let (name, value) = match equals.and_then(|at| attribute.split_at_checked(at)) {
                Some((name, value)) => (name.trim_ascii(), value.get(1..).map(<[u8]>::trim_ascii)),
                None => (attribute, None),
            };
            let rule = match name {
                _ if index == 0 => None,
                name if name.eq_ignore_ascii_case(b"domain") => Some((&self.cookie_domain, Way::Domain)),
                name if name.eq_ignore_ascii_case(b"path") => Some((&self.cookie_path, Way::Start)),
                _ => None,
            };
            let replaced = rule.zip(value).and_then(|((rules, way), value)| first(rules, value, way, facts));
            changed |= replaced.is_some();
            if index == 0 {
                let rule = self.cookie_flags.iter().find(|rule| rule.takes(name, facts));
                flags = rule.map(|rule| rule.flags).unwrap_or_default();
                changed |= rule.is_some();
            } else if let Some(kept) = flags.judge(name, value) {
                if let Some(text) = kept {
                    out.extend_from_slice(b"; ");
                    out.extend_from_slice(text.as_bytes());
                }
                continue;
            }
            if attribute.is_empty() {
                continue;
            }
            if index > 0 {
                out.extend_from_slice(b"; ");
            }
            out.extend_from_slice(name);
            if let Some(value) = replaced.as_deref().or(value) {
                out.push(b'=');
                out.extend_from_slice(value);
            }
        }
        for text in flags.missing() {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(text.as_bytes());
        }
        changed.then_some(out)
    }
}

/// What the first rule that takes a value makes of it.
fn first(rules: &[Rule], value: &[u8], way: Way, facts: &Facts<'_>) -> Option<Vec<u8>> {
    rules.iter().find_map(|rule| rule.replace(value, way, facts))
}

/// The annotation where it says something usable, else the ConfigMap.
trait OrGlobal {
    fn or_else_global(self, global: &Option<Rule>) -> Vec<Rule>;
}

impl OrGlobal for super::annotation::Value<Option<Rule>> {
    fn or_else_global(self, global: &Option<Rule>) -> Vec<Rule> {
        self.ok().unwrap_or_else(|| global.clone()).into_iter().collect()
    }
}

impl Rule {
    /// The value after the rewrite; `None` when the rule does not take it.
    fn replace(&self, value: &[u8], way: Way, facts: &Facts<'_>) -> Option<Vec<u8>> {
        let (kept, replaced, rest) = match &self.from {
            From::Expression(pattern) => {
                let captures = pattern.find(value).ok().flatten()?;
                return self.expand(&[], Some(&captures), &[], facts);
            }
            From::Text(text) => {
                let text = text.expand(facts);
                let text = text.as_bytes();
                match way {
                    Way::Domain => {
                        let (dot, bare) = match value.strip_prefix(b".") {
                            Some(bare) => (b".".as_slice(), bare),
                            None => (b"".as_slice(), value),
                        };
                        (dot, bare.eq_ignore_ascii_case(text), b"".as_slice())
                    }
                    Way::Start => {
                        let rest = value.strip_prefix(text);
                        (b"".as_slice(), rest.is_some(), rest.unwrap_or_default())
                    }
                }
            }
        };
        if replaced { self.expand(kept, None, rest, facts) } else { None }
    }

    fn expand(
        &self,
        before: &[u8],
        captures: Option<&Captures<'_>>,
        after: &[u8],
        facts: &Facts<'_>,
    ) -> Option<Vec<u8>> {
        let mut out = before.to_vec();
        for piece in self.to.iter() {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.expand(facts).as_bytes()),
                Piece::Group(number) => {
                    out.extend_from_slice(
                        captures.and_then(|found| found.group(*number)).unwrap_or_default(),
                    );
                }
            }
        }
        out.extend_from_slice(after);
        (out.len() <= MAX_VALUE).then_some(out)
    }
}

/// `Refresh: 5; url=…`: what follows `url=`.
fn refresh(rules: &[Rule], value: &[u8], facts: &Facts<'_>) -> Option<Vec<u8>> {
    let at = value.windows(4).position(|part| part.eq_ignore_ascii_case(b"url="))? + 4;
    let (before, url) = value.split_at_checked(at)?;
    let url = first(rules, url, Way::Start, facts)?;
    Some([before, &url].concat())
}

/// Two words; `off` for none.
pub(super) fn parse_cookie_domain(text: &str) -> Result<Option<Rule>, String> {
    match two_words(text)? {
        Some((from, to)) => domain_rule(from, to).map(Some),
        None => Ok(None),
    }
}

/// `proxy_cookie_domain from to`.
pub(super) fn domain_rule(from: &str, to: &str) -> Result<Rule, String> {
    let bare = |text: &str| text.strip_prefix('.').unwrap_or(text).to_owned();
    let from = match from.strip_prefix('~') {
        Some(expression) => From::Expression(compiled(expression, Case::Insensitive)?),
        None => From::Text(template(&bare(from))?),
    };
    Ok(Rule { from, to: pieces(&bare(to))? })
}

/// Two words; `off` for none.
pub(super) fn parse_cookie_path(text: &str) -> Result<Option<Rule>, String> {
    match two_words(text)? {
        Some((from, to)) => rule(from, to).map(Some),
        None => Ok(None),
    }
}

/// As ingress-nginx writes `proxy_redirect`: a second word `off` leaves the directive out.
fn redirect(from: &str, to: &str) -> Result<Option<Rule>, String> {
    if matches!(from, "off" | "default") || to == "off" {
        return Ok(None);
    }
    if from.contains(char::is_whitespace) || to.contains(char::is_whitespace) {
        return Err("holds white space".into());
    }
    rule(from, to).map(Some)
}

/// `proxy_cookie_path from to`, `proxy_redirect from to`.
pub(super) fn rule(from: &str, to: &str) -> Result<Rule, String> {
    let from = match (from.strip_prefix("~*"), from.strip_prefix('~')) {
        (Some(expression), _) => From::Expression(compiled(expression, Case::Insensitive)?),
        (None, Some(expression)) => From::Expression(compiled(expression, Case::Sensitive)?),
        (None, None) => From::Text(template(from)?),
    };
    Ok(Rule { from, to: pieces(to)? })
}

fn two_words(text: &str) -> Result<Option<(&str, &str)>, String> {
    let mut words = text.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("off"), None, None) => Ok(None),
        (Some(from), Some(to), None) => Ok(Some((from, to))),
        _ => Err("must be two words, or off".into()),
    }
}

fn compiled(text: &str, case: Case) -> Result<Arc<Pattern>, String> {
    Pattern::compile(text, case, Anchor::None).map(Arc::new).map_err(|error| error.to_string())
}

fn template(text: &str) -> Result<Template, String> {
    Template::parse(text).map_err(|error| error.to_string())
}

/// Text with variables and `$1` to `$9`.
fn pieces(text: &str) -> Result<Arc<[Piece]>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let is_group = |at: &usize| {
        rest.as_bytes().get(*at) == Some(&b'$') && rest.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit)
    };
    let groups: Vec<usize> = (0..text.len()).filter(is_group).collect();
    let mut start = 0;
    for at in groups {
        pieces.push(Piece::Text(template(text.get(start..at).unwrap_or_default())?));
        let digit = text.as_bytes().get(at + 1).copied().unwrap_or(b'0');
        pieces.push(Piece::Group(usize::from(digit - b'0')));
        start = at + 2;
    }
    rest = text.get(start..).unwrap_or_default();
    pieces.push(Piece::Text(template(rest)?));
    Ok(pieces.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{diagnostics, fields, read, view};
    use crate::policy::template::RouteFacts;

    fn apply(annotations: &[(&str, &str)], lines: &[(&str, &str)]) -> Vec<String> {
        let rewrite = read(annotations, |reader| ResponseRewrite::read(reader, &Globals::default()));
        let asked = fields(&[]);
        let view = view("/x", &asked);
        let mut answer = fields(lines);
        if let Some(rewrite) = rewrite {
            let facts = Facts { view: &view, route: RouteFacts::default() };
            rewrite.apply(&mut answer, &facts, RedirectStyle::default());
        }
        answer.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect()
    }

    fn cookie(annotation: (&str, &str), line: &str, expect: &str) {
        let out = apply(&[annotation], &[("Set-Cookie", line)]);
        assert_eq!(out, [format!("Set-Cookie: {expect}")], "{annotation:?}");
    }

    fn location(from: &str, to: &str, value: &str, expect: &str) {
        let out = apply(&[("proxy-redirect-from", from), ("proxy-redirect-to", to)], &[("Location", value)]);
        assert_eq!(out, [format!("Location: {expect}")], "{from} {to}");
    }

    #[test]
    fn domains_of_cookies_are_replaced_whole_in_any_case_and_keep_their_dot() {
        let rule = ("proxy-cookie-domain", "a.test b.test");
        cookie(rule, "s=1; Domain=A.test; Path=/", "s=1; Domain=b.test; Path=/");
        cookie(rule, "s=1;domain=.a.test;Secure", "s=1; domain=.b.test; Secure");
        cookie(rule, "s=1; Domain=x.a.test", "s=1; Domain=x.a.test");
        cookie(rule, "domain=a.test", "domain=a.test");
        cookie(rule, "s=1; Domain=a.test;", "s=1; Domain=b.test");
        cookie(rule, "s; Domain=a.test", "s; Domain=a.test");
        cookie(
            ("proxy-cookie-domain", "~\\.a\\.test$ $host"),
            "s=1; Domain=x.A.test",
            "s=1; Domain=host.test",
        );
        cookie(("proxy-cookie-domain", "off"), "s=1; Domain=a.test", "s=1; Domain=a.test");
    }

    #[test]
    fn paths_of_cookies_are_replaced_from_their_start() {
        cookie(("proxy-cookie-path", "/one/ /"), "s=1; Path=/one/two", "s=1; Path=/two");
        cookie(("proxy-cookie-path", "/one/ /"), "s=1; Path=/two", "s=1; Path=/two");
        cookie(("proxy-cookie-path", "~*^/user/(.+) /u/$1"), "s=1; path=/User/ann", "s=1; path=/u/ann");
    }

    #[test]
    fn only_lines_that_match_change_and_all_stay() {
        let lines = [("Set-Cookie", "a=1;Path=/x"), ("X", "1"), ("Set-Cookie", "b=2; Path=/one/")];
        let out = apply(&[("proxy-cookie-path", "/one/ /1/")], &lines);
        assert_eq!(out, ["X: 1", "Set-Cookie: a=1;Path=/x", "Set-Cookie: b=2; Path=/1/"]);
    }

    #[test]
    fn redirects_are_replaced_from_their_start() {
        location("http://in.test/", "https://out.test/", "http://in.test/a?b", "https://out.test/a?b");
        location("http://in.test/", "https://out.test/", "http://IN.test/a", "http://IN.test/a");
        location("http://in.test/", "/", "http://in.test/a", "http://host.test/a");
        location(
            "~^http://in.test:\\d+/(.*)",
            "https://$host/$1",
            "http://in.test:81/a",
            "https://host.test/a",
        );
        location("~*HTTP://IN.TEST/", "https://out.test/", "http://in.test/a", "https://out.test/");
        location("off", "https://out.test/", "http://in.test/", "http://in.test/");
        location("default", "x", "http://in.test/", "http://in.test/");
        location("http://in.test/", "off", "http://in.test/", "http://in.test/");
    }

    #[test]
    fn the_url_of_a_refresh_is_replaced_too() {
        let rule = [("proxy-redirect-from", "http://in.test/"), ("proxy-redirect-to", "https://out.test/")];
        let out = apply(&rule, &[("Refresh", "5; URL=http://in.test/x")]);
        assert_eq!(out, ["Refresh: 5; URL=https://out.test/x"]);
    }

    #[test]
    fn what_cannot_be_read_is_reported_and_changes_nothing() {
        let family = |reader: &mut Reader<'_>| ResponseRewrite::read(reader, &Globals::default());
        for annotations in [
            &[("proxy-cookie-domain", "one")][..],
            &[("proxy-cookie-path", "a b c")],
            &[("proxy-cookie-path", "~( /")],
            &[("proxy-redirect-from", "~("), ("proxy-redirect-to", "/")],
            &[("proxy-redirect-from", "a"), ("proxy-redirect-to", "$nothing")],
        ] {
            assert_eq!(diagnostics(annotations, family), ["InvalidAnnotation"], "{annotations:?}");
            assert_eq!(read(annotations, family), None);
        }
    }
}
