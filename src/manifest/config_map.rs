//! v1 ConfigMap and Namespace.

use super::cursor::Mapping;
use crate::model::{ConfigMap, Meta};

/// Reads the rest of a ConfigMap; `binaryData` is not read.
pub(super) fn read(root: &Mapping<'_>, meta: Meta) -> ConfigMap {
    ConfigMap { meta, data: root.field("data").map(|at| at.strings()).unwrap_or_default() }
}
