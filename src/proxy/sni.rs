//! Which certificate a handshake gets: SNI to key, from the current snapshot (`security.md` E-2).
//!
//! One `ServerConfig` serves every host without settings of its own and follows the ConfigMap ([`Configs`]); its
//! resolver looks at the published table at each handshake, so a renewed Secret is live with the next snapshot and no
//! connection is touched.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
    ServerSessionMemoryCache, StoresServerSessions,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::tickets::Tickets;
use crate::cert::Pair;
use crate::policy::cipher_list::Suite;
use crate::policy::global::Globals;
use crate::policy::server_tls::ServerTls;
use crate::snapshot::{Reader, Snapshot};
use crate::upstream::suites;

/// Sessions kept for resumption over all workers (nginx: 10 MiB, about 20,480).
const SESSIONS: usize = 20_480;

/// TLS for the hosts of one scope, as the ConfigMap of the moment has it. Sessions and tickets outlive its changes.
pub struct Configs {
    reader: Reader,
    verifier: Arc<dyn ClientCertVerifier>,
    own: ServerTls,
    sessions: Arc<ServerSessionMemoryCache>,
    tickets: Arc<Tickets>,
    current: ArcSwap<Offer>,
}

/// A configuration, and the ConfigMap it was made from.
struct Offer {
    globals: Arc<Globals>,
    config: Arc<ServerConfig>,
}

impl Configs {
    /// For hosts that ask for no client certificates.
    ///
    /// # Errors
    /// When the cryptographic provider cannot do the versions asked for.
    pub fn new(reader: Reader, globals: &Arc<Globals>) -> Result<Self, rustls::Error> {
        Self::with_verifier(reader, globals, Arc::new(NoClientAuth), ServerTls::default(), b"")
    }

    /// As [`Configs::new`] for hosts that ask for client certificates or have ciphers of their own. Sessions of one are
    /// unknown to the others, so a handshake that asked for none never resumes as one that did: tickets are sealed
    /// for `scope`.
    pub(super) fn with_verifier(
        reader: Reader,
        globals: &Arc<Globals>,
        verifier: Arc<dyn ClientCertVerifier>,
        own: ServerTls,
        scope: &[u8],
    ) -> Result<Self, rustls::Error> {
        let sessions = ServerSessionMemoryCache::new(SESSIONS);
        let tickets = Tickets::new(reader.clone(), scope);
        let config = make(&reader, globals, &verifier, &own, &sessions, &tickets)?;
        let offer = Offer { globals: Arc::clone(globals), config };
        Ok(Self { reader, verifier, own, sessions, tickets, current: ArcSwap::from_pointee(offer) })
    }

    /// The configuration for a handshake under this ConfigMap.
    pub fn of(&self, globals: &Arc<Globals>) -> Arc<ServerConfig> {
        let current = self.current.load();
        if Arc::ptr_eq(&current.globals, globals) {
            return Arc::clone(&current.config);
        }
        let config = if offers(&current.globals) == offers(globals) {
            Arc::clone(&current.config)
        } else {
            let made = make(&self.reader, globals, &self.verifier, &self.own, &self.sessions, &self.tickets);
            made.unwrap_or_else(|error| {
                tracing::error!(%error, "the TLS settings of the ConfigMap cannot be used; the former ones stay");
                Arc::clone(&current.config)
            })
        };
        self.current.store(Arc::new(Offer { globals: Arc::clone(globals), config: Arc::clone(&config) }));
        config
    }
}

impl fmt::Debug for Configs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Configs")
    }
}

/// What of the ConfigMap a configuration is made from.
fn offers(globals: &Globals) -> (bool, bool, &[Suite], bool, bool) {
    (globals.tls13, globals.tls12, &globals.ssl_ciphers, globals.use_http2, globals.ssl_session_cache)
}

fn make(
    reader: &Reader,
    globals: &Globals,
    verifier: &Arc<dyn ClientCertVerifier>,
    own: &ServerTls,
    sessions: &Arc<ServerSessionMemoryCache>,
    tickets: &Arc<Tickets>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let versions: Vec<&'static SupportedProtocolVersion> = [(&TLS13, globals.tls13), (&TLS12, globals.tls12)]
        .into_iter()
        .filter_map(|(version, wanted)| wanted.then_some(version))
        .collect();
    let suites = own.ciphers.as_deref().unwrap_or(&globals.ssl_ciphers);
    let mut config = ServerConfig::builder_with_provider(Arc::new(suites::provider(suites)))
        .with_protocol_versions(&versions)?
        .with_client_cert_verifier(Arc::clone(verifier))
        .with_cert_resolver(Arc::new(SniResolver { reader: reader.clone() }));
    // As ingress-nginx has it for every host: our order counts.
    config.ignore_client_order = own.prefer.unwrap_or(true);
    // nginx's list: a client may offer an old version alone (`curl --http1.0`), and speaks it or not.
    let offered: [&[u8]; 4] = [b"h2", b"http/1.1", b"http/1.0", b"http/0.9"];
    let offered = offered.iter().filter(|name| globals.use_http2 || **name != b"h2");
    config.alpn_protocols = offered.map(|name| name.to_vec()).collect();
    config.ticketer = Arc::clone(tickets) as Arc<dyn ProducesTickets>;
    // Stateful resumption, as ingress-nginx has it by default (tickets off).
    if globals.ssl_session_cache {
        config.session_storage = Arc::clone(sessions) as Arc<dyn StoresServerSessions>;
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct SniResolver {
    reader: Reader,
}

impl ResolvesServerCert for SniResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.reader.load();
        key_for(&snapshot, hello.server_name())
    }
}

/// The key for a server name. `None` only when `ssl-reject-handshake` refuses the name.
pub fn key_for(snapshot: &Snapshot, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
    let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    let choice = name.as_deref().and_then(|name| snapshot.table.certificate(name));
    match choice {
        Some(crate::route::CertificateChoice::Secret(key)) => {
            let pair = snapshot.certs.pairs.get(key).unwrap_or(&snapshot.certs.default);
            Some(shown(snapshot, pair))
        }
        Some(crate::route::CertificateChoice::Default) => Some(shown(snapshot, &snapshot.certs.default)),
        None if snapshot.table.globals.ssl_reject_handshake && !names_a_route(snapshot, name.as_deref()) => {
            None
        }
        None => Some(shown(snapshot, &snapshot.certs.default)),
    }
}

/// The pair as it is shown, with its OCSP answer where `enable-ocsp` asks for one and it is there.
fn shown(snapshot: &Snapshot, pair: &Pair) -> Arc<CertifiedKey> {
    if !snapshot.table.globals.enable_ocsp {
        return Arc::clone(&pair.key);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    pair.with_staple(i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

fn names_a_route(snapshot: &Snapshot, name: Option<&str>) -> bool {
    name.is_some_and(|name| snapshot.table.hosts.find(name).is_some())
}
