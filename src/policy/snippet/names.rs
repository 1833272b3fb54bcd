//! Names that snippets define: a first look over the tree, so that every template can be judged wherever it stands.

use std::collections::BTreeSet;

use super::lex::Statement;
use super::maps::is_table;

/// The variable that the old template defines with a `map` of its own: `upgrade` for a request that asks for one, else
/// empty. A `map` of the ConfigMap may define it anew.
pub(super) const CONNECTION_UPGRADE: &str = "connection_upgrade";

/// Names of variables of one's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(BTreeSet<Box<str>>);

impl Names {
    /// Adds the names that a snippet defines: `set`, `auth_request_set`, `map` and its
    /// like, named groups.
    pub(super) fn collect(&mut self, statements: &[Statement]) {
        for statement in statements {
            let place = match statement.name() {
                "set" | "auth_request_set" => Some(0),
                name if is_table(name) => Some(statement.arguments().len().saturating_sub(1)),
                _ => None,
            };
            let name = place
                .and_then(|at| statement.arguments().get(at))
                .and_then(|word| word.text.strip_prefix('$'))
                .filter(|name| is_own(name));
            self.0.extend(name.map(Into::into));
            for word in &statement.words {
                self.groups(&word.text);
            }
            self.collect(statement.block.as_deref().unwrap_or_default());
        }
    }

    /// These and those.
    #[must_use]
    pub(super) fn with(&self, others: &Self) -> Self {
        Self(self.0.union(&others.0).cloned().collect())
    }

    /// True for a name that somebody defines, the template of ingress-nginx included.
    pub fn knows(&self, name: &str) -> bool {
        self.0.contains(name) || name == CONNECTION_UPGRADE
    }

    /// Adds the named groups of an expression: `(?<name>`, `(?P<name>`, `(?'name'`.
    pub(super) fn groups(&mut self, text: &str) {
        for piece in text.split("(?").skip(1) {
            let piece = piece.strip_prefix('P').unwrap_or(piece);
            let (rest, end) = match piece.as_bytes().first() {
                Some(b'<') => (piece.get(1..).unwrap_or_default(), '>'),
                Some(b'\'') => (piece.get(1..).unwrap_or_default(), '\''),
                _ => continue,
            };
            let name = rest.split(end).next().unwrap_or_default();
            if is_own(name) {
                self.0.insert(name.into());
            }
        }
    }
}

/// True for a name that a configuration may define: a word that is not the name of anything else.
pub(super) fn is_own(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && crate::variable::Variable::parse(name).is_none()
}
