//! For how long an answer of the authentication service counts: `auth-cache-duration` by status, and what the answer
//! itself says, as nginx's `proxy_cache_valid` and its reading of response fields.

use std::sync::Arc;
use std::time::Duration;

use crate::wire::Fields;

/// Entries of one list.
const MAX_RULES: usize = 32;

/// Lifetimes by status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetimes(Arc<[Rule]>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    codes: Codes,
    lasts: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Codes {
    Any,
    Listed(Vec<u16>),
}

impl Default for Lifetimes {
    /// `200 202 401 5m`.
    fn default() -> Self {
        let rule = Rule { codes: Codes::Listed(vec![200, 202, 401]), lasts: Duration::from_secs(300) };
        Self(Arc::from([rule]))
    }
}

impl Lifetimes {
    /// Reads `[codes] time`, comma separated. A time without codes is for 200, 301 and 302, as in nginx.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rules: Vec<Rule> = text
            .split([',', '\n'])
            .map(str::trim)
            .filter(|rule| !rule.is_empty())
            .map(rule)
            .collect::<Result<_, _>>()?;
        match rules.len() {
            0 => Err("lists nothing".into()),
            1..=MAX_RULES => Ok(Self(rules.into())),
            _ => Err(format!("lists more than {MAX_RULES} durations")),
        }
    }

    /// How long an answer counts; `None` when it is not to be remembered. `now` in seconds since 1970.
    pub fn of(&self, status: u16, fields: &Fields, now: i64) -> Option<Duration> {
        if fields.contains("set-cookie") || varies_by_everything(fields) {
            return None;
        }
        match told(fields, now) {
            Told::Never => None,
            Told::For(duration) => Some(duration),
            Told::Nothing => self.configured(status),
        }
        .filter(|duration| !duration.is_zero())
    }

    fn configured(&self, status: u16) -> Option<Duration> {
        let covers = |rule: &&Rule| match &rule.codes {
            Codes::Any => true,
            Codes::Listed(codes) => codes.contains(&status),
        };
        self.0.iter().find(covers).map(|rule| rule.lasts)
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    let mut words: Vec<&str> = text.split_ascii_whitespace().collect();
    let lasts = duration(words.pop().unwrap_or_default())?;
    let codes = match words.as_slice() {
        [] => Codes::Listed(vec![200, 301, 302]),
        ["any"] => Codes::Any,
        words => Codes::Listed(words.iter().map(|word| code(word)).collect::<Result<_, _>>()?),
    };
    Ok(Rule { codes, lasts })
}

fn code(word: &str) -> Result<u16, String> {
    let code = word.parse().ok().filter(|code| word.len() == 3 && (100..600).contains(code));
    code.ok_or_else(|| format!("{word:?} is no status"))
}

/// A number with a unit of nginx, which may not be left out: `ms`, `s`, `m`, `h`, `d`, `w`, `M`, `y`.
fn duration(word: &str) -> Result<Duration, String> {
    let end = word.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(word.len());
    let (digits, unit) = word.split_at(end);
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 9).unwrap_or(u64::MAX);
    let seconds = match unit {
        _ if number == u64::MAX => None,
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        "w" => Some(7 * 86_400),
        "M" => Some(30 * 86_400),
        "y" => Some(365 * 86_400),
        _ => None,
    };
    let seconds = seconds.and_then(|unit: u64| number.checked_mul(unit));
    seconds.map(Duration::from_secs).ok_or_else(|| format!("{word:?} is no duration, such as 5m"))
}

enum Told {
    Nothing,
    Never,
    For(Duration),
}

