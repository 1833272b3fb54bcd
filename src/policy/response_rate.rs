//! `limit-rate`, `limit-rate-after`: how fast one answer is sent, as nginx's directives of these names.

use std::time::Duration;

use super::annotation::{Reader, Risk, Scope, Spec};
use super::global::Globals;

const RATE: Spec = Spec::new("limit-rate", Scope::Location, Risk::Low)
    .values("ConfigMap limit-rate (0)", "100")
    .doc("Kilobytes of one answer per second; 0 for no limit.");
const AFTER: Spec = Spec::new("limit-rate-after", Scope::Location, Risk::Low)
    .values("ConfigMap limit-rate-after (0)", "500")
    .doc("Kilobytes of an answer that are sent before limit-rate counts.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[RATE, AFTER];

/// How fast an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseRate {
    /// Bytes per second, not zero.
    pub bytes: u64,
    /// Bytes before the rate counts.
    pub after: u64,
}

impl ResponseRate {
    /// Reads the family over the ConfigMap's values; `None` when nothing is limited.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Option<Self> {
        let kilobytes = reader.count(&RATE).or(globals.limit_rate);
        Self::of(kilobytes, reader.count(&AFTER).or(globals.limit_rate_after))
    }

    /// From kilobytes.
    pub fn of(kilobytes: u32, after: u32) -> Option<Self> {
        let bytes = u64::from(kilobytes) * 1024;
        (bytes > 0).then_some(Self { bytes, after: u64::from(after) * 1024 })
    }

    /// Bytes that may be sent now, or how long to wait. As nginx, which counts whole seconds and the one that has
    /// begun: a second's worth goes at once.
    pub fn allowance(&self, elapsed: Duration, sent: u64) -> Result<u64, Duration> {
        let seconds = elapsed.as_secs() + 1;
        let total = self.bytes.saturating_mul(seconds).saturating_add(self.after);
        match total.checked_sub(sent).filter(|left| *left > 0) {
            Some(left) => Ok(left),
            None => {
                let behind = sent.saturating_sub(total);
                let wait = behind.saturating_mul(1000) / self.bytes + 1;
                // Never past the next whole second by more than what is owed.
                let to_second = Duration::from_secs(seconds).saturating_sub(elapsed);
                Err(Duration::from_millis(wait).max(to_second.min(Duration::from_secs(1))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{diagnostics, read};

    fn rate(annotations: &[(&str, &str)]) -> Option<ResponseRate> {
        let globals = Globals { limit_rate: 1, ..Globals::default() };
        read(annotations, |reader| ResponseRate::read(reader, &globals))
    }

    #[test]
    fn annotations_stand_over_the_config_map_and_zero_is_no_limit() {
        assert_eq!(rate(&[]), ResponseRate::of(1, 0));
        assert_eq!(rate(&[("limit-rate", "0")]), None);
        assert_eq!(rate(&[("limit-rate", "3"), ("limit-rate-after", "2")]), ResponseRate::of(3, 2));
        assert_eq!(rate(&[("limit-rate", "fast")]), ResponseRate::of(1, 0));
        let broken = |reader: &mut Reader<'_>| ResponseRate::read(reader, &Globals::default());
        assert_eq!(diagnostics(&[("limit-rate", "-1")], broken), ["InvalidAnnotation"]);
    }

    #[test]
    fn a_second_s_worth_goes_at_once_and_the_rest_by_the_second() {
        let rate = ResponseRate::of(1, 1).unwrap();
        let check = |millis, sent, expect| {
            assert_eq!(rate.allowance(Duration::from_millis(millis), sent), expect, "{millis} {sent}");
        };
        check(0, 0, Ok(2048));
        check(0, 2000, Ok(48));
        check(0, 2048, Err(Duration::from_secs(1)));
        check(300, 2048, Err(Duration::from_millis(700)));
        check(1000, 2048, Ok(1024));
        check(0, 4096, Err(Duration::from_millis(2001)));
    }
}
