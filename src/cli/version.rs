//! `narthex version`.

use std::io::{self, Write};

use super::OK;

/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn run(out: &mut dyn Write) -> io::Result<u8> {
    writeln!(out, "narthex {VERSION}")?;
    Ok(OK)
}
