//! Cipher suites by the names that policies use, as the TLS library has them. For connections to backends, and for
//! `proxy/sni` on the other side.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, SupportedCipherSuite};

use crate::policy::cipher_list::{SUITES, Suite};

/// The provider of the TLS library with these suites of TLS 1.2, in this order; TLS 1.3 has its own always.
pub fn provider(suites: &[Suite]) -> CryptoProvider {
    let default = aws_lc_rs::default_provider();
    let own = default.cipher_suites.iter().filter(|suite| suite.tls13().is_some()).copied();
    let cipher_suites = own.chain(suites.iter().map(|suite| library_suite(*suite))).collect();
    CryptoProvider { cipher_suites, ..default }
}

fn library_suite(suite: Suite) -> SupportedCipherSuite {
    use aws_lc_rs::cipher_suite as library;
    match suite {
        Suite::EcdsaAes256 => library::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        Suite::RsaAes256 => library::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        Suite::EcdsaChacha20 => library::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        Suite::RsaChacha20 => library::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        Suite::EcdsaAes128 => library::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        Suite::RsaAes128 => library::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    }
}

/// OpenSSL's name of a suite, which is nginx's: the registry's own for TLS 1.3; empty for one that is not spoken here.
pub fn openssl_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        suite => {
            let known = SUITES.into_iter().find(|known| library_suite(*known).suite() == suite);
            known.map_or("", Suite::openssl_name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_of_the_library_has_a_name_and_the_order_is_kept() {
        let default = aws_lc_rs::default_provider().cipher_suites;
        let all = provider(&SUITES).cipher_suites;
        assert_eq!(all.len(), default.len());
        assert!(default.iter().all(|suite| all.contains(suite)));
        let two = provider(&[Suite::RsaAes128, Suite::EcdsaAes256]).cipher_suites;
        let names: Vec<_> =
            two.iter().filter(|suite| suite.tls13().is_none()).map(|suite| suite.suite()).collect();
        assert_eq!(
            names,
            [
                CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            ]
        );
    }
    #[test]
    fn suites_are_shown_by_the_names_of_openssl() {
        let shown =
            aws_lc_rs::default_provider().cipher_suites.into_iter().map(|one| openssl_name(one.suite()));
        let mut shown: Vec<_> = shown.collect();
        shown.sort_unstable();
        assert_eq!(
            shown,
            [
                "ECDHE-ECDSA-AES128-GCM-SHA256",
                "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-ECDSA-CHACHA20-POLY1305",
                "ECDHE-RSA-AES128-GCM-SHA256",
                "ECDHE-RSA-AES256-GCM-SHA384",
                "ECDHE-RSA-CHACHA20-POLY1305",
                "TLS_AES_128_GCM_SHA256",
                "TLS_AES_256_GCM_SHA384",
                "TLS_CHACHA20_POLY1305_SHA256",
            ]
        );
    }
}
