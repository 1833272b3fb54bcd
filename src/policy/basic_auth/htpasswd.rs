//! Users and password hashes as `htpasswd` and its kin write them. Checking a password costs what the hash asks for
//! (bcrypt: tenths of a second), so callers do it off the request threads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use sha1::Sha1;
use subtle::ConstantTimeEq;

/// Bytes of a file of users (`D.2`).
const MAX_BYTES: usize = 1 << 20;
/// Lines of it (`D.2`).
const MAX_USERS: usize = 10_000;
/// Greatest bcrypt cost (`D.2`); each step doubles the work.
const MAX_COST: u32 = 14;
/// Greatest `rounds=` of SHA-crypt, about the work of that bcrypt cost.
const MAX_ROUNDS: u32 = 1_000_000;

/// The users of one Secret. Never printed: `Debug` shows their number only.
#[derive(Clone, PartialEq, Eq)]
pub struct Users(Arc<BTreeMap<Box<[u8]>, Hash>>);

/// One stored password.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Bcrypt(Box<str>),
    /// `$apr1$`, `$1$`: magic, salt, digest text.
    Md5 {
        magic: &'static str,
        salt: Box<str>,
        digest: Box<str>,
    },
    Sha1 {
        digest: Box<[u8]>,
        salt: Box<[u8]>,
    },
    ShaCrypt(Box<str>),
    Plain(Box<[u8]>),
    /// A format that nobody can log in with.
    Unusable,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.0.len())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(..)")
    }
}

impl Users {
    /// Reads a file of `user:hash` lines. Of two lines for one user the first counts, as in nginx.
    ///
    /// # Errors
    /// A text over the limits of size.
    pub fn from_file(text: &[u8]) -> Result<Self, &'static str> {
        if text.len() > MAX_BYTES {
            return Err("is longer than 1 MiB");
        }
        let mut users = BTreeMap::new();
        for line in text.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (user, rest) = line.split_at(colon);
            if user.is_empty() || user.starts_with(b"#") {
                continue;
            }
            // Further fields, as in passwd files, are no part of the hash.
            let hash =
                rest.get(1..).unwrap_or_default().split(|byte| *byte == b':').next().unwrap_or_default();
            users.entry(user.into()).or_insert_with(|| Hash::parse(hash));
        }
        Self::limited(users)
    }

    /// Takes the entries of a Secret: key is the user, value the hash (`auth-secret-type: auth-map`).
    ///
    /// # Errors
    /// Too many users.
    pub fn from_map<'m>(entries: impl Iterator<Item = (&'m str, &'m [u8])>) -> Result<Self, &'static str> {
        Self::limited(
            entries.map(|(user, hash)| (user.as_bytes().into(), Hash::parse(hash.trim_ascii()))).collect(),
        )
    }

    fn limited(users: BTreeMap<Box<[u8]>, Hash>) -> Result<Self, &'static str> {
        if users.len() > MAX_USERS { Err("has more than 10000 users") } else { Ok(Self(Arc::new(users))) }
    }

    /// The stored password of a user.
    pub fn hash_of(&self, user: &[u8]) -> Option<&Hash> {
        self.0.get(user)
    }
}

impl Hash {
    fn parse(text: &[u8]) -> Self {
        let unusable = Self(Form::Unusable);
        if let Some(plain) = text.strip_prefix(b"{PLAIN}") {
            return Self(Form::Plain(plain.into()));
        }
        let Ok(text) = std::str::from_utf8(text) else { return unusable };
        if let Some(encoded) = text.strip_prefix("{SHA}").or_else(|| text.strip_prefix("{SSHA}")) {
            return salted(encoded, text.starts_with("{SSHA}")).unwrap_or(unusable);
        }
        for (prefix, magic) in [("$apr1$", "$apr1$"), ("$1$", "$1$")] {
            if let Some((salt, digest)) = text.strip_prefix(prefix).and_then(|rest| rest.split_once('$')) {
                let salt = salt.get(..8).unwrap_or(salt);
                return Self(Form::Md5 { magic, salt: salt.into(), digest: digest.into() });
            }
        }
        if text.starts_with("$2") {
            return if bcrypt_cost(text).is_some_and(|cost| cost <= MAX_COST) {
                Self(Form::Bcrypt(text.into()))
            } else {
                unusable
            };
        }
        if text.starts_with("$5$") || text.starts_with("$6$") {
            return if rounds(text) <= MAX_ROUNDS { Self(Form::ShaCrypt(text.into())) } else { unusable };
        }
        unusable
    }

