//! A format text, split once into literals and variables. The syntax is nginx's `log_format` inside single quotes.

use std::fmt;

use crate::variable::leading;

/// A piece of a compiled format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment<V> {
    /// Written as it is.
    Literal(Box<[u8]>),
    /// Replaced for each line.
    Variable(V),
}

/// What is odd about a format; it works all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A variable that does not exist here; it shows as a missing value.
    Unknown {
        /// Name without `$`.
        name: String,
    },
    /// A variable that shows credentials (`B-24`): the operator is obeyed and told once.
    Sensitive {
        /// Name without `$`.
        name: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name } => write!(f, "unknown variable ${name} shows as a missing value"),
            Self::Sensitive { name } => write!(f, "variable ${name} writes credentials into the log"),
        }
    }
}

/// Splits `text`; `resolve` knows the variables. Line feeds become spaces: a log line is one line.
pub fn parse<V>(text: &str, mut resolve: impl FnMut(&str) -> V) -> Vec<Segment<V>> {
    let mut segments = Vec::new();
    let mut literal = Vec::new();
    let mut rest = text.trim_end();
    while let Some(first) = rest.chars().next() {
        if let Some((name, after)) = leading(rest) {
            if !literal.is_empty() {
                segments.push(Segment::Literal(std::mem::take(&mut literal).into()));
            }
            segments.push(Segment::Variable(resolve(name)));
            rest = after;
            continue;
        }
        let (unescaped, length) = unescape(rest, first);
        let mut utf8 = [0; 4];
        literal.extend_from_slice(unescaped.encode_utf8(&mut utf8).as_bytes());
        rest = rest.get(length..).unwrap_or_default();
    }
    if !literal.is_empty() {
        segments.push(Segment::Literal(literal.into()));
    }
    segments
}

/// The character that nginx's configuration reader makes of the start of `text`, and how many bytes it takes.
fn unescape(text: &str, first: char) -> (char, usize) {
    match (first, text.as_bytes().get(1)) {
        ('\\', Some(quoted @ (b'"' | b'\'' | b'\\'))) => (char::from(*quoted), 2),
        ('\\', Some(b't')) => ('\t', 2),
        ('\\', Some(b'r' | b'n')) => (' ', 2),
        ('\n' | '\r', _) => (' ', 1),
        _ => (first, first.len_utf8()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let shown: String = parse(text, str::to_owned)
            .into_iter()
            .map(|segment| match segment {
                Segment::Literal(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Segment::Variable(name) => format!("<{name}>"),
            })
            .collect();
        assert_eq!(shown, expect, "{text:?}");
    }

    #[test]
    fn variables_are_found_with_and_without_braces() {
        check("$a-$b_1[${c}]d", "<a>-<b_1>[<c>]d");
        check("${a}b", "<a>b");
        check("", "");
        check("plain", "plain");
    }

    #[test]
    fn a_dollar_without_a_name_stays_a_dollar() {
        check("$ $$ ${} ${a b} ${open $", "$ $$ ${} ${a b} ${open $");
        check("5$", "5$");
    }

    #[test]
    fn escapes_are_those_of_a_quoted_nginx_string() {
        check(r#"\"$a\" \\ \' \t. \d"#, "\"<a>\" \\ ' \t. \\d");
    }

    #[test]
    fn a_format_over_several_lines_is_one_line() {
        check("{\"a\": \"$a\",\n \"b\": \"$b\"}\n", "{\"a\": \"<a>\",  \"b\": \"<b>\"}");
        check(r"$a\n$b", "<a> <b>");
    }
}
