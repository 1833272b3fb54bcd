//! `use-gzip`, `gzip-*`, `enable-brotli`, `brotli-*`, `enable-zstd`, `zstd-*` of the ConfigMap: which answers are compressed, and how. The
//! conditions are those of nginx's gzip module as ingress-nginx sets it up (`gzip_proxied any`, `gzip_vary on`,
//! `gzip_http_version 1.1`). Compressing is `proxy::compress`'s.

use std::sync::Arc;

use http::StatusCode;

use crate::pattern::{Anchor, Case, Pattern};
use crate::wire::{Fields, Version};

/// Types that ingress-nginx compresses.
const TYPES: [&str; 17] = [
    "application/atom+xml",
    "application/javascript",
    "application/x-javascript",
    "application/json",
    "application/rss+xml",
    "application/vnd.ms-fontobject",
    "application/x-font-ttf",
    "application/x-web-app-manifest+json",
    "application/xhtml+xml",
    "application/xml",
    "font/opentype",
    "image/svg+xml",
    "image/x-icon",
    "text/css",
    "text/javascript",
    "text/plain",
    "text/x-component",
];

/// What the ConfigMap says.
#[derive(Debug, Clone, PartialEq)]
pub struct Compression {
    /// `use-gzip`.
    pub gzip_on: bool,
    /// `gzip-level`, `gzip-min-length`, `gzip-types`.
    pub gzip: Coder,
    /// `gzip-disable`.
    pub gzip_disable: Option<Disable>,
    /// `Vary: Accept-Encoding` on what gzip may compress; only snippets switch it off.
    pub gzip_vary: bool,
    /// Requests that come through a proxy (`Via`) count, too; only snippets say otherwise.
    pub gzip_proxied: bool,
    /// `enable-brotli`.
    pub brotli_on: bool,
    /// `brotli-level`, `brotli-min-length`, `brotli-types`.
    pub brotli: Coder,
    /// `enable-zstd`.
    pub zstd_on: bool,
    /// `zstd-level`, `zstd-min-length`, `zstd-types`.
    pub zstd: Coder,
}

/// Settings of one coding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coder {
    /// gzip: 1 to 9; Brotli: 0 to 11; Zstandard: 1 to 9.
    pub level: u32,
    /// Bytes below which an answer of known length stays as it is.
    pub min_length: u64,
    /// Media types in lower case; `*` for all. `text/html` always counts.
    pub types: Arc<[Box<str>]>,
}

/// Clients that get nothing compressed by gzip.
#[derive(Debug, Clone, PartialEq)]
pub enum Disable {
    /// Internet Explorer 4 to 6, but 6 with service pack 2.
    OldExplorer,
    /// An expression over `User-Agent`.
    Agent(Arc<Pattern>),
}

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952, of this level.
    Gzip(u32),
    /// RFC 7932, of this level.
    Brotli(u32),
    /// RFC 8878, of this level.
    Zstd(u32),
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choice {
    /// The answer depends on `Accept-Encoding`.
    pub vary: bool,
    /// How it is compressed, if it is.
    pub coding: Option<Coding>,
}

/// What of a request and its answer decides.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// Version of the request.
    pub version: Version,
    /// Fields of the request.
    pub asked: &'a Fields,
    /// Status of the answer.
    pub status: StatusCode,
    /// Fields of the answer.
    pub fields: &'a Fields,
    /// Length of the body, or the one that an answer to HEAD tells, where known.
    pub length: Option<u64>,
}

impl Default for Compression {
    fn default() -> Self {
        let types: Arc<[Box<str>]> = TYPES.into_iter().map(Into::into).collect();
        Self {
            gzip_on: false,
            gzip: Coder { level: 1, min_length: 256, types: Arc::clone(&types) },
            gzip_disable: None,
            gzip_vary: true,
            gzip_proxied: true,
            zstd_on: false,
            zstd: Coder { level: 3, min_length: 256, types: Arc::clone(&types) },
            brotli_on: false,
            brotli: Coder {
                level: 4,
                min_length: 20,
                types: types.iter().cloned().chain(["application/xml+rss".into()]).collect(),
            },
        }
    }
}

impl Compression {
    /// True when some answers are compressed.
    pub const fn is_on(&self) -> bool {
        self.gzip_on || self.brotli_on || self.zstd_on
    }

