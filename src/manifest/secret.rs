//! v1 Secret. No finding ever shows a value of it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;

use super::cursor::{At, Mapping};
use crate::model::{Meta, Secret, SecretBytes};

/// Type of a Secret that names none.
const DEFAULT_TYPE: &str = "Opaque";

/// Reads the rest of a Secret; `stringData` lies over `data`, as an API server merges them.
pub(super) fn read(root: &Mapping<'_>, meta: Meta) -> Secret {
    let mut data = BTreeMap::new();
    if let Some(at) = root.field("data") {
        for (key, at) in at.entries() {
            if let Some(bytes) = decoded(&at) {
                data.insert(key.to_owned(), bytes);
            }
        }
    }
    if let Some(at) = root.field("stringData") {
        for (key, at) in at.entries() {
            if let Some(text) = hidden_text(&at) {
                data.insert(key.to_owned(), SecretBytes::new(text.as_bytes()));
            }
        }
    }
    let secret_type = root.text("type");
    let secret_type = if secret_type.is_empty() { DEFAULT_TYPE.to_owned() } else { secret_type };
    Secret { meta, secret_type, data }
}

fn decoded(at: &At<'_>) -> Option<SecretBytes> {
    // Line breaks are what `base64` without `-w0` leaves in a block scalar; Go's decoder skips them too.
    let text = hidden_text(at)?.replace(['\n', '\r'], "");
    match serde_json::from_value::<ByteString>(serde_json::Value::String(text)) {
        Ok(ByteString(bytes)) => Some(SecretBytes::new(bytes)),
        Err(_) => {
            at.error_hiding_value("is no base64", "put plain text under `stringData`");
            None
        }
    }
}

fn hidden_text<'p>(at: &At<'p>) -> Option<&'p str> {
    if at.is_null() {
        return Some("");
    }
    let text = at.text_if_string();
    if text.is_none() {
        at.error_hiding_value("must be a string", "write it in quotes");
    }
    text
}
