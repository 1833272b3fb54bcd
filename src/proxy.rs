//! The data plane: life of a request.
//!
//! `listener` accepts, `connection` finds out what is spoken, `http1` and `http2` turn bytes into messages
//! ([`crate::message`]), `service` is the handler, `forward` the way to a backend, `exchange` the account of it all.
//! Knows nothing of manifests.

mod ahead;
pub mod body;
pub mod client_certificate;
mod compress;
pub mod connection;
pub mod exchange;
pub mod filter;
pub mod forward;
pub mod handshakes;
pub mod http1;
pub mod http2;
pub mod l4;
mod mirror;
mod patience;
#[cfg(test)]
mod paused;
pub mod prefixed;
pub mod presence;
pub mod respond;
pub mod service;
pub mod sni;
pub mod span;
pub mod spool;
pub mod substitute;
mod throttle;
mod tickets;
mod tls_variables;
pub mod tunnel;
pub mod turns;
pub mod worker;
