//! `upstream-vhost`: the `Host` a backend sees.

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec, is_regex_char};
use super::template::Template;

const VHOST: Spec = Spec::new("upstream-vhost", Scope::Location, Risk::Medium)
    .fidelity(Fidelity::Equivalent(
        "variables of a closed list are known, such as `$host` and `$service_name`",
    ))
    .values("the host the client named", "internal.example")
    .doc("`Host` that the backend sees.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[VHOST];

/// Reads the annotation: text with variables.
pub fn read(reader: &mut Reader<'_>) -> Option<Template> {
    reader
        .read(&VHOST, |text| match text.bytes().find(|byte| !is_regex_char(*byte)) {
            Some(byte) => Err(format!("{:?} may not stand in a host", char::from(byte))),
            None => Template::parse(text).map_err(|error| error.to_string()),
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::read as read_with;

    #[test]
    fn hosts_and_known_variables_are_taken() {
        let host = |text| read_with(&[("upstream-vhost", text)], read);
        assert_eq!(read_with(&[], read), None);
        assert_eq!(host("internal.example:8080").unwrap().constant(), Some("internal.example:8080"));
        assert!(host("$service_name.$namespace.svc.cluster.local").is_some());
        assert_eq!(host("a b"), None);
        assert_eq!(host("$unheard_of"), None);
    }
}
