//! Client certificates on the data plane: which handshakes ask for one (and which have ciphers of their own), and what
//! each request may do with what its connection showed (`security.md` E-4, E-5).
//!
//! A handshake never fails over a certificate whose holder has its key; requests are judged per host, with the policy
//! of their own snapshot. What is wanted is `policy::client_certificate`'s, verifying is `cert::client`'s.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::NoClientAuth;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};

use super::connection::TlsFacts;
use super::exchange::Exchange;
use super::sni;
use crate::cert::client::{Authority, escaped_pem, facts};
use crate::cert::old::{prove_tls12, prove_tls13};
use crate::policy::client_certificate::{Bundle, ClientAuth, ClientCertificates, Shown};
use crate::policy::global::Globals;
use crate::policy::server_tls::ServerTls;
use crate::policy::template::{Facts, RouteFacts};
use crate::reply::LocalReply;
use crate::request::{RequestView, Scheme};
use crate::route::{Server, Table};
use crate::snapshot::Reader;

/// Groups kept; more are made again when they are needed.
const GROUPS: usize = 1024;
/// For how long a verdict counts on its connection.
const JUDGED: Duration = Duration::from_secs(60);

/// TLS configurations that ask for certificates, one for each set of authorities, shared by all workers.
#[derive(Clone)]
pub struct Groups(Arc<Inner>);

struct Inner {
    reader: Reader,
    globals: Arc<Globals>,
    made: Mutex<HashMap<Bundle, Arc<Made>, RandomState>>,
    /// For hosts with ciphers of their own, by those and by whom they ask.
    own: Mutex<HashMap<OwnKey, Arc<sni::Configs>, RandomState>>,
}

/// Whom a host with ciphers of its own asks for certificates, and the ciphers.
type OwnKey = (Option<Bundle>, ServerTls);

struct Made {
    configs: sni::Configs,
    authority: Authority,
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Groups")
    }
}

impl Groups {
    /// None yet. `globals` are those in force at start, as for all handshakes.
    pub fn new(reader: Reader, globals: Arc<Globals>) -> Self {
        Self(Arc::new(Inner { reader, globals, made: Mutex::default(), own: Mutex::default() }))
    }

    /// The configuration for a handshake with this server name, and whether it asks for a certificate; `None` for
    /// hosts that ask nobody and have the ciphers of all.
    pub fn config(&self, table: &Table, name: Option<&str>) -> Option<(Arc<ServerConfig>, bool)> {
        if !table.client_certificates && !table.own_handshakes {
            return None;
        }
        let server = named(table, name);
        let group = server.client_certificates.as_ref().and_then(ClientCertificates::group);
        let made = group.and_then(|group| Some((&group.bundle, self.made(&group.bundle)?)));
        match made {
            Some((_, made)) if server.handshakes.is_default() => {
                Some((made.configs.of(&table.globals), true))
            }
            None if server.handshakes.is_default() => None,
            made => {
                let asks = made.is_some();
                Some((self.own_configs(made, &server.handshakes)?.of(&table.globals), asks))
            }
        }
    }

    /// For the hosts that have these ciphers of their own; `None` where the library refuses them.
    fn own_configs(&self, asks: Option<(&Bundle, Arc<Made>)>, own: &ServerTls) -> Option<Arc<sni::Configs>> {
        let key = (asks.as_ref().map(|(bundle, _)| Bundle::clone(bundle)), own.clone());
        let mut all = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(configs) = all.get(&key) {
            return Some(Arc::clone(configs));
        }
        let verifier: Arc<dyn ClientCertVerifier> = match &asks {
            Some((_, made)) => Arc::new(AnyHolder::of(&made.authority)),
            None => Arc::new(NoClientAuth),
        };
        let scope = asks.as_ref().map(|(bundle, _)| scope(bundle));
        let scope = scope.as_ref().map_or(&b""[..], |scope| scope);
        let reader = self.0.reader.clone();
        let configs =
            sni::Configs::with_verifier(reader, &self.0.globals, verifier, own.clone(), scope).ok()?;
        if all.len() >= GROUPS {
            all.clear();
        }
        let configs = Arc::new(configs);
        all.insert(key, Arc::clone(&configs));
        Some(configs)
    }

