//! Statements to typed policy. Every directive of the closed list is given its meaning here; anything else is a fault
//! with its place.

use std::sync::Arc;

use http::StatusCode;

use super::directive::{self, Context, Effect};
use super::fields;
use super::lex::{At, Fault, Statement, Word};
use super::maps::is_table;
use super::names::{Names, is_own};
use super::run::sendable_method;
use super::script::{Branch, Matcher, Nested, Script, Step, Then};
use super::settings::{AddHeader, Except, Expires, Rule, Settings, SslName};
use super::{proxying, unknown};
use crate::pattern::{Anchor, Case, Pattern};
use crate::policy::annotation::{parse_cidrs, parse_duration, parse_on_off, parse_size};
use crate::policy::satisfy::Satisfy;
use crate::policy::template::{Scope, Template};
use crate::policy::{backend_tls, cipher_list};
use crate::variable::Known;

/// Directives of one snippet of an annotation (`B-17`).
pub(super) const MAX_DIRECTIVES: usize = 200;

/// Makes policy of statements.
pub(super) struct Builder<'n> {
    names: &'n Names,
    left: usize,
    /// Directives that are accepted and change nothing, with why.
    pub(super) notes: Vec<(At, String)>,
}

impl<'n> Builder<'n> {
    /// A builder that knows the names defined anywhere, for at most `directives` directives.
    pub(super) fn new(names: &'n Names, directives: usize) -> Self {
        Self { names, left: directives, notes: Vec::new() }
    }

