//! `proxy_cookie_flags` of snippets: `Secure`, `HttpOnly` and `SameSite` set or taken off cookies of a backend, as nginx
//! does. `response_rewrite` asks for each cookie.

use std::sync::Arc;

use crate::pattern::{Anchor, Case, Pattern};
use crate::policy::template::{Facts, Template};

/// Which cookies, and what becomes of their flags.
#[derive(Debug, Clone, PartialEq)]
pub struct FlagRule {
    name: Name,
    pub(super) flags: Flags,
}

#[derive(Debug, Clone, PartialEq)]
enum Name {
    Text(Template),
    Expression(Arc<Pattern>),
}

/// Flags to set (`Some(text)`) or to take off (`Some(None)`); `None` leaves one alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    secure: Option<Option<&'static str>>,
    http_only: Option<Option<&'static str>>,
    same_site: Option<Option<&'static str>>,
}

impl FlagRule {
    /// Reads `cookie [flag …]`.
    ///
    /// # Errors
    /// Says which word is wrong.
    pub fn parse<'w>(cookie: &str, words: impl Iterator<Item = &'w str>) -> Result<Self, String> {
        let name = match cookie.strip_prefix('~') {
            Some(expression) => {
                let pattern = Pattern::compile(expression, Case::Insensitive, Anchor::None);
                Name::Expression(Arc::new(pattern.map_err(|error| error.to_string())?))
            }
            None => Name::Text(Template::parse(cookie).map_err(|error| error.to_string())?),
        };
        let mut flags = Flags::default();
        for word in words {
            match word {
                "secure" => flags.secure = Some(Some("Secure")),
                "nosecure" => flags.secure = Some(None),
                "httponly" => flags.http_only = Some(Some("HttpOnly")),
                "nohttponly" => flags.http_only = Some(None),
                "samesite=strict" => flags.same_site = Some(Some("SameSite=Strict")),
                "samesite=lax" => flags.same_site = Some(Some("SameSite=Lax")),
                "samesite=none" => flags.same_site = Some(Some("SameSite=None")),
                "nosamesite" => flags.same_site = Some(None),
                other => return Err(format!("{other} is no flag of a cookie")),
            }
        }
        Ok(Self { name, flags })
    }

    /// True for a cookie of this name.
    pub(super) fn takes(&self, name: &[u8], facts: &Facts<'_>) -> bool {
        match &self.name {
            Name::Text(text) => text.expand(facts).as_bytes().eq_ignore_ascii_case(name),
            Name::Expression(pattern) => pattern.is_match(name).unwrap_or(false),
        }
    }
}

impl Flags {
    /// What becomes of an attribute that a cookie has: `None` leaves it, `Some(None)` takes it off, else this stands there.
    pub(super) fn judge(&mut self, name: &[u8], value: Option<&[u8]>) -> Option<Option<&'static str>> {
        let (place, same_site) = match name {
            name if name.eq_ignore_ascii_case(b"secure") => (&mut self.secure, false),
            name if name.eq_ignore_ascii_case(b"httponly") => (&mut self.http_only, false),
            name if name.eq_ignore_ascii_case(b"samesite") => (&mut self.same_site, true),
            _ => return None,
        };
        match *place {
            None => None,
            Some(None) => Some(None),
            Some(Some(text)) => {
                // It is there: nothing is added at the end.
                *place = None;
                let wanted = text.split_once('=').map(|(_, wanted)| wanted.as_bytes());
                let same =
                    value.zip(wanted).is_some_and(|(value, wanted)| value.eq_ignore_ascii_case(wanted));
                (same_site && !same).then_some(Some(text))
            }
        }
    }

    /// What a cookie lacks.
    pub(super) fn missing(self) -> impl Iterator<Item = &'static str> {
        [self.secure, self.http_only, self.same_site].into_iter().flatten().flatten()
    }
}
