//! `canary*`: which requests a canary takes. The sticky-cookie rule that stands before all of these is the
//! balancer's, which owns the cookie.

use std::borrow::Cow;
use std::sync::Arc;

use super::annotation::{Reader, Risk, Scope, Spec, is_basic};
use crate::diagnostic::Severity;
use crate::pattern::{Anchor, Case, Pattern};
use crate::request::RequestView;

const CANARY: Spec = Spec::new("canary", Scope::Ingress, Risk::Low)
    .values("false", "true")
    .doc("Marks the Ingress as the canary of another one with the same host and path. Only its backend and canary rules count.");
const WEIGHT: Spec = Spec::new("canary-weight", Scope::Ingress, Risk::Low)
    .values("0", "10")
    .doc("Share of requests that the canary takes, out of canary-weight-total.");
const TOTAL: Spec = Spec::new("canary-weight-total", Scope::Ingress, Risk::Low)
    .values("100", "1000")
    .doc("What canary-weight is a share of; values below 100 count as 100.");
const BY_HEADER: Spec = Spec::new("canary-by-header", Scope::Ingress, Risk::Medium)
    .values("none", "X-Canary")
    .doc("Request field whose value `always` takes the canary and `never` the primary.");
const BY_HEADER_VALUE: Spec = Spec::new("canary-by-header-value", Scope::Ingress, Risk::Medium)
    .values("none", "yes")
    .doc("Value of the canary-by-header field that takes the canary.");
const BY_HEADER_PATTERN: Spec = Spec::new("canary-by-header-pattern", Scope::Ingress, Risk::Medium)
    .values("none", "^beta-.*$")
    .doc("Expression for the value of the canary-by-header field; a match takes the canary. Ignored beside canary-by-header-value.");
const BY_COOKIE: Spec = Spec::new("canary-by-cookie", Scope::Ingress, Risk::Medium)
    .values("none", "canary")
    .doc("Cookie whose value `always` takes the canary and `never` the primary.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[CANARY, WEIGHT, TOTAL, BY_HEADER, BY_HEADER_VALUE, BY_HEADER_PATTERN, BY_COOKIE];

/// Smallest weight total.
const MIN_TOTAL: u32 = 100;

/// Policy of a canary Ingress.
#[derive(Debug, Clone, PartialEq)]
pub struct Canary {
    /// `canary-weight`.
    pub weight: u32,
    /// `canary-weight-total`, at least 100.
    pub total: u32,
    /// `canary-by-header` with its value or pattern.
    pub header: Option<HeaderRule>,
    /// `canary-by-cookie`.
    pub cookie: Option<Arc<str>>,
}

/// The header rule.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderRule {
    /// Field name.
    pub name: Arc<str>,
    /// What its value must be.
    pub test: HeaderTest,
}

/// What the header's value must be.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderTest {
    /// `always` takes the canary, `never` the primary, anything else decides nothing.
    Switch,
    /// This value takes the canary.
    Value(Arc<str>),
    /// A value that matches takes the canary.
    Pattern(Arc<Pattern>),
    /// The pattern does not compile: a request with the header stays with the primary.
    Broken,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The canary's backend.
    Canary,
    /// The primary backend.
    Primary,
}

/// What decided where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// The value of the field that `canary-by-header` names.
    Header,
    /// The value of the cookie that `canary-by-cookie` names.
    Cookie,
    /// The number drawn for the request, against `canary-weight`.
    Weight,
}

impl Canary {
    /// A canary that takes no request.
    pub const fn never() -> Self {
        Self { weight: 0, total: MIN_TOTAL, header: None, cookie: None }
    }

