//! `narthex check PATH…`: everything there is to say about manifests, without serving them.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{ArgMatches, Args};
use serde_json::json;

use super::offline::{self, Differences, Offline, compile_paths};
use super::text::{counted, printable};
use super::{BAD_NEWS, OK, Output, USAGE};
use crate::config::Flags;
use crate::diagnostic::Severity;
use crate::report;
use crate::route::dump;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Files and directories of manifests; - reads standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// Print the routing table that comes of the manifests too
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(
    args: CheckArgs,
    given: &ArgMatches,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let config = offline::config(args.flags, given);
    let offline = config.and_then(|config| compile_paths(&args.paths, &config, Differences::Tell));
    let offline = match offline {
        Ok(offline) => offline,
        Err(reason) => {
            writeln!(err, "error: {}", printable(&reason))?;
            return Ok(USAGE);
        }
    };
    match args.output {
        Output::Json => json_answer(&offline, args.print, out)?,
        Output::Text => text_answer(&offline, args.print, out)?,
    }
    Ok(if count(&offline, Severity::Error) > 0 { BAD_NEWS } else { OK })
}

fn count(offline: &Offline, severity: Severity) -> usize {
    offline.diagnostics.iter().filter(|found| found.severity == severity).count()
}

fn text_answer(offline: &Offline, print: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut file = None;
    for found in &offline.diagnostics {
        // Findings stand in the order of their files; an empty line shows where one ends.
        if file.replace(&found.origin.file).is_some_and(|last| *last != found.origin.file) {
            writeln!(out)?;
        }
        writeln!(out, "{}", printable(&found.to_string()))?;
    }
    if !offline.diagnostics.is_empty() {
        writeln!(out)?;
    }
    if print {
        let table = dump::table(&offline.compiled.table, &offline.compiled.endpoints);
        writeln!(out, "{}", printable(&table))?;
    }
    writeln!(
        out,
        "{}, {}: {}, {}, {}",
        counted(offline.files, "file"),
        counted(offline.objects, "object"),
        counted(count(offline, Severity::Error), "error"),
        counted(count(offline, Severity::Warning), "warning"),
        counted(count(offline, Severity::Info), "note"),
    )
}

fn json_answer(offline: &Offline, print: bool, out: &mut dyn Write) -> io::Result<()> {
    let diagnostics: Vec<_> = offline.diagnostics.iter().map(report::diagnostic).collect();
    let mut answer = json!({
        "diagnostics": diagnostics,
        "summary": {
            "files": offline.files,
            "objects": offline.objects,
            "errors": count(offline, Severity::Error),
            "warnings": count(offline, Severity::Warning),
            "notes": count(offline, Severity::Info),
        },
    });
    if print && let Some(fields) = answer.as_object_mut() {
        let table = dump::table(&offline.compiled.table, &offline.compiled.endpoints);
        fields.insert("table".into(), table.into());
    }
    writeln!(out, "{answer:#}")
}
