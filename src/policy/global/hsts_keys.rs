//! The ConfigMap's keys `hsts*`. `parse` reads them; the field they make is `policy::hsts`'s.

use super::parse::put;
use crate::policy::annotation::{parse_bool, parse_count};

/// The keys `hsts*`, which make one field together.
pub(super) struct Hsts {
    pub(super) on: bool,
    pub(super) max_age: u64,
    pub(super) include_subdomains: bool,
    pub(super) preload: bool,
}

impl Hsts {
    /// Sets one key.
    pub(super) fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        match key {
            "hsts" => put(&mut self.on, parse_bool(text)),
            "hsts-include-subdomains" => put(&mut self.include_subdomains, parse_bool(text)),
            "hsts-max-age" => put(&mut self.max_age, parse_count(text).map(u64::from)),
            "hsts-preload" => put(&mut self.preload, parse_bool(text)),
            _ => Err("is not read".into()),
        }
    }
}
