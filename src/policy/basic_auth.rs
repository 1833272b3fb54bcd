//! `auth-type`, `auth-secret`, `auth-secret-type`, `auth-realm`: HTTP authentication by user name and password, sent as
//! they are (RFC 7617) or as a digest (`digest_auth`).
//!
//! Checking passwords is `proxy::filter`'s, off the request threads. Anything that cannot be read shuts the routes.

use std::sync::Arc;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::annotation::{Reader, Risk, Scope, Spec, Value, is_url_char};
use super::digest_auth::{DigestAuth, DigestUsers};
use crate::diagnostic::Severity;
use crate::model::Secret;

pub mod htpasswd;

use htpasswd::Users;

const LOCATION: Scope = Scope::Location;

const TYPE: Spec = Spec::new("auth-type", LOCATION, Risk::Low)
    .fail_closed()
    .values("none", "basic")
    .doc("Ask clients for user name and password: `basic` or `digest`.");
pub(super) const SECRET: Spec = Spec::new("auth-secret", LOCATION, Risk::Medium)
    .values("none", "default/users")
    .doc("Secret with the users; without a usable one the routes answer 503.");
const SECRET_TYPE: Spec = Spec::new("auth-secret-type", LOCATION, Risk::Low)
    .values("auth-file", "auth-map")
    .doc("`auth-file`: key `auth` holds lines as htpasswd (or htdigest) writes them; `auth-map`: each key is a user, and its value a hash (or realm:hash). Beside auth-type another word shuts the routes.");
const REALM: Spec = Spec::new("auth-realm", LOCATION, Risk::Medium)
    .values("an empty realm", "Protected area")
    .doc("Realm that clients show.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[TYPE, SECRET, SECRET_TYPE, REALM];

/// Who may ask, by password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// Users of the Secret.
    pub users: Users,
    /// Value of `WWW-Authenticate`.
    pub challenge: Arc<str>,
}

/// How clients say who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordAuth {
    /// `auth-type: basic`.
    Basic(BasicAuth),
    /// `auth-type: digest`.
    Digest(DigestAuth),
}

/// User name and password of a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name, of any bytes.
    pub user: Vec<u8>,
    /// Password.
    pub password: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Basic,
    Digest,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SecretType {
    File,
    Map,
}

impl PasswordAuth {
    /// Reads the family. `None` also when the routes were shut.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let wanted = reader.word(&TYPE, &[("basic", Type::Basic), ("digest", Type::Digest)]);
        let form =
            reader.word(&SECRET_TYPE, &[("auth-file", SecretType::File), ("auth-map", SecretType::Map)]);
        let realm =
            reader.text(&REALM, "a realm", |byte| is_url_char(byte) || byte == b' ').or(Arc::from(""));
        let key = reader.reference(&SECRET);
        let wanted = wanted.ok()?;
        let form = match form {
            Value::Absent => SecretType::File,
            Value::Present(form) => form,
            Value::Invalid => {
                shut(
                    reader,
                    &SECRET_TYPE,
                    "does not say how to read the Secret",
                    "write auth-file or auth-map",
                );
                return None;
            }
        };
        let Value::Present(key) = key else {
            shut(reader, &TYPE, "has no usable auth-secret beside it", "correct auth-secret");
            return None;
        };
        let read = match reader.secret(&key) {
            None => Err("names a Secret that does not exist or cannot be read"),
            Some(secret) if wanted == Type::Digest => {
                digest_users(&secret, form, &realm).map(|users| Self::Digest(DigestAuth { realm, users }))
            }
            Some(secret) => users(&secret, form).map(|users| {
                let challenge = Arc::from(format!("Basic realm=\"{}\"", realm.replace('"', "")));
                Self::Basic(BasicAuth { users, challenge })
            }),
        };
        match read {
            Ok(auth) => Some(auth),
            Err(reason) => {
                shut(reader, &SECRET, reason, "create it with htpasswd and kubectl create secret generic");
                None
            }
        }
    }
}

