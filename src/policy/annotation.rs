//! How annotations are described ([`Spec`]) and read ([`Reader`]): typed getters that tell absent, invalid and present
//! apart, and say every fault as a diagnostic.
//!
//! Families call the getters; `registry` makes the reader and decides about gates that no family knows.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{ConfigMap, Ingress, Kind, ObjectKey, ObjectRef, Secret, SharedMap};
use crate::wire::fields::is_token;

/// What a hint says of a fault that shuts nothing, before the default.
const DEFAULT_COUNTS: &str = "; until then the default counts: ";

/// Whose property an annotation becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The Ingress' own paths.
    Location,
    /// The host; the first Ingress with a value wins.
    Server,
    /// The backend, shared by every path that uses the same Service and port.
    Upstream,
    /// The Ingress itself (canary).
    Ingress,
}

/// How much harm an annotation could do in ingress-nginx's own table; `annotations-risk-level` compares with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Harmless.
    Low,
    /// Changes what clients see.
    Medium,
    /// Reaches other systems or hosts.
    High,
    /// Free text of the old proxy.
    Critical,
}

/// What an invalid value leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInvalid {
    /// The Ingress' routes answer 503: the annotation protects something.
    FailClosed,
    /// As if the annotation were absent.
    UseDefault,
}

/// How near the behaviour is to ingress-nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fidelity {
    /// The same.
    Exact,
    /// The same purpose; the text says what differs.
    Equivalent(&'static str),
    /// Accepted, has no effect; the text says why.
    AcceptedNoEffect(&'static str),
    /// Known, not honoured: the routes answer 503. The text says why.
    Refused(&'static str),
}

/// One annotation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// Name without prefix.
    pub name: &'static str,
    /// Older names that count when the first is absent.
    pub aliases: &'static [&'static str],
    /// Scope.
    pub scope: Scope,
    /// Risk.
    pub risk: Risk,
    /// What an invalid value leads to.
    pub on_invalid: OnInvalid,
    /// How near the behaviour is.
    pub fidelity: Fidelity,
    /// Default, for people; a ConfigMap key where that decides.
    pub default: &'static str,
    /// A value that is valid.
    pub example: &'static str,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
}

impl Spec {
    /// A spec of exact fidelity whose invalid values count as absent; the methods below change that.
    pub const fn new(name: &'static str, scope: Scope, risk: Risk) -> Self {
        Self {
            name,
            aliases: &[],
            scope,
            risk,
            on_invalid: OnInvalid::UseDefault,
            fidelity: Fidelity::Exact,
            default: "",
            example: "",
            doc: "",
        }
    }

    /// Adds older names.
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// Makes invalid values shut the routes.
    pub const fn fail_closed(mut self) -> Self {
        self.on_invalid = OnInvalid::FailClosed;
        self
    }

    /// Sets the fidelity.
    pub const fn fidelity(mut self, fidelity: Fidelity) -> Self {
        self.fidelity = fidelity;
        self
    }

    /// Sets default and example.
    pub const fn values(mut self, default: &'static str, example: &'static str) -> Self {
        self.default = default;
        self.example = example;
        self
    }

    /// Sets the documentation.
    pub const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }
}

/// What an annotation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<T> {
    /// Nothing.
    Absent,
    /// Something unusable; the diagnostic is already made.
    Invalid,
    /// This.
    Present(T),
}

impl<T> Value<T> {
    /// The value, if there is a usable one.
    pub fn ok(self) -> Option<T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Invalid => None,
        }
    }

    /// The value, or `default` where it is absent or invalid.
    pub fn or(self, default: T) -> T {
        self.ok().unwrap_or(default)
    }

    /// The value, or the type's default where it is absent or invalid.
    pub fn or_default(self) -> T
    where
        T: Default,
    {
        self.ok().unwrap_or_default()
    }

    /// The value with another type.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Value<U> {
        match self {
            Self::Absent => Value::Absent,
            Self::Invalid => Value::Invalid,
            Self::Present(value) => Value::Present(f(value)),
        }
    }
}

