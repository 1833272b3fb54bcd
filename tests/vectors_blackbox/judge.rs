//! Compares what came back with what was observed. Ports in URLs are shown as 80 and 443 there.

use std::collections::BTreeSet;

use md5::{Digest, Md5};
use serde_json::Value;

use crate::client::Answer;
use crate::process::Ports;

/// Port of the first backend where the vectors were observed: it is part of the value of some cookies.
const OBSERVED_PORT: &str = "19001";
/// How far a measured share may lie from the observed one.
const TOLERANCE: f64 = 0.12;

/// Of one request.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Pass,
    Fail(String),
}

/// Judges all answers to a request that may have been repeated.
pub(crate) fn judge(request: &Value, expect: &Value, answers: &[Answer], ports: &Ports) -> Verdict {
    let each = answers.iter().try_for_each(|answer| {
        status(expect, answer)?;
        redirect(expect, answer, ports)?;
        // An echo has no body for HEAD, so its target was not observed.
        if request["method"] != "HEAD" {
            backend(expect, answer, ports)?;
        }
        fields(&expect["response_headers"], |name| {
            Some(answer.all(name).into_iter().map(|value| as_observed(value, expect, answer)).collect())
        })?;
        certificate(expect, answer)?;
        body(expect, answer)
    });
    match each.and_then(|()| endpoints(expect, answers)).and_then(|()| share(expect, answers)) {
        Ok(()) => Verdict::Pass,
        Err(why) => Verdict::Fail(why),
    }
}

