//! `proxy_pass_header` and `proxy_hide_header` of snippets, around the rules for all answers; what a backend says of speed.

use super::Way;
use crate::policy::annotation::is_protected_field;
use crate::proxy::exchange::Pace;
use crate::wire::Fields;

/// Fields that are hidden by default and that a snippet shows (`proxy_pass_header`).
pub(super) fn passed(way: &Way<'_>, fields: &Fields) -> Vec<(String, Vec<u8>)> {
    if way.run.is_idle() {
        return Vec::new();
    }
    let (_, pass) = way.run.shown();
    let named = |name: &str| pass.iter().any(|one| one.eq_ignore_ascii_case(name));
    let kept = fields.iter().filter(|(name, _)| named(name) && !is_protected_field(name));
    kept.map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

/// Puts those back that went, and takes away what a snippet hides.
pub(super) fn shown(way: &Way<'_>, passed: Vec<(String, Vec<u8>)>, fields: &mut Fields) {
    if way.run.is_idle() {
        return;
    }
    let gone: Vec<_> = passed.into_iter().filter(|(name, _)| !fields.contains(name)).collect();
    for (name, value) in gone {
        // It stood in a section already, so its bytes were judged.
        let _full = fields.append(&name, &value);
    }
    for name in way.run.shown().0 {
        fields.remove(name);
    }
}

/// `X-Accel-Limit-Rate`: bytes a second, 0 for no limit.
pub(super) fn paced(way: &Way<'_>, fields: &Fields) {
    let told = fields.get_str("x-accel-limit-rate").filter(|_| !way.location.policies.ignored.rate);
    if let Some(bytes) = told.and_then(|text| text.trim().parse().ok()) {
        let pace = &way.exchange.pace;
        pace.set(Pace { bytes: Some(bytes), ..pace.get() });
    }
}
