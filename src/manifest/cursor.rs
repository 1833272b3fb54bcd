//! Reading of one object, field by field: every wrong type, missing or unknown field becomes a finding that names path,
//! line and value, and reading goes on, so that one pass reports everything.
//!
//! A finding of severity error means that the object is refused as a whole, as an API server would.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use super::node::{Entry, Node, Scalar, ScalarKind, Value};
use crate::diagnostic::{Diagnostic, Severity, nearest};

/// Most findings about one object that are told.
const MAX_FINDINGS: usize = 100;

/// What was found while reading one object; becomes [`Diagnostic`]s when the object's name is known.
#[derive(Debug, Default)]
pub(super) struct Findings {
    items: RefCell<Vec<Finding>>,
}

/// One finding.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    pub(super) field: String,
    pub(super) line: u32,
    pub(super) value: String,
    pub(super) reason: String,
    pub(super) hint: String,
}

impl Findings {
    /// True when a finding refuses the object.
    pub(super) fn refuse(&self) -> bool {
        self.items.borrow().iter().any(|finding| finding.severity == Severity::Error)
    }

    pub(super) fn into_items(self) -> Vec<Finding> {
        self.items.into_inner()
    }

    /// Keeps a finding while there are few; an error is kept in any case when it is the first.
    fn push(&self, finding: Finding) {
        let first_error = finding.severity == Severity::Error && !self.refuse();
        let mut items = self.items.borrow_mut();
        if items.len() < MAX_FINDINGS || first_error {
            items.push(finding);
        }
    }
}

/// How a value is reached from the object's root; rendered only when a finding needs it.
#[derive(Debug, Clone, Copy)]
struct Path<'p> {
    parent: Option<&'p Self>,
    step: Step<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Root,
    Field(&'p str),
    /// A key that users choose, such as an annotation's name.
    Key(&'p str),
    Index(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        self.step.write(matches!(self.parent, None | Some(Path { step: Step::Root, .. })), f)
    }
}

impl Step<'_> {
    /// Writes what it adds to a path; `first` when nothing but the root is above.
    fn write(self, first: bool, out: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Step::Root => Ok(()),
            Step::Field(name) if first => out.write_str(name),
            Step::Field(name) => write!(out, ".{name}"),
            Step::Key(key) => write!(out, "[{key}]"),
            Step::Index(index) => write!(out, "[{index}]"),
        }
    }
}

/// A value, where it stands and where its findings go.
#[derive(Clone, Copy)]
pub(super) struct At<'p> {
    node: &'p Node,
    path: Path<'p>,
    line: u32,
    findings: &'p Findings,
}

impl<'p> At<'p> {
    /// The root of an object.
    pub(super) const fn root(node: &'p Node, findings: &'p Findings) -> Self {
        Self { node, path: Path { parent: None, step: Step::Root }, line: node.line, findings }
    }

