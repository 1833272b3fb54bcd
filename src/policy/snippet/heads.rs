//! What snippets do to heads: fields of the request to the backend, fields of the answer to the client.

use std::time::Duration;

use super::run::{Run, Seen, Stage};
use super::settings::{Expires, FieldEdit, is_good};
use crate::policy::request_headers::of_locations_and;
use crate::wire::Fields;
use crate::wire::fields::{NameSet, is_field_value};

/// Fields that every location of the old template sets by itself: an input field of that name never reaches the backend.
const STANDARD: NameSet = {
    const NAMES: [&str; 12] = of_locations_and(["x-original-uri"]);
    NameSet::new(&NAMES)
};

/// `more_set_input_headers`, `more_clear_input_headers`, then `proxy_set_header`, on the head for a backend.
pub fn to_backend(run: &Run<'_>, stage: &Stage<'_>, fields: &mut Fields) {
    for edit in run.edits(|settings| &settings.request_fields) {
        let sent = stage.facts.view.fields.get_str("content-type").unwrap_or_default();
        if !edit.types.is_empty() && !is_of(sent, &edit.types) {
            continue;
        }
        for (name, template) in &edit.fields {
            if STANDARD.contains(name) {
                continue;
            }
            let value = run.expand(template, stage, None);
            put(fields, name, value, edit.replace_only);
        }
    }
    for (name, template) in run.set_header() {
        let value = run.expand(template, stage, None);
        if value.is_empty() && name.eq_ignore_ascii_case("host") {
            continue;
        }
        put(fields, name, value, false);
    }
}

/// `proxy_set_header` of an `auth-snippet`, on the head for the authentication service.
pub fn to_service(
    run: &Run<'_>,
    stage: &Stage<'_>,
    settings: &super::settings::Settings,
    fields: &mut Fields,
) {
    for (name, template) in &settings.set_header {
        let value = run.expand(template, stage, None);
        put(fields, name, value, false);
    }
}

/// `more_set_headers` and `more_clear_headers`, then `charset`, `expires`, then `add_header`, on the head for the client.
pub fn to_client(run: &Run<'_>, stage: &Stage<'_>, status: u16, fields: &mut Fields) {
    if run.is_idle() {
        return;
    }
    for edit in run.edits(|settings| &settings.answer_fields) {
        if applies(edit, status, fields) {
            for (name, template) in &edit.fields {
                let value = run.expand(template, stage, Some(Seen { status, fields, by_service: false }));
                put(fields, name, value, edit.replace_only);
            }
        }
    }
    if let Some((charset, types)) = run.charset() {
        name_charset(charset, types, fields);
    }
    if let Some(expires) = run.expires().filter(|_| is_good(status)) {
        expire(run, stage, expires, status, fields);
    }
    for added in run.add_header() {
        if !(added.always || is_good(status)) {
            continue;
        }
        let value = run.expand(&added.value, stage, Some(Seen { status, fields, by_service: false }));
        let single = ["etag", "last-modified"].iter().any(|name| name.eq_ignore_ascii_case(&added.name));
        if single {
            put(fields, &added.name, value, false);
        } else if !value.is_empty() && is_field_value(&value) {
            // A section that is full keeps what it has.
            let _full = fields.append(&added.name, value.trim_ascii());
        }
    }
}

/// Content types that `charset` names one for, beside `text/html`, where nothing else is said.
const CHARSET_TYPES: [&str; 5] =
    ["text/xml", "text/plain", "text/vnd.wap.wml", "application/javascript", "application/rss+xml"];

/// Adds the charset to a content type that has none.
fn name_charset(charset: &str, types: Option<&[Box<str>]>, fields: &mut Fields) {
    let Some(kind) = fields.get_str("content-type").filter(|kind| !kind.is_empty()) else { return };
    // As nginx, to which a type with parameters is another type.
    let name = kind.trim();
    let listed = |one: &str| one == "*" || one.eq_ignore_ascii_case(name);
    let counts = name.eq_ignore_ascii_case("text/html")
        || types.map_or_else(
            || CHARSET_TYPES.iter().any(|one| listed(one)),
            |types| types.iter().any(|one| listed(one)),
        );
    if counts && !name.contains(';') {
        let named = format!("{kind}; charset={charset}");
        let _full = fields.set("Content-Type", named.as_bytes());
    }
}

fn applies(edit: &FieldEdit, status: u16, fields: &Fields) -> bool {
    let kind = fields.get_str("content-type").unwrap_or_default();
    (edit.statuses.is_empty() || edit.statuses.contains(&status))
        && (edit.types.is_empty() || is_of(kind, &edit.types))
}

/// True for a content type of the list, whatever its parameters.
fn is_of(kind: &str, types: &[Box<str>]) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    types.iter().any(|one| one.eq_ignore_ascii_case(kind))
}

/// Sets a field; an empty value takes it away, `Name*` takes all of that start away. A value that cannot be sent is
/// left out (`B-7`).
fn put(fields: &mut Fields, name: &str, value: Vec<u8>, only_if_there: bool) {
    if let Some(start) = name.strip_suffix('*') {
        let starts =
            |name: &str| name.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
        fields.retain(|name, _| !starts(name) || crate::policy::annotation::is_protected_field(name));
        return;
    }
    if only_if_there && !fields.contains(name) {
        return;
    }
    let value = value.trim_ascii();
    if value.is_empty() {
        fields.remove(name);
    } else if is_field_value(value) {
        let _full = fields.set(name, value);
    }
}

fn expire(run: &Run<'_>, stage: &Stage<'_>, expires: &Expires, status: u16, fields: &mut Fields) {
    let parsed;
    let expires = match expires {
        Expires::Text(template) => {
            let text = run.expand(template, stage, Some(Seen { status, fields, by_service: false }));
            let Ok(found) = Expires::parse(&String::from_utf8_lossy(&text)) else { return };
            parsed = found;
            &parsed
        }
        fixed => fixed,
    };
    let now = i64::try_from(stage.facts.route.now.as_secs()).unwrap_or(i64::MAX);
    let (date, control) = match expires {
        Expires::Off | Expires::Text(_) => return,
        Expires::Epoch => (1, "no-cache".to_owned()),
        Expires::Max => (2_145_916_555, "max-age=315360000".to_owned()),
        Expires::Daily(time) => {
            let today = now - now.rem_euclid(86_400) + time;
            let next = if today < now { today + 86_400 } else { today };
            (next, format!("max-age={}", next - now))
        }
        Expires::After(seconds) if *seconds < 0 => (now.saturating_add(*seconds), "no-cache".to_owned()),
        Expires::After(seconds) => (now.saturating_add(*seconds), format!("max-age={seconds}")),
    };
    let date = Duration::from_secs(u64::try_from(date).unwrap_or(0));
    put(fields, "Expires", date_text(date).into_bytes(), false);
    put(fields, "Cache-Control", control.into_bytes(), false);
}

/// RFC 9110 section 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`. Days to a date by the calendar of 400 years.
fn date_text(since_epoch: Duration) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
    let seconds = since_epoch.as_secs();
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of the year 0, so that the leap day ends a year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = year_of_era + era * 400 + u64::from(month >= 10);
    let name = |names: &[&'static str], at: u64| {
        usize::try_from(at).ok().and_then(|at| names.get(at).copied()).unwrap_or_default()
    };
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        name(&DAYS, days % 7),
        name(&MONTHS, month),
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (2_145_916_555, "Thu, 31 Dec 2037 23:55:55 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(date_text(Duration::from_secs(seconds)), text);
        }
    }
}
