//! `/dbg`, the program that people run inside the controller's container (`kubectl exec … -- /dbg backends list`), and
//! that the kubectl plugin runs there. It asks the admin port of its own container; keys of certificates are never told.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::text::printable;
use super::{BAD_NEWS, OK, admin};

/// Name of the default backend.
const DEFAULT: &str = "upstream-default-backend";

/// Arguments of `dbg`.
#[derive(Debug, Args)]
pub(super) struct DbgArgs {
    /// URL of the admin port
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:10254", global = true)]
    admin: String,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Backends with their endpoints, as JSON
    Backends {
        #[command(subcommand)]
        which: Option<Which>,
    },
    /// The certificate that a host presents, as JSON
    Certs {
        #[command(subcommand)]
        which: Certs,
    },
    /// The routing table, in place of a configuration file
    Conf {
        /// Only the server of this host
        #[arg(value_name = "HOST")]
        host: Option<String>,
    },
    /// What is known beside the backends, as JSON
    General,
    /// What is wrong with objects
    Findings,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum Which {
    /// All of them
    All,
    /// Their names
    List,
    /// One
    Get {
        /// Name of the backend
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Debug, Subcommand)]
enum Certs {
    /// The certificate of one host
    Get {
        /// Name of the host
        #[arg(value_name = "HOST")]
        host: String,
    },
}

pub(super) fn run(args: &DbgArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let ask = |what: &str| admin::api(&args.admin, what);
    let answer = match &args.what {
        What::Backends { which } => {
            ask("backends").and_then(|answer| backends(&answer, which.as_ref().unwrap_or(&Which::All)))
        }
        What::Certs { which: Certs::Get { host } } => {
            ask("certs").and_then(|answer| certificate(&answer, host))
        }
        What::Conf { host } => ask("routes").and_then(|answer| configuration(&answer, host.as_deref())),
        What::General => ask("generation").map(|answer| pretty(&answer)),
        What::Findings => match ask("diagnostics") {
            Ok(answer) => return findings(&answer, out),
            Err(reason) => Err(reason),
        },
    };
    match answer {
        Ok(text) => {
            writeln!(out, "{}", printable(&text))?;
            Ok(OK)
        }
        Err(reason) => {
            writeln!(err, "error: {}", printable(&reason))?;
            Ok(BAD_NEWS)
        }
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn items<'v>(answer: &'v Value, name: &str) -> &'v [Value] {
    answer.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn word<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// As `/dbg` of ingress-nginx has them: a list, with address and port of each endpoint apart.
fn backends(answer: &Value, which: &Which) -> Result<String, String> {
    // Ports of TCP and UDP, which the old program does not show, come last.
    let streams = items(answer, "streams").iter().map(backend);
    let mut all: Vec<Value> = items(answer, "backends").iter().map(backend).collect();
    // The old program has it always.
    if all.iter().all(|one| word(one, "name") != DEFAULT) {
        all.push(backend(&json!({ "name": DEFAULT })));
    }
    all.extend(streams);
    match which {
        Which::All => Ok(pretty(&Value::Array(all))),
        Which::List => Ok(all.iter().map(|one| word(one, "name")).collect::<Vec<_>>().join("\n")),
        Which::Get { name } => all
            .iter()
            .find(|one| word(one, "name") == name)
            .map(pretty)
            .ok_or_else(|| format!("there is no backend {name}")),
    }
}

fn backend(one: &Value) -> Value {
    let split = |endpoint: &Value| {
        let (address, port) = endpoint.as_str()?.rsplit_once(':')?;
        Some(json!({ "address": address.trim_matches(['[', ']']), "port": port }))
    };
    let endpoints: Vec<Value> = items(one, "endpoints").iter().filter_map(split).collect();
    let canary = one.get("canary").and_then(|canary| canary.get("backend"));
    json!({
        "name": word(one, "name"),
        "namespace": word(one, "namespace"),
        "service": word(one, "service"),
        "port": word(one, "port"),
        "noServer": false,
        "endpoints": endpoints,
        "alternativeBackends": canary.map(|canary| vec![word(canary, "name")]),
    })
}

fn certificate(answer: &Value, host: &str) -> Result<String, String> {
    let wildcard = host.split_once('.').map(|(_, rest)| format!("*.{rest}"));
    let names = |name: &str| {
        let listed = |one: &&Value| items(one, "hosts").iter().any(|listed| listed.as_str() == Some(name));
        items(answer, "certificates").iter().find(listed)
    };
    let found = names(host).or_else(|| wildcard.as_deref().and_then(names));
    let shown = found.or_else(|| answer.get("default")).ok_or("there is no certificate")?;
    Ok(pretty(shown))
}

/// The text of the table, or the part about one host.
fn configuration(answer: &Value, host: Option<&str>) -> Result<String, String> {
    let text = word(answer, "text");
    let Some(host) = host else { return Ok(text.trim_end().to_owned()) };
    let mut part: Vec<&str> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if !line.starts_with(' ') && !line.is_empty() {
            inside = line.strip_prefix("server ").is_some_and(|name| name.trim() == host);
        }
        if inside {
            part.push(line);
        }
    }
    if part.is_empty() {
        Err(format!("no server has the name {host}"))
    } else {
        Ok(part.join("\n").trim_end().to_owned())
    }
}

/// One line for each finding; bad news when one is an error.
fn findings(answer: &Value, out: &mut dyn Write) -> io::Result<u8> {
    let mut code = OK;
    for found in items(answer, "diagnostics") {
        let object = found.get("object").unwrap_or(&Value::Null);
        let severity = word(found, "severity");
        if severity == "error" {
            code = BAD_NEWS;
        }
        let value = match word(found, "value") {
            "" => String::new(),
            value => format!(" = {value:?}"),
        };
        let hint = match word(found, "hint") {
            "" => String::new(),
            hint => format!(" (hint: {hint})"),
        };
        let line = format!(
            "{severity}: {} {} {}/{} {}{value}: {}{hint}",
            word(found, "code"),
            word(object, "kind"),
            word(object, "namespace"),
            word(object, "name"),
            word(found, "field"),
            word(found, "reason"),
        );
        writeln!(out, "{}", printable(&line))?;
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_listed_as_the_old_program_lists_them() {
        let answer = json!({ "generation": 1, "backends": [
            { "name": "default-a-80", "namespace": "default", "service": "a", "port": "80",
              "endpoints": ["10.0.0.1:8080", "[fd00::1]:8080"],
              "canary": { "ingress": "default/c", "backend": { "name": "default-c-80" } } },
            { "name": "default-b-80", "endpoints": [], "canary": null },
        ], "streams": [
            { "name": "tcp-default-db-5432", "namespace": "default", "service": "db", "port": "5432", "listen": 5432,
              "endpoints": ["10.0.0.3:5432"], "canary": null },
        ]});
        assert_eq!(
            backends(&answer, &Which::List).unwrap(),
            "default-a-80\ndefault-b-80\nupstream-default-backend\ntcp-default-db-5432"
        );
        let one = backends(&answer, &Which::Get { name: "default-a-80".into() }).unwrap();
        let one: Value = serde_json::from_str(&one).unwrap();
        assert_eq!(
            one["endpoints"],
            json!([{ "address": "10.0.0.1", "port": "8080" }, { "address": "fd00::1", "port": "8080" }])
        );
        assert_eq!(one["alternativeBackends"], json!(["default-c-80"]));
        let all: Value = serde_json::from_str(&backends(&answer, &Which::All).unwrap()).unwrap();
        assert_eq!(all.as_array().map(Vec::len), Some(4));
        assert!(backends(&answer, &Which::Get { name: "x".into() }).is_err());
    }

    #[test]
    fn a_host_has_its_certificate_that_of_its_wildcard_or_the_default() {
        let answer = json!({
            "default": { "id": "d" },
            "certificates": [ { "secret": "w", "hosts": ["*.a.test"] }, { "secret": "x", "hosts": ["x.a.test"] } ],
        });
        for (host, expect) in [("x.a.test", "\"x\""), ("y.a.test", "\"w\""), ("b.test", "\"d\"")] {
            assert!(certificate(&answer, host).unwrap().contains(expect), "{host}");
        }
    }

    #[test]
    fn the_part_of_one_server_is_cut_out() {
        let answer = json!({ "text": "server a.test\n  prefix /\n\nserver b.test\n  exact /x\n" });
        assert_eq!(configuration(&answer, Some("a.test")).unwrap(), "server a.test\n  prefix /");
        assert_eq!(configuration(&answer, Some("b.test")).unwrap(), "server b.test\n  exact /x");
        assert!(configuration(&answer, Some("c.test")).is_err());
        assert!(configuration(&answer, None).unwrap().ends_with("/x"));
    }

    #[test]
    fn an_error_among_the_findings_is_bad_news() {
        let found = |severity: &str| {
            json!({ "diagnostics": [ {
                "severity": severity, "code": "PathConflict", "field": "spec", "value": "/x", "reason": "why", "hint": "do",
                "object": { "kind": "Ingress", "namespace": "default", "name": "web" },
            }]})
        };
        let mut out = Vec::new();
        assert_eq!(findings(&found("warning"), &mut out).unwrap(), OK);
        assert_eq!(findings(&found("error"), &mut out).unwrap(), BAD_NEWS);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("warning: PathConflict Ingress default/web spec = \"/x\": why (hint: do)\n"),
            "{text}"
        );
    }
}
