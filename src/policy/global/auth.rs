//! `global-auth-*`: the details of external authentication for all routes. A faulty one shuts the routes that it was to
//! guard; it never leaves them open.

use std::sync::Arc;

use crate::policy::annotation::parse_bool;
use crate::policy::external_auth::{
    AuthUrl, Draft, ExternalAuth, Lifetimes, cache_key, method, names, redirect, signin,
};

/// External authentication of routes that say nothing about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GlobalAuth {
    /// There is none.
    #[default]
    Off,
    /// It is asked for and cannot be had: the routes stay shut.
    Broken,
    /// It asks this service.
    On(Arc<ExternalAuth>),
}

/// The keys seen so far.
#[derive(Debug, Default)]
pub(super) struct GlobalAuthDraft {
    url: Option<AuthUrl>,
    details: Draft,
    wanted: bool,
    faulty: bool,
}

impl GlobalAuthDraft {
    /// Takes one key.
    pub(super) fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        self.wanted |= key == "global-auth-url";
        let result = self.take(key, text);
        self.faulty |= result.is_err();
        result
    }

    fn take(&mut self, key: &str, text: &str) -> Result<(), String> {
        let details = &mut self.details;
        match key {
            "global-auth-url" => self.url = Some(AuthUrl::parse(text)?),
            "global-auth-method" => details.method = Some(method(text)?),
            "global-auth-signin" => details.signin = Some(signin::parse(text)?),
            "global-auth-signin-redirect-param" => details.signin_param = Some(signin::parameter(text)?),
            "global-auth-response-headers" => details.response_headers = names(text)?,
            "global-auth-request-redirect" => details.request_redirect = Some(redirect(text)?),
            "global-auth-always-set-cookie" => details.always_set_cookie = parse_bool(text)?,
            "global-auth-cache-key" => details.cache_key = Some(cache_key(text)?),
            "global-auth-cache-duration" => details.lifetimes = Some(Lifetimes::parse(text)?),
            _ => return Err("is not read".into()),
        }
        Ok(())
    }

    /// What the keys say together.
    pub(super) fn finish(self) -> GlobalAuth {
        match self.url {
            Some(url) if !self.faulty => GlobalAuth::On(Arc::new(self.details.finish(url))),
            _ if self.wanted => GlobalAuth::Broken,
            _ => GlobalAuth::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(keys: &[(&str, &str)]) -> GlobalAuth {
        let mut draft = GlobalAuthDraft::default();
        for (key, text) in keys {
            let _reported_by_the_caller = draft.set(&format!("global-auth-{key}"), text);
        }
        draft.finish()
    }

    #[test]
    fn a_fault_anywhere_closes_and_never_opens() {
        let url = ("url", "http://auth.test/check");
        assert_eq!(auth(&[]), GlobalAuth::Off);
        assert_eq!(auth(&[("method", "HEAD")]), GlobalAuth::Off);
        assert_eq!(auth(&[("method", "junk")]), GlobalAuth::Off);
        let GlobalAuth::On(on) = auth(&[url, ("response-headers", "Foo, Bar"), ("signin", "http://a/")])
        else {
            panic!("sound keys");
        };
        assert_eq!((on.response_headers.len(), on.signin.is_some()), (2, true));
        assert_eq!(auth(&[("url", "auth.test")]), GlobalAuth::Broken);
        for (key, bad) in [
            ("method", "junk"),
            ("signin", "javascript:x"),
            ("signin-redirect-param", "a b"),
            ("response-headers", "Host"),
            ("request-redirect", "$unknown"),
            ("always-set-cookie", "perhaps"),
            ("cache-key", "$unknown"),
            ("cache-duration", "5x"),
        ] {
            assert_eq!(auth(&[url, (key, bad)]), GlobalAuth::Broken, "{key}");
            assert_eq!(auth(&[(key, bad), url]), GlobalAuth::Broken, "{key}");
        }
    }
}
