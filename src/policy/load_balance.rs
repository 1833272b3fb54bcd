//! `load-balance`, `upstream-hash-by*`: how an endpoint is chosen when no cookie decides.

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec};
use super::template::Template;
use crate::diagnostic::Severity;

const LOAD_BALANCE: Spec = Spec::new("load-balance", Scope::Upstream, Risk::Low)
    .values("ConfigMap load-balance (round_robin)", "ewma")
    .doc("How an endpoint is chosen: `round_robin` or `ewma`.");
const HASH_BY: Spec = Spec::new("upstream-hash-by", Scope::Upstream, Risk::High)
    .fidelity(Fidelity::Equivalent("only variables of a closed list are known"))
    .values("none", "$request_uri")
    .doc("Consistent hash over text with nginx variables.");
const SUBSET: Spec = Spec::new("upstream-hash-by-subset", Scope::Upstream, Risk::Low)
    .values("false", "true")
    .doc("Hash onto a subset of the endpoints and choose at random among them.");
const SUBSET_SIZE: Spec = Spec::new("upstream-hash-by-subset-size", Scope::Upstream, Risk::Low)
    .values("3", "5")
    .doc("Endpoints of a subset.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[LOAD_BALANCE, HASH_BY, SUBSET, SUBSET_SIZE];

/// Endpoints of a subset where none is given.
const DEFAULT_SUBSET: u32 = 3;

/// Algorithm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadBalance {
    /// In turn, from a random start per worker.
    #[default]
    RoundRobin,
    /// Peak EWMA over two random candidates.
    Ewma,
}

/// Consistent hash over an expression.
#[derive(Debug, Clone, PartialEq)]
pub struct HashBy {
    /// `upstream-hash-by`.
    pub template: Template,
    /// Subset size when `upstream-hash-by-subset` is on.
    pub subset: Option<u32>,
}

impl LoadBalance {
    /// Reads the annotation; `None` means the ConfigMap's.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let words = [
            ("round_robin", Some(Self::RoundRobin)),
            ("ewma", Some(Self::Ewma)),
            ("chash", None),
            ("chashsubset", None),
            ("sticky_balanced", None),
            ("sticky_persistent", None),
        ];
        let known = reader.word(&LOAD_BALANCE, &words).ok()?;
        Some(known.unwrap_or_else(|| {
            let reason = "names an algorithm that only upstream-hash-by or affinity can switch on; round_robin is used";
            reader.report(LOAD_BALANCE.name, Severity::Warning, "NoEffect", reason, "use upstream-hash-by or affinity");
            Self::RoundRobin
        }))
    }
}

impl HashBy {
    /// Reads the family; `None` without `upstream-hash-by`.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let template = reader.read(&HASH_BY, |text| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_${} ".contains(&byte);
            match text.bytes().find(|byte| !allowed(*byte)) {
                Some(byte) => Err(format!("{:?} may not stand in it", char::from(byte))),
                None => Template::parse(text).map_err(|error| error.to_string()),
            }
        });
        let subset = reader.bool(&SUBSET).or(false);
        let size = reader.count(&SUBSET_SIZE).or(DEFAULT_SUBSET).max(1);
        template.ok().map(|template| Self { template, subset: subset.then_some(size) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{diagnostics, read};

    #[test]
    fn only_two_algorithms_mean_something() {
        let algorithm = |text| read(&[("load-balance", text)], LoadBalance::read);
        assert_eq!(read(&[], LoadBalance::read), None);
        assert_eq!(algorithm("ewma"), Some(LoadBalance::Ewma));
        assert_eq!(algorithm("chash"), Some(LoadBalance::RoundRobin));
        assert_eq!(algorithm("least_conn"), None);
        assert_eq!(diagnostics(&[("load-balance", "chash")], LoadBalance::read), ["NoEffect"]);
    }

    #[test]
    fn a_hash_needs_known_variables() {
        let hash =
            |text| read(&[("upstream-hash-by", text), ("upstream-hash-by-subset", "true")], HashBy::read);
        assert_eq!(hash("$request_uri").unwrap().subset, Some(3));
        assert!(hash("${host}-$http_x_user").is_some());
        assert!(hash("$remote_addr $host").is_some());
        assert_eq!(hash("$unheard_of"), None);
        assert_eq!(hash("$host;"), None);
        assert_eq!(read(&[("upstream-hash-by-subset", "true")], HashBy::read), None);
    }
}
