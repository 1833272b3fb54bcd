//! The sticky cookie: which backend the client is bound to, and the field that binds it.

use super::Way;
use crate::policy::session_cookie::{self, Sent};
use crate::route::Backend;
use crate::route::decide::Sticky;
use crate::wire::Fields;

/// Which backend a sticky cookie is bound to. Its second part says so, and matters for canaries only.
pub(super) fn bound(primary: &Backend, cookie: Option<&str>) -> Sticky {
    let Some((canary, value)) = primary.canary.as_ref().zip(cookie) else { return Sticky::Unbound };
    let is_of = |backend: &Backend| session_cookie::is_of(value, &session_cookie::backend_tag(&backend.name));
    if is_of(primary) {
        Sticky::Primary
    } else if is_of(&canary.backend) {
        Sticky::Canary
    } else {
        Sticky::Unbound
    }
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
