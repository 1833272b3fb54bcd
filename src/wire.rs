//! Bytes of HTTP/1.1 and nothing else: strict parsing, framing decisions, encoding.
//!
//! Pure functions and state machines over slices; no sockets, no runtime, so every one can be fuzzed.
//! `proxy::http1` (towards clients) and `upstream::http1` (towards backends) drive them. There is one parser
//! in the process for each direction, so no two layers can disagree about where a message ends.

pub mod authority;
pub mod body;
pub mod chunked;
pub mod encode;
mod evidence;
pub mod fastcgi;
pub mod fields;
pub mod head;
pub mod hpack;
pub mod http2_head;
pub mod http2_session;
mod line;
pub mod request;
pub mod response;
pub mod target;
pub mod verdict;

pub use authority::{Authority, parse_authority};
pub use body::BodyDecoder;
pub use chunked::{ChunkLimits, ChunkedDecoder, Leniency, Step};
pub use fields::{FieldError, Fields};
pub use head::{Framing, RequestHead, ResponseHead, Version};
pub use http2_session::{Flood, FrameLimits};
pub use request::{HeadLimits, ParsedRequest, RequestParser, parse_request_head};
pub use response::{ParsedResponse, ResponseContext, ResponseLimits, ResponseParser, parse_response_head};
pub use target::{SplitTarget, check_method, check_target, split_target};
pub use verdict::{Parse, Reject};
