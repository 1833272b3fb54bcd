//! Narthex: Kubernetes Ingress controller and layer 7/4 reverse proxy. (Bird's-eye map: ARCHITECTURE.md.)

// ring 1: pure core. No runtime, no I/O, no clock, no randomness.
pub mod compile;
pub mod diagnostic;
pub mod model;
pub mod pattern;
pub mod policy;
pub mod reply;
pub mod request;
pub mod route;
pub mod wire;

// ring 2a: data plane
#[cfg(feature = "proxy")]
pub mod proxy;
