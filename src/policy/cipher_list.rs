//! Cipher lists in OpenSSL's language (`man openssl-ciphers`), read down to the TLS 1.2 suites that the TLS library
//! speaks. Suites of TLS 1.3 are not its matter, as with OpenSSL: they are always on.
//!
//! Not the suites themselves, which `proxy/sni` and `upstream/tls` pick by these names. Read for `ssl-ciphers`,
//! `proxy-ssl-ciphers`, the ConfigMap and snippets.

use std::sync::Arc;

/// A TLS 1.2 suite that is spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// `ECDHE-ECDSA-AES256-GCM-SHA384`.
    EcdsaAes256,
    /// `ECDHE-RSA-AES256-GCM-SHA384`.
    RsaAes256,
    /// `ECDHE-ECDSA-CHACHA20-POLY1305`.
    EcdsaChacha20,
    /// `ECDHE-RSA-CHACHA20-POLY1305`.
    RsaChacha20,
    /// `ECDHE-ECDSA-AES128-GCM-SHA256`.
    EcdsaAes128,
    /// `ECDHE-RSA-AES128-GCM-SHA256`.
    RsaAes128,
}

use Suite::{EcdsaAes128, EcdsaAes256, EcdsaChacha20, RsaAes128, RsaAes256, RsaChacha20};

/// All of them, in the order that OpenSSL gives them before a list has its say.
pub const SUITES: [Suite; 6] = [EcdsaAes256, RsaAes256, EcdsaChacha20, RsaChacha20, EcdsaAes128, RsaAes128];

/// `ssl-ciphers` of ingress-nginx's ConfigMap, as far as it is spoken here.
pub const DEFAULT: [Suite; 6] = [EcdsaAes128, RsaAes128, EcdsaAes256, RsaAes256, EcdsaChacha20, RsaChacha20];

/// What a list comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CipherList {
    /// Suites in order of preference; never empty.
    pub suites: Arc<[Suite]>,
    /// Names of single suites that are not spoken here.
    pub unspoken: Vec<String>,
}

impl Suite {
    /// OpenSSL's name and the one of the registry.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            EcdsaAes256 => ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
            RsaAes256 => ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
            EcdsaChacha20 => {
                ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256")
            }
            RsaChacha20 => ("ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
            EcdsaAes128 => ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
            RsaAes128 => ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        }
    }

    /// OpenSSL's name.
    pub const fn openssl_name(self) -> &'static str {
        self.names().0
    }

    const fn is_rsa(self) -> bool {
        matches!(self, RsaAes256 | RsaChacha20 | RsaAes128)
    }

    const fn is_strong(self) -> bool {
        !matches!(self, EcdsaAes128 | RsaAes128)
    }

    const fn is_chacha(self) -> bool {
        matches!(self, EcdsaChacha20 | RsaChacha20)
    }

    /// True when a word of a list means this suite, among others or alone.
    fn is(self, word: &str) -> bool {
        match word {
            "ALL" | "DEFAULT" | "HIGH" | "TLSv1.2" | "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" => true,
            "FIPS" => !self.is_chacha(),
            "aRSA" => self.is_rsa(),
            "aECDSA" | "ECDSA" => !self.is_rsa(),
            "AES" | "AESGCM" => !self.is_chacha(),
            "AES256" => self.is_strong() && !self.is_chacha(),
            "AES128" => !self.is_strong(),
            "CHACHA20" => self.is_chacha(),
            _ => word == self.names().0 || word == self.names().1,
        }
    }
}

/// Reads a list.
///
/// # Errors
/// When a character has no place in such a list, or no suite is left that is spoken here.
pub fn parse(text: &str) -> Result<CipherList, String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"!:+-@=_., ".contains(&byte);
    if let Some(strange) = text.bytes().find(|byte| !known(*byte)) {
        return Err(format!("{:?} may not stand in a list of ciphers", char::from(strange)));
    }
    let mut active: Vec<Suite> = Vec::new();
    let mut killed: Vec<Suite> = Vec::new();
    let mut unspoken = Vec::new();
    // A command such as @STRENGTH may follow a word without a separator.
    let spaced = text.replace('@', ":@");
    for rule in spaced.split([':', ',', ' ']).filter(|rule| !rule.is_empty()) {
        if let Some(command) = rule.strip_prefix('@') {
            obey(command, &mut active);
            continue;
        }
        let (sign, words) = match rule.split_at_checked(1) {
            Some((sign @ ("!" | "-" | "+"), words)) => (sign, words),
            _ => ("", rule),
        };
        let meant = |suite: &Suite| words.split('+').all(|word| suite.is(word));
        let matching: Vec<Suite> = SUITES.into_iter().filter(meant).collect();
        if sign.is_empty() && matching.is_empty() && is_one_suite(words) {
            unspoken.push(words.to_owned());
        }
        match sign {
            "!" => {
                active.retain(|suite| !matching.contains(suite));
                killed.extend(matching);
            }
            "-" => active.retain(|suite| !matching.contains(suite)),
            "+" => active.sort_by_key(|suite| matching.contains(suite)),
            _ => {
                for suite in matching {
                    if !active.contains(&suite) && !killed.contains(&suite) {
                        active.push(suite);
                    }
                }
            }
        }
    }
    if active.is_empty() {
        return Err("leaves no cipher of TLS 1.2 that is spoken here: ECDHE with AES-GCM or CHACHA20".into());
    }
    Ok(CipherList { suites: active.into(), unspoken })
}