    /// Decides about an answer. Where the client takes several, Zstandard is preferred, then Brotli.
    pub fn choose(&self, answer: &Answered<'_>) -> Choice {
        let mut choice = Choice::default();
        let plain = matches!(answer.status.as_u16(), 200 | 403 | 404)
            && answer.fields.get("content-encoding").is_none_or(<[u8]>::is_empty);
        if !self.is_on() || !plain {
            return choice;
        }
        if self.zstd_on && self.zstd.takes(answer) {
            choice.vary = true;
            if accepts(answer.asked, "zstd") {
                choice.coding = Some(Coding::Zstd(self.zstd.level));
                return choice;
            }
        }
        if self.brotli_on && self.brotli.takes(answer) {
            choice.vary = true;
            if accepts(answer.asked, "br") {
                choice.coding = Some(Coding::Brotli(self.brotli.level));
                return choice;
            }
        }
        if self.gzip_on && self.gzip.takes(answer) {
            choice.vary |= self.gzip_vary;
            let modern = !matches!(answer.version, Version::Http10);
            let direct = self.gzip_proxied || !answer.asked.contains("via");
            if modern && direct && accepts(answer.asked, "gzip") && !self.is_disabled(answer.asked) {
                choice.coding = Some(Coding::Gzip(self.gzip.level));
            }
        }
        choice
    }

    fn is_disabled(&self, asked: &Fields) -> bool {
        let agent = asked.get("user-agent").unwrap_or_default();
        match &self.gzip_disable {
            None => false,
            Some(Disable::OldExplorer) => is_old_explorer(agent),
            // A search over its limit sends the answer as it is.
            Some(Disable::Agent(pattern)) => pattern.is_match(agent).unwrap_or(true),
        }
    }
}

impl Coder {
    fn takes(&self, answer: &Answered<'_>) -> bool {
        let kind = answer.fields.get_str("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let listed = !kind.is_empty()
            && (kind.eq_ignore_ascii_case("text/html")
                || self.types.iter().any(|one| &**one == "*" || one.eq_ignore_ascii_case(kind)));
        listed && answer.length.is_none_or(|length| length >= self.min_length)
    }
}

impl Coding {
    /// Value of `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip(_) => "gzip",
            Self::Brotli(_) => "br",
            Self::Zstd(_) => "zstd",
        }
    }

    /// Makes the head that of a compressed answer: the length goes, an entity tag becomes a weak one.
    pub fn mark(self, fields: &mut Fields) {
        let _sound = fields.set("Content-Encoding", self.name().as_bytes());
        fields.remove("content-length");
        fields.remove("accept-ranges");
        let weak = match fields.get("etag") {
            Some(tag) if tag.starts_with(b"\"") => [b"W/", tag].concat(),
            Some(tag) if tag.starts_with(b"W/") => return,
            Some(_) => {
                fields.remove("etag");
                return;
            }
            None => return,
        };
        let _sound = fields.set("ETag", &weak);
    }
}

/// True when the client takes a coding by name with a weight above zero; `*` does not count, as in nginx.
fn accepts(asked: &Fields, coding: &str) -> bool {
    let mut items = asked
        .get_all("accept-encoding")
        .filter_map(|line| std::str::from_utf8(line).ok())
        .flat_map(|line| line.split(','));
    items.any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
        named && parts.all(|part| weight(part).is_none_or(|weight| weight > 0.0))
    })
}

/// `q=…`; one that cannot be read is zero.
fn weight(part: &str) -> Option<f32> {
    let (name, value) = part.split_once('=')?;
    name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().unwrap_or(0.0))
}

/// nginx's `msie6`: Internet Explorer 4, 5 and 6, but 6 with `SV1`, and no Opera.
fn is_old_explorer(agent: &[u8]) -> bool {
    let find = |text: &[u8]| agent.windows(text.len()).position(|part| part == text);
    let Some(rest) = find(b"MSIE ").and_then(|at| agent.get(at + 5..)) else { return false };
    let old = match rest {
        [b'4' | b'5', b'.', ..] => true,
        [b'6', b'.', ..] => find(b"SV1").is_none(),
        _ => false,
    };
    old && find(b"Opera").is_none()
}

/// Media types, separated by white space.
pub(super) fn types(text: &str) -> Result<Arc<[Box<str>]>, String> {
    let one = |word: &str| {
        let sound = word == "*" || (word.contains('/') && word.bytes().all(|byte| byte.is_ascii_graphic()));
        if sound { Ok(word.to_ascii_lowercase().into()) } else { Err(format!("{word:?} is no media type")) }
    };
    text.split_ascii_whitespace().map(one).collect()
}

/// `msie6`, or an expression.
pub(super) fn disable(text: &str) -> Result<Option<Disable>, String> {
    if text == "msie6" {
        return Ok(Some(Disable::OldExplorer));
    }
    let pattern =
        Pattern::compile(text, Case::Insensitive, Anchor::None).map_err(|error| error.to_string())?;
    Ok(Some(Disable::Agent(Arc::new(pattern))))
}