fn check(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

fn status(expect: &Value, answer: &Answer) -> Result<(), String> {
    check(expect["status"] == answer.status, || {
        format!("status {}, expected {}", answer.status, expect["status"])
    })
}

fn redirect(expect: &Value, answer: &Answer, ports: &Ports) -> Result<(), String> {
    let Some(wanted) = expect.get("redirect") else { return Ok(()) };
    let found = answer.first("location").map(|location| usual_ports(location, ports));
    check(wanted.as_str() == found.as_deref(), || format!("redirect {found:?}, expected {wanted}"))
}

fn backend(expect: &Value, answer: &Answer, ports: &Ports) -> Result<(), String> {
    let identity = answer.first("x-echo-ident");
    let Some(wanted) = expect.get("upstream_path") else { return Ok(()) };
    let Some(wanted) = wanted.as_str() else {
        return check(identity.is_none(), || {
            format!("reached {identity:?}, expected an answer of the proxy")
        });
    };
    let Some(identity) = identity else {
        return Err(format!("no backend reached, expected {}", expect["backend"]));
    };
    if let Some(name) = expect["backend"].as_str().filter(|name| *name != "upstream-default-backend") {
        // nginx names this one by its Service alone; the port is its first.
        let custom = name.strip_prefix("custom-default-backend-").map(|service| format!("{service}-80"));
        check(identity == custom.as_deref().unwrap_or(name), || {
            format!("backend {identity}, expected {name}")
        })?;
    }
    let seen: Value =
        serde_json::from_slice(&answer.body).map_err(|error| format!("not the echo's body: {error}"))?;
    let target: Vec<u8> = crate::echo::latin1(seen["target"].as_str().unwrap_or_default());
    check(target == wanted.as_bytes(), || format!("upstream path {}, expected {wanted:?}", seen["target"]))?;
    fields(&expect["upstream_headers"], |name| {
        let all = seen["headers"]
            .as_array()?
            .iter()
            .filter(|field| field[0].as_str().is_some_and(|key| key.eq_ignore_ascii_case(name)));
        Some(all.filter_map(|field| field[1].as_str().map(|value| usual_ports(value, ports))).collect())
    })
}

/// Expected fields: a text, a list, or null for a field that must be absent.
fn fields(expect: &Value, found: impl Fn(&str) -> Option<Vec<String>>) -> Result<(), String> {
    for (name, wanted) in expect.as_object().into_iter().flatten() {
        let wanted: Vec<&str> = match wanted {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            wanted => wanted.as_str().into_iter().collect(),
        };
        let found = found(name).unwrap_or_default();
        let same = found.len() == wanted.len()
            && found.iter().zip(&wanted).all(|(found, wanted)| fits(found, wanted));
        check(same, || format!("{name}: {found:?}, expected {wanted:?}"))?;
    }
    Ok(())
}

/// True when `found` is `wanted`, where `<…>` in `wanted` stands for a text without `;` and `|`.
fn fits(found: &str, wanted: &str) -> bool {
    let Some((before, rest)) = wanted.split_once('<') else { return found == wanted };
    let Some((_, after)) = rest.split_once('>') else { return found == wanted };
    let Some(found) = found.strip_prefix(before) else { return false };
    let end = found.find([';', '|']).unwrap_or(found.len());
    end > 0 && fits(&found[end..], after)
}

/// A value in which the hash of the endpoint that answered is the hash of the endpoint that was observed.
fn as_observed(value: &str, expect: &Value, answer: &Answer) -> String {
    let (Some(backend), Some(address)) = (expect["backend"].as_str(), answer.first("x-echo-addr")) else {
        return value.to_owned();
    };
    let observed =
        address.rsplit_once(':').map_or_else(String::new, |(ip, _)| format!("{ip}:{OBSERVED_PORT}"));
    let hash = |address: &str| hex(&Md5::digest(format!("{backend}{address}")));
    value.replace(&hash(address), &hash(&observed))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn certificate(expect: &Value, answer: &Answer) -> Result<(), String> {
    let Some(wanted) = expect["certificate_cn"].as_str() else { return Ok(()) };
    let found = answer.certificate.as_deref();
    check(found == Some(wanted), || format!("certificate {found:?}, expected {wanted}"))
}

fn body(expect: &Value, answer: &Answer) -> Result<(), String> {
    let Some(wanted) = expect["body"].as_str() else { return Ok(()) };
    let found = String::from_utf8_lossy(&answer.body);
    let same = found.replace("\r\n", "\n") == wanted.replace("\r\n", "\n");
    check(same || found.starts_with('{'), || format!("body {found:?}, expected {wanted:?}"))
}

fn endpoints(expect: &Value, answers: &[Answer]) -> Result<(), String> {
    let Some(wanted) = expect["distinct_endpoints"].as_u64() else { return Ok(()) };
    let found: BTreeSet<_> = answers.iter().filter_map(|answer| answer.first("x-echo-addr")).collect();
    check(found.len() as u64 == wanted, || format!("endpoints {found:?}, expected {wanted}"))
}

fn share(expect: &Value, answers: &[Answer]) -> Result<(), String> {
    for (backend, wanted) in expect["share"].as_object().into_iter().flatten() {
        let hits = answers.iter().filter(|answer| answer.first("x-echo-ident") == Some(backend)).count();
        let found = hits as f64 / answers.len() as f64;
        let wanted = wanted.as_f64().unwrap_or(f64::NAN);
        check((found - wanted).abs() <= TOLERANCE, || {
            format!("share of {backend} {found}, expected {wanted}")
        })?;
    }
    Ok(())
}

/// The text with the ports of this run written as the vectors have them; a value may be a bare port.
fn usual_ports(text: &str, ports: &Ports) -> String {
    let mut out = text.to_owned();
    for (port, usual) in [(ports.https, "443"), (ports.http, "80")] {
        let port = port.to_string();
        if out == port {
            return usual.to_owned();
        }
        if let Some(at) = out.find(&format!(":{port}")) {
            let after = at + 1 + port.len();
            if !out[after..].starts_with(|c: char| c.is_ascii_digit()) {
                out.replace_range(at + 1..after, usual);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u64, headers: &[(&str, &str)], body: &Value) -> Answer {
        let headers = headers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        Answer { status, headers, body, certificate: Some("a.test".into()) }
    }

    #[test]
    fn each_expectation_can_fail() {
        let ports = Ports::numbered(8080, 8443);
        let seen = json!({"target": "/b", "headers": [["X-A", "1"], ["X-Forwarded-Port", "8443"]]});
        let headers =
            [("Location", "https://a.test:8443/x"), ("X-Echo-Ident", "default-a-80"), ("X-Echo-Addr", "e")];
        let answers = [answer(200, &headers, &seen)];
        for (expect, holds) in [
            (json!({"status": 200}), true),
            (json!({"status": 201}), false),
            (json!({"status": 200, "redirect": "https://a.test:443/x"}), true),
            (json!({"status": 200, "redirect": null}), false),
            (json!({"status": 200, "upstream_path": "/b", "backend": "default-a-80"}), true),
            (json!({"status": 200, "upstream_path": "/b", "backend": "default-c-80"}), false),
            (json!({"status": 200, "upstream_path": "/c"}), false),
            (json!({"status": 200, "upstream_path": null}), false),
            (
                json!({"status": 200, "upstream_path": "/b", "upstream_headers": {"x-forwarded-port": "443"}}),
                true,
            ),
            (json!({"status": 200, "upstream_path": "/b", "upstream_headers": {"x-a": null}}), false),
            (json!({"status": 200, "response_headers": {"x-echo-addr": ["e"]}}), true),
            (json!({"status": 200, "response_headers": {"x-other": "e"}}), false),
            (json!({"status": 200, "certificate_cn": "a.test"}), true),
            (json!({"status": 200, "certificate_cn": "b.test"}), false),
            (json!({"status": 200, "distinct_endpoints": 1}), true),
            (json!({"status": 200, "distinct_endpoints": 2}), false),
            (json!({"status": 200, "share": {"default-a-80": 0.95}}), true),
            (json!({"status": 200, "share": {"default-a-80": 0.5}}), false),
        ] {
            assert_eq!(
                judge(&json!({"method": "GET"}), &expect, &answers, &ports) == Verdict::Pass,
                holds,
                "{expect}"
            );
        }
    }

    #[test]
    fn placeholders_stand_for_what_differs_with_each_run() {
        for (found, wanted, holds) in [
            ("a=1.2|h; Path=/", "a=<opaque>|h; Path=/", true),
            ("a=|h; Path=/", "a=<opaque>|h; Path=/", false),
            ("a=1|i; Path=/", "a=<opaque>|h; Path=/", false),
            ("a=1; Expires=Mon; Secure", "a=1; Expires=<later>; Secure", true),
            ("a=1; Expires=Mon", "a=1; Expires=<later>; Secure", false),
            ("a", "a", true),
            ("a", "b", false),
        ] {
            assert_eq!(fits(found, wanted), holds, "{found} {wanted}");
        }
    }

    #[test]
    fn ports_of_the_run_are_shown_as_usual() {
        let ports = Ports::numbered(8080, 8443);
        for (text, expect) in [
            ("https://a.test:8443/x", "https://a.test:443/x"),
            ("http://a.test:8080", "http://a.test:80"),
            ("http://a.test:80801/x", "http://a.test:80801/x"),
            ("8443", "443"),
            ("/8443", "/8443"),
        ] {
            assert_eq!(usual_ports(text, &ports), expect);
        }
    }
}