/// Bytes of one value above which it is refused (`B-5`).
pub const MAX_VALUE: usize = 64 * 1024;
/// Entries of an address list (`B.3`).
const MAX_CIDRS: usize = 4096;

/// Objects that annotations may refer to.
#[derive(Debug, Clone, Copy)]
pub struct Objects<'o> {
    /// Secrets.
    pub secrets: &'o SharedMap<ObjectKey, Arc<Secret>>,
    /// ConfigMaps.
    pub config_maps: &'o SharedMap<ObjectKey, Arc<ConfigMap>>,
}

static NO_SECRETS: SharedMap<ObjectKey, Arc<Secret>> = SharedMap::new();
static NO_CONFIG_MAPS: SharedMap<ObjectKey, Arc<ConfigMap>> = SharedMap::new();

impl Objects<'static> {
    /// A world without any.
    pub const NONE: Self = Self { secrets: &NO_SECRETS, config_maps: &NO_CONFIG_MAPS };
}

/// Reads the annotations of one Ingress and collects what is wrong with them.
#[derive(Debug)]
pub struct Reader<'i> {
    ingress: &'i Ingress,
    prefix: &'i str,
    /// Annotations under the prefix, sorted: name without it, and text. Every family asks for all of its names, and an
    /// Ingress has few.
    written: Vec<(&'i str, &'i str)>,
    validate: bool,
    cross_namespace: bool,
    objects: Objects<'i>,
    references: BTreeSet<ObjectKey>,
    diagnostics: Vec<Diagnostic>,
    denied: Option<&'static str>,
}

impl<'i> Reader<'i> {
    /// A reader over annotations under `prefix` (without slash). `validate` false lets unusual characters of texts
    /// pass (`B-4`); types stay strict.
    pub fn new(ingress: &'i Ingress, prefix: &'i str, validate: bool) -> Self {
        let own = |(full, text): (&'i String, &'i String)| {
            Some((full.strip_prefix(prefix)?.strip_prefix('/')?, text.as_str()))
        };
        Self {
            ingress,
            prefix,
            written: ingress.meta.annotations.iter().filter_map(own).collect(),
            validate,
            cross_namespace: false,
            objects: Objects::NONE,
            references: BTreeSet::new(),
            diagnostics: Vec::new(),
            denied: None,
        }
    }

    /// Lets references name other namespaces (`allow-cross-namespace-resources`).
    #[must_use]
    pub fn with_cross_namespace(mut self, allowed: bool) -> Self {
        self.cross_namespace = allowed;
        self
    }

    /// Lets references be followed.
    #[must_use]
    pub fn with_objects(mut self, objects: Objects<'i>) -> Self {
        self.objects = objects;
        self
    }

    /// A Secret that an annotation refers to. The question is noted: when the object comes, goes or changes, the
    /// Ingress is read again.
    pub fn secret(&mut self, key: &ObjectKey) -> Option<Arc<Secret>> {
        self.references.insert(key.clone());
        self.objects.secrets.get(key).cloned()
    }

    /// A ConfigMap that an annotation refers to; noted as [`Reader::secret`] does.
    pub fn config_map(&mut self, key: &ObjectKey) -> Option<Arc<ConfigMap>> {
        self.references.insert(key.clone());
        self.objects.config_maps.get(key).cloned()
    }

