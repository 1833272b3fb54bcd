//! Flags of ingress-nginx that are accepted so that an existing command line works, and change nothing here.

use std::collections::BTreeSet;

use clap::{Arg, ArgMatches, Command};

/// One such flag.
struct Unused {
    name: &'static str,
    form: Form,
    /// Why it changes nothing, as the end of a sentence.
    why: &'static str,
}

#[derive(Clone, Copy)]
enum Form {
    /// Takes an optional value after `=`.
    Switch,
    /// Takes a value.
    Value,
}

const NO_API_SERVER: &str = "there is no API server here";
const NO_NGINX: &str = "it is about the inside of nginx";
const NO_DOWNLOAD: &str = "nothing is downloaded: put the databases into --geoip-dir";
const NOT_HERE: &str = "this version has no such function";
const KLOG: &str = "logs go to stderr; use --v and --log-format";
const AT_ONCE: &str = "changes are published at once";

const UNUSED: &[Unused] = &[
    value("add_dir_header", KLOG).switch(),
    value("alsologtostderr", KLOG).switch(),
    value("apiserver-host", NO_API_SERVER),
    value("bucket-factor", NOT_HERE),
    value("certificate-authority", NO_API_SERVER),
    value("deep-inspect", "values are parsed, never pasted into a configuration text").switch(),
    value("default-server-port", NO_NGINX),
    value("disable-full-test", "admission always judges with the whole table").switch(),
    value("disable-leader-election", NO_API_SERVER).switch(),
    value("disable-sync-events", NOT_HERE).switch(),
    value("dynamic-configuration-retries", NO_NGINX),
    value("election-id", NO_API_SERVER),
    value("election-ttl", NO_API_SERVER),
    value("enable-ssl-chain-completion", NOT_HERE).switch(),
    value("health-check-timeout", "the health check never waits"),
    value("internal-logger-address", NO_NGINX),
    value("kubeconfig", NO_API_SERVER),
    value("log_backtrace_at", KLOG),
    value("log_dir", KLOG),
    value("log_file", KLOG),
    value("log_file_max_size", KLOG),
    value("logtostderr", KLOG).switch(),
    value("max-buckets", NOT_HERE),
    value("maxmind-edition-ids", NO_DOWNLOAD),
    value("maxmind-license-key", NO_DOWNLOAD),
    value("maxmind-mirror", NO_DOWNLOAD),
    value("maxmind-retries-count", NO_DOWNLOAD),
    value("maxmind-retries-timeout", NO_DOWNLOAD),
    value("monitor-max-batch-size", NO_NGINX),
    value("one_output", KLOG).switch(),
    value("profiler-address", "there is no Go profiler here"),
    value("profiler-port", "there is no Go profiler here"),
    value("profiling", "there is no Go profiler here").switch(),
    value("publish-service", NO_API_SERVER),
    value("publish-status-address", NO_API_SERVER),
    value("report-node-internal-ip-address", NO_API_SERVER).switch(),
    value("skip_headers", KLOG).switch(),
    value("skip_log_headers", KLOG).switch(),
    value("status-port", NO_NGINX),
    value("status-update-interval", NO_API_SERVER),
    value("stderrthreshold", KLOG),
    value("stream-port", NO_NGINX),
    value("sync-period", AT_ONCE),
    value("sync-rate-limit", AT_ONCE),
    value("update-status", NO_API_SERVER).switch(),
    value("update-status-on-shutdown", NO_API_SERVER).switch(),
    value("vmodule", KLOG),
];

const fn value(name: &'static str, why: &'static str) -> Unused {
    Unused { name, form: Form::Value, why }
}

impl Unused {
    const fn switch(self) -> Self {
        Self { form: Form::Switch, ..self }
    }
}

/// Words beside flags.
const WORDS: &str = "words";

/// Adds those of these flags, hidden, that a command does not have itself.
pub(super) fn accept(command: Command) -> Command {
    let has: BTreeSet<String> =
        command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
    // As there, where words beside flags are not looked at: `--enable-metrics false` is `--enable-metrics` and a word.
    let words = Arg::new(WORDS).num_args(0..).hide(true).value_name("IGNORED");
    let command = if command.get_name() == "controller" { command.arg(words) } else { command };
    command.args(UNUSED.iter().filter(|flag| !has.contains(flag.name)).map(|flag| {
        let arg = Arg::new(flag.name)
            .long(flag.name)
            .help(flag.why)
            .hide(true)
            .allow_hyphen_values(true)
            .value_name("IGNORED");
        match flag.form {
            Form::Value => arg.num_args(1),
            Form::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        }
    }))
}

/// Whether there is an API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ApiServer {
    /// Objects come from files.
    None,
    /// Objects come from it.
    Some,
}

/// One line for each such flag that was given.
pub(super) fn given(matches: &ArgMatches, server: ApiServer) -> Vec<String> {
    let has_none = server == ApiServer::None;
    UNUSED
        .iter()
        // With an API server these are flags like others, `kubeconfig` even under the same name.
        .filter(|flag| has_none || flag.why != NO_API_SERVER)
        .filter(|flag| matches.try_contains_id(flag.name).unwrap_or(false))
        .map(|flag| format!("--{} changes nothing: {}", flag.name, flag.why))
        .chain(words(matches))
        .collect()
}

fn words(matches: &ArgMatches) -> impl Iterator<Item = String> {
    let words = matches.try_get_many::<String>(WORDS).ok().flatten().into_iter().flatten();
    words
        .map(|word| format!("the word {word:?} changes nothing: a value stands behind =, as in --flag=value"))
}
