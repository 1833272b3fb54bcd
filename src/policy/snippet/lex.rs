//! Text of nginx's configuration to a tree of statements: words, quotes, escapes, comments, blocks, each with its line
//! and column. The rules are those of nginx's own reader; what a statement means is `build`'s.
//!
//! One rule is kinder: the last statement of a snippet may lack its semicolon, since in the old template the next
//! directive of the location supplied one.

use std::fmt;

use super::unknown;

/// Bytes of one snippet of an annotation (`B-17`).
pub(super) const MAX_TEXT: usize = 16 * 1024;
/// Blocks inside blocks (`B-17`).
const MAX_DEPTH: usize = 4;

/// Where something stands; both count from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    /// Line.
    pub(super) line: u32,
    /// Column, in characters.
    pub(super) column: u32,
}

/// What is wrong with a snippet, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {reason}")]
pub(super) struct Fault {
    /// Where.
    pub(super) at: At,
    /// Why.
    pub(super) reason: String,
}

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Text without quotes, escapes resolved.
    pub(super) text: String,
    /// It stood in quotes.
    pub(super) quoted: bool,
    /// Its first character.
    pub(super) at: At,
}

/// One directive with its arguments, and its block if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// Name of the directive, then arguments; never empty.
    pub(super) words: Vec<Word>,
    /// Statements between braces.
    pub(super) block: Option<Vec<Self>>,
    /// Where it begins.
    pub(super) at: At,
}

impl Statement {
    /// Name of the directive.
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", |word| &word.text)
    }

    /// Its arguments.
    pub(super) fn arguments(&self) -> &[Word] {
        self.words.get(1..).unwrap_or_default()
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl Fault {
    pub(super) fn new(at: At, reason: impl Into<String>) -> Self {
        Self { at, reason: reason.into() }
    }
}

/// Reads a snippet.
///
/// # Errors
/// [`Fault`] where nginx's reader would stop.
pub(super) fn parse(text: &str, longest: usize) -> Result<Vec<Statement>, Fault> {
    let start = At { line: 1, column: 1 };
    if text.len() > longest {
        return Err(Fault::new(start, format!("the snippet is longer than {longest} bytes")));
    }
    let mut lexer = Lexer { rest: text.chars().peekable(), at: start };
    let mut open: Vec<(Statement, Vec<Statement>)> = Vec::new();
    let mut statements = Vec::new();
    let mut words: Vec<Word> = Vec::new();
    while let Some(token) = lexer.token()? {
        let at = token.at();
        match token {
            Token::Word(word) => words.push(word),
            Token::Semicolon(_) if words.is_empty() => return Err(unexpected(at, ';')),
            Token::Semicolon(_) => statements.push(statement(std::mem::take(&mut words))),
            Token::Open(_) if words.is_empty() => return Err(unexpected(at, '{')),
            // What stands in such a block is another language: it is not read, only told of.
            Token::Open(_) if words.first().is_some_and(|word| word.text.contains("_by_lua")) => {
                return Err(Fault::new(at, unknown::told(words.first().map_or("", |word| &word.text))));
            }
            Token::Open(_) if open.len() == MAX_DEPTH => {
                return Err(Fault::new(at, format!("more than {MAX_DEPTH} blocks inside each other")));
            }
            Token::Open(_) => {
                open.push((statement(std::mem::take(&mut words)), std::mem::take(&mut statements)));
            }
            Token::Close(_) if !words.is_empty() => return Err(unexpected(at, '}')),
            Token::Close(_) => {
                let (mut outer, before) = open.pop().ok_or_else(|| unexpected(at, '}'))?;
                outer.block = Some(std::mem::replace(&mut statements, before));
                statements.push(outer);
            }
        }
    }
    if let Some((unclosed, _)) = open.pop() {
        return Err(Fault::new(unclosed.at, format!("the block of {} is not closed", unclosed.name())));
    }
    if !words.is_empty() {
        statements.push(statement(words));
    }
    Ok(statements)
}

fn statement(words: Vec<Word>) -> Statement {
    let at = words.first().map_or_else(At::default, |word| word.at);
    Statement { words, block: None, at }
}

fn unexpected(at: At, what: char) -> Fault {
    Fault::new(at, format!("unexpected {what:?}"))
}

enum Token {
    Word(Word),
    Semicolon(At),
    Open(At),
    Close(At),
}

impl Token {
    fn at(&self) -> At {
        match self {
            Self::Word(word) => word.at,
            Self::Semicolon(at) | Self::Open(at) | Self::Close(at) => *at,
        }
    }
}

struct Lexer<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    at: At,
}

