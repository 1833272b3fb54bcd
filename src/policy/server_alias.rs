//! `server-alias`: further names of a host, in nginx's `server_name` syntax.

use std::sync::Arc;

use super::annotation::{Reader, Risk, Scope, Spec, is_regex_char};
use crate::pattern::{Anchor, Case, Pattern};

const SERVER_ALIAS: Spec = Spec::new("server-alias", Scope::Server, Risk::High)
    .values("none", "www.app.example,*.app.example")
    .doc("Further names of every host of the Ingress, comma separated: a name, `*.name`, `name.*` or `~expression`.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[SERVER_ALIAS];

/// One further name.
#[derive(Debug, Clone, PartialEq)]
pub enum Alias {
    /// A whole name, lower case.
    Exact(Arc<str>),
    /// `*.foo`: any number of labels before `.foo`; holds `foo`.
    Suffix(Arc<str>),
    /// `foo.*`: any number of labels after `foo.`; holds `foo`.
    Prefix(Arc<str>),
    /// `~expression`, unanchored, case-insensitive.
    Regex(Arc<Pattern>),
}

/// Reads the annotation: aliases in the order of their texts, each once.
pub fn read(reader: &mut Reader<'_>) -> Vec<Alias> {
    reader
        .read(&SERVER_ALIAS, |text| {
            let mut names: Vec<&str> =
                text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
            names.sort_unstable();
            names.dedup();
            names.into_iter().map(parse).collect()
        })
        .or_default()
}

fn parse(name: &str) -> Result<Alias, String> {
    if let Some(byte) = name.bytes().find(|byte| !is_regex_char(*byte)) {
        return Err(format!("{:?} may not stand in a server name", char::from(byte)));
    }
    if let Some(text) = name.strip_prefix('~') {
        let pattern = Pattern::compile(text, Case::Insensitive, Anchor::None);
        return pattern
            .map(|pattern| Alias::Regex(Arc::new(pattern)))
            .map_err(|error| format!("{name:?}: {error}"));
    }
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    let (alias, plain): (fn(Arc<str>) -> Alias, &str) =
        match (lower.strip_prefix("*."), lower.strip_suffix(".*")) {
            (Some(suffix), _) => (Alias::Suffix, suffix),
            (None, Some(prefix)) => (Alias::Prefix, prefix),
            (None, None) => (Alias::Exact, &lower),
        };
    if is_host(plain) { Ok(alias(Arc::from(plain))) } else { Err(format!("{name:?} is no host name")) }
}

/// Labels of letters, digits, `-` and `_`, at most 253 bytes.
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl Alias {
    /// As it is written in a `server_name` of nginx.
    pub fn text(&self) -> String {
        match self {
            Self::Exact(name) => name.to_string(),
            Self::Suffix(suffix) => format!("*.{suffix}"),
            Self::Prefix(prefix) => format!("{prefix}.*"),
            Self::Regex(pattern) => format!("~{}", pattern.as_str()),
        }
    }

    /// The name as a host of an Ingress would be written; none where no Ingress could have it as a host.
    pub fn as_host(&self) -> Option<Arc<str>> {
        match self {
            Self::Exact(_) | Self::Suffix(_) => Some(Arc::from(self.text())),
            Self::Prefix(_) | Self::Regex(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{diagnostics, read as read_with};

    fn aliases(text: &str) -> Vec<String> {
        read_with(&[("server-alias", text)], read).iter().map(Alias::text).collect()
    }

    #[test]
    fn names_are_trimmed_sorted_and_unique() {
        assert_eq!(aliases("b.test , a.test,,b.test"), ["a.test", "b.test"]);
        assert!(read_with(&[], read).is_empty());
        assert!(aliases("").is_empty());
    }

    #[test]
    fn wildcards_and_expressions_are_told_apart() {
        let kinds = read_with(&[("server-alias", "*.A.test,a.*,~^b[0-9]+\\.test$,c.test.")], read);
        assert!(
            matches!(&kinds[..], [Alias::Suffix(_), Alias::Prefix(_), Alias::Exact(_), Alias::Regex(_)]),
            "{kinds:?}"
        );
        assert_eq!(kinds[0].text(), "*.a.test");
        assert_eq!(kinds[2].text(), "c.test");
        let Alias::Regex(pattern) = &kinds[3] else { panic!() };
        assert_eq!(pattern.is_match(b"B12.test"), Ok(true));
    }

    #[test]
    fn one_bad_name_makes_the_value_invalid() {
        for bad in ["a.test,b test", "a..test", "~(", "a.test;", "*.*.test", "*"] {
            assert!(aliases(bad).is_empty(), "{bad}");
            assert_eq!(diagnostics(&[("server-alias", bad)], read), ["InvalidAnnotation"], "{bad}");
        }
    }
}