    /// Keys of the objects asked for so far.
    pub fn take_references(&mut self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.references)
    }

    /// The object being read.
    pub fn ingress(&self) -> &'i Ingress {
        self.ingress
    }

    /// Prefix of the names, without the slash.
    pub fn prefix(&self) -> &'i str {
        self.prefix
    }

    /// The findings so far, and the code of the finding that shuts the routes. No finding speaks of a default then:
    /// nothing is served by it.
    pub fn finish(mut self) -> (Vec<Diagnostic>, Option<&'static str>) {
        let shut = self.denied.is_some();
        for found in self.diagnostics.iter_mut().filter(|_| shut) {
            if let Some(at) = found.hint.find(DEFAULT_COUNTS) {
                found.hint.truncate(at);
                found.hint.push_str("; the routes of this Ingress answer 503, for another finding says why");
            }
        }
        (self.diagnostics, self.denied)
    }

    /// Code of the finding that shuts the routes, if one does.
    pub fn denied(&self) -> Option<&'static str> {
        self.denied
    }

    /// Shuts the routes. The first reason stays.
    pub fn deny(&mut self, code: &'static str) {
        self.denied.get_or_insert(code);
    }

    /// Adds a finding about the annotation `name` (without prefix).
    pub fn report(
        &mut self,
        name: &str,
        severity: Severity,
        code: &'static str,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.report_full(&format!("{}/{name}", self.prefix), severity, code, reason, hint);
    }

    /// As [`Reader::report`] for an annotation named with its prefix.
    pub fn report_full(
        &mut self,
        full: &str,
        severity: Severity,
        code: &'static str,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let value =
            self.ingress.meta.annotations.get(full).map(|value| shown(full, value)).unwrap_or_default();
        self.diagnostics.push(Diagnostic {
            object: ObjectRef { kind: Kind::Ingress, key: self.ingress.meta.key.clone() },
            code,
            severity,
            field: format!("metadata.annotations[{full}]"),
            value,
            reason: reason.into(),
            hint: hint.into(),
            origin: Arc::clone(&self.ingress.meta.origin),
        });
    }

    /// The name under which the annotation is written, and its raw text: the primary name first, an alias only when
    /// that is absent or empty.
    pub fn raw(&self, spec: &Spec) -> Option<(&'static str, &'i str)> {
        let names = || std::iter::once(spec.name).chain(spec.aliases.iter().copied());
        let written = |name: &'static str| {
            let at = self.written.binary_search_by_key(&name, |(name, _)| name).ok()?;
            self.written.get(at).map(|(_, text)| (name, *text))
        };
        names()
            .filter_map(written)
            .find(|(_, text)| !text.trim().is_empty())
            .or_else(|| names().find_map(written))
    }

    /// Reads through `parse`; faults become diagnostics, and shut the routes where the spec says so.
    pub fn read<T>(&mut self, spec: &Spec, parse: impl FnOnce(&str) -> Result<T, String>) -> Value<T> {
        self.read_as(spec, Lines::One, parse)
    }

    /// As [`Reader::read`] for texts that may have several lines.
    pub fn read_lines<T>(&mut self, spec: &Spec, parse: impl FnOnce(&str) -> Result<T, String>) -> Value<T> {
        self.read_as(spec, Lines::Many, parse)
    }

    /// An empty value counts as absent, except where that would leave something unprotected.
    fn read_as<T>(
        &mut self,
        spec: &Spec,
        lines: Lines,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Value<T> {
        let Some((name, raw)) = self.raw(spec) else { return Value::Absent };
        if raw.trim_matches([' ', '\t', '\n']).is_empty() && spec.on_invalid == OnInvalid::UseDefault {
            return Value::Absent;
        }
        let result = checked(raw, lines).and_then(|text| parse(&text));
        self.settle(spec, name, result)
    }

    fn settle<T>(&mut self, spec: &Spec, name: &'static str, result: Result<T, String>) -> Value<T> {
        let reason = match result {
            Ok(value) => return Value::Present(value),
            Err(reason) => reason,
        };
        let closed = spec.on_invalid == OnInvalid::FailClosed;
        let mut hint = format!("use a value such as {:?}", spec.example);
        if closed {
            hint.push_str("; until then the routes of this Ingress answer 503");
            self.deny("InvalidAnnotation");
        } else if !spec.default.is_empty() {
            hint.push_str(&format!("{DEFAULT_COUNTS}{}", spec.default));
        }
        let severity = if closed { Severity::Error } else { Severity::Warning };
        self.report(name, severity, "InvalidAnnotation", reason, hint);
        Value::Invalid
    }

    /// A switch, as Go's `ParseBool`.
    pub fn bool(&mut self, spec: &Spec) -> Value<bool> {
        self.read(spec, parse_bool)
    }

    /// `on` or `off`.
    pub fn on_off(&mut self, spec: &Spec) -> Value<bool> {
        self.read(spec, parse_on_off)
    }

    /// A decimal number.
    pub fn int(&mut self, spec: &Spec) -> Value<i64> {
        self.read(spec, parse_int)
    }

    /// A decimal number that is not negative.
    pub fn count(&mut self, spec: &Spec) -> Value<u32> {
        self.read(spec, parse_count)
    }

    /// Seconds, or a number with `ms`, `s`, `m`, `h`, `d`.
    pub fn duration(&mut self, spec: &Spec) -> Value<Duration> {
        self.read(spec, parse_duration)
    }

    /// Bytes, or a number with `k`, `m`, `g`.
    pub fn size(&mut self, spec: &Spec) -> Value<u64> {
        self.read(spec, parse_size)
    }

    /// Text of which every byte is in `allowed`; with validation off any visible text.
    pub fn text(&mut self, spec: &Spec, what: &'static str, allowed: fn(u8) -> bool) -> Value<Arc<str>> {
        let validate = self.validate;
        self.read(spec, |text| match text.bytes().find(|byte| !allowed(*byte)) {
            Some(byte) if validate => Err(format!("{:?} may not stand in {what}", char::from(byte))),
            _ => Ok(Arc::from(text)),
        })
    }

    /// One of a closed list of words.
    pub fn word<T: Copy>(&mut self, spec: &Spec, words: &[(&'static str, T)]) -> Value<T> {
        self.read(spec, |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                format!("must be one of {}", known.join(", "))
            })
        })
    }

    /// Addresses and networks, comma separated.
    pub fn cidrs(&mut self, spec: &Spec) -> Value<Arc<[IpNet]>> {
        self.read(spec, |text| parse_cidrs(text).map(Into::into))
    }

    /// A reference `name` or `namespace/name`. Another namespace is refused unless the ConfigMap allows it (`B-8`).
    pub fn reference(&mut self, spec: &Spec) -> Value<ObjectKey> {
        let own = &self.ingress.meta.key.namespace;
        let cross = self.cross_namespace;
        self.read(spec, |text| {
            let (namespace, name) = text.split_once('/').unwrap_or((own, text));
            if !is_dns_name(namespace, 63) || !is_dns_name(name, 253) {
                return Err("is no reference to an object: write name or namespace/name".into());
            }
            if namespace != &**own && !cross {
                return Err(
                    "names another namespace, which allow-cross-namespace-resources does not permit".into()
                );
            }
            Ok(ObjectKey::new(namespace, name))
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    One,
    Many,
}

/// Length, control characters, then trimming, in this order (CVE-2024-7646): a control byte is never trimmed away.
/// One trailing newline is what a YAML block scalar leaves behind, so that alone is let pass.
fn checked(raw: &str, lines: Lines) -> Result<String, String> {
    if raw.len() > MAX_VALUE {
        return Err(format!("is longer than {MAX_VALUE} bytes"));
    }
    let raw = raw.strip_suffix('\n').unwrap_or(raw);
    let bad = |byte: &u8| {
        (*byte < 0x20 && *byte != b'\t' && !(*byte == b'\n' && lines == Lines::Many)) || *byte == 0x7f
    };
    if let Some(byte) = raw.bytes().find(bad) {
        return Err(format!("holds the control character 0x{byte:02X}"));
    }
    let trim = |line: &str| line.trim_matches([' ', '\t']).to_owned();
    let text = match lines {
        Lines::One => trim(raw),
        Lines::Many => raw.split('\n').map(trim).collect::<Vec<_>>().join("\n").trim_matches('\n').to_owned(),
    };
    if text.is_empty() { Err("is empty".into()) } else { Ok(text) }
}

/// The value of an annotation or key as findings show it, which others than the owner read too (H-2): no text of snippets, since their findings
/// name line and column, and of URLs neither who asks nor what for.
pub(in crate::policy) fn shown(full: &str, value: &str) -> String {
    if full.ends_with("-snippet") {
        return String::new();
    }
    let mut text = shorten(value);
    if let Some(query) = text.contains("://").then(|| text.find('?')).flatten() {
        text.truncate(query + 1);
        text.push('…');
    }
    let authority = text.find("://").map(|scheme| scheme + 3);
    let user = authority.and_then(|start| {
        let length = text.get(start..)?.split(['/', '?', '#', ',', ' ']).next()?.rfind('@')?;
        Some(start..start + length)
    });
    if let Some(user) = user {
        text.replace_range(user, "…");
    }
    text
}

fn shorten(value: &str) -> String {
    match value.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
        None => value.to_owned(),
    }
}

/// Go's `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("is no boolean: write true or false".into()),
    }
}

