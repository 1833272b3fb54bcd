//! Keeps pairs over time: each content is parsed once, and a good pair stays in use while its Secret is broken or, for
//! a moment, gone (`spec E-8`, `E-9`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pair::{self, CHAIN, KEY, Refusal};
use super::{CertStore, Pair, TlsMaterial};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{CertCatalog, Kind, ObjectKey, ObjectRef, Secret, SharedMap};

/// How long the pair of a vanished Secret is still served, seconds: tools that replace a Secret delete it first.
pub const GAP_SECONDS: i64 = 30;

/// The pairs of every Secret, over time.
#[derive(Debug)]
pub struct Keeper {
    fallback: Arc<Pair>,
    /// Results by content, so that an unchanged Secret costs one hash.
    read: BTreeMap<[u8; 32], Result<Arc<Pair>, Refusal>>,
    good: BTreeMap<ObjectKey, Good>,
    store: Arc<CertStore>,
}

#[derive(Debug)]
struct Good {
    pair: Arc<Pair>,
    /// When its Secret was first missed.
    gone_since: Option<i64>,
}

/// What a world's Secrets give.
#[derive(Debug)]
pub struct Judged {
    /// For the data plane; the same address as before when nothing changed.
    pub store: Arc<CertStore>,
    /// For `compile`: usable pairs, and reasons for the others.
    pub catalog: CertCatalog,
    /// Findings, by Secret.
    pub diagnostics: Vec<Diagnostic>,
    /// Secrets whose pair is an old one (metric `cert_stale`).
    pub stale: BTreeSet<ObjectKey>,
    /// When to ask again although nothing changed, seconds since 1970.
    pub review_at: Option<i64>,
}

impl Keeper {
    /// A keeper that knows the fallback only.
    pub fn new(fallback: Arc<Pair>) -> Self {
        let store =
            CertStore { pairs: BTreeMap::new(), default: Arc::clone(&fallback), materials: BTreeMap::new() };
        Self { fallback, read: BTreeMap::new(), good: BTreeMap::new(), store: Arc::new(store) }
    }

    /// Judges all Secrets of a world. `default` is `--default-ssl-certificate`, `now` seconds since 1970.
    pub fn judge(
        &mut self,
        secrets: &SharedMap<ObjectKey, Arc<Secret>>,
        default: Option<&ObjectKey>,
        now: i64,
    ) -> Judged {
        let mut judged = Judged {
            store: Arc::clone(&self.store),
            catalog: BTreeMap::new(),
            diagnostics: Vec::new(),
            stale: BTreeSet::new(),
            review_at: None,
        };
        let mut used = BTreeSet::new();
        for (key, secret) in secrets {
            self.judge_secret(key, secret, now, &mut judged, &mut used);
        }
        self.read.retain(|id, _| used.contains(id));
        self.keep_through_gap(secrets, now, &mut judged);
        let pairs: BTreeMap<_, _> =
            self.good.iter().map(|(key, good)| (key.clone(), Arc::clone(&good.pair))).collect();
        let chosen = default.and_then(|key| pairs.get(key)).unwrap_or(&self.fallback);
        let store = CertStore { default: Arc::clone(chosen), pairs, materials: self.materials(secrets) };
        if !store.same_as(&self.store) {
            self.store = Arc::new(store);
        }
        judged.store = Arc::clone(&self.store);
        judged
    }

    /// What Secrets give to TLS clients; unchanged ones keep their address.
    fn materials(
        &self,
        secrets: &SharedMap<ObjectKey, Arc<Secret>>,
    ) -> BTreeMap<ObjectKey, Arc<TlsMaterial>> {
        let with_material = |(key, secret): (&ObjectKey, &Arc<Secret>)| {
            let material = TlsMaterial::of(secret)?;
            let kept = self.store.materials.get(key).filter(|kept| ***kept == material);
            Some((key.clone(), kept.map_or_else(|| Arc::new(material), Arc::clone)))
        };
        secrets.iter().filter_map(with_material).collect()
    }

