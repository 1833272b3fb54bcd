//! The text format of Prometheus, for what we encode ourselves.

use std::fmt::{Display, Write};

use super::names::Family;

/// A text under construction. Families are written one after the other, never interleaved.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// `# HELP` and `# TYPE`.
    pub(super) fn family(&mut self, family: &Family) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {} {}", family.name, family.help);
        let _ = writeln!(self.0, "# TYPE {} {}", family.name, family.kind.as_str());
    }

    /// One sample; `labels` is ready text such as `a="b",c="d"`, or empty.
    pub(super) fn sample(&mut self, name: &str, suffix: &str, labels: &str, value: impl Display) {
        self.begin(name, suffix, labels);
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// One bucket.
    pub(super) fn bucket(&mut self, name: &str, labels: &str, bound: &str, count: u64) {
        self.begin(name, "_bucket", labels);
        self.0.push(if labels.is_empty() { '{' } else { ',' });
        self.0.push_str("le=\"");
        self.0.push_str(bound);
        let _ = writeln!(self.0, "\"}} {count}");
    }

    /// Name and labels without the brace that ends them: copied, since there are many thousands of lines.
    fn begin(&mut self, name: &str, suffix: &str, labels: &str) {
        self.0.push_str(name);
        self.0.push_str(suffix);
        if !labels.is_empty() {
            self.0.push('{');
            self.0.push_str(labels);
        }
    }

    /// A whole metric with one sample without further labels.
    pub(super) fn single(&mut self, family: &Family, labels: &str, value: impl Display) {
        self.family(family);
        self.sample(family.name, "", labels, value);
    }

    /// Text that is ready.
    pub(super) fn append(&mut self, text: &str) {
        self.0.push_str(text);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What stands there so far; the next piece is likely to become as long, unless this one was longer than `usual`.
    pub(super) fn take(&mut self, usual: usize) -> String {
        let next = String::with_capacity(self.0.capacity().min(usual));
        std::mem::replace(&mut self.0, next)
    }
}

/// Appends `name="value"` with the value escaped, after a comma where something stands before it.
pub(super) fn push_label(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    labels.push_str(name);
    labels.push_str("=\"");
    if value.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        for c in value.chars() {
            match c {
                '\\' => labels.push_str("\\\\"),
                '"' => labels.push_str("\\\""),
                '\n' => labels.push_str("\\n"),
                c => labels.push(c),
            }
        }
    } else {
        labels.push_str(value);
    }
    labels.push('"');
}

/// A number as Go's `strconv.FormatFloat(x, 'g', -1, 64)` writes it: Prometheus' own client does, and queries name
/// buckets by that text (`le="1e+06"`).
pub(super) fn go_float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    // Go switches to the scientific form here for shortest texts.
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    } else {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_bounds_are_written_as_go_writes_them() {
        for (number, expect) in [
            (0.005, "0.005"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.0, "1"),
            (2.5, "2.5"),
            (10.0, "10"),
            (100_000.0, "100000"),
            (1e6, "1e+06"),
            (1.5e6, "1.5e+06"),
            (1e7, "1e+07"),
            (123_456.0, "123456"),
            (1_234_567.0, "1.234567e+06"),
            (1_234_567.5, "1.2345675e+06"),
        ] {
            assert_eq!(go_float(number), expect);
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let mut labels = String::new();
        push_label(&mut labels, "a", "x\"y\\z\n");
        push_label(&mut labels, "b", "");
        assert_eq!(labels, "a=\"x\\\"y\\\\z\\n\",b=\"\"");
    }
}
