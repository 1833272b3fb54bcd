//! `proxy-next-upstream*`, `retry-non-idempotent`: when another endpoint is asked.

use std::time::Duration;

use http::Method;

use super::annotation::{Reader, Risk, Scope, Spec};
use super::global::Globals;

const ON: Spec = Spec::new("proxy-next-upstream", Scope::Location, Risk::Medium)
    .values("ConfigMap proxy-next-upstream (error timeout)", "error timeout http_502")
    .doc("Failures after which another endpoint is asked: error, timeout, invalid_header, http_500, http_502, http_503, http_504, http_403, http_404, http_429, non_idempotent; or off.");
const TIMEOUT: Spec = Spec::new("proxy-next-upstream-timeout", Scope::Location, Risk::Low)
    .values("ConfigMap proxy-next-upstream-timeout (0: none)", "10")
    .doc("Seconds after which no further endpoint is asked; 0 for no limit.");
const TRIES: Spec = Spec::new("proxy-next-upstream-tries", Scope::Location, Risk::Low)
    .values("ConfigMap proxy-next-upstream-tries (3)", "2")
    .doc("Endpoints asked in all; 0 for no limit.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[ON, TIMEOUT, TRIES];

/// Which failures lead to another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryOn {
    /// `error`: no connection, broken connection.
    pub error: bool,
    /// `timeout`.
    pub timeout: bool,
    /// `invalid_header`: an answer that is no HTTP.
    pub invalid_header: bool,
    /// `http_500`.
    pub http_500: bool,
    /// `http_502`.
    pub http_502: bool,
    /// `http_503`.
    pub http_503: bool,
    /// `http_504`.
    pub http_504: bool,
    /// `http_403`.
    pub http_403: bool,
    /// `http_404`.
    pub http_404: bool,
    /// `http_429`.
    pub http_429: bool,
}

/// What went wrong with a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// The request could not be written in time.
    SendTimeout,
    /// No answer in time.
    ReadTimeout,
    /// The connection broke before an answer.
    Reset,
    /// The answer is no HTTP.
    InvalidHeader,
    /// The answer has this status.
    Status(u16),
}

/// Retry policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Conditions.
    pub on: RetryOn,
    /// Tries in all; 0 for no limit.
    pub tries: u32,
    /// Total time for tries after the first; `None` for no limit.
    pub timeout: Option<Duration>,
    /// POST, LOCK and PATCH too are tried again after they were sent.
    pub non_idempotent: bool,
}

impl RetryOn {
    /// Nothing is tried again.
    pub const OFF: Self = Self {
        error: false,
        timeout: false,
        invalid_header: false,
        http_500: false,
        http_502: false,
        http_503: false,
        http_504: false,
        http_403: false,
        http_404: false,
        http_429: false,
    };

    /// True when the failure is one of the conditions.
    pub const fn covers(self, failure: Failure) -> bool {
        match failure {
            Failure::Connect | Failure::Reset => self.error,
            Failure::ConnectTimeout | Failure::SendTimeout | Failure::ReadTimeout => self.timeout,
            Failure::InvalidHeader => self.invalid_header,
            Failure::Status(500) => self.http_500,
            Failure::Status(502) => self.http_502,
            Failure::Status(503) => self.http_503,
            Failure::Status(504) => self.http_504,
            Failure::Status(403) => self.http_403,
            Failure::Status(404) => self.http_404,
            Failure::Status(429) => self.http_429,
            Failure::Status(_) => false,
        }
    }
}

impl Default for RetryOn {
    /// `error timeout`.
    fn default() -> Self {
        Self { error: true, timeout: true, ..Self::OFF }
    }
}

impl Retry {
    /// Reads the family over the ConfigMap's values.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Self {
        let (on, unsafe_too) = reader.read(&ON, parse_conditions).or((globals.proxy_next_upstream, false));
        let timeout = reader.duration(&TIMEOUT).map(limit).or(globals.proxy_next_upstream_timeout);
        Self {
            on,
            tries: reader.count(&TRIES).or(globals.proxy_next_upstream_tries),
            timeout,
            non_idempotent: unsafe_too || globals.retry_non_idempotent,
        }
    }

    /// True when another endpoint may be asked after `failure`. `tries_done` counts the one that failed; `request_sent`
    /// says that any byte of the request may have reached it.
    pub fn allows(
        &self,
        failure: Failure,
        method: &Method,
        request_sent: bool,
        tries_done: u32,
        elapsed: Duration,
    ) -> bool {
        let repeatable = !request_sent || self.non_idempotent || !is_non_idempotent(method);
        self.on.covers(failure)
            && repeatable
            && (self.tries == 0 || tries_done < self.tries)
            && self.timeout.is_none_or(|timeout| elapsed < timeout)
    }
}