    fn judge_secret(
        &mut self,
        key: &ObjectKey,
        secret: &Secret,
        now: i64,
        judged: &mut Judged,
        used: &mut BTreeSet<[u8; 32]>,
    ) {
        let (chain, private) = (secret.data.get(CHAIN), secret.data.get(KEY));
        let result = match (chain, private) {
            (Some(chain), Some(private)) => {
                let id = pair::identity(chain.expose(), private.expose());
                used.insert(id);
                let read = || pair::read(chain.expose(), private.expose(), id).map(Arc::new);
                self.read.entry(id).or_insert_with(read).clone()
            }
            (Some(_), None) => Err(Refusal { part: KEY, reason: "is missing".into() }),
            (None, Some(_)) => Err(Refusal { part: CHAIN, reason: "is missing".into() }),
            (None, None) if secret.secret_type == "kubernetes.io/tls" => {
                Err(Refusal { part: CHAIN, reason: "is missing, and so is tls.key".into() })
            }
            (None, None) => {
                judged.catalog.insert(key.clone(), Err("it holds neither tls.crt nor tls.key".into()));
                return;
            }
        };
        match result {
            Ok(pair) => {
                judged.diagnostics.extend(validity(secret, &pair, now));
                judged.catalog.insert(key.clone(), Ok(Arc::clone(&pair.info)));
                self.good.insert(key.clone(), Good { pair, gone_since: None });
            }
            Err(refusal) => {
                let kept = self.good.get_mut(key).map(|good| {
                    good.gone_since = None;
                    Arc::clone(&good.pair.info)
                });
                judged.diagnostics.push(refused(secret, &refusal, kept.is_some()));
                if kept.is_some() {
                    judged.stale.insert(key.clone());
                }
                let answer = kept.ok_or_else(|| format!("{} {}", refusal.part, refusal.reason));
                judged.catalog.insert(key.clone(), answer);
            }
        }
    }

    fn keep_through_gap(
        &mut self,
        secrets: &SharedMap<ObjectKey, Arc<Secret>>,
        now: i64,
        judged: &mut Judged,
    ) {
        self.good.retain(|key, good| {
            if secrets.contains_key(key) {
                return true;
            }
            let since = good.gone_since.get_or_insert(now);
            // The clock was set back: the gap begins anew and does not last as long as the step.
            *since = now.min(*since);
            let ends = since.saturating_add(GAP_SECONDS);
            let keep = now < ends;
            if keep {
                judged.catalog.insert(key.clone(), Ok(Arc::clone(&good.pair.info)));
                judged.stale.insert(key.clone());
                judged.review_at = Some(judged.review_at.map_or(ends, |earlier| earlier.min(ends)));
            }
            keep
        });
    }
}

fn refused(secret: &Secret, refusal: &Refusal, kept: bool) -> Diagnostic {
    let consequence = if kept {
        "; the last good pair stays in use"
    } else {
        "; hosts that use it get the default certificate"
    };
    Diagnostic {
        object: ObjectRef { kind: Kind::Secret, key: secret.meta.key.clone() },
        code: "CertificateInvalid",
        severity: Severity::Error,
        field: field_of(secret, refusal.part),
        value: String::new(),
        reason: format!("{}{consequence}", refusal.reason),
        hint: String::new(),
        origin: Arc::clone(&secret.meta.origin),
    }
}

/// `data[x]`, or `stringData[x]` where it was written so.
fn field_of(secret: &Secret, part: &str) -> String {
    let text = format!("stringData[{part}]");
    if secret.meta.origin.fields.get(&text).is_some() { text } else { format!("data[{part}]") }
}

/// Outside its time a certificate is still served: clients decide, and a proxy with a wrong clock goes on.
fn validity(secret: &Secret, pair: &Pair, now: i64) -> Option<Diagnostic> {
    let (code, reason, hint) = if pair.info.not_after < now {
        ("CertificateExpired", "the certificate has expired and is still served", "renew it")
    } else if pair.info.not_before > now {
        ("CertificateNotYetValid", "the certificate is not valid yet and is served", "check the clock")
    } else {
        return None;
    };
    Some(Diagnostic {
        object: ObjectRef { kind: Kind::Secret, key: secret.meta.key.clone() },
        code,
        severity: Severity::Warning,
        field: field_of(secret, CHAIN),
        value: String::new(),
        reason: reason.into(),
        hint: hint.into(),
        origin: Arc::clone(&secret.meta.origin),
    })
}
