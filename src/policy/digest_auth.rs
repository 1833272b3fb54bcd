//! Digest authentication (RFC 7616, with MD5 and `qop=auth`, which is what htdigest files are for): who may log in, and
//! whether a response is right. `basic_auth` reads the annotations; nonces are `proxy::filter::digest`'s.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use crate::wire::fields::is_token;

/// Bytes of a file of users (`D.2`).
const MAX_BYTES: usize = 1 << 20;
/// Lines of it (`D.2`).
const MAX_USERS: usize = 10_000;

/// Who may ask, by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestAuth {
    /// Realm that clients are told.
    pub realm: Arc<str>,
    /// Users of that realm.
    pub users: DigestUsers,
}

/// Users and their hashes. Never printed: a hash is as good as its password here.
#[derive(Clone, PartialEq, Eq)]
pub struct DigestUsers(Arc<BTreeMap<Box<[u8]>, [u8; 32]>>);

impl fmt::Debug for DigestUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DigestUsers({})", self.0.len())
    }
}

impl DigestUsers {
    /// Reads lines `user:realm:hash` as htdigest writes them; those of other realms are not ours.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub fn from_file(text: &[u8], realm: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_BYTES {
            return Err("is larger than 1 MiB");
        }
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).collect();
        if lines.len() > MAX_USERS {
            return Err("has more than 10,000 users");
        }
        let mut sound = false;
        let mut users = BTreeMap::new();
        for line in lines {
            let Some((user, of, hash)) = entry(line) else { continue };
            sound = true;
            if of == realm.as_bytes() {
                // As the files of basic authentication: the first line of a user counts.
                users.entry(user.into()).or_insert(hash);
            }
        }
        if sound {
            Ok(Self(Arc::new(users)))
        } else {
            Err("holds no line user:realm:hash, as htdigest writes them")
        }
    }

    /// Reads users from keys and `realm:hash` from values.
    ///
    /// # Errors
    /// As [`DigestUsers::from_file`].
    pub fn from_map<'m>(
        entries: impl Iterator<Item = (&'m str, &'m [u8])>,
        realm: &str,
    ) -> Result<Self, &'static str> {
        let mut file = Vec::new();
        for (user, value) in entries {
            file.extend_from_slice(user.as_bytes());
            file.push(b':');
            file.extend_from_slice(value.trim_ascii());
            file.push(b'\n');
        }
        Self::from_file(&file, realm)
    }
}

/// User, realm and hash of a line; user and realm may hold no colon.
fn entry(line: &[u8]) -> Option<(&[u8], &[u8], [u8; 32])> {
    let mut parts = line.splitn(3, |byte| *byte == b':');
    let (user, realm, hash) = (parts.next()?, parts.next()?, parts.next()?);
    Some((user, realm, hex(hash)?)).filter(|_| !user.is_empty())
}

/// 32 hexadecimal digits in lower case.
fn hex(text: &[u8]) -> Option<[u8; 32]> {
    let mut digits: [u8; 32] = text.try_into().ok()?;
    digits.make_ascii_lowercase();
    digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)
}

/// What a client says of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct DigestResponse {
    /// User name.
    pub user: Vec<u8>,
    /// The nonce it was given.
    pub nonce: String,
    /// How often it has used the nonce.
    pub count: u32,
    realm: Vec<u8>,
    uri: Vec<u8>,
    nc: String,
    cnonce: Vec<u8>,
    response: [u8; 32],
}

impl DigestResponse {
    /// Reads `Authorization: Digest …`; `None` for another scheme, broken text or what we never offered.
    pub fn parse(field: &[u8]) -> Option<Self> {
        let (scheme, rest) = field.split_at_checked(7)?;
        if !scheme.eq_ignore_ascii_case(b"digest ") {
            return None;
        }
        let mut given = BTreeMap::new();
        for (name, value) in parameters(rest)? {
            // Twice the same name: two readers might not agree which counts.
            if given.insert(name, value).is_some() {
                return None;
            }
        }
        let mut take = |name: &str| given.remove(name);
        let algorithm = take("algorithm").unwrap_or_else(|| b"MD5".to_vec());
        let qop = take("qop")?;
        if !algorithm.eq_ignore_ascii_case(b"MD5") || !qop.eq_ignore_ascii_case(b"auth") {
            return None;
        }
        let nc = String::from_utf8(take("nc")?).ok().filter(|nc| nc.len() == 8)?;
        Some(Self {
            user: take("username")?,
            nonce: String::from_utf8(take("nonce")?).ok()?,
            count: u32::from_str_radix(&nc, 16).ok().filter(|_| nc.bytes().all(|b| b.is_ascii_hexdigit()))?,
            realm: take("realm")?,
            uri: take("uri")?,
            nc,
            cnonce: take("cnonce")?,
            response: hex(&take("response")?)?,
        })
    }
}

/// `name=value` and `name="value"`, comma separated.
fn parameters(text: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut rest = text.trim_ascii();
    while !rest.is_empty() {
        let equals = rest.iter().position(|byte| *byte == b'=')?;
        let (name, after) = rest.split_at(equals);
        let name = name.trim_ascii();
        if !is_token(name) || found.len() == 16 {
            return None;
        }
        let after = after.get(1..).unwrap_or_default().trim_ascii_start();
        let (value, after) = match after.strip_prefix(b"\"") {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = after.iter().position(|byte| *byte == b',').unwrap_or(after.len());
                let (value, after) = after.split_at(end);
                (value.trim_ascii().to_vec(), after)
            }
        };
        found.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value));
        rest = match after.trim_ascii_start().strip_prefix(b",") {
            Some(more) => more.trim_ascii_start(),
            None if after.trim_ascii().is_empty() => b"",
            None => return None,
        };
    }
    Some(found)
}

