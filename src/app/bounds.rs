//! The bounds of the process: what is granted, what the limits can reach, and saying so at start.

use super::StartError;
use crate::config::Config;
use crate::limit::memory::{self, Bound};
use crate::limit::{self, ConnectionLimit, Memory};
use crate::policy::global::Globals;
use crate::telemetry::Metrics;

/// The memory of the process with the budget of the first table; its resident size is watched from now on.
pub(super) fn memory(
    config: &Config,
    globals: &Globals,
    connections: &ConnectionLimit,
    metrics: &Metrics,
) -> Result<Memory, StartError> {
    let granted = config.memory_limit.or_else(limit::memory_limit).or_else(memory::of_machine);
    let memory = Memory::new(granted);
    let limits = &globals.limits;
    memory.set_budget(limits.body_memory.of(memory.limit()));
    let head = u64::from(globals.large_header_bytes).saturating_mul(u64::from(globals.large_header_count));
    let bound = Bound::measured(connections.limit(), limits.requests, head, memory.budget());
    metrics.control().set_bounds(connections.limit(), bound.bytes(), granted);
    tracing::info!(
        bound_mib = bound.bytes() >> 20,
        limit_mib = granted.map(|bytes| bytes >> 20),
        bodies_mib = memory.budget() >> 20,
        connections = connections.limit(),
        requests = limits.requests,
        "what the limits can reach together"
    );
    let failed = |source| StartError::Thread { what: "the watch over memory", source };
    memory::watch(&memory).map_err(failed)?;
    Ok(memory)
}
