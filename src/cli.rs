//! The command line: what was asked for, and the commands that end by themselves. Running a proxy is `app`'s.
//!
//! Exit codes: 0 done, 1 the answer is bad news, 2 the command line is wrong.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::config::{self, ClusterFlags, Config, Environment, Flags, Source};

mod admin;
mod check;
mod completions;
mod dbg;
mod explain;
mod man;
mod offline;
mod plugin;
mod text;
mod version;
mod wait_shutdown;

pub use check::CheckArgs;
pub use explain::ExplainArgs;
pub use version::VERSION;

/// Done.
pub const OK: u8 = 0;
/// Errors were found, or the question has no answer.
pub const BAD_NEWS: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;

/// Name of the program of ingress-nginx.
const REPLACED: &str = "nginx-ingress-controller";
/// Name of the program that its chart runs before a Pod ends.
const WAIT_SHUTDOWN: &str = "wait-shutdown";

/// Name of the program that people run in its container.
const DBG: &str = "dbg";
/// Names under which kubectl finds its plugins: `kubectl narthex`, and that of ingress-nginx.
const PLUGIN: [&str; 2] = ["kubectl-narthex", "kubectl-ingress_nginx"];

/// Ingress proxy that takes the objects of ingress-nginx as they are
#[derive(Debug, Parser)]
#[command(name = "narthex", version = VERSION, propagate_version = true, args_override_self = true)]
#[command(arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a built-in example on loopback and say how to try it
    Demo(DemoArgs),
    /// Serve a directory of Kubernetes manifests, without Kubernetes
    Standalone(StandaloneArgs),
    /// Serve the Ingresses of a Kubernetes cluster
    Controller(ControllerArgs),
    /// Judge manifests without serving them
    Check(CheckArgs),
    /// Say where a request goes, and why not elsewhere
    Explain(ExplainArgs),
    /// Print the version
    Version,
    /// Tell the controller in this container to end, and wait until it has
    #[command(hide = true)]
    WaitShutdown,
    /// Say what the instance in this container knows: backends, certificates, routes, findings
    Dbg(dbg::DbgArgs),
    /// Look at a controller in a cluster, through kubectl; also a plugin of it, as kubectl-narthex
    Plugin(plugin::PluginArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual page, of one command where one is named
    Man(man::ManArgs),
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Directory for the example manifests; kept, as are the files in it that you edit [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Args)]
struct StandaloneArgs {
    /// Directory of *.yaml, *.yml and *.json files; watched for changes
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Args)]
struct ControllerArgs {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    flags: Flags,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For programs.
    Json,
    /// For people.
    #[default]
    Text,
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Action {
    /// Run a proxy.
    Run(Box<Config>),
    /// It is done; exit with this code.
    Exit(u8),
}

/// Reads the command line of this process (program name first) and does what ends by itself, writing to `out` and
/// `err`.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn main(
    args: impl IntoIterator<Item = OsString>,
    environment: Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Action> {
    let matches = match command().try_get_matches_from(as_controller(args)) {
        Ok(matches) => matches,
        Err(error) => {
            let text = error.render().to_string();
            if error.use_stderr() {
                return usage(err, &text);
            }
            out.write_all(text.as_bytes())?;
            return Ok(Action::Exit(OK));
        }
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage(err, &error.render().to_string()),
    };
    let given = matches.subcommand().map_or(&matches, |(_, given)| given);
    let run = |source, flags, environment| Config::resolve(source, flags, given, environment);
    let code = match cli.command {
        Command::Demo(args) => return ran(err, run(Source::Demo(args.dir), args.flags, environment)),
        Command::Standalone(args) => {
            return ran(err, run(Source::Directory(args.manifests), args.flags, environment));
        }
        Command::Controller(args) => {
            let cluster = args.cluster.resolve(&environment);
            let config =
                cluster.and_then(|cluster| run(Source::Cluster(Box::new(cluster)), args.flags, environment));
            return ran(err, config);
        }
        Command::Check(args) => check::run(args, given, out, err)?,
        Command::Explain(args) => explain::run(args, given, out, err)?,
        Command::Version => version::run(out)?,
        Command::WaitShutdown => wait_shutdown::run(err)?,
        Command::Dbg(args) => dbg::run(&args, out, err)?,
        Command::Plugin(args) => plugin::run(&args, out, err)?,
        Command::Completions(args) => completions::run(&args, out)?,
        Command::Man(args) => man::run(&args, out, err)?,
    };
    Ok(Action::Exit(code))
}

/// The program under the names of those it replaces is what they are: images and manifests name them.
fn as_controller(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let name = args.first().map(Path::new).and_then(Path::file_name);
    let Some(name) = name.and_then(std::ffi::OsStr::to_str) else { return args };
    let command = match name {
        REPLACED => "controller",
        WAIT_SHUTDOWN | DBG => name,
        name if PLUGIN.contains(&name) => "plugin",
        _ => return args,
    };
    let command = OsString::from(command);
    args.insert(1, command);
    args
}

/// The whole command line, for parsing, completion and manual pages.
fn command() -> clap::Command {
    let mut command = Cli::command();
    for name in ["demo", "standalone", "controller", "check", "explain"] {
        command = command.mut_subcommand(name, |one| config::accept_unused(one.args_override_self(true)));
    }
    command
}

fn ran(err: &mut dyn Write, config: Result<Config, String>) -> io::Result<Action> {
    match config {
        Ok(config) => Ok(Action::Run(Box::new(config))),
        Err(reason) => usage(err, &format!("error: {reason}\n")),
    }
}

fn usage(err: &mut dyn Write, text: &str) -> io::Result<Action> {
    err.write_all(text.as_bytes())?;
    Ok(Action::Exit(USAGE))
}

#[cfg(test)]
mod tests;
