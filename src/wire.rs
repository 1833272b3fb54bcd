//! Bytes of HTTP/1.1 and nothing else: strict parsing, framing decisions, encoding.
//!
//! Pure functions and state machines over slices; no sockets, no runtime, so every one can be fuzzed.
//! `proxy::http1` (towards clients) and `upstream::http1` (towards backends) drive them. There is one parser
//! in the process for each direction, so no two layers can disagree about where a message ends.

pub mod fields;
pub mod head;

pub use fields::{FieldError, Fields};
pub use head::{Framing, RequestHead, ResponseHead, Version};
