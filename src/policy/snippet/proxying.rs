//! Directives about the way to a backend and back that the template of ingress-nginx writes into every location itself:
//! redirects, cookies, retries, buffers, version. `build` asks here; `settings` puts them in place of the location's own.

use super::build::word;
use super::lex::{Fault, Statement, Word};
use super::settings::{Ignored, Replaced};
use crate::policy::annotation::{parse_count, parse_duration, parse_on_off, parse_size};
use crate::policy::backend_protocol::HttpVersion;
use crate::policy::response_rewrite::{self, FlagRule};
use crate::policy::retry;

/// Reads one of them; false for a directive that is none.
///
/// # Errors
/// [`Fault`] for arguments that nginx would refuse.
pub(super) fn read(statement: &Statement, first: &Word, new: &mut Replaced) -> Result<bool, Fault> {
    let arguments = statement.arguments();
    let second = arguments.get(1);
    match statement.name() {
        "proxy_redirect" => {
            let rules = new.redirect.get_or_insert_default();
            match (first.text.as_str(), second) {
                // The name of a backend never shows in what it writes, so `default` has nothing to replace.
                ("off" | "default", None) => {}
                (from, Some(to)) => rules.push(ruled(first, response_rewrite::rule(from, &to.text))?),
                _ => return Err(Fault::new(first.at, "two words, off or default may stand here")),
            }
        }
        "proxy_cookie_path" => {
            let rules = new.cookie_path.get_or_insert_default();
            match pair(first, second)? {
                Some((from, to)) => rules.push(ruled(first, response_rewrite::rule(from, to))?),
                None => rules.clear(),
            }
        }
        "proxy_cookie_domain" => {
            let rules = new.cookie_domain.get_or_insert_default();
            match pair(first, second)? {
                Some((from, to)) => rules.push(ruled(first, response_rewrite::domain_rule(from, to))?),
                None => rules.clear(),
            }
        }
        "proxy_cookie_flags" => {
            if first.text == "off" && second.is_none() {
                new.cookie_flags.clear();
            } else {
                let words = arguments.iter().skip(1).map(|word| word.text.as_str());
                new.cookie_flags.push(ruled(first, FlagRule::parse(&first.text, words))?);
            }
        }
        "proxy_next_upstream" | "grpc_next_upstream" => {
            let words: Vec<&str> = arguments.iter().map(|word| word.text.as_str()).collect();
            new.retry_on = Some(ruled(first, retry::parse_conditions(&words.join(" ")))?);
        }
        "proxy_next_upstream_tries" | "grpc_next_upstream_tries" => {
            new.retry_tries = Some(word(first, parse_count)?);
        }
        "proxy_next_upstream_timeout" | "grpc_next_upstream_timeout" => {
            new.retry_timeout = Some(retry::limit(word(first, parse_duration)?));
        }
        "proxy_http_version" => {
            new.http_version = Some(match first.text.as_str() {
                "1.0" => HttpVersion::Http10,
                "1.1" => HttpVersion::Http11,
                _ => return Err(Fault::new(first.at, "must be 1.0 or 1.1")),
            });
        }
        "proxy_buffering" => new.buffering = Some(word(first, parse_on_off)?),
        "proxy_buffers" => {
            let size = second.ok_or_else(|| Fault::new(first.at, "a number and a size may stand here"))?;
            let number = u64::from(word(first, parse_count)?);
            new.buffers = Some(number.saturating_mul(word(size, parse_size)?));
        }
        "proxy_max_temp_file_size" => new.temp_file = Some(word(first, parse_size)?),
        "proxy_ignore_headers" | "grpc_ignore_headers" => ignored(arguments, &mut new.ignored)?,
        "modsecurity" if first.text == "off" => {}
        "modsecurity" => return Err(Fault::new(first.at, "only off is known: there is no ModSecurity")),
        "opentelemetry" => new.traced = Some(word(first, parse_on_off)?),
        "opentelemetry_trust_incoming_spans" => new.trusts_spans = Some(word(first, parse_on_off)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn ruled<T>(at: &Word, result: Result<T, String>) -> Result<T, Fault> {
    result.map_err(|reason| Fault::new(at.at, reason))
}

/// Two words; `None` for `off`.
fn pair<'w>(first: &'w Word, second: Option<&'w Word>) -> Result<Option<(&'w str, &'w str)>, Fault> {
    match second {
        Some(second) => Ok(Some((&first.text, &second.text))),
        None if first.text == "off" => Ok(None),
        None => Err(Fault::new(first.at, "two words, or off, may stand here")),
    }
}

/// Fields of a backend that speak to nginx, and are not heeded.
fn ignored(arguments: &[Word], into: &mut Ignored) -> Result<(), Fault> {
    // What is about a cache or about files has nothing to say here anyway.
    const OTHERS: [&str; 7] = [
        "x-accel-redirect",
        "x-accel-expires",
        "x-accel-charset",
        "expires",
        "cache-control",
        "set-cookie",
        "vary",
    ];
    for word in arguments {
        match word.text.to_ascii_lowercase().as_str() {
            "x-accel-limit-rate" => into.rate = true,
            "x-accel-buffering" => into.buffering = true,
            other if OTHERS.contains(&other) => {}
            other => return Err(Fault::new(word.at, format!("{other} is no field that can be ignored"))),
        }
    }
    Ok(())
}
