//! `rewrite-target`, `use-regex`: the path a backend is asked for.

use super::annotation::{Reader, Risk, Scope, Spec};
use super::template::{self, Facts};
use crate::diagnostic::Severity;
use crate::pattern::{Captures, Pattern};
use crate::request::{NormPath, split_target};
use crate::variable::{Known, Variable};
use crate::wire::fields::is_field_value;

pub(in crate::policy) mod url;

const TARGET: Spec = Spec::new("rewrite-target", Scope::Location, Risk::Medium)
    .values("none", "/$2")
    .doc("The backend is asked for this path; `$1` to `$9` and `$name` are groups of the rule's path, which becomes an expression; other names are variables. Puts the whole host into regex mode.");
const USE_REGEX: Spec = Spec::new("use-regex", Scope::Location, Risk::Low).values("false", "true").doc(
    "Paths are expressions: case-insensitive, tied to the start only. Puts the whole host into regex mode.",
);

/// Annotations of this family.
pub const SPECS: &[Spec] = &[TARGET, USE_REGEX];

/// Bytes of a rewritten path above which the rewrite fails.
const MAX_OUTPUT: usize = 8 * 1024;

/// One piece of a substitution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text.
    Literal(Box<str>),
    /// `$1` to `$9`.
    Group(u8),
    /// `$name`: the group of that name, else the variable of nginx.
    Name(Box<str>, Option<Variable>),
}

/// Text with captures of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substitution {
    /// As written.
    pub text: Box<str>,
    /// Its pieces.
    pub pieces: Box<[Piece]>,
}

/// `rewrite-target`: replaces the whole path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The new path.
    pub target: Substitution,
}

/// Why a rewrite has no result; each is a 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// The result is empty (vector `rewrite-no-leading-slash`).
    #[error("the rewritten path is empty")]
    Empty,
    /// The result is over 8 KiB.
    #[error("the rewritten path is too long")]
    TooLong,
    /// The search for groups went over its limit.
    #[error("the path expression took too many steps")]
    StepLimit,
    /// The URL of a redirect holds bytes that no field may hold.
    #[error("the URL of the rewrite cannot be sent")]
    BadUrl,
}

impl RewriteError {
    /// For `LocalReply::RewriteFailed`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Empty => "the rewritten path is empty",
            Self::TooLong => "the rewritten path is too long",
            Self::StepLimit => "the path expression took too many steps",
            Self::BadUrl => "the URL of the rewrite cannot be sent",
        }
    }
}

/// What a rewrite comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The backend is asked for something else.
    Forward(Rewritten),
    /// The target is a URL: nginx sends the client there.
    Redirect(String),
}

/// A rewritten request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// Path and query for the backend, percent-encoded.
    pub target: Vec<u8>,
    /// Value of `X-Forwarded-Prefix`, where the location sets one.
    pub forwarded_prefix: Option<String>,
}

/// Reads `rewrite-target`; empty and absent are `None`.
pub fn read(reader: &mut Reader<'_>) -> Option<Rewrite> {
    let target = reader.read(&TARGET, Substitution::parse).ok()?;
    if target.pieces.iter().all(|piece| matches!(piece, Piece::Literal(_))) {
        let reason =
            "names no group of the path: backends are asked for this one path, whatever clients ask for";
        let hint = "for more than one page: a path such as /app(/|$)(.*), and /$2 here";
        reader.report(TARGET.name, Severity::Info, "RewriteWithoutGroup", reason, hint);
    }
    Some(Rewrite { target })
}

/// Reads `use-regex`.
pub fn read_use_regex(reader: &mut Reader<'_>) -> bool {
    reader.bool(&USE_REGEX).or(false)
}

/// Rewrites `path`: the whole of it becomes the target with groups of `pattern` filled in, encoded again
/// (`routing.md` 5.1). The query stays; an empty one loses its `?`. `None` when the pattern does not match.
///
/// A result that is not in origin-form (RFC 9112 section 3.2.1) and could mean something else (`@host`, `*`, `.host`, a
/// URL) gets the slash that it lacks; a mere word leaves as it is, as nginx sends it (vector `rewrite-no-leading-slash`).
/// A target that is written as a URL redirects, as nginx does; whether the client escaped anything
/// decides how groups stand in that URL.
///
/// # Errors
/// [`RewriteError`]; the request is answered 500.
pub fn apply(
    rewrite: &Rewrite,
    pattern: &Pattern,
    path: &NormPath<'_>,
    query: Option<&[u8]>,
    prefix: Option<&super::forwarded_prefix::ForwardedPrefix>,
    facts: &Facts<'_>,
) -> Result<Option<Outcome>, RewriteError> {
    let found = pattern.find(path.as_bytes()).map_err(|_| RewriteError::StepLimit)?;
    let Some(captures) = found else { return Ok(None) };
    let redirects = is_url(&rewrite.target.text);
    // As nginx: in a URL what the client had to encode is encoded again, if the client encoded anything.
    let (sent, _) = split_target(facts.view.target);
    let quoted = redirects && sent.iter().any(|byte| matches!(byte, b'%' | b'+'));
    let plain =
        rewrite.target.expand_with(&captures, facts, if quoted { url::quote } else { <[u8]>::to_vec });
    if plain.is_empty() {
        return Err(RewriteError::Empty);
    }
    let mut target = Vec::with_capacity(plain.len() + 16);
    if !redirects && !is_plain_path(&plain) {
        target.push(b'/');
    }
    if redirects {
        target.extend_from_slice(&url::unescape(&plain));
    } else {
        encode(&plain, &mut target);
    }
    if target.len() > MAX_OUTPUT {
        return Err(RewriteError::TooLong);
    }
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    if redirects {
        let url = String::from_utf8(target).ok().filter(|url| is_field_value(url.as_bytes()));
        return url.map(|url| Some(Outcome::Redirect(url))).ok_or(RewriteError::BadUrl);
    }
    let forwarded_prefix = prefix.map(|prefix| {
        let mut value = Vec::new();
        encode(&prefix.0.expand(&captures, facts), &mut value);
        String::from_utf8_lossy(&value).into_owned()
    });
    Ok(Some(Outcome::Forward(Rewritten { target, forwarded_prefix })))
}

