//! Directives about answers and about who asks: bodies, compression, charsets, error pages, the client's address. `build`
//! asks here.

use std::sync::Arc;

use super::build::{Builder, rule, second, word};
use super::fields;
use super::lex::{Fault, Statement, Word};
use super::settings::Settings;
use crate::policy::annotation::{parse_on_off, parse_size};

impl Builder<'_> {
    /// Directives about bodies of answers and about who asks; false for others.
    pub(super) fn answers(
        &self,
        statement: &Statement,
        first: &Word,
        settings: &mut Settings,
    ) -> Result<bool, Fault> {
        let arguments = statement.arguments();
        match statement.name() {
            "sub_filter" => {
                let (from, to) = (self.template(first)?, second(statement)?);
                if first.text.is_empty() {
                    return Err(Fault::new(first.at, "there is nothing to look for"));
                }
                settings.substitutions.push((from, self.template(to)?));
            }
            "sub_filter_once" => settings.substitute_once = Some(word(first, parse_on_off)?),
            "sub_filter_types" => {
                settings.substitute_types = Some(types(arguments));
            }
            "proxy_pass_request_body" | "proxy_pass_request_headers" if first.text == "on" => {}
            "proxy_pass_request_body" | "proxy_pass_request_headers" => {
                return Err(Fault::new(first.at, "only on is known"));
            }
            "error_page" => settings.error_pages.push(self.error_page(statement)?),
            "absolute_redirect" => settings.absolute_redirect = Some(word(first, parse_on_off)?),
            "real_ip_header" => {
                settings.real_ip_header = Some(Arc::from(fields::token(first)?.to_ascii_lowercase()))
            }
            "real_ip_recursive" => settings.real_ip_recursive = Some(word(first, parse_on_off)?),
            "set_real_ip_from" => match rule(true, first)?.net {
                Some(net) => settings.real_ip_from.push(net),
                None => return Err(Fault::new(first.at, "a network or an address may stand here")),
            },
            "override_charset" if first.text == "off" => {}
            "override_charset" => return Err(Fault::new(first.at, "only off is known")),
            "charset" => settings.charset = Some(charset(first)?),
            "charset_types" => settings.charset_types = Some(types(arguments)),
            "gzip" => settings.gzip.on = Some(word(first, parse_on_off)?),
            "gzip_comp_level" => settings.gzip.level = Some(level(first)?),
            "gzip_min_length" => settings.gzip.min_length = Some(word(first, parse_size)?),
            "gzip_proxied" => settings.gzip.proxied = Some(first.text != "off"),
            "gzip_types" => settings.gzip.types = Some(types(arguments)),
            "gzip_vary" => settings.gzip.vary = Some(word(first, parse_on_off)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Content types, lower case.
fn types(words: &[Word]) -> Arc<[Box<str>]> {
    words.iter().map(|word| word.text.to_ascii_lowercase().into()).collect()
}

/// A level of gzip.
fn level(word: &Word) -> Result<u32, Fault> {
    let level = word.text.parse().ok().filter(|level| (1..=9).contains(level));
    level.ok_or_else(|| Fault::new(word.at, format!("{} is no level from 1 to 9", word.text)))
}

/// The name of a charset, or `off`.
fn charset(word: &Word) -> Result<Box<str>, Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+".contains(&byte);
    if word.text.is_empty() || word.text.len() > 64 || !word.text.bytes().all(plain) {
        return Err(Fault::new(word.at, format!("{:?} is no charset that is known here", word.text)));
    }
    Ok(word.text.as_str().into())
}
