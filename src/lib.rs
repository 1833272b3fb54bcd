//! Narthex: Kubernetes Ingress controller and layer 7/4 reverse proxy. (Bird's-eye map: ARCHITECTURE.md.)

// ring 1: pure core. No runtime, no I/O, no clock, no randomness.
pub mod diagnostic;
pub mod model;
pub mod wire;

// ring 2a: data plane
#[cfg(feature = "proxy")]
pub mod proxy;

// operations
#[cfg(feature = "telemetry")]
pub mod telemetry;
