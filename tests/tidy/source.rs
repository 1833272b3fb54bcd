//! Source files as the rules see them: without comments, without the contents of strings, with and without tests.

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file below `src/`.
pub(crate) struct Source {
    /// Path below `src/`, with `/`.
    pub(crate) path: String,
    /// As it stands.
    pub(crate) text: String,
    /// Comments and the contents of literals blanked; line breaks kept.
    pub(crate) code: String,
    /// `code` less the items under `#[cfg(test)]`; empty for a file that holds only tests.
    pub(crate) production: String,
    test: bool,
}

impl Source {
    /// A file with this path and text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let test = is_test_file(path);
        let production = if test { String::new() } else { without_tests(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, production, test }
    }

    /// Name of the module directly below the crate: `proxy` for `proxy.rs` and `proxy/http1.rs`.
    pub(crate) fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or(&self.path);
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// How many modules deep the file is: 1 for `proxy.rs`, 2 for `proxy/http1.rs`.
    pub(crate) fn depth(&self) -> usize {
        self.path.split('/').count()
    }

    /// Whether it holds nothing but tests.
    pub(crate) fn is_test(&self) -> bool {
        self.test
    }

    /// Files of the modules that it declares under `#[cfg(test)]`.
    fn test_files(&self) -> Vec<String> {
        let folder = match self.path.strip_suffix(".rs") {
            Some("lib" | "main") | None => String::new(),
            Some(folder) => format!("{folder}/"),
        };
        let declared = self.code.split("#[cfg(test)]").skip(1).filter_map(|rest| {
            let rest = rest.trim_start();
            let rest =
                rest.strip_prefix("pub(crate) ").or_else(|| rest.strip_prefix("pub(super) ")).unwrap_or(rest);
            let (name, _) = rest.strip_prefix("mod ")?.split_once(';')?;
            Some(format!("{folder}{name}.rs"))
        });
        declared.filter(|path| !path.contains(char::is_whitespace)).collect()
    }

    /// `src/path:line` of a byte offset.
    pub(crate) fn at(&self, offset: usize) -> String {
        let line = self.code.get(..offset).map_or(0, |before| before.matches('\n').count()) + 1;
        format!("src/{}:{line}", self.path)
    }
}