    /// A block of `context`.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub(super) fn script(&mut self, statements: &[Statement], context: Context) -> Result<Script, Fault> {
        let mut script = Script::default();
        let mut settings = Settings::default();
        for statement in statements {
            match statement.name() {
                "location" => {
                    self.judge(statement, context)?;
                    script.locations.push(self.nested(statement, context)?);
                }
                _ => self.statement(statement, context, &mut script.steps, &mut settings)?,
            }
        }
        script.settings = Arc::new(settings);
        Ok(script)
    }

    /// Checks name, place and number of arguments, and counts it.
    pub(super) fn judge(&mut self, statement: &Statement, context: Context) -> Result<Effect, Fault> {
        let (name, at) = (statement.name(), statement.at);
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| Fault::new(at, "more directives than a snippet may hold"))?;
        let known = directive::find(name).ok_or_else(|| Fault::new(at, unknown::told(name)))?;
        if !known.contexts.contains(&context) && known.effect == Effect::Counts {
            return Err(Fault::new(at, format!("{name} may not stand in {}", context.as_str())));
        }
        let (least, most) = known.arguments;
        if !(least..=most).contains(&statement.arguments().len()) {
            return Err(Fault::new(at, format!("{name} has the wrong number of arguments")));
        }
        let is_block = matches!(name, "if" | "limit_except" | "location") || is_table(name);
        if statement.block.is_some() != is_block && known.effect == Effect::Counts {
            let what = if statement.block.is_some() { "takes no block" } else { "needs a block" };
            return Err(Fault::new(at, format!("{name} {what}")));
        }
        Ok(known.effect)
    }

    fn statement(
        &mut self,
        statement: &Statement,
        context: Context,
        steps: &mut Vec<Step>,
        settings: &mut Settings,
    ) -> Result<(), Fault> {
        if let Effect::Nothing(why) = self.judge(statement, context)? {
            self.notes.push((statement.at, format!("{}: {why}", statement.name())));
            return Ok(());
        }
        match statement.name() {
            "set" => steps.push(self.set(statement)?),
            "if" => steps.push(self.branch(statement, context)?),
            "return" => steps.push(Step::Return(self.answer(statement)?)),
            "rewrite" => steps.push(Step::Rewrite(self.rewrite(statement)?)),
            "break" => steps.push(Step::Break),
            name if is_table(name) => {
                return Err(Fault::new(statement.at, format!("{name} may not stand here")));
            }
            _ => self.setting(statement, context, settings)?,
        }
        Ok(())
    }

    fn setting(
        &mut self,
        statement: &Statement,
        context: Context,
        settings: &mut Settings,
    ) -> Result<(), Fault> {
        let arguments = statement.arguments();
        let at = statement.at;
        if statement.name() == "internal" {
            settings.internal = true;
            return Ok(());
        }
        let Some(first) = arguments.first() else { return Err(Fault::new(at, "an argument is missing")) };
        match statement.name() {
            // Such a field is ours: what snippets in use say of it is what is sent anyway (`Content-Length 0` beside 204).
            "add_header" if is_framing(first) => {
                let why = format!("add_header {}: the proxy does this by itself", first.text);
                self.notes.push((at, why));
            }
            "add_header" => settings.add_header.push(self.add_header(arguments, first)?),
            "more_set_headers" => {
                settings.answer_fields.push(self.edit(arguments, fields::Set)?);
            }
            "more_clear_headers" => {
                settings.answer_fields.push(self.edit(arguments, fields::Clear)?);
            }
            "more_set_input_headers" => {
                settings.request_fields.push(self.edit(arguments, fields::Set)?);
            }
            "more_clear_input_headers" => {
                settings.request_fields.push(self.edit(arguments, fields::Clear)?);
            }
            "proxy_set_header" | "grpc_set_header" => self.set_header(statement, context, settings)?,
            "proxy_hide_header" | "grpc_hide_header" => settings.hide.push(lower(first)?),
            "proxy_pass_header" | "grpc_pass_header" => settings.pass.push(lower(first)?),
            "limit_except" => settings.except = Some(self.except(statement)?),
            "limit_rate" => settings.rate = Some(self.size(first)?),
            "limit_rate_after" => settings.rate_after = Some(self.size(first)?),
            "allow" | "deny" => settings.access.push(rule(statement.name() == "allow", first)?),
            "auth_basic" if first.text == "off" => {
                let why = "auth_basic off: passwords are asked for by the annotation auth-type only";
                self.notes.push((at, why.into()));
            }
            "auth_basic" => {
                return Err(Fault::new(
                    first.at,
                    "only off is known; use the annotations auth-type and auth-secret",
                ));
            }
            "auth_request" if first.text == "off" => settings.auth_off = true,
            "auth_request" => {
                return Err(Fault::new(first.at, "only off is known; use the annotation auth-url"));
            }
            "auth_request_set" => {
                let name = self.own_name(first)?;
                settings.auth_set.push((name, self.template(second(statement)?)?));
            }
            "expires" if arguments.len() > 1 => {
                return Err(Fault::new(first.at, "modified is not known: write one time, from now on"));
            }
            "expires" => settings.expires = Some(self.expires(first)?),
            "default_type" => settings.default_type = Some(content_type(first)?),
            "proxy_method" => {
                let method = self.template(first)?;
                if method.constant().is_some_and(|method| sendable_method(method.as_bytes()).is_none()) {
                    return Err(Fault::new(first.at, "this is no method"));
                }
                settings.method = Some(method);
            }
            "proxy_ssl_server_name" | "grpc_ssl_server_name" => {
                settings.ssl_server_name = Some(word(first, parse_on_off)?);
            }
            "proxy_ssl_name" | "grpc_ssl_name" => settings.ssl_name = Some(ssl_name(first)?),
            "proxy_ssl_verify" | "grpc_ssl_verify" => settings.ssl_verify = Some(word(first, parse_on_off)?),
            "proxy_ssl_ciphers" | "grpc_ssl_ciphers" => {
                settings.ssl_ciphers = Some(word(first, cipher_list::parse)?.suites);
            }
            "proxy_ssl_protocols" | "grpc_ssl_protocols" => {
                let all: Vec<&str> = arguments.iter().map(|word| word.text.as_str()).collect();
                let versions = backend_tls::protocols(&all.join(" "));
                settings.ssl_protocols = Some(versions.map_err(|reason| Fault::new(first.at, reason))?);
            }
            _ if self.answers(statement, first, settings)? => {}
            _ => self.replaced(statement, first, context, settings)?,
        }
        Ok(())
    }

    /// Directives whose values every location has already.
    fn replaced(
        &mut self,
        statement: &Statement,
        first: &Word,
        context: Context,
        settings: &mut Settings,
    ) -> Result<(), Fault> {
        let name = statement.name();
        let new = &mut settings.replaced;
        match name {
            "satisfy" => {
                new.satisfy = Some(match first.text.as_str() {
                    "all" => Satisfy::All,
                    "any" => Satisfy::Any,
                    _ => return Err(Fault::new(first.at, "must be all or any")),
                });
            }
            "access_log" => new.access_log_off = first.text == "off",
            "client_max_body_size" => {
                new.body_max = Some(Some(word(first, parse_size)?).filter(|size| *size > 0));
            }
            "client_body_buffer_size" => new.body_memory = Some(word(first, parse_size)?),
            "proxy_connect_timeout" | "grpc_connect_timeout" => {
                new.connect = Some(word(first, parse_duration)?);
            }
            "proxy_send_timeout" | "grpc_send_timeout" => new.send = Some(word(first, parse_duration)?),
            "proxy_read_timeout" | "grpc_read_timeout" => new.read = Some(word(first, parse_duration)?),
            "proxy_request_buffering" => new.request_buffering = Some(word(first, parse_on_off)?),
            "proxy_buffer_size" | "grpc_buffer_size" => {
                let size = word(first, parse_size)?;
                new.buffer_size = Some(u32::try_from(size).unwrap_or(u32::MAX));
            }
            "proxy_intercept_errors" | "grpc_intercept_errors" => {
                new.intercept = Some(word(first, parse_on_off)?)
            }
            "opentelemetry_operation_name" => new.span_name = Some(self.template(first)?),
            "limit_req_status" => new.limit_req_status = Some(status(first, 400..=599)?),
            "limit_conn_status" => new.limit_conn_status = Some(status(first, 400..=599)?),
            _ if proxying::read(statement, first, new)? => {}
            _ => return Err(Fault::new(statement.at, format!("{name} may not stand here"))),
        }
        let inherited = name.starts_with("limit_") || name.ends_with("intercept_errors");
        if context != Context::Location && !inherited {
            let why = "every location has a value of its own, so it has no effect here";
            self.notes.push((statement.at, format!("{name}: {why}")));
        }
        Ok(())
    }

    /// Text with variables.
    pub(super) fn template(&self, word: &Word) -> Result<Template, Fault> {
        // As in nginx a variable that has no value yet is empty.
        let scope = Scope { until: Known::Never, groups: true, own: &|name| self.names.knows(name) };
        Template::parse_in(&word.text, &scope).map_err(|error| Fault::new(word.at, error.to_string()))
    }

    fn own_name(&self, word: &Word) -> Result<Box<str>, Fault> {
        word.text
            .strip_prefix('$')
            .filter(|name| is_own(name))
            .map(Into::into)
            .ok_or_else(|| Fault::new(word.at, format!("{} cannot be set", word.text)))
    }

    fn set(&self, statement: &Statement) -> Result<Step, Fault> {
        let (name, value) = (first(statement)?, second(statement)?);
        let value = self.template(value)?;
        if name.text == "$args" {
            return Ok(Step::SetArgs(value));
        }
        Ok(Step::Set(self.own_name(name)?, value))
    }

    fn branch(&mut self, statement: &Statement, context: Context) -> Result<Step, Fault> {
        let condition = self.condition(statement)?;
        let inside = if context == Context::Server { Context::ServerIf } else { Context::LocationIf };
        let mut branch = (Vec::new(), Settings::default());
        for inner in statement.block.as_deref().unwrap_or_default() {
            self.statement(inner, inside, &mut branch.0, &mut branch.1)?;
        }
        Ok(Step::If(condition, Branch { steps: branch.0, settings: Arc::new(branch.1) }))
    }

    fn nested(&mut self, statement: &Statement, context: Context) -> Result<Nested, Fault> {
        let first = first(statement)?;
        let (modifier, path) = match statement.arguments() {
            [_, path] => (first.text.as_str(), path.clone()),
            _ => {
                let modifiers = ["^~", "=", "~*", "~"];
                let clung = modifiers.into_iter().find(|modifier| first.text.starts_with(modifier));
                let modifier = clung.unwrap_or_default();
                let text = first.text.get(modifier.len()..).unwrap_or_default().to_owned();
                (modifier, Word { text, ..first.clone() })
            }
        };
        let matcher = match modifier {
            "~" => Matcher::Expression(pattern(&path, Case::Sensitive)?),
            "~*" => Matcher::Expression(pattern(&path, Case::Insensitive)?),
            "" if path.text.starts_with('@') && context == Context::Server => {
                Matcher::Named(path.text.trim_start_matches('@').into())
            }
            "" if path.text.starts_with('@') => {
                return Err(Fault::new(path.at, "a named location stands in a server-snippet"));
            }
            _ if !path.text.starts_with('/') => {
                return Err(Fault::new(path.at, "a location begins with a slash"));
            }
            "=" => Matcher::Exact(path.text.into()),
            "^~" => Matcher::Prefix(path.text.into(), true),
            "" => Matcher::Prefix(path.text.into(), false),
            other => return Err(Fault::new(first.at, format!("{other} is no modifier of a location"))),
        };
        let block = statement.block.as_deref().unwrap_or_default();
        let script = self.script(block, Context::Location)?;
        if matches!(matcher, Matcher::Named(_)) && leads_on(&script.steps, false) {
            let why = "a named location answers by itself: a rewrite to another location may not stand in it";
            return Err(Fault::new(path.at, why));
        }
        Ok(Nested { matcher, script: Arc::new(script) })
    }

    fn add_header(&self, arguments: &[Word], name: &Word) -> Result<AddHeader, Fault> {
        let always = match arguments.get(2) {
            None => false,
            Some(word) if word.text == "always" => true,
            Some(word) => return Err(Fault::new(word.at, format!("{} is not always", word.text))),
        };
        let value = arguments.get(1).ok_or_else(|| Fault::new(name.at, "a value is missing"))?;
        Ok(AddHeader { name: fields::name(name)?, value: self.template(&fields::one_line(value))?, always })
    }

    fn edit(&self, arguments: &[Word], kind: fields::Kind) -> Result<super::settings::FieldEdit, Fault> {
        fields::edit(arguments, kind, |word| self.template(word))
    }

    fn set_header(
        &mut self,
        statement: &Statement,
        context: Context,
        settings: &mut Settings,
    ) -> Result<(), Fault> {
        let (word, value) = (first(statement)?, second(statement)?);
        let value = self.template(&fields::one_line(value))?;
        if !matches!(context, Context::Location | Context::Auth) {
            let why = "every location sets fields of its own, so these are not inherited";
            self.notes.push((statement.at, format!("{} {}: {why}", statement.name(), word.text)));
            return Ok(());
        }
        if matches!(word.text.to_ascii_lowercase().as_str(), "connection" | "upgrade") {
            let why = "the proxy does this by itself";
            self.notes.push((statement.at, format!("{} {}: {why}", statement.name(), word.text)));
            return Ok(());
        }
        let host = word.text.eq_ignore_ascii_case("host");
        let name = if host { "Host".into() } else { fields::name(word)? };
        settings.set_header.push((name, value));
        Ok(())
    }

    /// `limit_except methods { allow…; deny…; }`.
    fn except(&mut self, statement: &Statement) -> Result<Except, Fault> {
        let mut methods: Vec<Box<str>> =
            statement.arguments().iter().map(|word| word.text.to_ascii_uppercase().into()).collect();
        if methods.iter().any(|method| **method == *"GET") {
            methods.push("HEAD".into());
        }
        let mut access = Vec::new();
        for inner in statement.block.as_deref().unwrap_or_default() {
            match (inner.name(), inner.arguments()) {
                ("allow" | "deny", [word]) if inner.block.is_none() => {
                    access.push(rule(inner.name() == "allow", word)?);
                }
                (name, _) => {
                    let reason = format!("{name} may not stand in limit_except: allow and deny may");
                    return Err(Fault::new(inner.at, reason));
                }
            }
        }
        Ok(Except { methods, access })
    }

    /// A number of bytes, or text with a variable that gives one.
    fn size(&self, word: &Word) -> Result<Template, Fault> {
        let template = self.template(word)?;
        if let Some(text) = template.constant() {
            parse_size(text).map_err(|reason| Fault::new(word.at, format!("{text} {reason}")))?;
        }
        Ok(template)
    }

    fn expires(&self, word: &Word) -> Result<Expires, Fault> {
        if word.text.contains('$') {
            return Ok(Expires::Text(self.template(word)?));
        }
        Expires::parse(&word.text).map_err(|reason| Fault::new(word.at, reason))
    }
}