// === impl Lexer ===

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.rest.next()?;
        if letter == '\n' {
            self.at = At { line: self.at.line.saturating_add(1), column: 1 };
        } else {
            self.at.column = self.at.column.saturating_add(1);
        }
        Some(letter)
    }

    fn token(&mut self) -> Result<Option<Token>, Fault> {
        while let Some(first) = self.rest.peek().copied() {
            let at = self.at;
            match first {
                ' ' | '\t' | '\r' | '\n' => {
                    self.next();
                }
                '#' => while self.next().is_some_and(|letter| letter != '\n') {},
                ';' | '{' | '}' => {
                    self.next();
                    return Ok(Some(match first {
                        ';' => Token::Semicolon(at),
                        '{' => Token::Open(at),
                        _ => Token::Close(at),
                    }));
                }
                '"' | '\'' => return self.quoted(at).map(Some),
                _ => return self.bare(at).map(Some),
            }
        }
        Ok(None)
    }

    fn quoted(&mut self, at: At) -> Result<Token, Fault> {
        let quote = self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(Fault::new(at, "the quote is not closed")),
                Some('\\') => self.escaped(&mut text),
                letter if letter == quote => break,
                Some(letter) => text.push(letter),
            }
        }
        match self.rest.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | ';' | '{' | ')') => {
                Ok(Token::Word(Word { text, quoted: true, at }))
            }
            Some(letter) => Err(Fault::new(self.at, format!("unexpected {letter:?} after a quote"))),
        }
    }

    /// A word without quotes: `{` opens a block, but for the one of `${name}`.
    fn bare(&mut self, at: At) -> Result<Token, Fault> {
        let mut text = String::new();
        let mut dollar = false;
        while let Some(letter) = self.rest.peek().copied() {
            match letter {
                ' ' | '\t' | '\r' | '\n' | ';' => break,
                '{' if !dollar => break,
                '\\' => {
                    self.next();
                    self.escaped(&mut text);
                }
                letter => {
                    self.next();
                    text.push(letter);
                }
            }
            dollar = letter == '$';
        }
        Ok(Token::Word(Word { text, quoted: false, at }))
    }

    /// What follows a backslash. Others than those of nginx keep it: they are escapes of an expression.
    fn escaped(&mut self, text: &mut String) {
        match self.next() {
            Some(letter @ ('"' | '\'' | '\\')) => text.push(letter),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('n') => text.push('\n'),
            Some(letter) => {
                text.push('\\');
                text.push(letter);
            }
            None => text.push('\\'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(statements: &[Statement]) -> String {
        let mut out = String::new();
        for statement in statements {
            for word in &statement.words {
                out.push_str(&format!("<{}>", word.text));
            }
            match &statement.block {
                Some(block) => out.push_str(&format!("{{{}}}", shown(block))),
                None => out.push(';'),
            }
        }
        out
    }

    fn check(text: &str, expect: &str) {
        let found = parse(text, MAX_TEXT).map(|tree| shown(&tree)).unwrap_or_else(|fault| fault.to_string());
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn words_quotes_and_comments_are_read_as_nginx_reads_them() {
        check("", "");
        check("# nothing; here {\n", "");
        check("a b c;", "<a><b><c>;");
        check("add_header X \"a; b\" always;", "<add_header><X><a; b><always>;");
        check("a 'b \"c\"' \"d 'e'\";", "<a><b \"c\"><d 'e'>;");
        check(r#"a "b\"c" 'd\'e' \"f g\ h;"#, "<a><b\"c><d'e><\"f><g\\ h>;");
        check(r"a ^/x\.(js|css)$ \\1 \t;", "<a><^/x\\.(js|css)$><\\1><\t>;");
        check("a#b c; # d\ne;", "<a#b><c>;<e>;");
        check("a ${b}c $d{e;}", "<a><${b}c><$d>{<e>;}");
        check("if ($a = \"b c\") { return 1; }", "<if><($a><=><b c><)>{<return><1>;}");
    }

    #[test]
    fn the_last_statement_may_lack_its_semicolon() {
        check("a b;\nmore_set_headers \"C: d\"", "<a><b>;<more_set_headers><C: d>;");
    }

    #[test]
    fn faults_tell_line_and_column() {
        check("a;;", "line 1, column 3: unexpected ';'");
        check("a\n  }", "line 2, column 3: unexpected '}'");
        check("}", "line 1, column 1: unexpected '}'");
        check("{", "line 1, column 1: unexpected '{'");
        check("x {\n  a;\n", "line 1, column 1: the block of x is not closed");
        check("x { a }", "line 1, column 7: unexpected '}'");
        check("a 'b", "line 1, column 3: the quote is not closed");
        check("a \"b\"c;", "line 1, column 6: unexpected 'c' after a quote");
        check("a{b{c{d{e{}}}}}", "line 1, column 10: more than 4 blocks inside each other");
        check(&"a;".repeat(9000), "line 1, column 1: the snippet is longer than 16384 bytes");
    }
}
