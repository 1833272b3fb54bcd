//! The one normal form of a request path (`routing.md` 4.1, `C-6`): percent-decoding once, merged slashes, resolved
//! dot segments. Called once per request when the view is built; every decision looks at its result.

use std::borrow::Cow;

/// A normalised path: starts with `/`, holds no `//`, no `.` or `..` segment; decoded bytes, not text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormPath<'r>(Cow<'r, [u8]>);

/// Why a target has no normal form; each is a 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Does not start with `/`.
    #[error("the path does not start with a slash")]
    NoSlash,
    /// `..` would leave the root.
    #[error("the path climbs above the root")]
    AboveRoot,
    /// `%` without two hex digits.
    #[error("the path holds a broken percent triple")]
    Percent,
    /// `%00`, a raw control byte, space, backslash or `#`, or raw bytes that are no UTF-8 (`H1-13`).
    #[error("the path holds a byte that is not allowed")]
    Byte,
}

impl NormPath<'_> {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A path that a rewrite made, already decoded. It is resolved as one of a request is, so that no rewrite can climb
    /// or hide.
    ///
    /// # Errors
    /// [`BadTarget`] when it does not start with a slash, climbs above the root or holds a NUL.
    pub fn rewritten(path: &[u8]) -> Result<NormPath<'static>, BadTarget> {
        if path.first() != Some(&b'/') {
            return Err(BadTarget::NoSlash);
        }
        if path.contains(&0) {
            return Err(BadTarget::Byte);
        }
        resolve(path).map(|path| NormPath(Cow::Owned(path)))
    }

    /// The same path without a borrow of the request.
    pub fn into_owned(self) -> NormPath<'static> {
        NormPath(Cow::Owned(self.0.into_owned()))
    }
}

/// Raw path and raw query of an origin-form target; the query is `None` when there is no `?`.
pub fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', target) {
        Some(at) => (target.get(..at).unwrap_or(target), target.get(at + 1..)),
        None => (target, None),
    }
}

/// Normalises the path of an origin-form target. Borrows when nothing changes.
///
/// The query is looked at for forbidden bytes only.
///
/// # Errors
/// [`BadTarget`] when the target has no normal form.
pub fn normalize(target: &[u8]) -> Result<NormPath<'_>, BadTarget> {
    let (path, query) = split_target(target);
    normalize_parts(path, query)
}

/// [`normalize`] for a target that is split already.
///
/// # Errors
/// As [`normalize`].
pub fn normalize_parts<'r>(path: &'r [u8], query: Option<&[u8]>) -> Result<NormPath<'r>, BadTarget> {
    if path.first() != Some(&b'/') {
        return Err(BadTarget::NoSlash);
    }
    let forbidden = |byte: &u8| *byte <= 0x20 || matches!(*byte, 0x7f | b'#');
    if query.is_some_and(|query| query.iter().any(forbidden)) {
        return Err(BadTarget::Byte);
    }
    if is_normal(path) {
        return Ok(NormPath(Cow::Borrowed(path)));
    }
    let mut plain = true;
    let mut ascii = true;
    let mut previous = 0;
    for byte in path {
        if forbidden(byte) || *byte == b'\\' {
            return Err(BadTarget::Byte);
        }
        plain &= *byte != b'%' && !(previous == b'/' && matches!(*byte, b'/' | b'.'));
        ascii &= byte.is_ascii();
        previous = *byte;
    }
    if !ascii && std::str::from_utf8(path).is_err() {
        return Err(BadTarget::Byte);
    }
    if plain {
        Ok(NormPath(Cow::Borrowed(path)))
    } else {
        resolve(&decode(path)?).map(|p| NormPath(Cow::Owned(p)))
    }
}

/// An ordinary byte of a path.
const ORDINARY: u8 = 1;
/// A dot or a slash.
const SEGMENT: u8 = 2;
const SLASH: u8 = 4;

const KINDS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = b'!';
    while byte < 0x7f {
        table[byte as usize] = match byte {
            b'#' | b'%' | b'\\' => 0,
            b'.' => SEGMENT,
            b'/' => SEGMENT | SLASH,
            _ => ORDINARY,
        };
        byte += 1;
    }
    table
};

/// True for a path that stands in its normal form, as most do; false says nothing.
fn is_normal(path: &[u8]) -> bool {
    let mut previous = 0;
    path.iter().all(|byte| {
        let kind = KINDS[usize::from(*byte)];
        // Nothing but an ordinary byte after a slash.
        let fits = kind != 0 && (previous & SLASH == 0 || kind == ORDINARY);
        previous = kind;
        fits
    })
}

/// A path as text: escapes are decoded once and nothing else changes; one that cannot be decoded stays as it is.
pub fn decoded(path: &[u8]) -> Cow<'_, [u8]> {
    decode(path).unwrap_or(Cow::Borrowed(path))
}

fn decode(path: &[u8]) -> Result<Cow<'_, [u8]>, BadTarget> {
    if memchr::memchr(b'%', path).is_none() {
        return Ok(Cow::Borrowed(path));
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(*byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(BadTarget::Percent) };
        match u8::try_from(high * 16 + low) {
            Ok(0) | Err(_) => return Err(BadTarget::Byte),
            Ok(byte) => out.push(byte),
        }
    }
    Ok(Cow::Owned(out))
}

/// Merges slashes and resolves dot segments of a decoded path that starts with a slash.
fn resolve(path: &[u8]) -> Result<Vec<u8>, BadTarget> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    out.push(b'/');
    // `out` ends in a slash whenever a segment is about to be added.
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"" | b"." => {}
            b".." => {
                if out.len() == 1 {
                    return Err(BadTarget::AboveRoot);
                }
                out.pop();
                let parent = memchr::memrchr(b'/', &out).map_or(0, |at| at + 1);
                out.truncate(parent);
            }
            name => {
                out.extend_from_slice(name);
                if segments.peek().is_some() {
                    out.push(b'/');
                }
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