fn shut(reader: &mut Reader<'_>, spec: &Spec, reason: &str, hint: &str) {
    reader.deny("AuthUnavailable");
    let hint = format!("{hint}; until then the routes of this Ingress answer 503");
    reader.report(spec.name, Severity::Error, "AuthUnavailable", reason, hint);
}

fn users(secret: &Secret, form: SecretType) -> Result<Users, &'static str> {
    match form {
        SecretType::File => {
            let file = secret.data.get("auth").ok_or("names a Secret without the key auth")?;
            Users::from_file(file.expose())
        }
        SecretType::Map => {
            Users::from_map(secret.data.iter().map(|(user, hash)| (user.as_str(), hash.expose())))
        }
    }
}

fn digest_users(secret: &Secret, form: SecretType, realm: &str) -> Result<DigestUsers, &'static str> {
    match form {
        SecretType::File => {
            let file = secret.data.get("auth").ok_or("names a Secret without the key auth")?;
            DigestUsers::from_file(file.expose(), realm)
        }
        SecretType::Map => {
            let entries = secret.data.iter().map(|(user, hash)| (user.as_str(), hash.expose()));
            DigestUsers::from_map(entries, realm)
        }
    }
}

/// As nginx reads it: some clients leave the padding out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads `Authorization: Basic …`; `None` for another scheme or broken text.
pub fn credentials(field: &[u8]) -> Option<Credentials> {
    let (scheme, encoded) = field.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let text = LENIENT.decode(encoded.trim_ascii()).ok()?;
    let colon = text.iter().position(|byte| *byte == b':')?;
    let (user, rest) = text.split_at(colon);
    Some(Credentials { user: user.to_vec(), password: rest.get(1..).unwrap_or_default().to_vec() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{Meta, ObjectKey, SecretBytes, SharedMap};
    use crate::policy::annotation::Objects;
    use crate::policy::annotation::sample::{self, PREFIX, ingress};

    fn read(annotations: &[(&str, &str)], data: &[(&str, &str)]) -> Result<BasicAuth, &'static str> {
        let key = ObjectKey::new("default", "users");
        let data = data.iter().map(|(key, text)| ((*key).to_owned(), SecretBytes::new(text.as_bytes())));
        let secret =
            Secret { meta: Meta::named(key.clone()), secret_type: "Opaque".into(), data: data.collect() };
        let secrets = SharedMap::from([(key, Arc::new(secret))]);
        let ingress = ingress(annotations);
        let objects = Objects { secrets: &secrets, ..Objects::NONE };
        let mut reader = Reader::new(&ingress, PREFIX, true).with_objects(objects);
        let read = PasswordAuth::read(&mut reader);
        match (reader.denied(), read) {
            (Some(code), _) => Err(code),
            (None, Some(PasswordAuth::Basic(auth))) => Ok(auth),
            (None, other) => panic!("{other:?}"),
        }
    }

    const ON: (&str, &str) = ("auth-type", "basic");

    /// `auth_poison_matrix`: whatever stands beside a protection, it holds or the routes are shut.
    #[test]
    fn a_poisoned_neighbour_never_takes_the_protection_away() {
        let huge = "x".repeat(70_000);
        for name in ["auth-type", "auth-secret", "auth-secret-type", "auth-realm"] {
            for poison in ["", "junk", huge.as_str(), "a\r\nb", "true", "\u{1b}"] {
                let mut all = vec![ON, ("auth-secret", "users"), ("auth-realm", "r")];
                all.retain(|(kept, _)| *kept != name);
                all.push((name, poison));
                match read(&all, &[("auth", "ann:{PLAIN}x")]) {
                    Ok(auth) => assert!(auth.users.hash_of(b"ann").is_some(), "{name} {poison:.20}"),
                    Err(code) => assert!(!code.is_empty()),
                }
            }
        }
    }

    #[test]
    fn users_come_from_a_file_or_from_the_keys() {
        let file =
            read(&[ON, ("auth-secret", "users"), ("auth-realm", "My place")], &[("auth", "ann:{PLAIN}x")]);
        let file = file.unwrap();
        assert_eq!(&*file.challenge, "Basic realm=\"My place\"");
        assert!(file.users.hash_of(b"ann").unwrap().matches(b"x"));
        let map = [ON, ("auth-secret", "default/users"), ("auth-secret-type", "auth-map")];
        assert!(read(&map, &[("bob", "{PLAIN}y")]).unwrap().users.hash_of(b"bob").unwrap().matches(b"y"));
    }

    #[test]
    fn digest_users_come_from_a_file_or_from_the_keys() {
        let hash = "0123456789abcdef0123456789abcdef";
        let key = ObjectKey::new("default", "users");
        for (form, name, value) in
            [("auth-file", "auth", format!("ann:r:{hash}\n")), ("auth-map", "ann", format!("r:{hash}"))]
        {
            let data = BTreeMap::from([(name.to_owned(), SecretBytes::new(value.into_bytes()))]);
            let secret = Secret { meta: Meta::named(key.clone()), secret_type: "Opaque".into(), data };
            let secrets = SharedMap::from([(key.clone(), Arc::new(secret))]);
            let ingress = ingress(&[
                ("auth-type", "digest"),
                ("auth-secret", "users"),
                ("auth-secret-type", form),
                ("auth-realm", "r"),
            ]);
            let objects = Objects { secrets: &secrets, ..Objects::NONE };
            let mut reader = Reader::new(&ingress, PREFIX, true).with_objects(objects);
            match PasswordAuth::read(&mut reader) {
                Some(PasswordAuth::Digest(auth)) => assert_eq!(format!("{:?}", auth.users), "DigestUsers(1)"),
                other => panic!("{form}: {other:?}"),
            }
        }
    }

    #[test]
    fn whatever_is_missing_or_broken_shuts_the_routes() {
        let data = [("auth", "ann:{PLAIN}x")];
        for (annotations, code) in [
            (vec![ON], "AuthUnavailable"),
            (vec![ON, ("auth-secret", "absent")], "AuthUnavailable"),
            (vec![ON, ("auth-secret", "other/users")], "AuthUnavailable"),
            (vec![ON, ("auth-secret", "")], "AuthUnavailable"),
            (vec![ON, ("auth-secret", "users"), ("auth-secret-type", "file")], "AuthUnavailable"),
            (vec![("auth-type", "digest"), ("auth-secret", "users")], "AuthUnavailable"),
            (vec![("auth-type", "digest"), ("auth-secret", "absent")], "AuthUnavailable"),
            (vec![("auth-type", ""), ("auth-secret", "users")], "InvalidAnnotation"),
            (vec![("auth-type", "basic\r"), ("auth-secret", "users")], "InvalidAnnotation"),
        ] {
            assert_eq!(read(&annotations, &data), Err(code), "{annotations:?}");
        }
        assert_eq!(read(&[ON, ("auth-secret", "users")], &[("users", "ann:x")]), Err("AuthUnavailable"));
    }

    #[test]
    fn details_without_a_type_ask_nobody() {
        assert_eq!(
            sample::denied(&[("auth-secret", "absent"), ("auth-realm", "x")], PasswordAuth::read),
            None
        );
        assert_eq!(
            sample::denied(&[("auth-secret", ""), ("auth-secret-type", "x")], PasswordAuth::read),
            None
        );
    }

    #[test]
    fn credentials_are_read_as_they_were_sent() {
        let read = |text: &str| credentials(text.as_bytes()).map(|found| (found.user, found.password));
        assert_eq!(read("Basic YW5uOng6eQ=="), Some((b"ann".to_vec(), b"x:y".to_vec())));
        assert_eq!(read("bAsIc YW5uOg=="), Some((b"ann".to_vec(), Vec::new())));
        assert_eq!(read("Basic YW5uOg"), Some((b"ann".to_vec(), Vec::new())), "as nginx: without padding");
        for broken in ["", "Basic", "Basic !", "Bearer YW5uOng=", "Basic YW5u"] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }
}
