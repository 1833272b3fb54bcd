//! `narthex completions SHELL`.

use std::io::{self, Write};

use clap::Args;
use clap_complete::Shell;

use super::{OK, command};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell to write for
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, out: &mut dyn Write) -> io::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "narthex", &mut script);
    out.write_all(&script)?;
    Ok(OK)
}