/// `@STRENGTH` sorts; `@SECLEVEL=4` and above asks for more than 128 bits.
fn obey(command: &str, active: &mut Vec<Suite>) {
    if command == "STRENGTH" {
        active.sort_by_key(|suite| !suite.is_strong());
    }
    let level = command.strip_prefix("SECLEVEL=").and_then(|level| level.parse::<u8>().ok());
    if level.is_some_and(|level| level >= 4) {
        active.retain(|suite| suite.is_strong());
    }
}

/// True for a name of one suite, such as `ECDHE-RSA-AES256-SHA`, and false for names of groups.
fn is_one_suite(word: &str) -> bool {
    (word.contains('-') || word.starts_with("TLS_")) && !word.contains('+')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, expect: &[Suite]) {
        let found = parse(list).map(|list| list.suites.to_vec());
        assert_eq!(found.as_deref(), Ok(expect), "{list}");
    }

    #[test]
    fn names_groups_signs_and_commands_mean_what_openssl_says() {
        check("ALL", &SUITES);
        check("DEFAULT", &SUITES);
        check("HIGH:!aNULL:!MD5", &SUITES);
        check("HIGH:!AES", &[EcdsaChacha20, RsaChacha20]);
        check("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384", &[RsaAes128, RsaAes256]);
        check("ECDHE-RSA-AES128-GCM-SHA256,ECDHE-RSA-AES128-GCM-SHA256", &[RsaAes128]);
        check("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", &[RsaChacha20]);
        check("EECDH+AESGCM+aRSA", &[RsaAes256, RsaAes128]);
        check("AES128:AES256+ECDSA", &[EcdsaAes128, RsaAes128, EcdsaAes256]);
        check("ALL:-CHACHA20:CHACHA20+aRSA", &[EcdsaAes256, RsaAes256, EcdsaAes128, RsaAes128, RsaChacha20]);
        check("ALL:!CHACHA20:CHACHA20", &[EcdsaAes256, RsaAes256, EcdsaAes128, RsaAes128]);
        check("ECDSA:+AES256", &[EcdsaChacha20, EcdsaAes128, EcdsaAes256]);
        check("aRSA+AES128:aRSA:@STRENGTH", &[RsaAes256, RsaChacha20, RsaAes128]);
        check("aRSA@SECLEVEL=5", &[RsaAes256, RsaChacha20]);
        check("aRSA@SECLEVEL=2", &[RsaAes256, RsaChacha20, RsaAes128]);
    }

    #[test]
    fn the_lists_of_upstreams_tests_are_read() {
        check("ALL:!aNULL:!EXPORT56:RC4+RSA:+HIGH:+MEDIUM:+LOW:+SSLv2:+EXP", &SUITES);
        check(
            "ALL:!aNULL:!EXPORT56:RC4+RSA@STRENGTH:+HIGH@SECLEVEL=0:+MEDIUM:+LOW:+SSLv2:+EXP",
            &[EcdsaAes256, RsaAes256, EcdsaChacha20, RsaChacha20, EcdsaAes128, RsaAes128],
        );
        let default = concat!(
            "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:",
            "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:",
            "DHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256",
        );
        check(default, &DEFAULT);
        let unspoken = parse(default).unwrap().unspoken;
        assert_eq!(unspoken, ["DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256"]);
    }

    #[test]
    fn what_leaves_nothing_and_what_is_no_list_is_refused() {
        for list in ["", ":::", "AES256-SHA", "RC4", "ALL:!ALL", "TLS_AES_128_GCM_SHA256", "kRSA", "+ALL"] {
            assert!(parse(list).unwrap_err().contains("leaves no cipher"), "{list}");
        }
        for list in ["HIGH;ssl_protocols SSLv3", "HIGH\"", "ALL}"] {
            assert!(parse(list).unwrap_err().contains("may not stand"), "{list}");
        }
    }
}
