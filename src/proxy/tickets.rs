//! Session tickets (`ssl-session-tickets`, `ssl-session-ticket-key`): sealed so that every replica with the same keys
//! opens them, and only for the hosts they were made for.
//!
//! Each ticket is sealed with a key of its own, derived from one of the ConfigMap and a random salt (HKDF-SHA256,
//! AES-256-GCM), so one key may last for any number of tickets. What nginx sealed cannot be opened: a ticket holds the
//! state of the library that made it. `proxy::sni` puts one of these into each TLS configuration.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

use crate::policy::global::{Globals, TicketKey};
use crate::snapshot::Reader;

/// Bytes of the name of a key at the start of each ticket.
const NAME: usize = 16;
/// Bytes of the salt behind it.
const SALT: usize = 32;
/// Bytes of the time inside.
const TIME: usize = 8;
/// Former keys whose tickets are still opened.
const FORMER: usize = 4;

/// The tickets of one TLS configuration, by the ConfigMap of the moment.
pub(super) struct Tickets {
    reader: Reader,
    /// Who the ticket is for: a session with a client's certificate is none of another host's.
    scope: Box<[u8]>,
    /// Keys of this process, where the ConfigMap has tickets on and names none.
    own: Option<Arc<dyn ProducesTickets>>,
    keys: Mutex<Keys>,
}

/// Keys of the ConfigMap, and those it had before.
#[derive(Default)]
struct Keys {
    current: Arc<[TicketKey]>,
    former: Vec<TicketKey>,
}

impl Keys {
    /// Takes over what the ConfigMap has now.
    fn follow(&mut self, now: &Arc<[TicketKey]>) {
        if Arc::ptr_eq(now, &self.current) || **now == *self.current {
            return;
        }
        let gone = self.current.iter().filter(|key| !now.contains(key)).cloned();
        let mut former: Vec<TicketKey> = gone.chain(self.former.drain(..)).collect();
        former.retain(|key| !now.contains(key));
        former.truncate(FORMER);
        self.former = former;
        self.current = Arc::clone(now);
    }
}

impl Tickets {
    /// Tickets for the hosts of a scope.
    pub(super) fn new(reader: Reader, scope: &[u8]) -> Arc<Self> {
        // Without randomness there are no tickets, and handshakes are full.
        let own = rustls::crypto::aws_lc_rs::Ticketer::new().ok();
        Arc::new(Self { reader, scope: scope.into(), own, keys: Mutex::default() })
    }

    fn globals(&self) -> Arc<Globals> {
        Arc::clone(&self.reader.load().table.globals)
    }

    fn keys(&self, globals: &Globals) -> (Option<TicketKey>, Vec<TicketKey>) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.follow(&globals.ssl_session_ticket_keys);
        let all = keys.current.iter().chain(&keys.former).cloned().collect();
        (keys.current.first().cloned(), all)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.globals().ssl_session_tickets
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.globals().ssl_session_timeout.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        match self.keys(&self.globals()).0 {
            Some(key) => seal(&key, &self.scope, since_epoch(), plain),
            None => self.own.as_ref()?.encrypt(plain),
        }
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let globals = self.globals();
        // TLS 1.2 of the library asks without looking whether they are on.
        if !globals.ssl_session_tickets {
            return None;
        }
        let (current, all) = self.keys(&globals);
        let named = cipher.get(..NAME)?;
        if let Some(key) = all.iter().find(|key| name(key) == Some(named.to_vec())) {
            return open(key, &self.scope, since_epoch(), globals.ssl_session_timeout, cipher);
        }
        if current.is_some() { None } else { self.own.as_ref()?.decrypt(cipher) }
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// 16 bytes that tell keys apart and nothing about them.
fn name(key: &TicketKey) -> Option<Vec<u8>> {
    derive(key, b"", b"narthex ticket name")?.get(..NAME).map(<[u8]>::to_vec)
}

fn derive(key: &TicketKey, salt: &[u8], purpose: &[u8]) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    let secret = Salt::new(HKDF_SHA256, salt).extract(key.expose());
    secret.expand(&[purpose], HKDF_SHA256).and_then(|derived| derived.fill(&mut out)).ok()?;
    Some(out)
}

