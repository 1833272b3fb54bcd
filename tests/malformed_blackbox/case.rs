//! The corpora and the pinned deviations.

use std::io::Read;

use base64::Engine;
use serde::Deserialize;

/// Which corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Requests in HTTP/1.
    Http1,
    /// Byte streams of HTTP/2 clients.
    Http2,
    /// Answers of backends.
    Response,
}

#[derive(Deserialize)]
struct Corpus {
    cases: Vec<Case>,
}

/// One case; fields as the head of the corpus explains them.
#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) method: String,
    #[serde(default)]
    raw: Option<String>,
    #[serde(default)]
    raw_zlib_b64: Option<String>,
    pub(crate) expected: String,
    #[serde(default)]
    pub(crate) also_ok: Option<String>,
    #[serde(default)]
    pub(crate) n: Option<usize>,
    #[serde(default)]
    pub(crate) conn_close: bool,
    #[serde(default)]
    pub(crate) streamed: bool,
    #[serde(default)]
    pub(crate) incomplete: bool,
    #[serde(default)]
    pub(crate) then: Option<String>,
    #[serde(default)]
    pub(crate) upstream_must: Option<String>,
    #[serde(default)]
    pub(crate) upstream_must_not: Option<String>,
    #[serde(default)]
    pub(crate) proxy_sets: Option<String>,
    #[serde(default)]
    pub(crate) one_upstream_req_per_conn: bool,
}

impl Case {
    /// The bytes; `None` for a backend that resets instead of answering.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        if let Some(packed) = &self.raw_zlib_b64 {
            let packed = base64::engine::general_purpose::STANDARD.decode(packed).unwrap();
            let mut bytes = Vec::new();
            flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
            return Some(bytes);
        }
        let text = self.raw.as_ref()?;
        Some(text.chars().map(|c| u8::try_from(u32::from(c)).expect("one byte a character")).collect())
    }
}

/// The cases of a corpus, and our own variants of them.
pub(crate) fn load(kind: Kind) -> Vec<Case> {
    let texts = match kind {
        Kind::Http1 => {
            [include_str!("../data/malformed-h1.yaml"), include_str!("../data/malformed-more-h1.yaml")]
        }
        Kind::Http2 => {
            [include_str!("../data/malformed-h2.yaml"), include_str!("../data/malformed-more-h2.yaml")]
        }
        Kind::Response => [
            include_str!("../data/malformed-responses.yaml"),
            include_str!("../data/malformed-more-responses.yaml"),
        ],
    };
    texts.into_iter().flat_map(|text| serde_saphyr::from_str::<Corpus>(text).unwrap().cases).collect()
}

#[derive(Deserialize)]
struct Pins {
    pins: Vec<Pin>,
}

/// A case whose outcome deliberately differs from the corpus.
#[derive(Deserialize)]
pub(crate) struct Pin {
    pub(crate) case: String,
    /// Runs it holds for; empty for all.
    #[serde(default)]
    runs: Vec<String>,
    pub(crate) reason: String,
}

impl Pin {
    pub(crate) fn holds_for(&self, run: &str) -> bool {
        self.runs.is_empty() || self.runs.iter().any(|one| one == run)
    }
}

/// The deviations.
pub(crate) fn pins() -> Vec<Pin> {
    serde_saphyr::from_str::<Pins>(include_str!("../data/pins.yaml")).unwrap().pins
}
