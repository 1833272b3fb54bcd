//! `connection-proxy-header`: a fixed `Connection` field to the backend.

use super::annotation::{Reader, Risk, Scope, Spec};

const HEADER: Spec = Spec::new("connection-proxy-header", Scope::Location, Risk::Low)
    .values("as the request needs it", "keep-alive")
    .doc("Fixed `Connection` field to the backend: `close` or `keep-alive`. Breaks WebSocket.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[HEADER];

/// The value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionHeader {
    /// `close`.
    Close,
    /// `keep-alive`.
    KeepAlive,
}

impl ConnectionHeader {
    /// Reads the annotation.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        reader.word(&HEADER, &[("close", Self::Close), ("keep-alive", Self::KeepAlive)]).ok()
    }

    /// The field's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::KeepAlive => "keep-alive",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::read;

    #[test]
    fn only_the_two_words_are_taken() {
        let header = |text| read(&[("connection-proxy-header", text)], ConnectionHeader::read);
        assert_eq!(read(&[], ConnectionHeader::read), None);
        assert_eq!(header("close"), Some(ConnectionHeader::Close));
        assert_eq!(header("keep-alive"), Some(ConnectionHeader::KeepAlive));
        assert_eq!(header("upgrade"), None);
    }
}
