//! The rewrite directives: conditions of `if`, `return`, `rewrite`, `error_page`. `build` asks here.

use http::StatusCode;

use super::build::{Builder, first, pattern, second, status};
use super::lex::{Fault, Statement, Word};
use super::script::{Condition, Return, Rewrite, Then};
use super::settings::{ErrorPage, PageStatus};
use crate::pattern::Case;

/// What a test for a file gives: there are none.
fn files(test: &str) -> Option<bool> {
    match test {
        "-f" | "-d" | "-e" | "-x" => Some(false),
        "!-f" | "!-d" | "!-e" | "!-x" => Some(true),
        _ => None,
    }
}

impl Builder<'_> {
    /// What stands between the parentheses; they may stand alone or cling to a word.
    pub(super) fn condition(&self, statement: &Statement) -> Result<Condition, Fault> {
        let wrong = || Fault::new(statement.at, "the condition of if is not understood");
        let mut words: Vec<Word> = statement.arguments().to_vec();
        let opening = words.first_mut().filter(|word| !word.quoted).ok_or_else(wrong)?;
        opening.text = opening.text.strip_prefix('(').ok_or_else(wrong)?.to_owned();
        opening.at.column += 1;
        let closing = words.last_mut().ok_or_else(wrong)?;
        closing.text = closing.text.strip_suffix(')').ok_or_else(wrong)?.to_owned();
        words.retain(|word| word.quoted || !word.text.is_empty());
        if let [test, _] = words.as_slice()
            && let Some(there) = files(&test.text)
        {
            return Ok(Condition::Fixed(there));
        }
        let (subject, rest) = words.split_first().ok_or_else(wrong)?;
        let value = self.template(subject)?;
        if !subject.text.starts_with('$') || value.variables().count() != 1 {
            return Err(Fault::new(subject.at, "a condition begins with a variable"));
        }
        let (operator, operand) = match rest {
            [] => return Ok(Condition::Set(value)),
            [operator, operand] => (operator, operand),
            _ => return Err(wrong()),
        };
        let pattern = |case| pattern(operand, case);
        Ok(match operator.text.as_str() {
            "=" => Condition::Equal(value, self.template(operand)?, true),
            "!=" => Condition::Equal(value, self.template(operand)?, false),
            "~" => Condition::Match(value, pattern(Case::Sensitive)?, true),
            "~*" => Condition::Match(value, pattern(Case::Insensitive)?, true),
            "!~" => Condition::Match(value, pattern(Case::Sensitive)?, false),
            "!~*" => Condition::Match(value, pattern(Case::Insensitive)?, false),
            other => return Err(Fault::new(operator.at, format!("{other} is no comparison known here"))),
        })
    }

    pub(super) fn answer(&self, statement: &Statement) -> Result<Return, Fault> {
        let first = first(statement)?;
        if let Some(text) = statement.arguments().get(1) {
            let text = Some(self.template(text)?);
            return Ok(Return { status: status(first, 200..=599)?, text });
        }
        let url = ["http://", "https://", "$scheme"].iter().any(|start| first.text.starts_with(start));
        if url {
            return Ok(Return { status: StatusCode::FOUND, text: Some(self.template(first)?) });
        }
        Ok(Return { status: status(first, 200..=599)?, text: None })
    }

    /// `error_page status… [=[status]] target`.
    pub(super) fn error_page(&self, statement: &Statement) -> Result<ErrorPage, Fault> {
        let wrong = || Fault::new(statement.at, "error_page has the wrong number of arguments");
        let (target, mut codes) = statement.arguments().split_last().ok_or_else(wrong)?;
        let mut answer = PageStatus::Errors;
        if let Some((word, rest)) = codes.split_last()
            && let Some(code) = word.text.strip_prefix('=')
        {
            let told = Word { text: code.to_owned(), ..word.clone() };
            answer =
                if code.is_empty() { PageStatus::Own } else { PageStatus::Fixed(status(&told, 200..=599)?) };
            codes = rest;
        }
        if codes.is_empty() {
            return Err(wrong());
        }
        let starts = |start: &str| target.text.starts_with(start);
        if !["/", "@", "$", "http://", "https://"].into_iter().any(starts) {
            return Err(Fault::new(target.at, "a URL, a path or the name of a location may stand here"));
        }
        let statuses = codes.iter().map(|word| status(word, 300..=599)).collect::<Result<_, _>>()?;
        Ok(ErrorPage { statuses, answer, target: self.template(target)? })
    }

    pub(super) fn rewrite(&self, statement: &Statement) -> Result<Rewrite, Fault> {
        let (expression, target) = (first(statement)?, second(statement)?);
        let url = ["http://", "https://", "$scheme"].iter().any(|start| target.text.starts_with(start));
        let then = match statement.arguments().get(2).map(|flag| flag.text.as_str()) {
            Some("permanent") => Then::Redirect(StatusCode::MOVED_PERMANENTLY),
            Some("redirect") => Then::Redirect(StatusCode::FOUND),
            Some("last" | "break") | None if url => Then::Redirect(StatusCode::FOUND),
            Some("last") => Then::Last,
            Some("break") => Then::Break,
            None => Then::Next,
            Some(other) => {
                let reason = format!("{other} is no flag: last, break, redirect and permanent are");
                return Err(Fault::new(statement.at, reason));
            }
        };
        let (text, keep_query) = match target.text.strip_suffix('?') {
            Some(text) => (text, false),
            None => (target.text.as_str(), true),
        };
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        let part = |text: &str| self.template(&Word { text: text.to_owned(), quoted: true, at: target.at });
        Ok(Rewrite {
            pattern: pattern(expression, Case::Sensitive)?,
            path: part(path)?,
            query: query.map(part).transpose()?,
            keep_query,
            then,
        })
    }
}
