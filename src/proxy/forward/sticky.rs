//! The sticky cookie: which backend the client is bound to, and the field that binds it.

use super::Way;
use crate::policy::session_cookie::{self, Sent};
use crate::route::Backend;
use crate::route::decide::Sticky;
use crate::wire::Fields;

/// Which backend a sticky cookie is bound to, and its key for the primary.
pub(super) fn bound<'c>(primary: &Backend, cookie: Option<&'c str>) -> (Sticky, Option<&'c str>) {
    let Some(value) = cookie else { return (Sticky::Unbound, None) };
    if let Some(key) = key_of(primary, value) {
        return (Sticky::Primary, Some(key));
    }
    let canary = primary.canary.as_ref().and_then(|canary| key_of(&canary.backend, value));
    (if canary.is_some() { Sticky::Canary } else { Sticky::Unbound }, None)
}

/// The key of a cookie that this backend gave out.
pub(super) fn key_of<'c>(backend: &Backend, value: &'c str) -> Option<&'c str> {
    session_cookie::key_for(value, &session_cookie::backend_tag(&backend.name))
}

/// Binds the client to the endpoint of this key.
pub(super) fn set_cookie(way: &Way<'_>, backend: &Backend, key: &str, fields: &mut Fields) {
    let value = session_cookie::value(key, &session_cookie::backend_tag(&backend.name));
    let sent = Sent {
        rule_path: &way.location.rule_path,
        scheme: way.view.scheme,
        user_agent: way.view.fields.get_str("user-agent").unwrap_or_default(),
        now: way.exchange.worker.unix_now(),
    };
    let line = backend.policies.cookie.set_cookie(&value, &sent);
    let _unsendable = fields.append("Set-Cookie", line.as_bytes());
}
