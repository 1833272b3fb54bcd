//! TLS towards backends: client configurations by policy, made once and shared by all connections of the worker.
//!
//! Nothing is verified unless `proxy-ssl-verify` asks for it, as with ingress-nginx; what asks for it and cannot be
//! had (no CA, a broken pair) is an error and never a weaker connection (E-11).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::{Protocol, suites};
pub use crate::cert::TlsMaterial;
use crate::cert::own::{self, Side};
use crate::policy::backend_tls::BackendTls;

/// A configuration that nobody asked for in this time is forgotten; longer than connections idle.
const UNUSED: Duration = Duration::from_secs(3600);

/// Why there is no TLS for a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// `proxy-ssl-verify` without a usable `ca.crt`.
    #[error("verification is asked for, but the secret holds no usable ca.crt")]
    Authority,
    /// `tls.crt` or `tls.key` is missing or unusable.
    #[error("the secret's tls.crt and tls.key are no usable pair")]
    Pair,
    /// The name to verify is no DNS name and no address.
    #[error("the name to verify the backend by is no DNS name")]
    Name,
    /// `proxy-ssl-protocols` leaves no version.
    #[error("no TLS version is left to speak")]
    Versions,
}

/// What a TLS connection is made with. Its [`ClientTls::id`] is part of the pool's key, so connections are never
/// shared between policies.
#[derive(Debug)]
pub struct ClientTls {
    id: u64,
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl ClientTls {
    /// Differs for every policy, Secret content, name and protocol.
    pub const fn id(&self) -> u64 {
        self.id
    }

    pub(super) const fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    pub(super) const fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    policy: BackendTls,
    host: Box<str>,
    protocol: Protocol,
}

struct Entry {
    material: Option<Arc<TlsMaterial>>,
    tls: Rc<ClientTls>,
    used: Instant,
}

/// The configurations of one worker.
pub struct TlsCache {
    provider: Arc<CryptoProvider>,
    entries: RefCell<HashMap<Key, Entry, RandomState>>,
    next_id: Cell<u64>,
}

impl fmt::Debug for TlsCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsCache({} configurations)", self.entries.borrow().len())
    }
}

impl Default for TlsCache {
    fn default() -> Self {
        Self::new()
    }
}

impl TlsCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            entries: RefCell::new(HashMap::default()),
            next_id: Cell::new(1),
        }
    }

    /// The configuration for `policy`. `material` is the content of `policy.secret`; `host` is the name to verify and
    /// to send where `proxy-ssl-name` gives none.
    ///
    /// # Errors
    /// [`TlsError`]; the caller answers 502 or 503, never without TLS.
    pub fn client(
        &self,
        policy: &BackendTls,
        material: Option<&Arc<TlsMaterial>>,
        host: &str,
        protocol: Protocol,
    ) -> Result<Rc<ClientTls>, TlsError> {
        let name = policy.name.as_deref().unwrap_or(host);
        let key = Key { policy: policy.clone(), host: name.into(), protocol };
        if let Some(entry) = self.entries.borrow_mut().get_mut(&key)
            && entry.follows(material)
        {
            entry.used = Instant::now();
            return Ok(Rc::clone(&entry.tls));
        }
        let config = self.config(policy, material.map(Arc::as_ref), protocol)?;
        let server_name = match ServerName::try_from(name.to_owned()) {
            Ok(name) => name,
            Err(_) if policy.verify => return Err(TlsError::Name),
            // Only a placeholder: nothing is verified. A name that cannot be sent is not sent.
            Err(_) => ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()),
        };
        let id = self.next_id.get();
        self.next_id.set(id.wrapping_add(1));
        let tls = Rc::new(ClientTls { id, config, server_name });
        let entry = Entry { material: material.cloned(), tls: Rc::clone(&tls), used: Instant::now() };
        self.entries.borrow_mut().insert(key, entry);
        Ok(tls)
    }

    /// Forgets configurations that nobody asked for lately. Not sooner: pooled connections and session tickets hang
    /// on them.
    pub fn sweep(&self, now: Instant) {
        self.entries.borrow_mut().retain(|_, entry| now.saturating_duration_since(entry.used) < UNUSED);
    }

    fn config(
        &self,
        policy: &BackendTls,
        material: Option<&TlsMaterial>,
        protocol: Protocol,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let versions: &[&rustls::SupportedProtocolVersion] = match (policy.tls12, policy.tls13) {
            (true, true) => &[&rustls::version::TLS13, &rustls::version::TLS12],
            (true, false) => &[&rustls::version::TLS12],
            (false, true) => &[&rustls::version::TLS13],
            (false, false) => return Err(TlsError::Versions),
        };
        let verifier: Arc<dyn ServerCertVerifier> = if policy.verify {
            let (roots, trusted) = roots(material.and_then(|m| m.authority.as_deref()))?;
            let roots = Arc::new(roots);
            let inner =
                WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&self.provider))
                    .build()
                    .map_err(|_| TlsError::Authority)?;
            let provider = Arc::clone(&self.provider);
            Arc::new(Shallow { inner, roots, trusted, depth: policy.depth, provider })
        } else {
            Arc::new(Unverified(Arc::clone(&self.provider)))
        };
        let provider = match &policy.ciphers {
            Some(list) => Arc::new(suites::provider(list)),
            None => Arc::clone(&self.provider),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|_| TlsError::Versions)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match material.and_then(|m| Some((m.certificate.as_deref()?, m.key.as_deref()?))) {
            Some((certificate, key)) => {
                let (chain, key) = pair(certificate, key)?;
                builder.with_client_auth_cert(chain, key).map_err(|_| TlsError::Pair)?
            }
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = policy.server_name;
        if protocol == Protocol::Http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok(Arc::new(config))
    }
}

