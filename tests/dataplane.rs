//! The running proxy on real sockets: bytes in, bytes out. One file per subject.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end where its set-up fails")]

mod support;

#[path = "dataplane/addresses.rs"]
mod addresses;
#[path = "dataplane/bodies.rs"]
mod bodies;
#[path = "dataplane/challenges.rs"]
mod challenges;
#[path = "dataplane/client_certificates.rs"]
mod client_certificates;
#[path = "dataplane/digest_auth.rs"]
mod digest_auth;
#[path = "dataplane/drain.rs"]
mod drain;
#[path = "dataplane/elsewhere.rs"]
mod elsewhere;
#[path = "dataplane/external_auth.rs"]
mod external_auth;
#[path = "dataplane/fastcgi.rs"]
mod fastcgi;
#[path = "dataplane/faults.rs"]
mod faults;
#[path = "dataplane/floods.rs"]
mod floods;
#[path = "dataplane/hostile.rs"]
mod hostile;
#[path = "dataplane/http1.rs"]
mod http1;
#[path = "dataplane/http2.rs"]
mod http2;
#[path = "dataplane/injection.rs"]
mod injection;
#[path = "dataplane/limits.rs"]
mod limits;
#[path = "dataplane/logs.rs"]
mod logs;
#[path = "dataplane/long_answers.rs"]
mod long_answers;
#[path = "dataplane/meaning.rs"]
mod meaning;
#[path = "dataplane/mirror.rs"]
mod mirror;
#[path = "dataplane/operators.rs"]
mod operators;
#[path = "dataplane/ownership.rs"]
mod ownership;
#[path = "dataplane/pages.rs"]
mod pages;
#[path = "dataplane/passthrough.rs"]
mod passthrough;
#[path = "dataplane/pipes.rs"]
mod pipes;
#[path = "dataplane/places.rs"]
mod places;
#[path = "dataplane/request_limits.rs"]
mod request_limits;
#[path = "dataplane/retries.rs"]
mod retries;
#[path = "dataplane/rewriting.rs"]
mod rewriting;
#[path = "dataplane/round_trip.rs"]
mod round_trip;
#[path = "dataplane/snippets.rs"]
mod snippets;
#[path = "dataplane/streams.rs"]
mod streams;
#[path = "dataplane/swap.rs"]
mod swap;
#[path = "dataplane/tenants.rs"]
mod tenants;
#[path = "dataplane/tls.rs"]
mod tls;
#[path = "dataplane/tls_state.rs"]
mod tls_state;
#[path = "dataplane/tracing.rs"]
mod tracing;
#[path = "dataplane/turns.rs"]
mod turns;
#[path = "dataplane/upgrade.rs"]
mod upgrade;
