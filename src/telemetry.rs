//! Metrics, access log, diagnostic log: what operators see of the process.
//!
//! Used by both planes, knows neither: everything here takes plain borrowed values ([`record::Record`]), so nothing of
//! routing or policy is named. One request makes one `Record` at its end, and from it one line and one observation; where
//! nobody wants the line, the observation alone.
//! All names, help texts and buckets of metrics stand in [`metrics::names`].

pub mod access_log;
pub mod logging;
pub mod metrics;
pub mod record;
pub mod spans;
pub mod writer;

pub use access_log::StreamRecord;
pub use access_log::{AccessLog, Format, LogLane};
pub use metrics::{Metrics, WorkerMetrics};
pub use record::{
    Counted, FieldLookup, ForwardedLookup, HostLabel, LocalReason, NoFields, OwnLookup, PlaceLookup, Record,
    RequestLine, RouteLabels, TraceText, UpstreamTry,
};