    /// True for the right password.
    pub fn matches(&self, password: &[u8]) -> bool {
        match &self.0 {
            Form::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Form::Md5 { magic, salt, digest } => {
                same(md5_crypt(password, magic, salt.as_bytes()).as_bytes(), digest.as_bytes())
            }
            Form::Sha1 { digest, salt } => {
                let made = Sha1::new().chain_update(password).chain_update(salt).finalize();
                same(&made, digest)
            }
            Form::ShaCrypt(hash) => {
                use sha_crypt::{PasswordVerifier, ShaCrypt};
                sha_crypt::PasswordHashRef::new(hash)
                    .is_ok_and(|hash| ShaCrypt::default().verify_password(password, hash).is_ok())
            }
            Form::Plain(plain) => same(password, plain),
            Form::Unusable => false,
        }
    }

    /// The stored text, for a key of a cache that forgets a user whose password changed.
    pub fn identity(&self) -> &[u8] {
        match &self.0 {
            Form::Bcrypt(text) | Form::ShaCrypt(text) => text.as_bytes(),
            Form::Md5 { digest, .. } => digest.as_bytes(),
            Form::Sha1 { digest, .. } => digest,
            Form::Plain(plain) => plain,
            Form::Unusable => b"",
        }
    }
}

fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// `{SHA}` and `{SSHA}`: 20 bytes of digest, then the salt.
fn salted(encoded: &str, with_salt: bool) -> Option<Hash> {
    let bytes = STANDARD.decode(encoded).ok()?;
    let (digest, salt) = bytes.split_at_checked(20)?;
    (with_salt || salt.is_empty()).then(|| Hash(Form::Sha1 { digest: digest.into(), salt: salt.into() }))
}

fn bcrypt_cost(text: &str) -> Option<u32> {
    text.split('$').nth(2)?.parse().ok()
}

fn rounds(text: &str) -> u32 {
    let given = text.split('$').nth(2).and_then(|field| field.strip_prefix("rounds="));
    given.map_or(5000, |rounds| rounds.parse().unwrap_or(u32::MAX))
}

/// crypt(3) with MD5, as FreeBSD (`$1$`) and Apache (`$apr1$`) do it.
fn md5_crypt(password: &[u8], magic: &str, salt: &[u8]) -> String {
    let mixed = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut first = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    let mut left = password.len();
    while left > 0 {
        first.update(mixed.get(..left.min(16)).unwrap_or_default());
        left = left.saturating_sub(16);
    }
    let mut bits = password.len();
    while bits > 0 {
        let zero = [0u8];
        first.update(if bits & 1 == 1 { &zero[..] } else { password.get(..1).unwrap_or_default() });
        bits >>= 1;
    }
    let mut digest = first.finalize();
    for round in 0..1000u32 {
        let mut next = Md5::new();
        let odd = round & 1 == 1;
        if odd {
            next.update(password)
        } else {
            next.update(digest)
        }
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if odd {
            next.update(digest)
        } else {
            next.update(password)
        }
        digest = next.finalize();
    }
    let byte = |at: usize| u32::from(digest.get(at).copied().unwrap_or_default());
    let mut text = String::with_capacity(22);
    for (a, b, c) in [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)] {
        digits(byte(a) << 16 | byte(b) << 8 | byte(c), 4, &mut text);
    }
    digits(byte(11), 2, &mut text);
    text
}