/// The rest of a quoted string (RFC 9110 section 5.6.4), and what follows it.
fn unquoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((value, text.get(at + 1..).unwrap_or_default())),
            b'\\' => value.push(*bytes.next()?.1),
            other => value.push(*other),
        }
    }
    None
}

impl DigestAuth {
    /// Value of `WWW-Authenticate` with a nonce. `stale`: the client need not ask its user again.
    pub fn challenge(&self, nonce: &str, stale: bool) -> String {
        let realm = self.realm.replace('"', "");
        let stale = if stale { ", stale=true" } else { "" };
        format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\"{stale}")
    }

    /// True when the response is that of a user who knows the password, for this request. The nonce is judged apart.
    pub fn is_right(&self, given: &DigestResponse, method: &str, target: &[u8]) -> bool {
        let realm = self.realm.replace('"', "");
        let Some(hash) = self.users.0.get(&*given.user) else { return false };
        if given.realm != realm.as_bytes() || given.uri != target {
            return false;
        }
        let request = md5(&[method.as_bytes(), b":", target]);
        let nonce = given.nonce.as_bytes();
        let expect =
            md5(&[hash, b":", nonce, b":", given.nc.as_bytes(), b":", &given.cnonce, b":auth:", &request]);
        expect.ct_eq(&given.response).into()
    }
}

/// Hexadecimal MD5.
fn md5(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest.finalize()) {
        for (digit, half) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = if half < 10 { b'0' + half } else { b'a' + half - 10 };
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 section 3.9.1, the MD5 example.
    const RFC: &str = "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", algorithm=MD5, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"8ca523f5e9506fed4657c9700eebdbec\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";

    fn rfc() -> DigestAuth {
        let hash =
            String::from_utf8(md5(&[b"Mufasa:http-auth@example.org:Circle of Life"]).to_vec()).unwrap();
        let file = format!("# users\nMufasa:http-auth@example.org:{hash}\nMufasa:other:{hash}\n");
        let realm = "http-auth@example.org";
        let users = DigestUsers::from_file(file.as_bytes(), realm).unwrap();
        DigestAuth { realm: Arc::from(realm), users }
    }

    #[test]
    fn the_example_of_the_rfc_is_right_for_its_request_only() {
        let given = DigestResponse::parse(RFC.as_bytes()).unwrap();
        assert_eq!((given.user.as_slice(), given.count), (&b"Mufasa"[..], 1));
        let auth = rfc();
        assert!(auth.is_right(&given, "GET", b"/dir/index.html"));
        assert!(!auth.is_right(&given, "POST", b"/dir/index.html"));
        assert!(!auth.is_right(&given, "GET", b"/dir/other.html"));
        for (from, to) in [
            ("8ca523f5", "8ca523f6"),
            ("Mufasa", "Simba"),
            ("nc=00000001", "nc=00000002"),
            ("realm=\"http-auth@example.org\"", "realm=\"other\""),
            ("7ypf", "8ypf"),
        ] {
            let given = DigestResponse::parse(RFC.replace(from, to).as_bytes()).unwrap();
            assert!(!auth.is_right(&given, "GET", b"/dir/index.html"), "{from}");
        }
    }

    #[test]
    fn what_is_broken_or_was_never_offered_is_no_response() {
        for (from, to) in [
            ("Digest ", "Basic "),
            ("qop=auth", "qop=auth-int"),
            (", qop=auth", ""),
            ("algorithm=MD5", "algorithm=SHA-256"),
            ("nc=00000001", "nc=1"),
            ("nc=00000001", "nc=0000000x"),
            ("nc=00000001", "nc=+0000001"),
            ("8ca523f5", "8ca523f"),
            ("qop=auth,", "qop=auth, username=\"x\","),
            ("uri=\"/dir/index.html\"", "uri=\"/dir/index.html"),
            ("username=", "user name="),
        ] {
            assert!(DigestResponse::parse(RFC.replacen(from, to, 1).as_bytes()).is_none(), "{to}");
        }
        let quoted = RFC.replace("Mufasa", "Mu\\\"fa\\\\sa");
        assert_eq!(DigestResponse::parse(quoted.as_bytes()).unwrap().user, b"Mu\"fa\\sa");
    }

    #[test]
    fn users_come_from_lines_or_keys_of_their_realm() {
        let hash = "0123456789abcdef0123456789ABCDEF";
        let users = |text: &str| DigestUsers::from_file(text.as_bytes(), "r").map(|users| users.0.len());
        assert_eq!(users(&format!("a:r:{hash}\nb:r:{hash}\r\nc:s:{hash}\n")), Ok(2));
        assert_eq!(users(&format!("a:s:{hash}\n")), Ok(0), "nobody of this realm, so nobody");
        assert!(users("").is_err() && users("ann:{PLAIN}x").is_err() && users("a:r:123").is_err());
        let value = format!("r:{hash}");
        let map = DigestUsers::from_map([("ann", value.as_bytes())].into_iter(), "r").unwrap();
        assert!(map.0.contains_key(&b"ann"[..]));
        assert_eq!(format!("{map:?}"), "DigestUsers(1)");
    }

    #[test]
    fn a_challenge_names_realm_and_nonce() {
        assert_eq!(
            rfc().challenge("n1", true),
            "Digest realm=\"http-auth@example.org\", nonce=\"n1\", algorithm=MD5, qop=\"auth\", stale=true"
        );
    }
}