/// `on` or `off`, as nginx writes switches; booleans are taken too.
pub fn parse_on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        other => parse_bool(other).map_err(|_| "must be on or off".into()),
    }
}

/// A decimal number of at most ten digits.
pub fn parse_int(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sound = (1..=10).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = if sound { text.parse().ok() } else { None };
    number.ok_or_else(|| "is no whole number".into())
}

/// A decimal number from 0 to 4294967295.
pub fn parse_count(text: &str) -> Result<u32, String> {
    u32::try_from(parse_int(text)?).map_err(|_| "must lie between 0 and 4294967295".into())
}

/// Seconds, or a number with a unit (`ms`, `s`, `m`, `h`, `d`).
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number: u64 = match digits.len() {
        1..=9 => digits.parse().map_err(|_| "is no duration")?,
        _ => return Err("is no duration: write seconds, or a number with ms, s, m, h or d".into()),
    };
    Ok(match unit {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3600),
        "d" => Duration::from_secs(number * 86400),
        _ => return Err("is no duration: write seconds, or a number with ms, s, m, h or d".into()),
    })
}

/// Bytes, or a number with a unit (`b`, `k`, `m`, `g`, either case).
pub fn parse_size(text: &str) -> Result<u64, String> {
    let error = || "is no size: write bytes, or a number with k, m or g".to_owned();
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if !(1..=10).contains(&digits.len()) {
        return Err(error());
    }
    let number: u64 = digits.parse().map_err(|_| error())?;
    let factor = match unit {
        "" | "b" | "B" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return Err(error()),
    };
    number.checked_mul(factor).ok_or_else(error)
}