impl Entry {
    /// True when the entry was made from the same material, by pointer or by content.
    fn follows(&mut self, material: Option<&Arc<TlsMaterial>>) -> bool {
        match (&self.material, material) {
            (None, None) => true,
            (Some(mine), Some(theirs)) if Arc::ptr_eq(mine, theirs) => true,
            (Some(mine), Some(theirs)) if mine == theirs => {
                self.material = Some(Arc::clone(theirs));
                true
            }
            _ => false,
        }
    }
}

/// Whom to trust, and their certificates.
fn roots(authority: Option<&[u8]>) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let mut roots = RootCertStore::empty();
    let mut trusted = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(authority.ok_or(TlsError::Authority)?) {
        let certificate = certificate.map_err(|_| TlsError::Authority)?;
        trusted.push(certificate.clone());
        roots.add(certificate).map_err(|_| TlsError::Authority)?;
    }
    if roots.is_empty() { Err(TlsError::Authority) } else { Ok((roots, trusted)) }
}

fn pair(
    certificate: &[u8],
    key: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(|_| TlsError::Pair)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Pair)?;
    if chain.is_empty() { Err(TlsError::Pair) } else { Ok((chain, key)) }
}

/// `proxy-ssl-verify: on` with `proxy-ssl-verify-depth`: the library verifies, and a chain that brings more authorities
/// than may stand between is looked at again for a short enough way. What it refuses and OpenSSL takes is looked at
/// again too.
#[derive(Debug)]
struct Shallow {
    inner: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    trusted: Vec<CertificateDer<'static>>,
    depth: u32,
    provider: Arc<CryptoProvider>,
}

impl Shallow {
    /// Judges the chain, not the name.
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let between = |path: &VerifiedPath<'_>| {
            u32::try_from(path.intermediate_certificates().count()).unwrap_or(u32::MAX)
        };
        let within = |path: &VerifiedPath<'_>| {
            if between(path) <= self.depth { Ok(()) } else { Err(webpki::Error::MaximumPathDepthExceeded) }
        };
        let end = EndEntityCert::try_from(leaf)?;
        let (algorithms, anchors) = (self.provider.signature_verification_algorithms.all, &self.roots.roots);
        let usage = KeyUsage::server_auth();
        end.verify_for_usage(algorithms, anchors, others, now, usage, None, Some(&within)).map(|_path| ())
    }

    /// True for what OpenSSL takes all the same: a certificate that stands in `ca.crt` itself though it is an
    /// authority's, and one without DNS names whose CN is the name.
    fn is_taken(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let sound = match self.judge(leaf, others, now) {
            Ok(()) => true,
            Err(webpki::Error::CaUsedAsEndEntity) => {
                self.trusted.contains(leaf) && own::may_be_shown(leaf, Side::Server, now)
            }
            Err(_) => false,
        };
        let is_named = || {
            EndEntityCert::try_from(leaf).is_ok_and(|end| end.verify_is_valid_for_subject_name(name).is_ok())
        };
        sound && (is_named() || self.is_called(leaf, others, name))
    }

    fn is_called(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> bool {
        let ServerName::DnsName(name) = name else { return false };
        own::is_called(leaf, name.as_ref())
            && !others.iter().chain(&self.trusted).any(|authority| own::limits_names(authority))
    }
}

impl ServerCertVerifier for Shallow {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = match self.inner.verify_server_cert(leaf, others, name, ocsp, now) {
            Ok(verified) => verified,
            Err(_) if self.is_taken(leaf, others, name, now) => return Ok(ServerCertVerified::assertion()),
            Err(error) => return Err(error),
        };
        // A way cannot be longer than what was brought.
        let short = u32::try_from(others.len()).is_ok_and(|brought| brought <= self.depth);
        if short || self.judge(leaf, others, now).is_ok() {
            Ok(verified)
        } else {
            Err(rustls::Error::General("the chain is longer than proxy-ssl-verify-depth".into()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// `proxy-ssl-verify: off`: encryption without knowing with whom. Signatures are not judged either, since without a
/// trusted certificate they prove nothing, and old backends present certificates that no verifier can parse.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
