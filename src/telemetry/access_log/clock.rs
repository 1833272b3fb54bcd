//! Wall-clock time as log lines show it. The text of a second is made once per second and worker.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Formats points in time; remembers the last second.
#[derive(Debug)]
pub struct Clock {
    zone: TimeZone,
    second: Option<i64>,
    local: String,
    iso: String,
    utc: String,
    syslog: String,
}

impl Clock {
    /// In the time zone of the process (`TZ`, else `/etc/localtime`, else UTC).
    pub fn system() -> Self {
        Self::in_zone(TimeZone::system())
    }

    /// In a given time zone.
    pub fn in_zone(zone: TimeZone) -> Self {
        Self {
            zone,
            second: None,
            local: String::new(),
            iso: String::new(),
            utc: String::new(),
            syslog: String::new(),
        }
    }

    /// `$time_local`: `02/Jan/2006:15:04:05 +0000`.
    pub fn local(&mut self, time: SystemTime) -> &str {
        self.turn_to(time);
        &self.local
    }

    /// `$time_iso8601`: `2006-01-02T15:04:05+00:00`.
    pub fn iso8601(&mut self, time: SystemTime) -> &str {
        self.turn_to(time);
        &self.iso
    }

    /// `2006-01-02T15:04:05` in UTC, to be followed by milliseconds and `Z`.
    pub fn utc_second(&mut self, time: SystemTime) -> &str {
        self.turn_to(time);
        &self.utc
    }

    /// As RFC 3164 has it: `Jan  2 15:04:05`.
    pub fn syslog(&mut self, time: SystemTime) -> &str {
        self.turn_to(time);
        &self.syslog
    }

    fn turn_to(&mut self, time: SystemTime) {
        let second = i64::try_from(since_epoch(time).as_secs()).unwrap_or_default();
        if self.second == Some(second) {
            return;
        }
        self.second = Some(second);
        let timestamp = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
        let local = timestamp.to_zoned(self.zone.clone());
        let offset = local.offset().seconds();
        let sign = if offset < 0 { '-' } else { '+' };
        let (hours, minutes) = (offset.abs() / 3600, offset.abs() / 60 % 60);
        let month =
            usize::try_from(local.month() - 1).ok().and_then(|at| MONTHS.get(at)).copied().unwrap_or("Jan");
        let (year, day) = (local.year(), local.day());
        let clock = format!("{:02}:{:02}:{:02}", local.hour(), local.minute(), local.second());
        self.local = format!("{day:02}/{month}/{year:04}:{clock} {sign}{hours:02}{minutes:02}");
        self.iso = format!("{year:04}-{:02}-{day:02}T{clock}{sign}{hours:02}:{minutes:02}", local.month());
        self.syslog = format!("{month} {day:2} {clock}");
        let utc = timestamp.to_zoned(TimeZone::UTC);
        self.utc = utc.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    }
}

/// Time since 1970; zero for earlier ones.
pub fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::tz::Offset;

    use super::*;

    #[test]
    fn times_are_written_in_the_zone_of_the_process() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_136_214_245_678);
        let mut utc = Clock::in_zone(TimeZone::UTC);
        assert_eq!(utc.local(time), "02/Jan/2006:15:04:05 +0000");
        assert_eq!(utc.iso8601(time), "2006-01-02T15:04:05+00:00");
        assert_eq!(utc.utc_second(time), "2006-01-02T15:04:05");
        let mut behind = Clock::in_zone(TimeZone::fixed(Offset::from_seconds(-(3 * 3600 + 1800)).unwrap()));
        assert_eq!(behind.local(time), "02/Jan/2006:11:34:05 -0330");
        assert_eq!(behind.iso8601(time), "2006-01-02T11:34:05-03:30");
        assert_eq!(behind.utc_second(time), "2006-01-02T15:04:05");
    }

    #[test]
    fn a_new_second_gives_a_new_text() {
        let mut clock = Clock::in_zone(TimeZone::UTC);
        let first = clock.local(SystemTime::UNIX_EPOCH).to_owned();
        let next = clock.local(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).to_owned();
        assert_eq!(
            (first.as_str(), next.as_str()),
            ("01/Jan/1970:00:00:00 +0000", "01/Jan/1970:00:00:01 +0000")
        );
    }
}