/// True for a path, and for a word that can be nothing else than a path without its slash.
fn is_plain_path(plain: &[u8]) -> bool {
    let first = plain.first().copied().unwrap_or_default();
    first == b'/' || (first.is_ascii_alphanumeric() && !plain.iter().any(|byte| matches!(byte, b':' | b'@')))
}

/// True for a target that nginx takes for the URL of a redirect. What groups bring makes no URL of it, but a host:
/// without one of its own the client would choose where others are sent.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    !host.is_empty() && !host.contains('$')
}

/// Percent-encodes exactly what nginx encodes in a rewritten path and in the path of its own redirects.
pub(super) fn encode(plain: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in plain {
        match *byte {
            0..=0x20
            | 0x7f..=0xff
            | b'"'
            | b'#'
            | b'%'
            | b'<'
            | b'>'
            | b'?'
            | b'\\'
            | b'^'
            | b'`'
            | b'{'
            | b'|'
            | b'}' => {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
            }
            plain => out.push(plain),
        }
    }
}

impl Substitution {
    /// Parses text with `$1` to `$9` and `$name`.
    ///
    /// # Errors
    /// Says which character or `$` has no meaning.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:$".contains(&byte);
        if let Some(byte) = text.bytes().find(|byte| !allowed(*byte)) {
            return Err(format!(
                "{:?} may not stand in it; letters, digits and -._~/:$ may",
                char::from(byte)
            ));
        }
        let mut pieces = Vec::new();
        let mut parts = text.split('$');
        let push = |pieces: &mut Vec<Piece>, text: &str| {
            if !text.is_empty() {
                pieces.push(Piece::Literal(text.into()));
            }
        };
        push(&mut pieces, parts.next().unwrap_or_default());
        for part in parts {
            let first = part.bytes().next();
            let end = match first {
                Some(b'1'..=b'9') => 1,
                _ => part.bytes().position(|b| !b.is_ascii_alphanumeric() && b != b'_').unwrap_or(part.len()),
            };
            let (name, rest) = part.split_at(end);
            pieces.push(match (first, name) {
                (Some(digit @ b'1'..=b'9'), _) => Piece::Group(digit - b'0'),
                (None | Some(b'0'), _) | (_, "") => {
                    return Err("a $ is not followed by a group, such as $1 or $name".into());
                }
                (_, name) => {
                    let known = |variable: &Variable| variable.known() <= Known::Route;
                    Piece::Name(name.into(), Variable::parse(name).filter(known))
                }
            });
            push(&mut pieces, rest);
        }
        Ok(Self { text: text.into(), pieces: pieces.into() })
    }

    /// Names that are no group of `pattern` and no variable; they stay empty.
    pub fn unknown_names<'s>(&'s self, pattern: &'s Pattern) -> impl Iterator<Item = &'s str> {
        self.pieces.iter().filter_map(move |piece| match piece {
            Piece::Name(name, None) if !pattern.has_group(name) => Some(&**name),
            _ => None,
        })
    }

    /// The text with groups and variables filled in; missing ones are empty.
    pub fn expand(&self, captures: &Captures<'_>, facts: &Facts<'_>) -> Vec<u8> {
        self.expand_with(captures, facts, <[u8]>::to_vec)
    }

    /// As [`Substitution::expand`], each group written by `write`; variables stay as they are.
    fn expand_with(
        &self,
        captures: &Captures<'_>,
        facts: &Facts<'_>,
        write: fn(&[u8]) -> Vec<u8>,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len() + 64);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Group(number) => {
                    out.extend_from_slice(&write(captures.group(usize::from(*number)).unwrap_or_default()));
                }
                Piece::Name(name, variable) => match (captures.name(name), variable) {
                    (Some(group), _) => out.extend_from_slice(&write(group)),
                    (None, Some(variable)) => template::write(variable, facts, &mut out),
                    (None, None) => {}
                },
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
