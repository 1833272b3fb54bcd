//! Backends by slot: who uses them, what policies follow, which canary hangs on them (`routing.md` 2.4, 7).
//! Where their endpoints are is `endpoints`' matter.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::merge::Entry;
use super::object::{BackendId, BackendRole};
use crate::policy::BackendPolicies;
use crate::policy::affinity::CanaryBehavior;
use crate::route::{Backend, BackendSlot, CanaryBackend};

/// All backends. Slots are given out once and taken back when nobody uses them any more.
#[derive(Debug, Default)]
pub(super) struct Slots {
    states: Vec<SlotState>,
    /// Asked by id only, never walked.
    known: HashMap<BackendId, BackendSlot, FixedState>,
    free: BTreeSet<BackendSlot>,
    /// A backend was built or given back since [`Slots::take_changed`].
    changed: bool,
}

/// One slot.
#[derive(Debug)]
pub(super) struct SlotState {
    pub(super) id: BackendId,
    /// Entries that name it, oldest first.
    pub(super) users: Vec<Arc<Entry>>,
    /// Those of them that ask for session affinity, oldest first.
    pub(super) sticky: Vec<Arc<Entry>>,
    /// The oldest user is a canary: only canaries may lead here.
    pub(super) canary_only: bool,
    /// What requests see; `None` until first built.
    pub(super) backend: Option<Arc<Backend>>,
}

/// The canary of a primary backend.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    /// The canary Ingress.
    pub(super) owner: Arc<Entry>,
    /// Its backend.
    pub(super) slot: BackendSlot,
}

// === impl Slots ===

impl Slots {
    /// The slot of a backend, a new one if it has none.
    pub(super) fn intern(&mut self, id: &BackendId) -> BackendSlot {
        if let Some(slot) = self.known.get(id) {
            return *slot;
        }
        let state = SlotState {
            id: id.clone(),
            users: Vec::new(),
            sticky: Vec::new(),
            canary_only: false,
            backend: None,
        };
        let slot = match self.free.pop_first() {
            Some(slot) => {
                if let Some(place) = self.states.get_mut(slot.0 as usize) {
                    *place = state;
                }
                slot
            }
            None => {
                self.states.push(state);
                BackendSlot(u32::try_from(self.states.len() - 1).unwrap_or(u32::MAX))
            }
        };
        self.known.insert(id.clone(), slot);
        slot
    }

    /// Gives back the slot when nobody uses it; what it was for.
    pub(super) fn release(&mut self, slot: BackendSlot) -> Option<BackendId> {
        let state = self.states.get_mut(slot.0 as usize)?;
        if !state.users.is_empty() || matches!(state.id.role, BackendRole::Global | BackendRole::Stream(_)) {
            return None;
        }
        let (id, _) = self.known.remove_entry(&state.id)?;
        state.backend = None;
        self.changed = true;
        self.free.insert(slot);
        Some(id)
    }

    /// The state of a slot that is in use.
    pub(super) fn state(&self, slot: BackendSlot) -> Option<&SlotState> {
        self.states.get(slot.0 as usize).filter(|_| !self.free.contains(&slot))
    }

    pub(super) fn state_mut(&mut self, slot: BackendSlot) -> Option<&mut SlotState> {
        self.states.get_mut(slot.0 as usize)
    }

    pub(super) fn backend(&self, slot: BackendSlot) -> Option<&Arc<Backend>> {
        self.states.get(slot.0 as usize)?.backend.as_ref()
    }

    pub(super) fn canary_only(&self, slot: BackendSlot) -> bool {
        self.states.get(slot.0 as usize).is_some_and(|state| state.canary_only)
    }

    /// Number of slots, free ones included.
    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// Slots in use, in slot order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (BackendSlot, &SlotState)> {
        let numbered = (0_u32..).map(BackendSlot).zip(&self.states);
        numbered.filter(|(slot, _)| self.free.is_empty() || !self.free.contains(slot))
    }

    /// Built backends of requests, sorted by key.
    pub(super) fn backends(&self) -> Arc<[Arc<Backend>]> {
        // Those of streams stand in the stream table; what balances requests has no business with them.
        let mut all: Vec<_> = self
            .iter()
            .filter(|(_, state)| !matches!(state.id.role, BackendRole::Stream(_)))
            .filter_map(|(_, state)| Some((&state.id, state.backend.as_ref()?)))
            .collect();
        all.sort_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, backend)| Arc::clone(backend)).collect()
    }

    /// True once after any backend was built or given back.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Builds the backend of a slot anew; true when it differs from the one before.
    pub(super) fn rebuild(
        &mut self,
        slot: BackendSlot,
        attachments: &BTreeMap<BackendSlot, Attachment>,
    ) -> bool {
        let Some(state) = self.state(slot) else { return false };
        let mut next = backend(slot, state, policies(state));
        next.canary =
            attachments.get(&slot).and_then(|attachment| self.canary(&next, attachment)).map(Arc::new);
        if state.backend.as_deref() == Some(&next) {
            return false;
        }
        if let Some(state) = self.state_mut(slot) {
            state.backend = Some(Arc::new(next));
        }
        self.changed = true;
        true
    }

    /// A canary has the session affinity of its primary, unless `affinity-canary-behavior` is `legacy`.
    fn canary(&self, primary: &Backend, attachment: &Attachment) -> Option<CanaryBackend> {
        let state = self.state(attachment.slot)?;
        let contribution = &attachment.owner.contribution;
        let mut policies = policies(state);
        if contribution.canary_behavior == CanaryBehavior::Sticky {
            policies.affinity = primary.policies.affinity;
            policies.cookie = primary.policies.cookie.clone();
        }
        Some(CanaryBackend {
            owner: contribution.key.clone(),
            backend: Arc::new(backend(attachment.slot, state, policies)),
            policy: contribution.policies.canary.as_deref()?.clone(),
        })
    }
}

fn backend(slot: BackendSlot, state: &SlotState, policies: BackendPolicies) -> Backend {
    let key = &state.id.key;
    let name = match state.id.role {
        BackendRole::Route => format!("{}-{}-{}", key.namespace, key.service, key.port),
        BackendRole::Fallback => format!("custom-default-backend-{}-{}", key.namespace, key.service),
        BackendRole::Global => "upstream-default-backend".to_owned(),
        BackendRole::Stream(transport) => {
            format!("{}-{}-{}-{}", transport.lower(), key.namespace, key.service, key.port)
        }
    };
    Backend { key: key.clone(), name: Arc::from(name), slot, policies, canary: None }
}

/// Policies of a pool: balancing from the first Ingress that names it, affinity from the first that asks for it by a
/// path, the cookie's looks from the last such one.
fn policies(state: &SlotState) -> BackendPolicies {
    if state.id.role != BackendRole::Route {
        return BackendPolicies::default();
    }
    let Some(first) = state.users.first() else { return BackendPolicies::default() };
    let mut policies = BackendPolicies {
        affinity: None,
        cookie: BackendPolicies::default().cookie,
        ..BackendPolicies::clone(&first.contribution.policies.backend)
    };
    if state.canary_only {
        return policies;
    }
    for user in state.sticky.iter().filter(|user| names_by_path(user, &state.id)) {
        let asked = &user.contribution.policies.backend;
        if let Some(affinity) = asked.affinity {
            policies.affinity.get_or_insert(affinity);
            policies.cookie = asked.cookie.clone();
        }
    }
    policies
}

fn names_by_path(user: &Entry, id: &BackendId) -> bool {
    user.contribution.backends.iter().any(|named| named.by_path && named.id == *id)
}
