//! Bytes of a file to documents with line numbers. YAML of one or more documents; JSON is read as the YAML it is.
//!
//! Knows nothing of Kubernetes. Hostile input is bounded: size of the file, depth, and what aliases expand to. A
//! document that is no YAML is reported alone; reading goes on at the next `---`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, ScanError, Tag};

use super::node::{Entry, Node, Scalar, ScalarKind, Value};

/// Most bytes that a file may have.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// Deepest nesting that a document may have, aliases expanded.
pub const MAX_DEPTH: usize = 64;
/// Most bytes that the aliases of one document may expand to.
pub const MAX_ALIAS_BYTES: usize = 1 << 20;
/// What a node weighs besides its text when an alias repeats it.
const NODE_WEIGHT: usize = 32;

/// A document that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    /// Line (from 1), when known.
    pub(super) line: Option<u32>,
    /// Why, without a final dot.
    pub(super) reason: String,
    /// What to do; may be empty.
    pub(super) hint: &'static str,
}

/// The documents of a file in order; empty ones are left out.
pub(super) fn documents(bytes: &[u8]) -> Vec<Result<Node, Broken>> {
    let text = match text(bytes) {
        Ok(text) => text,
        Err(broken) => return vec![Err(broken)],
    };
    let mut options =
        granit_parser::options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH };
    options.set_emit_comments(false);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut found = Vec::new();
    loop {
        let document = Document::default().read(&mut parser);
        match document {
            Ok(Some(node)) if node.is_null() => {}
            Ok(Some(node)) => found.push(Ok(node)),
            Ok(None) => return found,
            Err(broken) => {
                found.push(Err(broken));
                // The scanner's own errors of the skipped part were reported with the document.
                if !parser.proceed_next_document().unwrap_or(false) {
                    return found;
                }
            }
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, Broken> {
    if bytes.len() > MAX_FILE_BYTES {
        let reason = format!("the file has {} bytes, at most {MAX_FILE_BYTES} are read", bytes.len());
        return Err(Broken { line: None, reason, hint: "split it" });
    }
    let text = str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        Broken {
            line: u32::try_from(before.split(|byte| *byte == b'\n').count()).ok(),
            reason: "the file is not UTF-8".into(),
            hint: "save it as UTF-8",
        }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// One document under construction.
#[derive(Default)]
struct Document {
    /// Open collections, outermost first.
    open: Vec<Open>,
    /// Finished anchored nodes with weight and height.
    anchors: BTreeMap<usize, Anchored>,
    /// Weight of everything that aliases repeated so far.
    expanded: usize,
    root: Option<Node>,
}

#[derive(Clone)]
struct Anchored {
    node: Node,
    weight: usize,
    height: usize,
}

struct Open {
    line: u32,
    anchor: usize,
    weight: usize,
    height: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        keys: BTreeSet<Arc<str>>,
        /// A key that waits for its value, and whether it was plain (`<<` merges only unquoted).
        key: Option<(Arc<str>, u32, bool)>,
        /// Values of `<<`, laid under the others at the end.
        merges: Vec<Node>,
    },
}

impl Document {
    /// Reads to the end of the next document; `None` at the end of the stream.
    fn read<'i>(
        mut self,
        parser: &mut Parser<'i, granit_parser::StrInput<'i>>,
    ) -> Result<Option<Node>, Broken> {
        loop {
            let Some(next) = parser.next_event() else { return Ok(None) };
            let (event, span) = next.map_err(|error| scan_error(&error))?;
            let line = line_of(span.start.line()).unwrap_or(1);
            match event {
                Event::StreamEnd => return Ok(None),
                Event::DocumentEnd => return Ok(Some(self.root.unwrap_or_else(|| null(line)))),
                Event::Scalar(text, style, anchor, tag) => {
                    let scalar = scalar(&text, style, tag.as_deref(), line)?;
                    let plain = style == ScalarStyle::Plain;
                    self.add(Node { line, value: Value::Scalar(scalar) }, anchor, plain)?;
                }
                Event::SequenceStart(_, anchor, tag) => {
                    check_tag(tag.as_deref(), "seq", line)?;
                    self.open(line, anchor, Content::List(Vec::new()))?;
                }
                Event::MappingStart(_, anchor, tag) => {
                    check_tag(tag.as_deref(), "map", line)?;
                    let content = Content::Map {
                        entries: Vec::new(),
                        keys: BTreeSet::new(),
                        key: None,
                        merges: Vec::new(),
                    };
                    self.open(line, anchor, content)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close()?,
                Event::Alias(id) => self.alias(id, line)?,
                _ => {}
            }
        }
    }

    fn open(&mut self, line: u32, anchor: usize, content: Content) -> Result<(), Broken> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(line));
        }
        self.open.push(Open { line, anchor, weight: NODE_WEIGHT, height: 1, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Broken> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let Open { line, anchor, weight, height, content } = open;
        let value = match content {
            Content::List(items) => Value::List(items.into()),
            Content::Map { entries, keys, merges, .. } => {
                Value::Map(merged(entries, keys, &merges, line)?.into())
            }
        };
        let node = Node { line, value };
        if anchor > 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), weight, height });
        }
        self.place(node, weight, height, false)
    }

    fn add(&mut self, node: Node, anchor: usize, plain: bool) -> Result<(), Broken> {
        let weight =
            NODE_WEIGHT + if let Value::Scalar(scalar) = &node.value { scalar.text.len() } else { 0 };
        if anchor > 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), weight, height: 0 });
        }
        self.place(node, weight, 0, plain)
    }

    fn alias(&mut self, id: usize, line: u32) -> Result<(), Broken> {
        let Some(anchored) = self.anchors.get(&id).cloned() else {
            let reason = "an alias stands inside the value that it names".into();
            return Err(Broken { line: Some(line), reason, hint: "" });
        };
        let Anchored { mut node, weight, height } = anchored;
        self.expanded = self.expanded.saturating_add(weight);
        if self.expanded > MAX_ALIAS_BYTES {
            let reason = format!("the aliases of this document expand to more than {MAX_ALIAS_BYTES} bytes");
            return Err(Broken { line: Some(line), reason, hint: "write the values out" });
        }
        if self.open.len() + height > MAX_DEPTH {
            return Err(too_deep(line));
        }
        node.line = line;
        self.place(node, weight, height, false)
    }

    /// Puts a finished node where it belongs: into the innermost open collection, else it is the root.
    fn place(&mut self, node: Node, weight: usize, height: usize, plain: bool) -> Result<(), Broken> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.weight = open.weight.saturating_add(weight);
        open.height = open.height.max(height + 1);
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, keys, key, merges } => match key.take() {
                None => {
                    let Value::Scalar(scalar) = node.value else {
                        let reason = "a key must be a string".into();
                        return Err(Broken { line: Some(node.line), reason, hint: "" });
                    };
                    *key = Some((scalar.text, node.line, plain));
                }
                Some((name, _, true)) if &*name == "<<" => merges.push(node),
                Some((name, line, _)) => {
                    if !keys.insert(Arc::clone(&name)) {
                        let reason = format!("the key {name:?} is given twice in one mapping");
                        return Err(Broken { line: Some(line), reason, hint: "remove one of them" });
                    }
                    entries.push(Entry { key: name, line, value: node });
                }
            },
        }
        Ok(())
    }
}

