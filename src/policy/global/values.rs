//! Texts of single keys as values: lists, words, bounds. `parse` knows which key has which.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::StatusCode;
use ipnet::IpNet;

use super::TextTest;
use crate::policy::annotation::{Risk, parse_cidrs, parse_count, parse_size};
use crate::policy::backend_protocol::HttpVersion;
use crate::policy::load_balance::LoadBalance;
use crate::policy::template::Template;
use crate::wire::fields::is_token;

/// Networks written in this source.
pub(super) fn nets(texts: &[&str]) -> Arc<[IpNet]> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty())
}

pub(super) fn words(text: &str) -> Arc<[Box<str>]> {
    items(text).map(Into::into).collect()
}

/// A list of which some entries may not be readable: the others, and what is wrong with the first that is not.
pub(super) type Sound<T> = (Arc<[T]>, Option<String>);

/// Reads a list entry by entry.
fn sound<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Sound<T> {
    let (mut sound, mut fault) = (Vec::new(), None);
    for item in items(text) {
        match parse(item) {
            Ok(value) => sound.push(value),
            Err(reason) => drop(fault.get_or_insert(reason)),
        }
    }
    (sound.into(), fault)
}

pub(super) fn cidrs(text: &str) -> Sound<IpNet> {
    let one = |item: &str| {
        let net = parse_cidrs(item)?.into_iter().next();
        net.ok_or_else(|| format!("{item:?} is no address range"))
    };
    sound(text, one)
}

/// As [`cidrs`], for a list of those who may pass: where no entry can be read nobody may, rather than everybody.
pub(super) fn allowed(text: &str) -> Sound<IpNet> {
    let (sound, fault) = cidrs(text);
    if fault.is_some() && sound.is_empty() {
        return (Arc::from([IpNet::from(IpAddr::V4(Ipv4Addr::BROADCAST))]), fault);
    }
    (sound, fault)
}

pub(super) fn tests(text: &str) -> Sound<TextTest> {
    sound(text, TextTest::parse)
}

pub(super) fn addresses(text: &str) -> Sound<IpAddr> {
    sound(text, |item| item.trim_matches(['[', ']']).parse().map_err(|_| format!("{item:?} is no address")))
}

pub(super) fn risk(text: &str) -> Result<Risk, String> {
    match text.to_ascii_lowercase().as_str() {
        "low" => Ok(Risk::Low),
        "medium" => Ok(Risk::Medium),
        "high" => Ok(Risk::High),
        "critical" => Ok(Risk::Critical),
        _ => Err("must be Low, Medium, High or Critical".into()),
    }
}

pub(super) fn redirect_code(text: &str) -> Result<StatusCode, String> {
    match text {
        "301" => Ok(StatusCode::MOVED_PERMANENTLY),
        "302" => Ok(StatusCode::FOUND),
        "307" => Ok(StatusCode::TEMPORARY_REDIRECT),
        "308" => Ok(StatusCode::PERMANENT_REDIRECT),
        _ => Err("must be 301, 302, 307 or 308".into()),
    }
}

/// A status that refuses, as nginx takes them.
pub(super) fn refusal(text: &str) -> Result<StatusCode, String> {
    let code = text.parse().ok().filter(|code| (400..=599).contains(code));
    code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(|| "must lie between 400 and 599".into())
}

/// What request limits count by; the client's address needs no template.
pub(super) fn limit_key(text: &str) -> Result<Option<Template>, String> {
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    Ok((!matches!(text, "$binary_remote_addr" | "$remote_addr")).then_some(template))
}

pub(super) fn positive(text: &str) -> Result<u32, String> {
    match parse_count(text)? {
        0 => Err("must be at least 1".into()),
        count => Ok(count),
    }
}

pub(super) fn processes(text: &str) -> Result<Option<u32>, String> {
    if text == "auto" { Ok(None) } else { positive(text).map(Some) }
}

pub(super) fn http_version(text: &str) -> Result<HttpVersion, String> {
    match text {
        "1.0" => Ok(HttpVersion::Http10),
        "1.1" => Ok(HttpVersion::Http11),
        _ => Err("must be 1.0 or 1.1".into()),
    }
}

pub(super) fn load_balance(text: &str) -> Result<LoadBalance, String> {
    match text {
        "round_robin" => Ok(LoadBalance::RoundRobin),
        "ewma" => Ok(LoadBalance::Ewma),
        _ => Err("must be round_robin or ewma".into()),
    }
}

pub(super) fn log_level(text: &str) -> Result<Arc<str>, String> {
    match text {
        "debug" | "info" | "notice" | "warn" | "error" | "crit" | "alert" | "emerg" => Ok(Arc::from(text)),
        _ => Err("must be debug, info, notice, warn, error, crit, alert or emerg".into()),
    }
}

pub(super) fn path(text: &str) -> Result<Arc<str>, String> {
    let sound =
        text == "off" || (text.starts_with('/') && !text.contains(['\0', '\n']) && !text.contains("/../"));
    if sound { Ok(Arc::from(text)) } else { Err("must be an absolute path or off".into()) }
}

pub(super) fn field_name(text: &str) -> Result<Arc<str>, String> {
    if is_token(text.as_bytes()) { Ok(Arc::from(text)) } else { Err("is no field name".into()) }
}

pub(super) fn field_names(text: &str) -> Result<Arc<[Box<str>]>, String> {
    items(text)
        .map(|name| {
            let lower = name.to_ascii_lowercase().into_boxed_str();
            if is_token(name.as_bytes()) { Ok(lower) } else { Err(format!("{name:?} is no field name")) }
        })
        .collect()
}

/// `4 8k`: number and size.
pub(super) fn large_buffers(text: &str) -> Result<(u32, u32), String> {
    let error = || "must be a number and a size, such as 4 8k".to_owned();
    let (count, size) = text.split_once(char::is_whitespace).ok_or_else(error)?;
    let count = positive(count)?;
    let size = u32::try_from(parse_size(size.trim())?).map_err(|_| error())?;
    if size == 0 || count > 1024 || size > 16 << 20 { Err(error()) } else { Ok((count, size)) }
}

/// 0 for never.
pub(super) fn minutes(text: &str) -> Result<Option<std::time::Duration>, String> {
    let minutes = parse_count(text)?;
    Ok((minutes > 0).then(|| std::time::Duration::from_secs(u64::from(minutes) * 60)))
}
