//! `proxy-connect-timeout`, `proxy-send-timeout`, `proxy-read-timeout`.

use std::time::Duration;

use super::annotation::{Reader, Risk, Scope, Spec, parse_duration};
use super::global::Globals;

const CONNECT: Spec = Spec::new("proxy-connect-timeout", Scope::Location, Risk::Low)
    .values("ConfigMap proxy-connect-timeout (5)", "10")
    .doc("Seconds until a connection to the backend must stand; then 504.");
const SEND: Spec = Spec::new("proxy-send-timeout", Scope::Location, Risk::Low)
    .values("ConfigMap proxy-send-timeout (60)", "120")
    .doc("Seconds between two writes to the backend; then 504.");
const READ: Spec = Spec::new("proxy-read-timeout", Scope::Location, Risk::Low)
    .values("ConfigMap proxy-read-timeout (60)", "3600")
    .doc("Seconds between two reads from the backend, idle WebSocket and gRPC streams included; then 504.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[CONNECT, SEND, READ];

/// Timeouts towards a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To a usable connection.
    pub connect: Duration,
    /// Between two writes.
    pub send: Duration,
    /// Between two reads.
    pub read: Duration,
}

impl Timeouts {
    /// Reads the family over the ConfigMap's values.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Self {
        Self {
            connect: reader.read(&CONNECT, parse).or(globals.proxy_connect_timeout),
            send: reader.read(&SEND, parse).or(globals.proxy_send_timeout),
            read: reader.read(&READ, parse).or(globals.proxy_read_timeout),
        }
    }
}

/// A duration that is not zero.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("would time out at once".into()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::read;

    fn timeouts(annotations: &[(&str, &str)]) -> [u64; 3] {
        let timeouts = read(annotations, |reader| Timeouts::read(reader, &Globals::default()));
        [timeouts.connect, timeouts.send, timeouts.read].map(|duration| duration.as_secs())
    }

    #[test]
    fn seconds_are_read_and_bad_values_fall_back() {
        assert_eq!(timeouts(&[]), [5, 60, 60]);
        assert_eq!(
            timeouts(&[("proxy-read-timeout", "3600"), ("proxy-connect-timeout", "15s")]),
            [15, 60, 3600]
        );
        for bad in ["1k", "0", "-1", "", "1.5", "99999999999"] {
            assert_eq!(timeouts(&[("proxy-send-timeout", bad)]), [5, 60, 60], "{bad}");
        }
    }
}
