//! A parsed value with the line it stands on. Not a JSON value: scalars keep their text, so that a message can show
//! what was written and the reader of a field decides what it may mean.

use std::sync::Arc;

/// A value and its line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Line (from 1) in the file.
    pub(super) line: u32,
    /// The value.
    pub(super) value: Value,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// One scalar.
    Scalar(Scalar),
    /// A sequence.
    List(Arc<[Node]>),
    /// A mapping in the order written; keys are unique.
    Map(Arc<[Entry]>),
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The key's text.
    pub(super) key: Arc<str>,
    /// Line of the key.
    pub(super) line: u32,
    /// Its value.
    pub(super) value: Node,
}

/// Text of a scalar and what YAML 1.1, which Kubernetes reads, takes it for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scalar {
    /// Text after unescaping.
    pub(super) text: Arc<str>,
    /// Its type.
    pub(super) kind: ScalarKind,
}

/// Type of a scalar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ScalarKind {
    /// `null`, `~`, nothing.
    Null,
    /// `true`, `yes`, `on` and their opposites.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float,
    /// Everything else, and everything quoted.
    Text,
}

impl Node {
    /// True for null, which Kubernetes treats as absent.
    pub(super) const fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(Scalar { kind: ScalarKind::Null, .. }))
    }

    /// The value of a key when this is a mapping that has it.
    pub(super) fn field(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| &*entry.key == key).map(|entry| &entry.value)
    }

    /// The text when this is a text scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(Scalar { text, kind: ScalarKind::Text }) => Some(text),
            _ => None,
        }
    }

    /// The words that a message calls this value's type.
    pub(super) const fn type_name(&self) -> &'static str {
        match &self.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Scalar(scalar) => match scalar.kind {
                ScalarKind::Null => "null",
                ScalarKind::Boolean(_) => "a boolean",
                ScalarKind::Integer(_) | ScalarKind::Float => "a number",
                ScalarKind::Text => "a string",
            },
        }
    }
}

impl Scalar {
    /// What a plain (unquoted) scalar means. `y` and `n` stay text: no tool that writes YAML quotes them reliably, and
    /// no field here takes a boolean where they would make sense.
    pub(super) fn plain(text: &str) -> Self {
        Self { kind: ScalarKind::of_plain(text), text: text.into() }
    }

    /// A quoted scalar.
    pub(super) fn quoted(text: &str) -> Self {
        Self { kind: ScalarKind::Text, text: text.into() }
    }
}

impl ScalarKind {
    fn of_plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
                return Self::Boolean(true);
            }
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
                return Self::Boolean(false);
            }
            ".inf" | "-.inf" | "+.inf" | ".nan" | ".Inf" | ".NaN" | ".INF" | ".NAN" => return Self::Float,
            _ => {}
        }
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
            return Self::Text;
        }
        integer(text).map_or_else(|| if is_float(unsigned) { Self::Float } else { Self::Text }, Self::Integer)
    }
}

/// Decimal, `0x`, `0o`, `0b` and the old octal `017`, with underscores as YAML 1.1 allows them.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.replace('_', "");
    let (digits, radix) = if let Some(rest) = digits.strip_prefix("0x") {
        (rest, 16)
    } else if let Some(rest) = digits.strip_prefix("0b") {
        (rest, 2)
    } else if let Some(rest) = digits.strip_prefix("0o") {
        (rest, 8)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (digits.get(1..)?, 8)
    } else {
        (digits.as_str(), 10)
    };
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { value.wrapping_neg() } else { value })
}

/// The float form of YAML 1.1 less sexagesimals: digits, one dot, an exponent.
fn is_float(unsigned: &str) -> bool {
    unsigned.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-' | b'_'))
        && unsigned.replace('_', "").parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, kind: ScalarKind) {
        assert_eq!(ScalarKind::of_plain(text), kind, "{text:?}");
    }

    #[test]
    fn plain_scalars_mean_what_kubernetes_takes_them_for() {
        check("", ScalarKind::Null);
        check("~", ScalarKind::Null);
        check("true", ScalarKind::Boolean(true));
        check("off", ScalarKind::Boolean(false));
        check("y", ScalarKind::Text);
        check("80", ScalarKind::Integer(80));
        check("-1", ScalarKind::Integer(-1));
        check("017", ScalarKind::Integer(15));
        check("0x10", ScalarKind::Integer(16));
        check("1_000", ScalarKind::Integer(1000));
        check("1.5", ScalarKind::Float);
        check("1e3", ScalarKind::Float);
        check(".5", ScalarKind::Float);
        check("10.0.0.1", ScalarKind::Text);
        check("2024-01-01T00:00:00Z", ScalarKind::Text);
        check("8k", ScalarKind::Text);
        check("089", ScalarKind::Float);
        check("-", ScalarKind::Text);
        check(".", ScalarKind::Text);
        check("0x", ScalarKind::Text);
        check("99999999999999999999", ScalarKind::Float);
    }
}