/// What the answer itself says: `X-Accel-Expires`, then `Cache-Control`, then `Expires`.
fn told(fields: &Fields, now: i64) -> Told {
    let seconds = |text: &str| text.trim().parse::<u64>().ok().map(Duration::from_secs);
    if let Some(lasts) = fields.get_str("x-accel-expires").and_then(seconds) {
        return Told::For(lasts);
    }
    let mut lasts = None;
    for line in fields.get_all("cache-control").filter_map(|line| std::str::from_utf8(line).ok()) {
        for part in line.split(',').map(|part| part.trim().to_ascii_lowercase()) {
            if matches!(part.as_str(), "no-cache" | "no-store" | "private") {
                return Told::Never;
            }
            if let Some(text) = part.strip_prefix("s-maxage=") {
                lasts = seconds(text);
            } else if let Some(text) = part.strip_prefix("max-age=") {
                lasts = lasts.or_else(|| seconds(text));
            }
        }
    }
    if let Some(lasts) = lasts {
        return Told::For(lasts);
    }
    let Some(expires) = fields.get_str("expires") else { return Told::Nothing };
    // A date that cannot be read has passed (RFC 9111 section 5.3).
    let at = httpdate::parse_http_date(expires).ok();
    let at = at.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    let left = at.as_secs().saturating_sub(u64::try_from(now).unwrap_or(0));
    if left == 0 { Told::Never } else { Told::For(Duration::from_secs(left)) }
}

fn varies_by_everything(fields: &Fields) -> bool {
    names_of_vary(fields).any(|name| name == "*")
}

/// Names of `Vary`.
pub fn names_of_vary(fields: &Fields) -> impl Iterator<Item = &str> {
    fields
        .get_all("vary")
        .filter_map(|line| std::str::from_utf8(line).ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::fields;

    const NOW: i64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT

    fn lasts(text: &str, status: u16, lines: &[(&str, &str)]) -> Option<u64> {
        Lifetimes::parse(text).unwrap().of(status, &fields(lines), NOW).map(|lasts| lasts.as_secs())
    }

    #[test]
    fn statuses_have_their_times() {
        assert_eq!(lasts("200 202 10m, 401 5m", 202, &[]), Some(600));
        assert_eq!(lasts("200 202 10m, 401 5m", 401, &[]), Some(300));
        assert_eq!(lasts("200 202 10m, 401 5m", 403, &[]), None);
        assert_eq!(lasts("30m", 200, &[]), Some(1800));
        assert_eq!(lasts("30m", 401, &[]), None);
        assert_eq!(lasts("any 1d", 500, &[]), Some(86_400));
        assert_eq!(lasts("200 0s", 200, &[]), None);
        let usual = Lifetimes::default();
        for (status, expect) in [(200, Some(300)), (202, Some(300)), (401, Some(300)), (403, None)] {
            let lasts = usual.of(status, &fields(&[]), NOW);
            assert_eq!(lasts.map(|lasts| lasts.as_secs()), expect, "{status}");
        }
    }

    #[test]
    fn the_answer_s_own_word_comes_first() {
        for (line, expect) in [
            (("Set-Cookie", "a=b"), None),
            (("Vary", "*"), None),
            (("Vary", "Cookie"), Some(300)),
            (("Cache-Control", "no-store"), None),
            (("Cache-Control", "public, no-cache"), None),
            (("Cache-Control", "private"), None),
            (("Cache-Control", "max-age=7"), Some(7)),
            (("Cache-Control", "max-age=7, s-maxage=9"), Some(9)),
            (("Cache-Control", "max-age=0"), None),
            (("X-Accel-Expires", "3"), Some(3)),
            (("X-Accel-Expires", "0"), None),
            (("Expires", "Sun, 06 Nov 1994 08:49:47 GMT"), Some(10)),
            (("Expires", "Sun, 06 Nov 1994 08:49:37 GMT"), None),
            (("Expires", "soon"), None),
        ] {
            assert_eq!(lasts("200 5m", 200, &[line]), expect, "{line:?}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for bad in [
            "200",
            "200 5",
            "10",
            "200 5x",
            "20 5m",
            "ok 5m",
            "any 200 5m",
            "200 5m;",
            "200 99999999999m",
            "5m 200",
        ] {
            let parsed = Lifetimes::parse(bad);
            assert!(parsed.is_err(), "{bad}: {parsed:?}");
        }
    }
}