    /// `None` where the bundle cannot be used.
    fn made(&self, bundle: &Bundle) -> Option<Arc<Made>> {
        let mut all = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = all.get(bundle) {
            return Some(Arc::clone(made));
        }
        let authority = Authority::read(&bundle.authorities, &bundle.revocations)?;
        let verifier = Arc::new(AnyHolder::of(&authority));
        let (same, scope) = (ServerTls::default(), scope(bundle));
        let reader = self.0.reader.clone();
        let configs = sni::Configs::with_verifier(reader, &self.0.globals, verifier, same, &scope).ok()?;
        if all.len() >= GROUPS {
            all.clear();
        }
        let made = Arc::new(Made { configs, authority });
        all.insert(bundle.clone(), Arc::clone(&made));
        Some(made)
    }

    /// What the certificates of a connection are worth to a policy, looked at again after a while: certificates and
    /// revocation lists run out.
    fn shown(&self, auth: &Arc<ClientAuth>, tls: Option<&TlsFacts>) -> Result<Shown, LocalReply> {
        let Some(tls) = tls.filter(|tls| !tls.client_chain.is_empty()) else { return Ok(Shown::Nothing) };
        let now = Instant::now();
        if let Some(judged) = &*tls.judged.borrow()
            && Arc::ptr_eq(&judged.auth, auth)
            && judged.until > now
        {
            return Ok(judged.shown.clone());
        }
        let shown = self.verified(auth, &tls.client_chain)?;
        let judged = Judged { auth: Arc::clone(auth), shown: shown.clone(), until: now + JUDGED };
        *tls.judged.borrow_mut() = Some(judged);
        Ok(shown)
    }

