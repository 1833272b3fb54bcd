//! What may stop a request inside its location before a backend is asked: address lists, passwords, external
//! authentication, put together as `satisfy` says. The decisions are `policy`'s; here is their I/O and state.
//!
//! `service` calls [`access`] once, after redirects and preflights and before the body is read.

use super::forward::Way;
use crate::policy::satisfy::Tally;
use crate::reply::LocalReply;
use crate::wire::Fields;

pub mod password;

/// What granting access led to.
#[derive(Debug, Default)]
pub struct Granted {
    /// `$remote_user`: the name of basic credentials, as sent.
    pub user: Option<Vec<u8>>,
    /// Fields that the backend sees instead of the client's; `None` takes the field away.
    pub fields: Vec<(Box<str>, Option<Vec<u8>>)>,
}

impl Granted {
    /// Puts the fields in place of the client's.
    pub fn edit(&self, fields: &mut Fields) {
        for (name, value) in &self.fields {
            let kept = value.as_ref().is_some_and(|value| fields.set(name, value).is_ok());
            if !kept {
                fields.remove(name);
            }
        }
    }
}

/// Judges a request by every check of its location.
///
/// # Errors
/// The answer for a request that may not pass.
pub async fn access(way: &Way<'_>) -> Result<(), LocalReply> {
    let policies = &way.location.policies;
    let by_address = policies.ip_access.is_some() || way.run.has_access();
    if way.location.is_acme() || (!by_address && policies.basic_auth.is_none()) {
        return Ok(());
    }
    Box::pin(judge(way)).await
}

/// In the order of nginx's access phase: addresses, passwords.
async fn judge(way: &Way<'_>) -> Result<(), LocalReply> {
    let policies = &way.location.policies;
    let mut granted = Granted::default();
    let mut tally = Tally::default();
    let mut more = true;
    let verdict = way.run.access(policies.ip_access.as_ref(), way.view.forwarded.client);
    more &= tally.add(policies.satisfy, verdict);
    if let Some(basic) =
        policies.basic_auth.as_ref().filter(|_| !way.globals().is_free_of_auth(&way.location.path))
    {
        // Whoever is admitted by another check: a password is for us and not for the backend.
        granted.fields.push(("Authorization".into(), None));
        granted.user = password::user(way.view.fields);
        if more {
            tally.add(policies.satisfy, password::judge(way, basic).await);
        }
    }
    way.exchange.grant(granted);
    tally.outcome().map_or(Ok(()), Err)
}