    /// The value itself.
    pub(super) const fn node(&self) -> &'p Node {
        self.node
    }

    /// Refuses the object for this value.
    pub(super) fn error(&self, reason: impl Into<String>, hint: impl Into<String>) {
        self.find("InvalidField", Severity::Error, self.shown(), reason.into(), hint.into());
    }

    /// As [`At::error`], for a value that must not be shown.
    pub(super) fn error_hiding_value(&self, reason: impl Into<String>, hint: impl Into<String>) {
        self.find("InvalidField", Severity::Error, String::new(), reason.into(), hint.into());
    }

    /// Says something about this value and goes on.
    pub(super) fn note(&self, severity: Severity, code: &'static str, reason: &str, hint: &str) {
        self.find(code, severity, self.shown(), reason.to_owned(), hint.to_owned());
    }

    fn find(&self, code: &'static str, severity: Severity, value: String, reason: String, hint: String) {
        let field = self.path.to_string();
        self.findings.push(Finding { code, severity, field, line: self.line, value, reason, hint });
    }

    fn shown(&self) -> String {
        match &self.node.value {
            Value::Scalar(scalar) => Diagnostic::shorten(&scalar.text),
            _ => String::new(),
        }
    }

    fn wrong_type(&self, expected: &str, hint: String) {
        self.error(format!("must be {expected}, not {}", self.node.type_name()), hint);
    }

    /// This value as a mapping of fields; fields other than `known` are reported and ignored.
    pub(super) fn mapping<'s>(&'s self, known: &[&'static str]) -> Option<Mapping<'s>> {
        let Value::Map(entries) = &self.node.value else {
            self.wrong_type("a mapping", String::new());
            return None;
        };
        for entry in entries.iter().filter(|entry| !known.contains(&&*entry.key)) {
            let at = self.entry(entry, Step::Field(&entry.key));
            let hint = renamed(&entry.key).map_or_else(
                || {
                    nearest(&entry.key, known.iter().copied())
                        .map_or(String::new(), |near| format!("did you mean `{near}`?"))
                },
                str::to_owned,
            );
            at.find("UnknownField", Severity::Warning, at.shown(), "unknown field, ignored".into(), hint);
        }
        Some(Mapping { at: self, entries })
    }

    /// Items of a list.
    pub(super) fn items<'s>(&'s self) -> impl Iterator<Item = At<'s>> {
        let items: &[Node] = match &self.node.value {
            Value::List(items) => items,
            _ => {
                self.wrong_type("a list", "start each item with `- `".into());
                &[]
            }
        };
        items.iter().enumerate().map(|(index, node)| At {
            node,
            path: Path { parent: Some(&self.path), step: Step::Index(index) },
            line: node.line,
            findings: self.findings,
        })
    }

    /// Entries of a mapping whose keys users choose.
    pub(super) fn entries<'s>(&'s self) -> impl Iterator<Item = (&'s str, At<'s>)> {
        let entries: &[Entry] = match &self.node.value {
            Value::Map(entries) => entries,
            _ => {
                self.wrong_type("a mapping", String::new());
                &[]
            }
        };
        entries.iter().map(|entry| (&*entry.key, self.entry(entry, Step::Key(&entry.key))))
    }

    /// A mapping of strings such as labels; null values count as empty strings, as the API server has it.
    pub(super) fn strings(&self) -> BTreeMap<String, String> {
        self.entries()
            .filter_map(|(key, at)| {
                let text = if at.node.is_null() { Some("") } else { at.text() };
                text.map(|text| (key.to_owned(), text.to_owned()))
            })
            .collect()
    }

    fn entry<'s>(&'s self, entry: &'s Entry, step: Step<'s>) -> At<'s> {
        At {
            node: &entry.value,
            path: Path { parent: Some(&self.path), step },
            line: entry.line,
            findings: self.findings,
        }
    }

    /// True for null.
    pub(super) const fn is_null(&self) -> bool {
        self.node.is_null()
    }

    /// A string.
    pub(super) fn text(&self) -> Option<&'p str> {
        match &self.node.value {
            Value::Scalar(Scalar { text, kind: ScalarKind::Text }) => Some(text),
            Value::Scalar(Scalar { text, kind }) if *kind != ScalarKind::Null => {
                self.wrong_type("a string", format!("write it in quotes: \"{}\"", Diagnostic::shorten(text)));
                None
            }
            _ => {
                self.wrong_type("a string", String::new());
                None
            }
        }
    }

    /// The string if it is one; says nothing otherwise.
    pub(super) fn text_if_string(&self) -> Option<&'p str> {
        self.node.text()
    }

    /// A boolean.
    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            Value::Scalar(Scalar { kind: ScalarKind::Boolean(value), .. }) => Some(*value),
            _ => {
                self.wrong_type("true or false", "write it without quotes".into());
                None
            }
        }
    }

    /// A whole number.
    pub(super) fn integer(&self) -> Option<i64> {
        match &self.node.value {
            Value::Scalar(Scalar { kind: ScalarKind::Integer(value), .. }) => Some(*value),
            Value::Scalar(Scalar { kind: ScalarKind::Text, text }) if text.parse::<i64>().is_ok() => {
                self.wrong_type("a whole number", "write it without quotes".into());
                None
            }
            _ => {
                self.wrong_type("a whole number", String::new());
                None
            }
        }
    }

    /// A port number, 1 to 65535.
    pub(super) fn port(&self) -> Option<u16> {
        let port = u16::try_from(self.integer()?).ok().filter(|port| *port != 0);
        if port.is_none() {
            self.error("must be a port number from 1 to 65535", "");
        }
        port
    }

    /// A number or a name, as `targetPort` has it.
    pub(super) fn number_or_text(&self) -> Option<Result<i64, &'p str>> {
        match &self.node.value {
            Value::Scalar(Scalar { kind: ScalarKind::Integer(value), .. }) => Some(Ok(*value)),
            Value::Scalar(Scalar { kind: ScalarKind::Text, text }) => Some(Err(text)),
            _ => {
                self.wrong_type("a port number or a name", String::new());
                None
            }
        }
    }
}

