//! Names and values of fields in snippets, and the arguments of the headers-more directives.

use super::lex::{Fault, Word};
use super::settings::FieldEdit;
use crate::policy::annotation::is_protected_field;
use crate::policy::template::Template;
use crate::wire::fields::is_token;

/// Sets fields or takes them away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `more_set_*`.
    Set,
    /// `more_clear_*`.
    Clear,
}
pub(super) use Kind::{Clear, Set};

/// Longest name (`B.3`).
const MAX_NAME: usize = 128;

/// A name that a snippet may write.
pub(super) fn name(word: &Word) -> Result<Box<str>, Fault> {
    let name = token(word)?;
    if is_protected_field(name) {
        return Err(Fault::new(word.at, format!("{name} frames or routes the message and cannot be set")));
    }
    Ok(name.into())
}

/// Any name of a field.
pub(super) fn token(word: &Word) -> Result<&str, Fault> {
    if is_token(word.text.as_bytes()) && word.text.len() <= MAX_NAME {
        Ok(&word.text)
    } else {
        Err(Fault::new(word.at, format!("{:?} is no name of a field", word.text)))
    }
}

/// A value written over several lines, as one: line breaks become a space (they could only break the head).
pub(super) fn one_line(word: &Word) -> Word {
    let text = word.text.split(['\r', '\n']).map(str::trim).collect::<Vec<_>>().join(" ");
    Word { text: if word.text.contains(['\r', '\n']) { text } else { word.text.clone() }, ..word.clone() }
}

/// `[-s statuses] [-t types] [-r] field…`, options first or last.
pub(super) fn edit(
    arguments: &[Word],
    kind: Kind,
    template: impl Fn(&Word) -> Result<Template, Fault>,
) -> Result<FieldEdit, Fault> {
    let mut edit =
        FieldEdit { fields: Vec::new(), statuses: Vec::new(), types: Vec::new(), replace_only: false };
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        match word.text.as_str() {
            "-r" => edit.replace_only = true,
            "-s" | "-t" => {
                let list = rest.next().ok_or_else(|| Fault::new(word.at, "a list is missing"))?;
                let items = list.text.split_ascii_whitespace();
                if word.text == "-s" {
                    for item in items {
                        let code = item.parse().ok().filter(|code| (100..=999).contains(code));
                        let wrong = || Fault::new(list.at, format!("{item} is no status"));
                        edit.statuses.push(code.ok_or_else(wrong)?);
                    }
                } else {
                    edit.types.extend(items.map(|item| item.to_ascii_lowercase().into()));
                }
            }
            _ => edit.fields.push(field(word, kind, &template)?),
        }
    }
    if edit.fields.is_empty() {
        let at = arguments.first().map(|word| word.at).unwrap_or_default();
        return Err(Fault::new(at, "no field is named"));
    }
    Ok(edit)
}

/// `Name: value`, `Name`, or when clearing `Name*`.
fn field(
    word: &Word,
    kind: Kind,
    template: &impl Fn(&Word) -> Result<Template, Fault>,
) -> Result<(Box<str>, Template), Fault> {
    let word = one_line(word);
    let (text, value) = word.text.split_once(':').unwrap_or((&word.text, ""));
    let part = |text: &str| Word { text: text.to_owned(), quoted: true, at: word.at };
    let text = text.trim();
    if kind == Clear {
        if let Some(start) = text.strip_suffix('*') {
            if !start.is_empty() {
                token(&part(start))?;
            }
            return Ok((text.into(), Template::plain("")));
        }
        return Ok((name(&part(text))?, Template::plain("")));
    }
    Ok((name(&part(text))?, template(&part(value.trim()))?))
}
