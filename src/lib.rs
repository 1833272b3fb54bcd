//! Narthex: Kubernetes Ingress controller and layer 7/4 reverse proxy. (Bird's-eye map: ARCHITECTURE.md.)

// ring 1: pure core. No runtime, no I/O, no clock, no randomness.
pub mod diagnostic;
pub mod model;
pub mod pattern;
pub mod policy;
pub mod reply;
pub mod request;
pub mod route;
pub mod wire;

pub mod compile {
    //! interim
    pub mod options;
    pub use options::{Options, PathSemantics};
}

// control plane
#[cfg(feature = "controller")]
pub mod config;
#[cfg(feature = "controller")]
pub mod standalone;

// ring 1 to 2: Kubernetes objects to the model
#[cfg(feature = "manifest")]
pub mod manifest;

// seam: where the planes meet
#[cfg(feature = "seam")]
pub mod cert;

// ring 2a: data plane
#[cfg(feature = "proxy")]
pub mod proxy;
<<<<<<< HEAD
#[cfg(feature = "proxy")]
pub mod upstream;
=======

// operations
#[cfg(feature = "telemetry")]
pub mod telemetry;
>>>>>>> telemetry
