//! `narthex man [COMMAND]`: manual pages in roff, for `man -l -`.

use std::io::{self, Write};

use clap::Args;

use super::{OK, USAGE, command};

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// A command; all of narthex when absent
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

pub(super) fn run(args: &ManArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let mut root = command();
    root.build();
    let page = match &args.command {
        None => root,
        Some(name) => {
            let Some(found) = root.find_subcommand(name) else {
                writeln!(err, "error: there is no command {name:?}")?;
                return Ok(USAGE);
            };
            found.clone().display_name(format!("narthex-{name}"))
        }
    };
    clap_mangen::Man::new(page).render(out)?;
    Ok(OK)
}