fn is_test_file(path: &str) -> bool {
    path == "tests.rs" || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The folder of `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// Every Rust file below `src/`, in order of path.
pub(crate) fn sources() -> Vec<Source> {
    let folder = root().join("src");
    let mut found: Vec<Source> = files(&folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file is UTF-8");
            Source::new(&below(&folder, &path), &text)
        })
        .collect();
    let tests: Vec<String> = found.iter().flat_map(Source::test_files).collect();
    for source in found.iter_mut().filter(|source| tests.contains(&source.path)) {
        source.test = true;
        source.production.clear();
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 20, "the sources were not found");
    found
}

/// `path` relative to `folder`, with `/`.
pub(crate) fn below(folder: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(folder).expect("the file lies below the folder");
    relative.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// All files below a folder, hidden ones and build output excepted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project can be read") {
            let path = entry.expect("an entry can be read").path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() {
                let skipped = ["target", "__pycache__", "node_modules"].contains(&name.as_str());
                if !skipped && (!name.starts_with('.') || name == ".ci") {
                    open.push(path);
                }
            } else if !name.starts_with('.') {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Blanks comments and what stands inside string and character literals.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes.get(i + 1) == Some(&b'/') => line_end(bytes, i),
            b'/' if bytes.get(i + 1) == Some(&b'*') => comment_end(bytes, i),
            b'"' => string_end(bytes, i),
            b'r' | b'b' if !after_word(bytes, i) => match raw_string_end(bytes, i) {
                Some(end) => end,
                None => {
                    i += 1;
                    continue;
                }
            },
            b'\'' => match char_end(bytes, i) {
                Some(end) => end,
                None => {
                    i += 1;
                    continue;
                }
            },
            _ => {
                i += 1;
                continue;
            }
        };
        let quoted = !matches!(bytes[i], b'/');
        for (at, byte) in out.iter_mut().enumerate().take(end).skip(i) {
            if *byte != b'\n' && !(quoted && (at == i || at + 1 == end)) {
                *byte = b' ';
            }
        }
        i = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn after_word(bytes: &[u8], i: usize) -> bool {
    i > 0 && (bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_')
}

fn line_end(bytes: &[u8], i: usize) -> usize {
    bytes[i..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |n| i + n)
}

fn comment_end(bytes: &[u8], mut i: usize) -> usize {
    let mut depth = 0_usize;
    while i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if bytes[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    bytes.len()
}

/// `i` stands on the opening quote.
fn string_end(bytes: &[u8], i: usize) -> usize {
    let mut at = i + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`, `b"…"`; `None` when `i` opens no literal.
fn raw_string_end(bytes: &[u8], i: usize) -> Option<usize> {
    let mut at = i;
    if bytes[at] == b'b' {
        at += 1;
        if bytes.get(at) == Some(&b'"') {
            return Some(string_end(bytes, at));
        }
    }
    if bytes.get(at) != Some(&b'r') {
        return None;
    }
    at += 1;
    let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
    at += hashes;
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    at += 1;
    while at < bytes.len() {
        if bytes[at] == b'"' && bytes[at + 1..].iter().take(hashes).filter(|b| **b == b'#').count() == hashes
        {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(bytes.len())
}

/// End of a character literal; `None` for a lifetime.
fn char_end(bytes: &[u8], i: usize) -> Option<usize> {
    if bytes.get(i + 1) == Some(&b'\\') {
        let close = bytes.get(i + 3..)?.iter().position(|byte| *byte == b'\'')?;
        return Some(i + 3 + close + 1);
    }
    // One character of up to four bytes, then the closing quote.
    (i + 2..=i + 5)
        .find(|at| bytes.get(*at) == Some(&b'\''))
        .filter(|at| {
            bytes
                .get(i + 1..*at)
                .and_then(|inner| std::str::from_utf8(inner).ok())
                .is_some_and(|s| s.chars().count() == 1)
        })
        .map(|at| at + 1)
}

/// Blanks every item that follows `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(test)]") {
        let start = from + found;
        let body = code[start..].find(['{', ';']).map_or(code.len(), |n| start + n);
        let end = if code.as_bytes().get(body) == Some(&b'{') { block_end(code, body) } else { body + 1 };
        let end = end.min(code.len());
        for byte in &mut out[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Offset after the brace that closes the one at `open`.
fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

#[test]
fn comments_literals_and_tests_are_blanked() {
    let text = "fn a<'x>(y: &'x str) { b(\"tokio \\\" {\", '{', r#\"hyper \" \"#); } // rustls\n/* /* kube */ */\n#[cfg(test)]\nmod tests { use super::*; fn c() {} }\nfn d() {}\n";
    let source = Source::new("x.rs", text);
    for word in ["tokio", "hyper", "rustls", "kube"] {
        assert!(!source.code.contains(word), "{word} in {}", source.code);
    }
    assert_eq!(source.code.len(), text.len());
    assert!(source.code.contains("fn a<'x>(y: &'x str)"));
    assert!(source.code.contains("use super::*"));
    assert!(!source.production.contains("use super"));
    assert!(source.production.contains("fn d()"));
}

#[test]
fn a_module_declared_for_tests_is_found() {
    let text = "#[cfg(test)]\npub(crate) mod sample;\n#[cfg(test)]\nmod inner { mod x; }\nmod real;\n";
    assert_eq!(Source::new("policy/annotation.rs", text).test_files(), ["policy/annotation/sample.rs"]);
    assert_eq!(Source::new("lib.rs", "#[cfg(test)]\nmod a;").test_files(), ["a.rs"]);
}

#[test]
fn a_file_named_tests_has_no_production_code() {
    assert!(Source::new("wire/tests.rs", "fn a() {}").production.is_empty());
    assert!(Source::new("wire/tests/chunked.rs", "fn a() {}").is_test());
    assert!(!Source::new("wire/testsuite.rs", "fn a() {}").is_test());
}
