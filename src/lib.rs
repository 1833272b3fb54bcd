//! Narthex: Kubernetes Ingress controller and layer 7/4 reverse proxy. (Bird's-eye map: ARCHITECTURE.md.)

// ring 1: pure core. No runtime, no I/O, no clock, no randomness.
pub mod compile;
pub mod diagnostic;
pub mod inquiry;
pub mod model;
pub mod pattern;
pub mod policy;
pub mod reply;
pub mod request;
pub mod route;
pub mod wire;

// Kubernetes objects to the model, and JSON of what we say about them
#[cfg(feature = "manifest")]
pub mod manifest;
#[cfg(feature = "manifest")]
pub mod report;

// seam: where the planes meet
#[cfg(feature = "seam")]
pub mod cert;
#[cfg(feature = "seam")]
pub mod snapshot;

// ring 2a: data plane
#[cfg(feature = "proxy")]
pub mod proxy;

// ring 2b: control plane
#[cfg(feature = "controller")]
pub mod cli;
#[cfg(feature = "controller")]
pub mod config;
#[cfg(feature = "controller")]
pub mod control;
#[cfg(feature = "controller")]
pub mod standalone;