    /// Reads the family; `None` unless `canary` is true.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if !reader.bool(&CANARY).or(false) {
            let stray = [WEIGHT, TOTAL, BY_HEADER, BY_HEADER_VALUE, BY_HEADER_PATTERN, BY_COOKIE]
                .iter()
                .find(|spec| reader.raw(spec).is_some())
                .map(|spec| spec.name);
            if let Some(name) = stray {
                let reason = "canary annotations have no effect unless canary is \"true\"";
                reader.report(
                    name,
                    Severity::Warning,
                    "NotACanary",
                    reason,
                    "add the annotation canary: \"true\"",
                );
            }
            return None;
        }
        let header = reader.text(&BY_HEADER, "a field name", is_basic).ok();
        let value =
            reader.text(&BY_HEADER_VALUE, "a field value", |byte| is_basic(byte) || byte == b' ').ok();
        let pattern = reader.read(&BY_HEADER_PATTERN, |text| Ok(compile(text))).ok();
        if let (None, Some(HeaderTest::Broken)) = (&value, &pattern) {
            let reason = "is no valid expression: requests with the field stay with the primary";
            reader.report(BY_HEADER_PATTERN.name, Severity::Warning, "InvalidPattern", reason, "");
        }
        let test = value.map(HeaderTest::Value).or(pattern).unwrap_or(HeaderTest::Switch);
        Some(Self {
            weight: reader.count(&WEIGHT).or(0),
            total: reader.count(&TOTAL).or(MIN_TOTAL).max(MIN_TOTAL),
            header: header.map(|name| HeaderRule { name, test }),
            cookie: reader.text(&BY_COOKIE, "a cookie name", is_basic).ok(),
        })
    }

    /// Which backend takes the request, and why: header, then cookie, then weight (`routing.md` 7).
    pub fn decide(&self, view: &RequestView<'_>) -> (Choice, Ground) {
        if let Some(choice) = self.header.as_ref().and_then(|rule| rule.decide(view)) {
            return (choice, Ground::Header);
        }
        let cookie = self.cookie.as_ref().and_then(|name| view.cookie(name));
        if let Some(choice) = cookie.and_then(|value| switch(value.as_bytes())) {
            return (choice, Ground::Cookie);
        }
        (self.by_weight(view.roll), Ground::Weight)
    }

    /// True when the weight alone sends some requests here and some there.
    pub const fn splits(&self) -> bool {
        self.weight > 0 && self.weight < self.total
    }

    fn by_weight(&self, roll: u32) -> Choice {
        if roll % self.total.max(1) < self.weight { Choice::Canary } else { Choice::Primary }
    }
}

impl HeaderRule {
    fn decide(&self, view: &RequestView<'_>) -> Option<Choice> {
        let mut values =
            view.fields.iter().filter(|(name, _)| same_variable(name, &self.name)).map(|(_, value)| value);
        let first = values.next()?;
        // Several lines count as one list, as in nginx's variable.
        let joined =
            values.fold(Cow::Borrowed(first), |all, value| Cow::Owned([&all, value].join(&b", "[..])));
        let value = &*joined;
        match &self.test {
            HeaderTest::Switch => switch(value),
            HeaderTest::Value(wanted) => (value == wanted.as_bytes()).then_some(Choice::Canary),
            HeaderTest::Pattern(pattern) => match pattern.is_match(value) {
                Ok(true) => Some(Choice::Canary),
                Ok(false) => None,
                Err(_) => Some(Choice::Primary),
            },
            HeaderTest::Broken => Some(Choice::Primary),
        }
    }
}

fn compile(text: &str) -> HeaderTest {
    match Pattern::compile(text, Case::Sensitive, Anchor::None) {
        Ok(pattern) => HeaderTest::Pattern(Arc::new(pattern)),
        Err(_) => HeaderTest::Broken,
    }
}

fn switch(value: &[u8]) -> Option<Choice> {
    match value {
        b"always" => Some(Choice::Canary),
        b"never" => Some(Choice::Primary),
        _ => None,
    }
}

/// Field names as nginx variables know them: case and `-` against `_` do not count (vector `canary-multi-header-name`).
fn same_variable(a: &str, b: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    a.len() == b.len() && a.bytes().map(fold).eq(b.bytes().map(fold))
}

#[cfg(test)]
mod tests;
