//! What may stop a request inside its location before a backend is asked: address lists, passwords, external
//! authentication, put together as `satisfy` says. The decisions are `policy`'s; here is their I/O and state.
//!
//! `service` calls [`access`] once, after redirects and preflights and before the body is read.

use super::forward::Way;
use crate::policy::basic_auth::PasswordAuth;
use crate::policy::external_auth::SignIn;
use crate::policy::external_auth::answer::carries_cookies;
use crate::policy::redirect::RedirectStyle;
use crate::policy::satisfy::Tally;
use crate::policy::template::{Facts, Template};
use crate::reply::LocalReply;
use crate::wire::Fields;

pub mod digest;
pub mod external;
pub mod limit;
pub mod password;

/// What granting access led to.
#[derive(Debug, Default)]
pub struct Granted {
    /// `$remote_user`: the name of basic credentials, as sent.
    pub user: Option<Vec<u8>>,
    /// Fields that the backend sees instead of the client's; `None` takes the field away.
    pub fields: Vec<(Box<str>, Option<Vec<u8>>)>,
    /// `Set-Cookie` lines of the authentication service, for the client.
    pub cookies: Vec<Vec<u8>>,
    /// They go out with any status.
    pub cookies_always: bool,
    /// What was asked for before the client was sent to a sign-in page: stays on that answer, as with nginx.
    pub challenges: Vec<String>,
}

/// Puts fields in place of the client's; `None` takes one away.
pub(super) fn edit(ours: &[(Box<str>, Option<Vec<u8>>)], fields: &mut Fields) {
    for (name, value) in ours {
        let kept = value.as_ref().is_some_and(|value| fields.set(name, value).is_ok());
        if !kept {
            fields.remove(name);
        }
    }
}

impl Granted {
    /// Adds the cookies, and the challenges, to an answer with `status`.
    pub fn send_to_client(&self, status: u16, fields: &mut Fields) {
        if self.cookies_always || carries_cookies(status) {
            for cookie in &self.cookies {
                let _unsendable = fields.append("Set-Cookie", cookie);
            }
        }
        for challenge in &self.challenges {
            let _unsendable = fields.append("WWW-Authenticate", challenge.as_bytes());
        }
    }
}

/// Counts a request towards the limits of its location: nginx's preaccess phase, before anybody is asked who they are.
///
/// # Errors
/// The answer for a request that is one too many.
pub fn limited(way: &Way<'_>) -> Result<(), LocalReply> {
    let policies = &way.location.policies;
    if policies.limits.is_none() && policies.global_rate_limit.is_none() {
        return Ok(());
    }
    if !way.exchange.is_first_count() && way.run.is_turned() {
        return Ok(());
    }
    let (worker, globals, client) = (&way.exchange.worker, way.globals(), way.view.forwarded.client);
    let now = worker.limits.now();
    if let Some(limits) = policies.limits.as_ref().filter(|limits| !limits.exempts(client))
        && let Some(key) = limit_key(way, globals.limit_key.as_ref())
    {
        if !worker.limits.admit(limits, &key, now) {
            return Err(LocalReply::Limited {
                status: way.run.limit_req_status().unwrap_or(globals.limit_req_status),
                limit: "requests",
            });
        }
        if let Some(limit) = limits.connections {
            let running = worker.limits.enter(&limits.zone, limit, &key, now);
            let status = way.run.limit_conn_status().unwrap_or(globals.limit_conn_status);
            way.exchange.counts(running.ok_or(LocalReply::Limited { status, limit: "connections" })?);
        }
    }
    if let Some(limit) = policies.global_rate_limit.as_ref().filter(|limit| !limit.ignores(client))
        && let Some(key) = limit_key(way, Some(&limit.key))
        && !worker.limits.admit_in_window(limit, &key, now)
    {
        return Err(LocalReply::Limited { status: globals.global_rate_limit_status, limit: "window" });
    }
    Ok(())
}

