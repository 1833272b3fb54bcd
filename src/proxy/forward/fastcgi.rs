//! One try at a FastCGI application, and what it needs of a body first.

use std::net::SocketAddr;
use std::rc::Rc;

use http_body::Body;

use super::{Trip, Way, body_reply};
use crate::message::RequestBody;
use crate::policy::fastcgi::{Fastcgi, Told};
use crate::policy::template::Facts;
use crate::proxy::body;
use crate::reply::LocalReply;
use crate::upstream::{Answer, Failed, FastcgiRequest, UpstreamTimes};
use crate::wire::fastcgi::encode_head;

impl Trip<'_> {
    /// Sends the request over a connection of its own.
    pub(super) async fn by_fastcgi(
        &self,
        policy: &Fastcgi,
        address: SocketAddr,
        body: RequestBody,
        times: &Rc<UpstreamTimes>,
    ) -> Result<Answer, Failed> {
        let way = self.way;
        let exchange = way.exchange;
        let told = Told {
            facts: Facts { view: way.view, route: way.facts(self.backend) },
            target: self.target,
            fields: self.fields,
            length: body.size_hint().exact().unwrap_or_default(),
            server: exchange.connection.local.ip(),
        };
        let parameters = policy.parameters(&told);
        let head = encode_head(parameters.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        let request = FastcgiRequest { method: self.method, head: &head };
        exchange
            .worker
            .upstreams
            .fastcgi(address, &request, body, &way.location.policies.timeout, times)
            .await
    }
}

/// FastCGI tells the length of a body before it: one of unknown length is read whole.
pub(super) async fn with_length(way: &Way<'_>, body: RequestBody) -> Result<RequestBody, LocalReply> {
    match body {
        RequestBody::Stream(stream) if stream.size_hint().exact().is_none() => {
            let memory = way.location.policies.body.memory;
            let spool = &way.exchange.worker.spool;
            body::buffered(RequestBody::Stream(stream), memory, spool).await.map_err(body_reply)
        }
        body => Ok(body),
    }
}
