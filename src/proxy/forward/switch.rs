//! A backend that changes to the protocol that was asked for: its promise is checked, then client and backend are
//! joined (RFC 9110 section 7.8). `forward` calls it with the answer 101.

use std::rc::Rc;

use http::StatusCode;

use super::Way;
use crate::message::{DownstreamStream, Response, ResponseBody};
use crate::policy::response_headers::{self, Kind, Length};
use crate::proxy::tunnel;
use crate::reply::LocalReply;
use crate::telemetry::metrics::Counter;
use crate::upstream::Tunnel;
use crate::wire::{ResponseHead, Version};

/// Joins client and backend after a 101 that keeps its promise (U-2).
pub(super) fn switch(way: &Way<'_>, mut head: ResponseHead, tunnel: Tunnel) -> Result<Response, LocalReply> {
    let asked = way.hop.upgrade.as_deref().unwrap_or_default();
    let switched =
        head.fields.get_str("upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case(asked));
    let nominated = head.fields.get_all("connection").any(|line| {
        std::str::from_utf8(line)
            .is_ok_and(|line| line.split(',').any(|name| name.trim().eq_ignore_ascii_case("upgrade")))
    });
    if !switched || !nominated {
        return Err(LocalReply::BadGateway {
            reason: "the backend switched to another protocol than was asked for",
        });
    }
    response_headers::apply(
        &mut head.fields,
        Kind::SwitchingProtocols,
        Length::Drop,
        way.view.scheme,
        way.globals(),
    );
    if way.view.version == Version::Http2 {
        head.status = StatusCode::OK;
        head.fields.remove("sec-websocket-accept");
    }
    // nginx begins its `proxy_read_timeout` anew with bytes of either side.
    let idle = way.location.policies.timeout.read;
    let exchange = Rc::clone(way.exchange);
    let web_socket = asked.eq_ignore_ascii_case("websocket");
    let upgrade = Box::new(move |client: DownstreamStream| -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            let open = exchange.worker.metrics.tunnel();
            let drain = exchange.worker.drain.clone();
            let meter = Rc::clone(&exchange.meter);
            let (received, sent) = (meter.request_bytes.get(), meter.bytes_sent.get());
            let end = {
                let drain = drain.clone();
                async move { drain.ending_tunnels().await }
            };
            let farewell = if web_socket {
                let [_, _, _, _, mask @ ..] = exchange.worker.rng.next_u64().to_be_bytes();
                tunnel::Farewell::WebSocket { mask, at_last: Box::pin(async move { drain.cut().await }) }
            } else {
                tunnel::Farewell::Cut
            };
            let ended = tunnel::join_with(client, tunnel, idle, end, farewell, |carried| {
                meter.request_bytes.set(received + carried.up);
                meter.bytes_sent.set(sent + carried.down);
                meter.body_bytes_sent.set(carried.down);
            })
            .await;
            drop(open);
            if ended == tunnel::Ended::Cut {
                exchange.worker.metrics.count(Counter::TunnelsCut);
            }
            drop(exchange);
        })
    });
    Ok(Response {
        head,
        body: ResponseBody::Empty,
        trailers: None,
        close: false,
        upgrade: Some(upgrade),
        guard: None,
    })
}
