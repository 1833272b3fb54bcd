//! `custom-http-errors`, `disable-proxy-intercept-errors`: which answers are replaced by a page of the error backend.

use std::sync::Arc;

use super::annotation::{Reader, Risk, Scope, Spec};
use super::global::Globals;

const CODES: Spec = Spec::new("custom-http-errors", Scope::Location, Risk::Low)
    .values("ConfigMap custom-http-errors (none)", "404,503")
    .doc("Answers with these statuses (400 to 599) are replaced by a page of the default-backend Service.");
const OFF: Spec = Spec::new("disable-proxy-intercept-errors", Scope::Location, Risk::Low)
    .values("ConfigMap disable-proxy-intercept-errors (false)", "true")
    .doc("Leave the answers of backends alone; only answers of the proxy itself are replaced.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[CODES, OFF];

/// Which statuses are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomErrors {
    /// Statuses, sorted; empty for none.
    pub codes: Arc<[u16]>,
    /// False with `disable-proxy-intercept-errors`: only our own answers are replaced, not those of backends.
    pub intercept: bool,
    /// The codes are the ConfigMap's. nginx inherits them only where a location has no `error_page` of its own, and
    /// `auth-signin` is one.
    pub inherited: bool,
}

/// Who made an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// A backend.
    ByBackend,
    /// The proxy itself.
    Here,
}

impl CustomErrors {
    /// Reads the family over the ConfigMap's values; codes of the annotation replace those of the ConfigMap.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Self {
        let own = reader.read(&CODES, |text| parse_codes(text, 400)).ok();
        let off = reader.bool(&OFF).or(globals.disable_proxy_intercept_errors);
        let inherited = own.is_none();
        Self {
            codes: own.unwrap_or_else(|| Arc::clone(&globals.custom_http_errors)),
            intercept: !off,
            inherited,
        }
    }

    /// What the ConfigMap says for locations without annotations.
    pub fn global(globals: &Globals) -> Self {
        Self {
            codes: Arc::clone(&globals.custom_http_errors),
            intercept: !globals.disable_proxy_intercept_errors,
            inherited: true,
        }
    }

    /// True when statuses of backends are looked at: there are codes, and they are not left alone.
    pub fn intercepts(&self) -> bool {
        self.intercept && !self.codes.is_empty()
    }

    /// True when an answer with `status` is to be replaced by a page of the error backend.
    pub fn replaces(&self, status: u16, made: Made) -> bool {
        (made == Made::Here || self.intercept) && self.codes.binary_search(&status).is_ok()
    }
}

/// Statuses from `low` to 599, comma separated; sorted.
pub(super) fn parse_codes(text: &str, low: u16) -> Result<Arc<[u16]>, String> {
    match sound_codes(text, low) {
        (_, Some(reason)) => Err(reason),
        (codes, None) if codes.is_empty() => Err("lists no status".into()),
        (codes, None) => Ok(codes),
    }
}

/// The statuses among the entries of a list, and what is wrong with the first other entry.
pub(super) fn sound_codes(text: &str, low: u16) -> (Arc<[u16]>, Option<String>) {
    let mut codes = Vec::new();
    let mut fault = None;
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        match item.parse().ok().filter(|code| item.len() == 3 && (low..=599).contains(code)) {
            Some(code) => codes.push(code),
            None => drop(fault.get_or_insert_with(|| format!("{item:?} is no status from {low} to 599"))),
        }
    }
    codes.sort_unstable();
    codes.dedup();
    (codes.into(), fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::read;

    fn errors(annotations: &[(&str, &str)]) -> CustomErrors {
        let globals = Globals { custom_http_errors: Arc::from([500]), ..Globals::default() };
        read(annotations, |reader| CustomErrors::read(reader, &globals))
    }

    #[test]
    fn codes_of_the_annotation_replace_those_of_the_config_map() {
        assert_eq!(*errors(&[]).codes, [500]);
        assert_eq!(*errors(&[("custom-http-errors", "503, 404,503")]).codes, [404, 503]);
        assert_eq!(*errors(&[("custom-http-errors", "404,")]).codes, [404]);
    }

    #[test]
    fn a_bad_list_counts_as_absent() {
        for bad in [",", "200", "600", "4O4", "404;503", "+404"] {
            assert_eq!(*errors(&[("custom-http-errors", bad)]).codes, [500], "{bad}");
        }
    }

    #[test]
    fn interception_can_be_switched_off_for_backends_only() {
        let errors = errors(&[("custom-http-errors", "503"), ("disable-proxy-intercept-errors", "true")]);
        assert!(!errors.replaces(503, Made::ByBackend));
        assert!(errors.replaces(503, Made::Here));
        assert!(!errors.replaces(502, Made::Here));
    }
}
