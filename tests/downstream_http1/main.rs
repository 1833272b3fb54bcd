//! The HTTP/1 connection driver at its socket: bytes in, bytes out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a failed expectation is a panic")]

mod answers;
mod bodies;
mod harness;
mod life;