/// Lays `<<` values under the entries of a mapping: what is written there wins, then the earlier merge.
fn merged(
    mut entries: Vec<Entry>,
    mut keys: BTreeSet<Arc<str>>,
    merges: &[Node],
    line: u32,
) -> Result<Vec<Entry>, Broken> {
    let sources = merges.iter().flat_map(|merge| match &merge.value {
        Value::List(items) => items.iter().collect::<Vec<_>>(),
        _ => vec![merge],
    });
    for source in sources {
        let Value::Map(lower) = &source.value else {
            let reason = "`<<` takes a mapping or a list of mappings".into();
            return Err(Broken { line: Some(line), reason, hint: "" });
        };
        for entry in lower.iter() {
            if keys.insert(Arc::clone(&entry.key)) {
                entries.push(Entry { line: source.line, ..entry.clone() });
            }
        }
    }
    Ok(entries)
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, line: u32) -> Result<Scalar, Broken> {
    let plain = style == ScalarStyle::Plain;
    let Some(tag) = tag else {
        return Ok(if plain { Scalar::plain(text) } else { Scalar::quoted(text) });
    };
    let scalar = Scalar::plain(text);
    match (tag.core_suffix(), scalar.kind) {
        (Some("str"), _) => Ok(Scalar::quoted(text)),
        (Some("int"), ScalarKind::Integer(_))
        | (Some("bool"), ScalarKind::Boolean(_))
        | (Some("null"), ScalarKind::Null)
        | (Some("float"), ScalarKind::Float | ScalarKind::Integer(_)) => Ok(scalar),
        _ if tag.handle() == "!" && tag.suffix().is_empty() => Ok(Scalar::quoted(text)),
        _ => Err(bad_tag(tag, line)),
    }
}

fn scan_error(error: &ScanError) -> Broken {
    let reason = error.info();
    let hint = if reason.contains("tab") { "indent with spaces" } else { "" };
    Broken { line: line_of(error.marker().line()), reason, hint }
}

fn check_tag(tag: Option<&Tag>, expected: &str, line: u32) -> Result<(), Broken> {
    match tag {
        Some(tag) if tag.core_suffix() != Some(expected) => Err(bad_tag(tag, line)),
        _ => Ok(()),
    }
}

fn bad_tag(tag: &Tag, line: u32) -> Broken {
    let reason = format!("the tag `{}` has no meaning here", tag.original());
    Broken { line: Some(line), reason, hint: "remove the tag" }
}

fn too_deep(line: u32) -> Broken {
    let reason = format!("values are nested deeper than {MAX_DEPTH} levels");
    Broken { line: Some(line), reason, hint: "" }
}

fn null(line: u32) -> Node {
    Node { line, value: Value::Scalar(Scalar::plain("")) }
}

fn line_of(line: usize) -> Option<u32> {
    u32::try_from(line.max(1)).ok()
}

#[cfg(test)]
mod tests;
