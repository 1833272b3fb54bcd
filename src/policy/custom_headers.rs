//! `custom-headers`: response fields from a ConfigMap, of names that the controller's ConfigMap allows
//! (`global-allowed-response-headers`). As in ingress-nginx, anything wrong with them shuts the routes.

use std::sync::Arc;

use super::annotation::{Reader, Risk, Scope, Spec, is_protected_field};
use super::global::Globals;
use crate::diagnostic::Severity;
use crate::wire::Fields;
use crate::wire::fields::is_field_value;

const HEADERS: Spec = Spec::new("custom-headers", Scope::Location, Risk::Medium)
    .fail_closed()
    .values("none", "default/headers")
    .doc("ConfigMap of response fields; each name must stand in global-allowed-response-headers. Values are sent to the letter.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[HEADERS];

/// Fields that replace those of the same names on every answer of a location; an empty value takes a field away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomHeaders {
    fields: Arc<[(Box<str>, Box<str>)]>,
}

impl CustomHeaders {
    /// Reads the family. `None` also when the routes were shut.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Option<Self> {
        let key = reader.reference(&HEADERS).ok()?;
        let fields = match reader.config_map(&key) {
            None => Err("names a ConfigMap that does not exist or cannot be read".to_owned()),
            Some(map) => map.data.iter().map(|(name, value)| field(name, value, globals)).collect(),
        };
        match fields {
            Ok(fields) => Some(Self { fields }),
            Err(reason) => {
                reader.deny("CustomHeadersUnavailable");
                let hint = "until it is mended the routes of this Ingress answer 503";
                reader.report(HEADERS.name, Severity::Error, "CustomHeadersUnavailable", reason, hint);
                None
            }
        }
    }

    /// Sets the fields. A section that is full keeps what it has.
    pub fn apply(&self, fields: &mut Fields) {
        for (name, value) in self.fields.iter() {
            if value.is_empty() {
                fields.remove(name);
            } else {
                let _full = fields.set(name, value.as_bytes());
            }
        }
    }
}

fn field(name: &str, value: &str, globals: &Globals) -> Result<(Box<str>, Box<str>), String> {
    let value = value.trim();
    if !globals.allowed_response_headers.iter().any(|allowed| **allowed == *name) {
        return Err(format!("sets {name:?}, which global-allowed-response-headers does not allow"));
    }
    if is_protected_field(name) || name.len() > 128 || value.len() > 4096 || !is_field_value(value.as_bytes())
    {
        return Err(format!("sets {name:?} to what is no sound field"));
    }
    Ok((name.into(), value.into()))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::model::{ConfigMap, Meta, ObjectKey, SharedMap};
    use crate::policy::annotation::Objects;
    use crate::policy::annotation::sample::{self, PREFIX, ingress};

    fn read(reference: &str, data: &[(&str, &str)]) -> Result<Vec<String>, &'static str> {
        let key = ObjectKey::new("default", "headers");
        let data = data.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let maps = SharedMap::from([(key.clone(), Arc::new(ConfigMap { meta: Meta::named(key), data }))]);
        let ingress = ingress(&[("custom-headers", reference)]);
        let objects = Objects { config_maps: &maps, ..Objects::NONE };
        let mut reader = Reader::new(&ingress, PREFIX, true).with_objects(objects);
        let globals =
            Globals { allowed_response_headers: ["X-A".into(), "X-B".into()].into(), ..Globals::default() };
        let read = CustomHeaders::read(&mut reader, &globals);
        if let Some(code) = reader.denied() {
            return Err(code);
        }
        let mut answer = sample::fields(&[("x-a", "old"), ("X-B", "old"), ("X-C", "kept")]);
        read.unwrap().apply(&mut answer);
        Ok(answer.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect())
    }

    #[test]
    fn allowed_names_replace_what_the_backend_said() {
        let set = read("headers", &[("X-A", "$host"), ("X-B", "")]).unwrap();
        assert_eq!(set, ["X-A: $host", "X-C: kept"]);
    }

    #[test]
    fn anything_wrong_shuts_the_routes() {
        let gone = Err("CustomHeadersUnavailable");
        assert_eq!(read("default/absent", &[]), gone);
        assert_eq!(read("headers", &[("X-C", "1")]), gone);
        assert_eq!(read("headers", &[("x-a", "1")]), gone, "names are compared to the letter");
        assert_eq!(read("headers", &[("X-A", "a\nb")]), gone);
        assert_eq!(read("other/headers", &[]), Err("InvalidAnnotation"));
    }
}