fn digits(mut value: u32, count: usize, text: &mut String) {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for _ in 0..count {
        let digit = ALPHABET.get(usize::try_from(value & 0x3f).unwrap_or_default());
        text.push(char::from(digit.copied().unwrap_or(b'.')));
        value >>= 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hash: &str, password: &str, expect: bool) {
        let users =
            Users::from_file(format!("# comment\nann:{hash}\nann:{{PLAIN}}second\n").as_bytes()).unwrap();
        let found = users.hash_of(b"ann").unwrap();
        assert_eq!(found.matches(password.as_bytes()), expect, "{hash} {password}");
    }

    #[test]
    fn every_format_takes_its_password_and_no_other() {
        // Made with openssl passwd, htpasswd and Python's hashlib.
        for (hash, password) in [
            ("$2b$10$.T0W.Jh3gcZIJaRfRizgHuzu81dyqeNmVEIzfXueiXCCLvd5JVYD.", "bar"),
            ("{SHA}Ys23Ag/5IOWqZCw9QGaVDdHwH00=", "bar"),
            ("{PLAIN}bar", "bar"),
            (APR1, "bar"),
            (MD5, "bar"),
            (SHA256, "bar"),
            (SHA512, "bar"),
            (APR1_LONG, "a password of more than sixteen bytes"),
        ] {
            check(hash, password, true);
            check(hash, "baz", false);
            check(hash, "", false);
        }
    }

    const APR1: &str = "$apr1$abcdefgh$bGLO42WqKpmLoPH9uGWTg1";
    const MD5: &str = "$1$abcdefgh$X4AQOXsoYNpzaat9Hm7iC/";
    const SHA256: &str = "$5$saltsalt$/CnP1OkUPI/YYxBjMGRYh.bV5VNRz1I7OKD4GRMrHm4";
    const SHA512: &str =
        "$6$saltsalt$13ZWs86TCGWlKvPnoiZ5uGRk0I6FWQWsoBjy.0NUb9IUt/pnMWcsVBWPeXm2zbrm1/3NvnFsJFn2dIliX8SAJ/";
    const APR1_LONG: &str = "$apr1$abcdefgh$EJvhw845MtIPi.xyhIm.Y/";

    #[test]
    fn a_salted_sha_takes_its_salt_from_behind_the_digest() {
        let digest = Sha1::new().chain_update(b"bar").chain_update(b"salt").finalize();
        let mut bytes = digest.to_vec();
        bytes.extend_from_slice(b"salt");
        check(&format!("{{SSHA}}{}", STANDARD.encode(&bytes)), "bar", true);
        check(&format!("{{SHA}}{}", STANDARD.encode(&bytes)), "bar", false);
    }

    #[test]
    fn what_cannot_be_read_or_costs_too_much_lets_nobody_in() {
        for hash in [
            "",
            "bar",
            "{SHA}x",
            "{SHA}",
            "$2b$31$.T0W.Jh3gcZIJaRfRizgHuzu81dyqeNmVEIzfXueiXCCLvd5JVYD.",
            "$6$rounds=999999999$saltsalt$x",
            "$apr1$salt",
        ] {
            check(hash, "bar", false);
            check(hash, "", false);
        }
    }

    #[test]
    fn files_are_bounded_and_never_printed() {
        assert!(Users::from_file(&vec![b'a'; MAX_BYTES + 1]).is_err());
        let many: String = (0..=MAX_USERS).map(|number| format!("u{number}:x\n")).collect();
        assert!(Users::from_file(many.as_bytes()).is_err());
        let users = Users::from_file(b"ann:{PLAIN}CANARY-4711\r\n:x\nbob").unwrap();
        assert_eq!(format!("{users:?} {:?}", users.hash_of(b"ann")), "Users(1) Some(Hash(..))");
        assert!(users.hash_of(b"ann").unwrap().matches(b"CANARY-4711"));
    }
}
