//! Label selectors in the text form that Kubernetes' clients take: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.

use std::collections::BTreeMap;

/// A conjunction of requirements; the empty selector selects everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<(String, Requirement)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Selector {
    /// Reads the text form.
    ///
    /// # Errors
    /// Says which requirement cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for part in split(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    continue;
                }
                return Err("a requirement is empty".into());
            }
            requirements
                .push(requirement(part).ok_or_else(|| format!("cannot read the requirement {part:?}"))?);
        }
        Ok(Self { requirements })
    }

    /// Whether an object with these labels is selected.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|(key, requirement)| {
            let value = labels.get(key);
            match requirement {
                Requirement::Exists => value.is_some(),
                Requirement::Absent => value.is_none(),
                Requirement::In(values) => value.is_some_and(|value| values.contains(value)),
                Requirement::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    text.split(move |letter| {
        match letter {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .collect()
}

fn requirement(part: &str) -> Option<(String, Requirement)> {
    if let Some(key) = part.strip_prefix('!') {
        return Some((label(key)?, Requirement::Absent));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Some((label(key)?, Requirement::NotIn(vec![plain(value)?])));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some((label(key)?, Requirement::In(vec![plain(value)?])));
    }
    let Some((key, rest)) = part.split_once(char::is_whitespace) else {
        return Some((label(part)?, Requirement::Exists));
    };
    let (word, values) = rest.trim().split_once('(')?;
    let values: Option<Vec<String>> = values.trim_end().strip_suffix(')')?.split(',').map(plain).collect();
    match word.trim() {
        "in" => Some((label(key)?, Requirement::In(values?))),
        "notin" => Some((label(key)?, Requirement::NotIn(values?))),
        _ => None,
    }
}

fn label(text: &str) -> Option<String> {
    plain(text).filter(|key| !key.is_empty())
}

fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let sound =
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/'));
    sound.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(selector: &str, labels: &[(&str, &str)], expect: bool) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(Selector::parse(selector).unwrap().selects(&labels), expect, "{selector}");
    }

    #[test]
    fn selectors_select_as_kubernetes_does() {
        check("", &[], true);
        check("foo=bar", &[("foo", "bar")], true);
        check("foo==bar", &[("foo", "bar")], true);
        check("foo=bar", &[("foo", "baz")], false);
        check("foo=bar", &[], false);
        check("foo!=bar", &[], true);
        check("foo!=bar", &[("foo", "bar")], false);
        check("foo", &[("foo", "")], true);
        check("!foo", &[("foo", "")], false);
        check("a in (b, c),d notin (e)", &[("a", "c")], true);
        check("a in (b, c),d notin (e)", &[("a", "c"), ("d", "e")], false);
    }

    #[test]
    fn text_that_is_no_selector_is_refused() {
        for text in ["a=b,", "=b", "a in b", "a within (b)", "a b", "a=b c"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }
}