/// A level within bounds.
pub(super) fn level(text: &str, lowest: u32, highest: u32) -> Result<u32, String> {
    let level = text.parse().ok().filter(|level| (lowest..=highest).contains(level));
    level.ok_or_else(|| format!("must lie between {lowest} and {highest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::fields;

    fn choose(asked: &[(&str, &str)], answer: &[(&str, &str)], length: Option<u64>) -> Choice {
        let compression = Compression {
            gzip_on: true,
            brotli_on: true,
            gzip_disable: disable("msie6").unwrap(),
            ..Compression::default()
        };
        compression.choose(&Answered {
            version: Version::Http11,
            asked: &fields(asked),
            status: StatusCode::OK,
            fields: &fields(answer),
            length,
        })
    }

    const CSS: [(&str, &str); 1] = [("Content-Type", "text/CSS; charset=utf-8")];

    fn coding(accept: &str) -> Option<Coding> {
        choose(&[("Accept-Encoding", accept)], &CSS, None).coding
    }

    #[test]
    fn zstandard_goes_first_where_it_is_on_and_taken() {
        let compression =
            Compression { zstd_on: true, brotli_on: true, gzip_on: true, ..Compression::default() };
        let fields_of = |asked| fields(&[("Accept-Encoding", asked)]);
        let answer = fields(&[("Content-Type", "text/html")]);
        for (asked, expect) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd(3))),
            ("gzip, br, zstd;q=0", Some(Coding::Brotli(4))),
            ("gzip", Some(Coding::Gzip(1))),
            ("identity", None),
        ] {
            let asked = fields_of(asked);
            let choice = compression.choose(&Answered {
                version: Version::Http11,
                asked: &asked,
                status: StatusCode::OK,
                fields: &answer,
                length: Some(1000),
            });
            assert_eq!((choice.coding, choice.vary), (expect, true));
        }
    }

    #[test]
    fn the_client_s_word_decides_and_brotli_comes_first() {
        assert_eq!(coding("gzip, deflate, br"), Some(Coding::Brotli(4)));
        assert_eq!(coding("GZIP;q=0.5"), Some(Coding::Gzip(1)));
        assert_eq!(coding("br;q=0, gzip"), Some(Coding::Gzip(1)));
        for none in ["", "*", "gzip;q=0", "gzip; q=0.000", "gzip;q=x", "deflate", "xgzip", "gzipx"] {
            assert_eq!(coding(none), None, "{none}");
        }
    }

    #[test]
    fn types_lengths_and_codings_of_the_backend_decide_too() {
        let any = [("Accept-Encoding", "gzip")];
        let check = |answer: &[(&str, &str)], length, expect| {
            let choice = choose(&any, answer, length);
            assert_eq!((choice.vary, choice.coding.is_some()), expect, "{answer:?} {length:?}");
        };
        check(&CSS, None, (true, true));
        check(&CSS, Some(256), (true, true));
        check(&CSS, Some(255), (true, false));
        check(&CSS, Some(19), (false, false));
        check(&[("Content-Type", "text/html")], None, (true, true));
        check(&[("Content-Type", "image/png")], None, (false, false));
        check(&[], None, (false, false));
        check(&[CSS[0], ("Content-Encoding", "br")], None, (false, false));
    }

    #[test]
    fn statuses_and_versions_that_nginx_leaves_alone_are_left_alone() {
        let compression = Compression { gzip_on: true, ..Compression::default() };
        let check = |version, status, expect| {
            let (asked, fields) = (fields(&[("Accept-Encoding", "gzip")]), fields(&CSS));
            let status = StatusCode::from_u16(status).unwrap();
            let choice = compression.choose(&Answered {
                version,
                asked: &asked,
                status,
                fields: &fields,
                length: None,
            });
            assert_eq!((choice.vary, choice.coding.is_some()), expect, "{status}");
        };
        check(Version::Http2, 404, (true, true));
        check(Version::Http11, 206, (false, false));
        check(Version::Http10, 200, (true, false));
    }

    #[test]
    fn old_explorers_are_known_as_nginx_knows_them() {
        for (agent, old) in [
            ("Mozilla/4.0 (compatible; MSIE 6.0; Windows 98)", true),
            ("Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; SV1)", false),
            ("Mozilla/4.0 (compatible; MSIE 5.5)", true),
            ("Mozilla/5.0 (compatible; MSIE 10.0)", false),
            ("Opera MSIE 6.0", false),
            ("", false),
        ] {
            assert_eq!(is_old_explorer(agent.as_bytes()), old, "{agent}");
        }
    }

    #[test]
    fn a_compressed_head_has_no_length_and_a_weak_tag() {
        let mark = |tag: &str| {
            let mut answer = fields(&[("ETag", tag), ("Content-Length", "9"), ("Accept-Ranges", "bytes")]);
            Coding::Gzip(1).mark(&mut answer);
            answer
                .iter()
                .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
                .collect::<Vec<_>>()
        };
        assert_eq!(mark("\"a\"").join(", "), "ETag: W/\"a\", Content-Encoding: gzip");
        assert_eq!(mark("W/\"a\"").join(", "), "ETag: W/\"a\", Content-Encoding: gzip");
        assert_eq!(mark("a").join(", "), "Content-Encoding: gzip");
    }
}