/// Addresses and networks, comma separated; a bare address is a network of one.
pub fn parse_cidrs(text: &str) -> Result<Vec<IpNet>, String> {
    let mut nets = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        if nets.len() == MAX_CIDRS {
            return Err(format!("lists more than {MAX_CIDRS} networks"));
        }
        let net = item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
        nets.push(net.map_err(|_| format!("{item:?} is no address and no network"))?.trunc());
    }
    if nets.is_empty() { Err("lists no network".into()) } else { Ok(nets) }
}

/// True for lower-case labels of letters, digits, `-` and `.`.
pub fn is_dns_name(text: &str, longest: usize) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    text.len() <= longest
        && edge(text.bytes().next())
        && edge(text.bytes().last())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

/// True for letters, digits and `-._~/:`: ingress-nginx's basic characters.
pub fn is_basic(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b':')
}

/// True for basic characters and `,?&=`: ingress-nginx's URL characters.
pub fn is_url_char(byte: u8) -> bool {
    is_basic(byte) || matches!(byte, b',' | b'?' | b'&' | b'=')
}

/// True for characters of expressions as ingress-nginx allows them.
pub fn is_regex_char(byte: u8) -> bool {
    is_basic(byte)
        || matches!(byte, b'^' | b'$' | b'[' | b']' | b'(' | b')' | b'{' | b'}' | b'*' | b'+' | b'?' | b'|')
        || matches!(byte, b'&' | b'=' | b'\\')
}

/// Names that no annotation, ConfigMap or snippet may set (`B.3`).
pub fn is_protected_field(name: &str) -> bool {
    const PROTECTED: [&str; 10] = [
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "content-length",
        "upgrade",
        "http2-settings",
    ];
    !is_token(name.as_bytes()) || PROTECTED.iter().any(|protected| protected.eq_ignore_ascii_case(name))
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