/// POST, LOCK and PATCH: what nginx does not send twice.
fn is_non_idempotent(method: &Method) -> bool {
    matches!(method.as_str(), "POST" | "LOCK" | "PATCH")
}

/// Zero means no limit.
pub(super) const fn limit(duration: Duration) -> Option<Duration> {
    if duration.is_zero() { None } else { Some(duration) }
}

/// Conditions, and whether `non_idempotent` is among them.
pub(super) fn parse_conditions(text: &str) -> Result<(RetryOn, bool), String> {
    let (mut on, mut non_idempotent, mut off) = (RetryOn::OFF, false, false);
    for word in text.split_ascii_whitespace() {
        match word {
            "error" => on.error = true,
            "timeout" => on.timeout = true,
            "invalid_header" => on.invalid_header = true,
            "http_500" => on.http_500 = true,
            "http_502" => on.http_502 = true,
            "http_503" => on.http_503 = true,
            "http_504" => on.http_504 = true,
            "http_403" => on.http_403 = true,
            "http_404" => on.http_404 = true,
            "http_429" => on.http_429 = true,
            "non_idempotent" => non_idempotent = true,
            "off" => off = true,
            other => return Err(format!("{other:?} is no condition")),
        }
    }
    Ok((if off { RetryOn::OFF } else { on }, non_idempotent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::read;

    fn retry(annotations: &[(&str, &str)]) -> Retry {
        read(annotations, |reader| Retry::read(reader, &Globals::default()))
    }

    fn allows(retry: &Retry, failure: Failure, method: &Method, sent: bool, tries: u32) -> bool {
        retry.allows(failure, method, sent, tries, Duration::from_secs(1))
    }

    #[test]
    fn by_default_errors_and_timeouts_are_tried_three_times() {
        let retry = retry(&[]);
        assert!(allows(&retry, Failure::Connect, &Method::GET, false, 1));
        assert!(allows(&retry, Failure::ReadTimeout, &Method::PUT, true, 2));
        assert!(!allows(&retry, Failure::Reset, &Method::GET, true, 3));
        assert!(!allows(&retry, Failure::Status(502), &Method::GET, true, 1));
        assert!(!allows(&retry, Failure::InvalidHeader, &Method::GET, true, 1));
    }

    #[test]
    fn post_lock_and_patch_are_not_sent_twice() {
        let cautious = retry(&[]);
        let lock = Method::from_bytes(b"LOCK").unwrap();
        for method in [&Method::POST, &Method::PATCH, &lock] {
            assert!(!allows(&cautious, Failure::Reset, method, true, 1), "{method}");
            assert!(allows(&cautious, Failure::Connect, method, false, 1), "{method}");
        }
        assert!(allows(&cautious, Failure::Reset, &Method::DELETE, true, 1));
        let bold = retry(&[("proxy-next-upstream", "error non_idempotent")]);
        assert!(allows(&bold, Failure::Reset, &Method::POST, true, 1));
    }

    #[test]
    fn statuses_off_and_limits_are_read() {
        let statuses =
            retry(&[("proxy-next-upstream", "http_503 http_404"), ("proxy-next-upstream-tries", "0")]);
        assert!(allows(&statuses, Failure::Status(503), &Method::GET, true, 1000));
        assert!(!allows(&statuses, Failure::Status(500), &Method::GET, true, 1));
        assert!(!allows(&statuses, Failure::Connect, &Method::GET, false, 1));
        let off = retry(&[("proxy-next-upstream", "error off")]);
        assert!(!allows(&off, Failure::Connect, &Method::GET, false, 1));
        let short = retry(&[("proxy-next-upstream-timeout", "1")]);
        assert!(!allows(&short, Failure::Connect, &Method::GET, false, 1));
        assert_eq!(retry(&[("proxy-next-upstream-timeout", "0")]).timeout, None);
    }

    #[test]
    fn unknown_conditions_fall_back_to_the_config_map() {
        assert_eq!(retry(&[("proxy-next-upstream", "error http_418")]), retry(&[]));
        assert_eq!(retry(&[("proxy-next-upstream", "error;")]), retry(&[]));
    }
}