/// A mapping of known fields.
pub(super) struct Mapping<'p> {
    at: &'p At<'p>,
    entries: &'p [Entry],
}

impl<'p> Mapping<'p> {
    /// A field's value; `None` when it is absent or null.
    pub(super) fn field<'s>(&'s self, name: &'static str) -> Option<At<'s>> {
        let entry = self.entries.iter().find(|entry| &*entry.key == name)?;
        (!entry.value.is_null()).then(|| self.at.entry(entry, Step::Field(&entry.key)))
    }

    /// A field that must be there.
    pub(super) fn required<'s>(&'s self, name: &'static str) -> Option<At<'s>> {
        let found = self.field(name);
        if found.is_none() {
            let parent = Path { parent: Some(&self.at.path), step: Step::Field(name) };
            self.at.findings.push(Finding {
                code: "MissingField",
                severity: Severity::Error,
                field: parent.to_string(),
                line: self.at.line,
                value: String::new(),
                reason: "is required".into(),
                hint: self.misspelt(name).map_or_else(String::new, |entry| format!("rename `{entry}`")),
            });
        }
        found
    }

    /// A key that looks like a misspelling of `name`.
    fn misspelt(&self, name: &str) -> Option<&str> {
        self.entries.iter().map(|entry| &*entry.key).find(|key| nearest(key, [name]).is_some())
    }

    /// A string field; empty when absent (or wrong, which is reported).
    pub(super) fn text(&self, name: &'static str) -> String {
        self.field(name).and_then(|at| at.text()).unwrap_or_default().to_owned()
    }

    /// A boolean field.
    pub(super) fn boolean(&self, name: &'static str) -> Option<bool> {
        self.field(name).and_then(|at| at.boolean())
    }
}

/// Fields of the removed beta versions of Ingress, which many manifests on the web still show.
fn renamed(field: &str) -> Option<&'static str> {
    match field {
        "serviceName" => Some("networking.k8s.io/v1 writes `service: {name: …}`"),
        "servicePort" => Some("networking.k8s.io/v1 writes `service: {port: {number: …}}`"),
        "backend" => Some("networking.k8s.io/v1 writes `defaultBackend`"),
        _ => None,
    }
}

/// Lines of the values below `node` by path, as `Origin.fields` holds them; at most `limit` of them.
pub(super) fn lines(node: &Node, limit: usize) -> BTreeMap<String, u32> {
    let mut lines = Lines { path: String::new(), limit, found: BTreeMap::new() };
    lines.walk(node, Step::Root);
    lines.found
}

/// A walk over the values of an object. One text serves for all paths: each step is written when it is gone and taken
/// off on the way back.
struct Lines {
    path: String,
    limit: usize,
    found: BTreeMap<String, u32>,
}

impl Lines {
    /// Everything below `node`, to which `step` led.
    fn walk(&mut self, node: &Node, step: Step<'_>) {
        match &node.value {
            Value::Scalar(_) => {}
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.visit(item, item.line, step, Step::Index(index));
                }
            }
            Value::Map(entries) => {
                let chosen = matches!(
                    step,
                    Step::Field("annotations" | "labels" | "data" | "stringData" | "binaryData")
                );
                for entry in entries.iter() {
                    let next = if chosen { Step::Key(&entry.key) } else { Step::Field(&entry.key) };
                    self.visit(&entry.value, entry.line, step, next);
                }
            }
        }
    }

    fn visit(&mut self, node: &Node, line: u32, above: Step<'_>, step: Step<'_>) {
        if self.found.len() < self.limit && !matches!(step, Step::Field("managedFields" | "status")) {
            let length = self.path.len();
            step.write(matches!(above, Step::Root), &mut self.path).expect("a String takes every text");
            self.found.insert(self.path.clone(), line);
            self.walk(node, step);
            self.path.truncate(length);
        }
    }
}
