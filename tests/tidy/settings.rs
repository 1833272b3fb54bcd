//! What users can say has somebody who reads it: a setting that is parsed, documented and then forgotten is a promise
//! that nobody keeps.

use crate::source::{Source, sources};
use crate::{expect_none, expect_one};

/// Public fields of the structs of a file, with their offsets.
fn fields(source: &Source) -> Vec<(&str, usize)> {
    let code = source.production.as_str();
    let mut found = Vec::new();
    let mut within = false;
    let mut at = 0;
    for line in code.split_inclusive('\n') {
        let text = line.trim_end();
        if text.starts_with("pub struct ") && text.ends_with('{') {
            within = true;
        } else if text == "}" {
            within = false;
        }
        let field = text.strip_prefix("    pub ").and_then(|rest| rest.split_once(": "));
        if let (true, Some((name, _))) = (within, field) {
            found.push((name, at));
        }
        at += line.len();
    }
    found
}

/// True where some code takes the value of a field: writing it, and handing it to what writes it, does not count.
fn is_read(name: &str, source: &Source) -> bool {
    let code = source.production.as_str();
    let word = format!(".{name}");
    code.match_indices(&word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let whole = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '(');
        let start =
            before.rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).map_or(0, |at| at + 1);
        let lent = before[..start].ends_with("&mut ");
        let written = after.starts_with(" = ");
        whole && !lent && !written
    })
}

/// Settings that are kept and that nobody asks for.
fn unread(all: &[Source]) -> Vec<String> {
    let settings = all.iter().filter(|source| source.module() == "policy");
    let fields = settings.flat_map(|source| fields(source).into_iter().map(move |field| (source, field)));
    fields
        .filter(|(_, (name, _))| !all.iter().any(|source| is_read(name, source)))
        .map(|(source, (name, at))| format!("{}: nobody reads `{name}`", source.at(at)))
        .collect()
}

#[test]
fn every_setting_is_read_by_somebody() {
    expect_none("a setting without effect", &unread(&sources()));
}

#[test]
fn a_setting_that_is_only_parsed_is_found() {
    let settings = "pub struct Globals {\n    pub kept: u8,\n    pub lost: bool,\n}\n";
    let parser = "fn set(&mut self) { put(&mut self.lost, x); self.lost = true; let lost_too = g.lost_too; g.lost(); }";
    let reader = "fn f(globals: &Globals) { use_it(globals.kept); }";
    let all = [
        Source::new("policy/global.rs", settings),
        Source::new("policy/global/parse.rs", parser),
        Source::new("proxy.rs", reader),
    ];
    expect_one(&unread(&all), "lost");
}
