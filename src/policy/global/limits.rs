//! Bounds of what clients may cost (`security.md` section D): the keys of the ConfigMap that are ours or nginx's own
//! directives, beside those that ingress-nginx has. `proxy` and `app` apply them.
//!
//! Names are those of nginx's directives where nginx has one (`send_timeout` is `send-timeout`).

use std::time::Duration;

use super::parse::put;
use super::values::positive;
use crate::policy::annotation::{parse_count, parse_size};
use crate::policy::timeout;

/// Every bound that is not a key of ingress-nginx. New connections and requests see a change at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `ssl-handshake-timeout`: from the accepted connection to the end of its handshake.
    pub handshake_timeout: Duration,
    /// `max-ssl-handshakes`: handshakes at once on one worker.
    pub handshakes: u32,
    /// `send-timeout`: between two writes to a client that takes nothing.
    pub send_timeout: Duration,
    /// `keep-alive-time`: age at which a connection is closed with its next answer.
    pub connection_age: Duration,
    /// `max-headers`: field lines of a request head.
    pub fields: u32,
    /// `client-body-min-rate`: bytes per second over the time that a body is waited for; 0 for none.
    pub body_rate: u64,
    /// `max-connections-per-client`: connections of one address (of a /64 network with IPv6); 0 for any number.
    pub per_client: u32,
    /// `max-inflight-requests`: requests under way in the process.
    pub requests: u32,
    /// `max-body-memory`: what buffered bodies may hold together.
    pub body_memory: Share,
    /// `http2-max-idle-frames`: frames that ask for nothing, in ten seconds.
    pub idle_frames: u32,
    /// `http2-max-resets`: streams that a client opens and resets, in ten seconds.
    pub resets: u32,
    /// `http2-max-provoked-resets`: resets that a client makes us send, not yet settled.
    pub provoked_resets: u32,
    /// `http2-max-continuations`: CONTINUATION frames of one header block.
    pub continuations: u32,
}

/// A part of the memory limit, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Percent of the memory limit, 1 to 100.
    Percent(u8),
    /// Bytes.
    Bytes(u64),
}

impl Share {
    /// Bytes of a whole of `limit` bytes.
    pub fn of(self, limit: u64) -> u64 {
        match self {
            Self::Percent(percent) => limit / 100 * u64::from(percent),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            handshakes: 8192,
            send_timeout: Duration::from_secs(60),
            connection_age: Duration::from_secs(3600),
            fields: 200,
            body_rate: 0,
            per_client: 0,
            requests: 32_768,
            body_memory: Share::Percent(25),
            idle_frames: 1000,
            resets: 100,
            provoked_resets: 256,
            continuations: 8,
        }
    }
}

impl Limits {
    /// Sets one key; `None` for a key of somebody else.
    pub(super) fn set(&mut self, key: &str, text: &str) -> Option<Result<(), String>> {
        Some(match key {
            "client-body-min-rate" => put(&mut self.body_rate, parse_size(text)),
            "http2-max-continuations" => put(&mut self.continuations, positive(text)),
            "http2-max-idle-frames" => put(&mut self.idle_frames, positive(text)),
            "http2-max-provoked-resets" => put(&mut self.provoked_resets, positive(text)),
            "http2-max-resets" => put(&mut self.resets, positive(text)),
            "keep-alive-time" => put(&mut self.connection_age, timeout::parse(text)),
            "max-body-memory" => put(&mut self.body_memory, share(text)),
            "max-connections-per-client" => put(&mut self.per_client, parse_count(text)),
            "max-headers" => put(&mut self.fields, positive(text)),
            "max-inflight-requests" => put(&mut self.requests, positive(text)),
            "max-ssl-handshakes" => put(&mut self.handshakes, positive(text)),
            "send-timeout" => put(&mut self.send_timeout, timeout::parse(text)),
            "ssl-handshake-timeout" => put(&mut self.handshake_timeout, timeout::parse(text)),
            _ => return None,
        })
    }
}

/// `25%`, or a size.
fn share(text: &str) -> Result<Share, String> {
    let Some(percent) = text.strip_suffix('%') else {
        return match parse_size(text)? {
            0 => Err("must be more than nothing".into()),
            bytes => Ok(Share::Bytes(bytes)),
        };
    };
    match percent.parse() {
        Ok(percent @ 1..=100) => Ok(Share::Percent(percent)),
        _ => Err("must be a size or 1% to 100%".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, text: &str) -> Result<Limits, String> {
        let mut limits = Limits::default();
        limits.set(key, text).expect("a key of this file").map(|()| limits)
    }

    #[test]
    fn a_share_of_memory_is_a_size_or_a_percentage() {
        for (text, expect) in [
            ("25%", Some(Share::Percent(25))),
            ("100%", Some(Share::Percent(100))),
            ("64m", Some(Share::Bytes(64 << 20))),
            ("0%", None),
            ("101%", None),
            ("0", None),
            ("-1%", None),
            ("much", None),
            ("", None),
        ] {
            let read = set("max-body-memory", text).ok().map(|limits| limits.body_memory);
            assert_eq!(read, expect, "{text:?}");
        }
        assert_eq!((Share::Percent(25).of(400), Share::Bytes(7).of(400)), (100, 7));
    }

    #[test]
    fn limits_whose_absence_would_be_no_limit_cannot_be_nothing() {
        for key in ["max-headers", "max-inflight-requests", "max-ssl-handshakes", "http2-max-resets"] {
            assert!(set(key, "0").is_err(), "{key}");
            assert!(set(key, "1").is_ok(), "{key}");
        }
        for key in ["client-body-min-rate", "max-connections-per-client"] {
            assert!(set(key, "0").is_ok(), "{key}");
        }
    }
}