    fn verified(&self, auth: &ClientAuth, chain: &[CertificateDer<'_>]) -> Result<Shown, LocalReply> {
        let made = self.made(&auth.group.bundle).ok_or(SHUT)?;
        Ok(match made.authority.verify(chain, auth.group.depth, UnixTime::now()) {
            Ok(()) => Shown::Sound,
            Err(fault) => Shown::Faulty { reason: fault.reason, unknown_authority: fault.unknown_authority },
        })
    }
}

/// The same for the same authorities and revocation lists, on every replica.
fn scope(bundle: &Bundle) -> [u8; 32] {
    let mut hash = Sha256::new();
    for list in [&bundle.authorities, &bundle.revocations] {
        hash.update((list.len() as u64).to_be_bytes());
        for part in list.iter() {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize().into()
}

/// What a chain is worth to a policy, so that a connection with many requests is not verified for each.
#[derive(Debug, Clone)]
pub struct Judged {
    auth: Arc<ClientAuth>,
    shown: Shown,
    until: Instant,
}

const SHUT: LocalReply = LocalReply::Denied { code: "ClientCertificatesUnavailable" };

/// Fields that tell backends of the client's certificate.
const TOLD: [&str; 4] =
    ["ssl-client-verify", "ssl-client-subject-dn", "ssl-client-issuer-dn", "ssl-client-cert"];

/// What a request may do.
#[derive(Debug, Default)]
pub struct Standing {
    /// `ssl-client-*` for backends and the authentication service; `None` takes the client's own away.
    pub fields: Vec<(Box<str>, Option<Vec<u8>>)>,
    /// In clear text: the answer once the request would be forwarded. Redirects to https come first.
    pub refusal: Option<LocalReply>,
}

impl Standing {
    /// `$ssl_client_verify`.
    pub fn verified(&self) -> Option<&[u8]> {
        let field = self.fields.iter().find(|(name, _)| **name == *"ssl-client-verify");
        field.and_then(|(_, value)| value.as_deref())
    }
}

/// Judges a request by the certificates of its connection; `None` where its host asks nobody.
///
/// # Errors
/// The answer for a request that may not go on.
pub fn judge(exchange: &Exchange, view: &RequestView<'_>) -> Result<Option<Standing>, LocalReply> {
    let table = &exchange.snapshot.table;
    let tls = exchange.connection.tls.as_ref();
    // Connections for such a host never end here, so this one was made for another (E-4).
    if table.passthrough
        && view.scheme == Scheme::Https
        && table.server(&view.host.name).passthrough.is_some()
    {
        return Err(LocalReply::Misdirected);
    }
    if !table.client_certificates {
        return Ok(None);
    }
    let wanted = table.server(&view.host.name).client_certificates.as_ref();
    if view.scheme == Scheme::Https {
        same_group(table, tls, wanted)?;
    }
    let auth = match wanted {
        None => return Ok(None),
        Some(ClientCertificates::Broken) if view.scheme == Scheme::Https => return Err(SHUT),
        // As below: in clear text a challenge is answered, or the host would never get the certificate it lacks.
        Some(ClientCertificates::Broken) => {
            let fields = TOLD.map(|name| (Box::from(name), None)).into();
            return Ok(Some(Standing { fields, refusal: Some(SHUT) }));
        }
        Some(ClientCertificates::Ask(auth)) => auth,
    };
    let chain = tls.map_or(&[][..], |tls| &tls.client_chain);
    let shown = exchange.worker.client_groups.shown(auth, tls)?;
    let names = chain.first().and_then(facts);
    let subject = names.as_ref().map_or("", |names| &names.subject);
    let refusal = auth.refusal(&shown, subject).map(|refusal| {
        let route = RouteFacts {
            request_id: &exchange.request_id,
            server_name: &view.host.name,
            ..RouteFacts::default()
        };
        auth.page_for(refusal, &Facts { view, route })
    });
    if view.scheme == Scheme::Https
        && let Some(refusal) = refusal
    {
        return Err(refusal);
    }
    let told = (view.scheme == Scheme::Https).then(|| shown.text().into_bytes());
    let mut fields: Vec<(Box<str>, Option<Vec<u8>>)> = vec![
        ("ssl-client-verify".into(), told),
        ("ssl-client-subject-dn".into(), names.as_ref().map(|names| names.subject.clone().into_bytes())),
        ("ssl-client-issuer-dn".into(), names.as_ref().map(|names| names.issuer.clone().into_bytes())),
    ];
    let passed = chain.first().filter(|_| auth.pass_certificate);
    fields.push(("ssl-client-cert".into(), passed.map(|leaf| escaped_pem(leaf).into_bytes())));
    Ok(Some(Standing { fields, refusal }))
}

/// A request may only use a connection that was made for a host of the same group (E-4): neither SNI nor Host can lead
/// around a certificate.
fn same_group(
    table: &Table,
    tls: Option<&TlsFacts>,
    wanted: Option<&ClientCertificates>,
) -> Result<(), LocalReply> {
    let made_for = asked(table, tls.and_then(|tls| tls.server_name.as_deref()));
    let group = wanted.and_then(ClientCertificates::group);
    let same = made_for.and_then(ClientCertificates::group) == group;
    // A handshake from before the host asked for certificates asked for none.
    let asked = group.is_none() || tls.is_some_and(|tls| tls.asked);
    if same && asked { Ok(()) } else { Err(LocalReply::Misdirected) }
}

/// What the host of a handshake wants.
fn asked<'t>(table: &'t Table, name: Option<&str>) -> Option<&'t ClientCertificates> {
    named(table, name).client_certificates.as_ref()
}

/// The host of a handshake.
fn named<'t>(table: &'t Table, name: Option<&str>) -> &'t Server {
    match name {
        Some(name) => table.server(&name.trim_end_matches('.').to_ascii_lowercase()),
        None => &table.catch_all,
    }
}

/// Takes every certificate whose holder proves to have its key.
struct AnyHolder {
    subjects: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl AnyHolder {
    fn of(authority: &Authority) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Self { subjects: authority.subjects.clone(), provider }
    }
}

impl fmt::Debug for AnyHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnyHolder({} authorities)", self.subjects.len())
    }
}

impl ClientCertVerifier for AnyHolder {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        prove_tls12(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        prove_tls13(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
