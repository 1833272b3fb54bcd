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
    /// Of the old program; there is no such port
    #[arg(long = "status-port", value_name = "PORT", hide = true, global = true)]
    _status_port: Option<u16>,
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
    let listed = items(answer, "backends");
    let canary_of = |one: &Value| {
        let canaries = listed.iter().filter_map(|other| other.get("canary"));
        canaries
            .into_iter()
            .find(|canary| canary.get("backend").is_some_and(|it| word(it, "name") == word(one, "name")))
    };
    let streams = items(answer, "streams").iter().map(|one| backend(one, None));
    let mut all: Vec<Value> = listed.iter().map(|one| backend(one, canary_of(one))).collect();
    // The old program has it always.
    if all.iter().all(|one| word(one, "name") != DEFAULT) {
        all.push(backend(&json!({ "name": DEFAULT }), None));
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

/// `as_canary` is the canary of another backend that leads here.
fn backend(one: &Value, as_canary: Option<&Value>) -> Value {
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
        "noServer": as_canary.is_some(),
        "endpoints": endpoints,
        "sessionAffinityConfig": affinity(one.get("affinity").unwrap_or(&Value::Null)),
        "upstreamHashByConfig": hash_by(one.get("hashBy").unwrap_or(&Value::Null)),
        "load-balance": one.get("loadBalance"),
        "trafficShapingPolicy": shaping(as_canary.and_then(|canary| canary.get("rule")).unwrap_or(&Value::Null)),
        "alternativeBackends": canary.map(|canary| vec![word(canary, "name")]),
    })
}

fn affinity(sessions: &Value) -> Value {
    let known = sessions.get("cookie").unwrap_or(&Value::Null);
    let mut cookie = json!({ "name": word(known, "name") });
    let names = [
        ("path", "path"),
        ("domain", "domain"),
        ("sameSite", "samesite"),
        ("conditionalSameSiteNone", "conditional_samesite_none"),
        ("secure", "secure"),
        ("expires", "expires"),
        ("maxAge", "maxage"),
        ("changeOnFailure", "change_on_failure"),
    ];
    if let Some(cookie) = cookie.as_object_mut() {
        for (ours, theirs) in names {
            // Go leaves out what is empty; seconds are text there.
            match known.get(ours) {
                None | Some(Value::Null | Value::Bool(false)) => {}
                Some(Value::Number(seconds)) => {
                    drop(cookie.insert(theirs.into(), json!(seconds.to_string())))
                }
                Some(value) => drop(cookie.insert(theirs.into(), value.clone())),
            }
        }
        if !sessions.is_null() {
            cookie.insert("canary_behavior".into(), json!(word(sessions, "canary")));
        }
    }
    json!({
        "name": if sessions.is_null() { "" } else { "cookie" },
        "mode": word(sessions, "mode"),
        "cookieSessionAffinity": cookie,
    })
}

fn hash_by(hash: &Value) -> Value {
    match (word(hash, "text"), hash.get("subset").and_then(Value::as_u64)) {
        ("", _) => json!({}),
        (text, None) => json!({ "upstream-hash-by": text }),
        (text, Some(size)) => json!({
            "upstream-hash-by": text,
            "upstream-hash-by-subset": true,
            "upstream-hash-by-subset-size": size,
        }),
    }
}

fn shaping(rule: &Value) -> Value {
    let number = |name: &str| rule.get(name).and_then(Value::as_u64).unwrap_or(0);
    json!({
        "weight": number("weight"),
        "weightTotal": number("total"),
        "header": word(rule, "header"),
        "headerValue": word(rule, "headerValue"),
        "headerPattern": word(rule, "headerPattern"),
        "cookie": word(rule, "cookie"),
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
    fn policies_of_backends_stand_where_the_old_program_has_them() {
        let answer = json!({ "backends": [
            { "name": "a", "loadBalance": "ewma", "hashBy": { "text": "$uri", "subset": 4 },
              "affinity": { "mode": "persistent", "canary": "legacy", "cookie": {
                  "name": "route", "path": "/x", "domain": null, "secure": true, "changeOnFailure": false, "maxAge": 60 } },
              "canary": { "backend": { "name": "c" }, "rule": { "weight": 5, "total": 100, "header": "X-C" } } },
            { "name": "c", "hashBy": null, "affinity": null, "canary": null },
        ]});
        let all: Value = serde_json::from_str(&backends(&answer, &Which::All).unwrap()).unwrap();
        let (primary, canary) = (&all[0], &all[1]);
        assert_eq!((&primary["noServer"], &canary["noServer"]), (&json!(false), &json!(true)));
        assert_eq!(
            primary["sessionAffinityConfig"],
            json!({ "name": "cookie", "mode": "persistent", "cookieSessionAffinity": {
                "name": "route", "path": "/x", "secure": true, "maxage": "60", "canary_behavior": "legacy" } })
        );
        assert_eq!(
            canary["sessionAffinityConfig"],
            json!({ "name": "", "mode": "", "cookieSessionAffinity": { "name": "" } })
        );
        assert_eq!(
            primary["upstreamHashByConfig"],
            json!({ "upstream-hash-by": "$uri", "upstream-hash-by-subset": true, "upstream-hash-by-subset-size": 4 })
        );
        assert_eq!((&primary["load-balance"], &canary["upstreamHashByConfig"]), (&json!("ewma"), &json!({})));
        let shaping = |weight: u32, total: u32, header: &str| {
            json!({
                "weight": weight, "weightTotal": total, "header": header, "headerValue": "", "headerPattern": "", "cookie": "",
            })
        };
        assert_eq!(primary["trafficShapingPolicy"], shaping(0, 0, ""));
        assert_eq!(canary["trafficShapingPolicy"], shaping(5, 100, "X-C"));
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
