//! `narthex explain`: where a request goes and why not elsewhere, from manifests or from a running instance. It decides
//! by the very functions that serve requests.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgMatches, Args};

use super::offline::{self, Differences, compile_paths};
use super::text::{counted, printable};
use super::{BAD_NEWS, OK, Output, USAGE, admin};
use crate::config::Flags;
use crate::diagnostic::Severity;
use crate::inquiry::Inquiry;
use crate::report;

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Method of the request
    #[arg(value_name = "METHOD")]
    method: String,
    /// URL of the request; https means TLS
    #[arg(value_name = "URL", value_parser = url)]
    url: String,
    /// A field of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Address of the client
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    client: IpAddr,
    /// Files and directories of manifests
    #[arg(long, value_name = "DIR", required_unless_present = "admin")]
    manifests: Vec<PathBuf>,
    /// Ask a running instance instead: URL of its admin port, such as http://127.0.0.1:10254
    #[arg(long, value_name = "URL", conflicts_with = "manifests")]
    admin: Option<String>,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    #[command(flatten)]
    flags: Flags,
}

fn url(text: &str) -> Result<String, String> {
    let sound = text.starts_with("http://") || text.starts_with("https://");
    if sound { Ok(text.to_owned()) } else { Err("a URL starts with http:// or https://".into()) }
}

fn header(text: &str) -> Result<(String, String), String> {
    Inquiry::field(text).ok_or_else(|| "write it as Name: value".into())
}

pub(super) fn run(
    args: ExplainArgs,
    given: &ArgMatches,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let inquiry = Inquiry { method: args.method, url: args.url, fields: args.headers, client: args.client };
    if let Some(url) = args.admin {
        return ask(&url, &inquiry, args.output, out, err);
    }
    let config = offline::config(args.flags, given);
    let offline = match config.and_then(|config| compile_paths(&args.manifests, &config, Differences::Skip)) {
        Ok(offline) => offline,
        Err(reason) => {
            writeln!(err, "error: {}", printable(&reason))?;
            return Ok(USAGE);
        }
    };
    let errors = offline.diagnostics.iter().filter(|found| found.severity == Severity::Error).count();
    if errors > 0 {
        writeln!(err, "the manifests hold {}; narthex check shows them", counted(errors, "error"))?;
    }
    match inquiry.explain(&offline.compiled.table, &offline.compiled.endpoints) {
        Ok(explained) => match args.output {
            Output::Json => writeln!(out, "{:#}", report::explanation(&explained))?,
            Output::Text => write!(out, "{}", printable(&explained.to_text()))?,
        },
        Err(reason) => {
            writeln!(err, "error: {}", printable(&reason))?;
            return Ok(BAD_NEWS);
        }
    }
    Ok(OK)
}

fn ask(
    url: &str,
    inquiry: &Inquiry,
    output: Output,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let answer = match admin::explain(url, inquiry) {
        Ok(answer) => answer,
        Err(reason) => {
            writeln!(err, "error: {}", printable(&reason))?;
            return Ok(BAD_NEWS);
        }
    };
    match (output, answer.get("text").and_then(serde_json::Value::as_str)) {
        (Output::Text, Some(text)) => write!(out, "{}", printable(text))?,
        _ => writeln!(out, "{answer:#}")?,
    }
    Ok(OK)
}
