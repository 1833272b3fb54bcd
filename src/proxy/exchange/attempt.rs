//! One try at an endpoint, and how the record of its exchange shows it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use crate::telemetry::UpstreamTry;
use crate::upstream::UpstreamTimes;

/// One try at an endpoint.
pub struct Try {
    /// Endpoint.
    pub address: Option<SocketAddr>,
    /// Status it answered, or the one its failure means.
    pub status: Option<u16>,
    /// Its times and bytes, still running while the body flows.
    pub times: Rc<UpstreamTimes>,
    /// It is the first after an internal redirect (error page).
    pub starts_group: bool,
}

impl Try {
    /// `end` is when the exchange ended: a try still under way then took until then, as nginx has it.
    pub(super) fn record(&self, end: Instant) -> UpstreamTry {
        UpstreamTry {
            address: self.address,
            status: self.status,
            connect_time: self.times.connect(),
            header_time: self.times.header(),
            response_time: self.times.response().or_else(|| end.checked_duration_since(self.times.start())),
            ..self.so_far()
        }
    }

    /// As it stands while it may still be under way.
    pub(super) fn so_far(&self) -> UpstreamTry {
        UpstreamTry {
            address: self.address,
            status: self.status,
            connect_time: self.times.connect(),
            header_time: self.times.header(),
            response_time: self.times.response(),
            response_length: self.times.body(),
            starts_group: self.starts_group,
        }
    }
}