/// Whom a request counts for; `None` for an empty key, which nothing limits, as in nginx.
fn limit_key(way: &Way<'_>, template: Option<&Template>) -> Option<limit::Key> {
    let Some(template) = template else { return Some(limit::address_key(way.view.forwarded.client)) };
    let backend = way.location.backend()?;
    let text = template.expand(&Facts { view: way.view, route: way.facts(backend) });
    (!text.is_empty()).then(|| limit::text_key(&text))
}

/// False where [`access`] lets everybody pass.
pub fn asks(way: &Way<'_>) -> bool {
    let policies = &way.location.policies;
    let asks = policies.ip_access.is_some()
        || way.run.has_access()
        || policies.password_auth.is_some()
        || policies.external_auth.is_some();
    asks && !way.location.is_acme()
}

/// Judges a request by every check of its location.
///
/// # Errors
/// The answer for a request that may not pass.
pub async fn access(way: &Way<'_>) -> Result<(), LocalReply> {
    if asks(way) { Box::pin(judge(way)).await } else { Ok(()) }
}

/// In the order of nginx's access phase: addresses, passwords, the authentication service.
async fn judge(way: &Way<'_>) -> Result<(), LocalReply> {
    let policies = &way.location.policies;
    let free = way.globals().is_free_of_auth(&way.location.path);
    let mut granted = Granted::default();
    let mut tally = Tally::default();
    let verdict = way.run.access(policies.ip_access.as_ref(), way.view.forwarded.client, way.view.method);
    let mut more = tally.add(policies.satisfy, verdict);
    if let Some(auth) = policies.password_auth.as_ref().filter(|_| !free) {
        // Whoever is admitted by another check: a password is for us and not for the backend.
        granted.fields.push(("Authorization".into(), None));
        granted.user = match auth {
            PasswordAuth::Basic(_) => password::user(way.view.fields),
            PasswordAuth::Digest(_) => digest::user(way.view.fields),
        };
        if more {
            let verdict = match auth {
                PasswordAuth::Basic(basic) => password::judge(way, basic).await,
                PasswordAuth::Digest(auth) => digest::judge(way, auth),
            };
            more = tally.add(policies.satisfy, verdict);
        }
    }
    if let Some(auth) = policies.external_auth.as_ref().filter(|_| !free && !way.run.auth_off()) {
        granted.fields.extend(auth.unheard());
        if more {
            tally.add(policies.satisfy, external::judge(way, auth, &mut granted).await);
        }
    }
    let outcome = tally.outcome().map(|refusal| signed_in(way, refusal, &mut granted));
    way.exchange.grant(granted);
    outcome.map_or(Ok(()), Err)
}

/// Whoever must say who they are is sent to the sign-in page, where there is one.
fn signed_in(way: &Way<'_>, refusal: LocalReply, granted: &mut Granted) -> LocalReply {
    let LocalReply::Unauthorized { challenges } = refusal else { return refusal };
    match sign_in(way) {
        Some(redirect) => {
            granted.challenges = challenges;
            redirect
        }
        None => LocalReply::Unauthorized { challenges },
    }
}

/// The redirect to the sign-in page of the location, if it has one.
pub fn sign_in(way: &Way<'_>) -> Option<LocalReply> {
    let signin = sign_in_page(way).filter(|_| !way.run.auth_off())?;
    let facts = Facts { view: way.view, route: way.own_facts() };
    // The location of the redirect is nginx's own: annotations do not reach it.
    let style = RedirectStyle { relative: way.globals().relative_redirects, with_port: false };
    signin.redirect(&facts, style)
}

/// The sign-in page of the location: its `error_page` of nginx, beside which those of the ConfigMap do not count.
pub fn sign_in_page<'w>(way: &Way<'w>) -> Option<&'w SignIn> {
    let signin = way.location.policies.external_auth.as_ref()?.signin.as_ref()?;
    (!way.globals().is_free_of_auth(&way.location.path)).then_some(signin)
}
