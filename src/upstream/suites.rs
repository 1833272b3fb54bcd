//! Cipher suites by the names that policies use, as the TLS library has them. For connections to backends, and for
//! `proxy/sni` on the other side.

use rustls::SupportedCipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use crate::policy::cipher_list::Suite;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::cipher_list::SUITES;

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
                rustls::CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            ]
        );
    }
}
