//! Tries at endpoints, and how the record of their exchange shows them.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use super::Exchange;
use crate::telemetry::UpstreamTry;
use crate::upstream::UpstreamTimes;
use crate::wire::Fields;

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
            bytes_sent: self.times.sent(),
            bytes_received: self.times.received(),
            starts_group: self.starts_group,
        }
    }
}

impl Exchange {
    /// A try begins `now`.
    pub fn tried(&self, address: Option<SocketAddr>, now: Instant) -> Rc<UpstreamTimes> {
        let times = Rc::new(UpstreamTimes::starting(now));
        let before = self.tries();
        let starts_group = before > 0 && self.page().is_some_and(|page| page.after == before);
        self.tries.borrow_mut().push(Try { address, status: None, times: Rc::clone(&times), starts_group });
        times
    }

    /// The last try has its status.
    pub fn try_status(&self, status: u16) {
        if let Some(last) = self.tries.borrow_mut().last_mut() {
            last.status = Some(status);
        }
    }

    /// The last try has an answer with these fields.
    pub fn try_fields(&self, fields: &Fields) {
        if self.worker.log.wants_upstream_fields() {
            *self.raw_answer.borrow_mut() = Some(Box::new(fields.clone()));
        }
    }

    /// Tries so far.
    pub fn tries(&self) -> usize {
        self.tries.borrow().len()
    }
}