/// A key that seals exactly one ticket, so its nonce may stand still.
fn cipher(key: &TicketKey, salt: &[u8]) -> Option<LessSafeKey> {
    let derived = derive(key, salt, b"narthex ticket key")?;
    UnboundKey::new(&AES_256_GCM, &derived).ok().map(LessSafeKey::new)
}

/// Name, salt, then time and state, sealed for the scope.
fn seal(key: &TicketKey, scope: &[u8], now: Duration, plain: &[u8]) -> Option<Vec<u8>> {
    let mut salt = [0; SALT];
    rand::fill(&mut salt).ok()?;
    let mut sealed = Vec::with_capacity(TIME + plain.len() + 16);
    sealed.extend_from_slice(&now.as_secs().to_be_bytes());
    sealed.extend_from_slice(plain);
    let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
    cipher(key, &salt)?.seal_in_place_append_tag(nonce, Aad::from(scope), &mut sealed).ok()?;
    let mut ticket = name(key)?;
    ticket.extend_from_slice(&salt);
    ticket.extend_from_slice(&sealed);
    Some(ticket)
}

/// The state in a ticket that is sound, for this scope and not too old.
fn open(key: &TicketKey, scope: &[u8], now: Duration, lifetime: Duration, ticket: &[u8]) -> Option<Vec<u8>> {
    let (_, rest) = ticket.split_at_checked(NAME)?;
    let (salt, sealed) = rest.split_at_checked(SALT)?;
    let mut sealed = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
    let plain = cipher(key, salt)?.open_in_place(nonce, Aad::from(scope), &mut sealed).ok()?;
    let (time, state) = plain.split_first_chunk::<TIME>()?;
    let age = now.as_secs().saturating_sub(u64::from_be_bytes(*time));
    (age <= lifetime.as_secs()).then(|| state.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> TicketKey {
        TicketKey::of(&[byte; 48]).unwrap()
    }

    const NOW: Duration = Duration::from_secs(1_700_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_ticket_opens_with_its_key_for_its_scope_and_in_its_time_only() {
        let ticket = seal(&key(1), b"a", NOW, b"state").unwrap();
        for (with, scope, now, opens) in [
            (key(1), &b"a"[..], NOW, true),
            (key(1), b"a", NOW + HOUR, true),
            (key(1), b"a", NOW + HOUR + Duration::from_secs(1), false),
            (key(1), b"b", NOW, false),
            (key(2), b"a", NOW, false),
        ] {
            let opened = open(&with, scope, now, HOUR, &ticket);
            assert_eq!(opened.as_deref(), opens.then_some(&b"state"[..]), "{scope:?} {now:?}");
        }
        for at in 0..ticket.len() {
            let mut bent = ticket.clone();
            bent[at] ^= 1;
            assert!(at < NAME || open(&key(1), b"a", NOW, HOUR, &bent).is_none(), "byte {at}");
        }
        assert_eq!(open(&key(1), b"a", NOW, HOUR, &ticket[..40]), None);
        assert_ne!(seal(&key(1), b"a", NOW, b"state").unwrap(), ticket, "no two are alike");
    }

    #[test]
    fn tickets_of_former_keys_open_after_a_rotation() {
        let set = |bytes: &[u8]| -> Arc<[TicketKey]> { bytes.iter().map(|byte| key(*byte)).collect() };
        let mut keys = Keys::default();
        keys.follow(&set(&[1]));
        keys.follow(&set(&[2, 9]));
        assert!(keys.current[0] == key(2) && keys.former == [key(1)]);
        keys.follow(&set(&[1]));
        assert!(keys.former == [key(2), key(9)], "a key that came back is no former one");
        for byte in 10..20 {
            keys.follow(&set(&[byte]));
        }
        assert_eq!(keys.former.len(), FORMER);
    }
}
