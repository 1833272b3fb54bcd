//! Narthex: Kubernetes Ingress controller and layer 7/4 reverse proxy. ARCHITECTURE.md has the bird's-eye map.
//!
//! Features stand on the `pub mod` lines below and nowhere else: each names a ring, and a ring builds without those
//! outside it.

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
pub mod variable;
pub mod wire;

// from Kubernetes objects to the model, and JSON of what we say about them; no I/O either
#[cfg(feature = "manifest")]
pub mod manifest;
#[cfg(feature = "manifest")]
pub mod report;

// seam: where the planes meet
#[cfg(feature = "seam")]
pub mod cert;
#[cfg(feature = "seam")]
pub mod places;
#[cfg(feature = "seam")]
pub mod snapshot;

// used by both planes, knows neither
#[cfg(feature = "telemetry")]
pub mod telemetry;

// process-wide: ending, bounds
#[cfg(any(feature = "controller", feature = "proxy"))]
pub mod drain;
#[cfg(any(feature = "controller", feature = "proxy"))]
pub mod limit;

// ring 2a: data plane
#[cfg(feature = "proxy")]
pub mod listener;
#[cfg(feature = "proxy")]
pub mod message;
#[cfg(feature = "proxy")]
pub mod pipe;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "proxy")]
pub mod upstream;

// ring 2b: control plane
#[cfg(feature = "controller")]
pub mod admin;
#[cfg(feature = "controller")]
pub mod admission;
#[cfg(feature = "controller")]
pub mod cli;
#[cfg(feature = "controller")]
pub mod collector;
#[cfg(feature = "controller")]
pub mod config;
#[cfg(feature = "controller")]
pub mod control;
#[cfg(feature = "controller")]
pub mod controller;
#[cfg(feature = "controller")]
pub mod standalone;
#[cfg(feature = "controller")]
pub mod stapler;

// everything
#[cfg(all(feature = "controller", feature = "proxy"))]
pub mod app;
#[cfg(all(feature = "controller", feature = "proxy"))]
pub mod demo;
