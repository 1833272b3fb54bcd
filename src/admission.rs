//! The validating webhook: says of an Ingress that is to be created or changed whether it can be served, before it is
//! stored. The verdict comes from the compiler that makes the table, and `narthex check` gives the same ([`verdict`]).
//!
//! Decides nothing about traffic and changes nothing anywhere: a review is a question, so a dry run is like any other. It
//! reaches no publisher, no file and no network (`spec A-3`); the thread, the runtime and the compiler are its own.
//! `app` starts it.

mod judge;
mod review;
mod server;
mod verdict;

pub use judge::Judge;
pub use review::{PATH, Review, Subject, answer, read};
pub use server::{Intake, Webhook, start};
pub use verdict::{Verdict, verdict};