/// True when a rewrite among the steps may end in another choice of location. `ended` is whether what follows them keeps
/// the location.
fn leads_on(steps: &[Step], mut ended: bool) -> bool {
    for step in steps.iter().rev() {
        match step {
            Step::Return(_) | Step::Break => ended = true,
            Step::Rewrite(rewrite) if rewrite.then == Then::Last => return true,
            Step::Rewrite(rewrite) if rewrite.then == Then::Next && !ended => return true,
            Step::If(_, branch) if leads_on(&branch.steps, ended) => return true,
            Step::Rewrite(_) | Step::If(..) | Step::Set(..) | Step::SetArgs(_) => {}
        }
    }
    false
}

pub(super) fn first(statement: &Statement) -> Result<&Word, Fault> {
    statement.arguments().first().ok_or_else(|| Fault::new(statement.at, "an argument is missing"))
}

pub(super) fn second(statement: &Statement) -> Result<&Word, Fault> {
    statement.arguments().get(1).ok_or_else(|| Fault::new(statement.at, "an argument is missing"))
}

pub(super) fn word<T>(word: &Word, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Fault> {
    parse(&word.text).map_err(|reason| Fault::new(word.at, format!("{} {reason}", word.text)))
}

pub(super) fn pattern(word: &Word, case: Case) -> Result<Arc<Pattern>, Fault> {
    Pattern::compile(&word.text, case, Anchor::None)
        .map(Arc::new)
        .map_err(|error| Fault::new(word.at, format!("{:?} is no expression: {error}", word.text)))
}

pub(super) fn status(word: &Word, range: std::ops::RangeInclusive<u16>) -> Result<StatusCode, Fault> {
    let number = word.text.parse().ok().filter(|code| word.text.len() == 3 && range.contains(code));
    number.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(|| {
        let reason = format!("{} is no status from {} to {}", word.text, range.start(), range.end());
        Fault::new(word.at, reason)
    })
}

pub(super) fn rule(allow: bool, word: &Word) -> Result<Rule, Fault> {
    if word.text == "all" {
        return Ok(Rule { allow, net: None });
    }
    let nets = parse_cidrs(&word.text).map_err(|reason| Fault::new(word.at, reason))?;
    match nets.as_slice() {
        [net] => Ok(Rule { allow, net: Some(*net) }),
        _ => Err(Fault::new(word.at, "one network, address or all may stand here")),
    }
}

/// A field that says how long the answer is.
fn is_framing(name: &Word) -> bool {
    name.text.eq_ignore_ascii_case("content-length")
}

fn lower(word: &Word) -> Result<Box<str>, Fault> {
    fields::token(word).map(|name| name.to_ascii_lowercase().into())
}

fn content_type(word: &Word) -> Result<Box<str>, Fault> {
    let sound = word.text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && word.text.contains('/');
    if sound { Ok(word.text.as_str().into()) } else { Err(Fault::new(word.at, "this is no content type")) }
}

fn ssl_name(word: &Word) -> Result<SslName, Fault> {
    if matches!(word.text.as_str(), "$host" | "$server_name" | "$http_host" | "$best_http_host") {
        return Ok(SslName::Host);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if word.text.is_empty() || word.text.len() > 253 || !word.text.bytes().all(plain) {
        return Err(Fault::new(word.at, "a name, or $host, may stand here"));
    }
    Ok(SslName::Fixed(Arc::from(word.text.as_str())))
}
