//! v1 Secret. Its bytes have a type that cannot be printed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::key::Meta;

/// One Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Name.
    pub meta: Meta,
    /// `type`, such as `kubernetes.io/tls`.
    pub secret_type: String,
    /// `data` (decoded), with `stringData` laid over it in files.
    pub data: BTreeMap<String, SecretBytes>,
}

/// Bytes of a Secret: comparable and readable on purpose, never printable by accident (no `Display`, no
/// `Serialize`; `Debug` shows the length only).
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Arc<[u8]>);

impl SecretBytes {
    /// Takes the bytes.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes without a copy, for the one who knows what they do.
    pub fn share(&self) -> Arc<[u8]> {
        Arc::clone(&self.0)
    }

    /// The bytes, for the one who knows what they do.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_text_shows_no_byte_of_a_secret() {
        let secret = SecretBytes::new(*b"CANARY-4711");
        assert_eq!(format!("{secret:?}"), "SecretBytes(11 bytes)");
    }
}
