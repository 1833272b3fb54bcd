//! `error_page` of snippets: what stands in the place of an answer of ours or of a backend. `service` asks here where a
//! location has such pages; pages of the annotation custom-http-errors are `forward`'s and go before.

use std::rc::Rc;
use std::sync::Arc;

use http::{Method, StatusCode};

use super::{Asked, Stage, challenged, drop_quietly, finish, local, local_page, routed};
use crate::message::{RequestBody, Response};
use crate::policy::redirect::RedirectStyle;
use crate::policy::snippet::settings::PageStatus;
use crate::policy::snippet::{Page, Run, Turn};
use crate::policy::template::Facts;
use crate::proxy::exchange::{Exchange, Place};
use crate::proxy::forward::Way;
use crate::reply::LocalReply;
use crate::route::{Backend, decide};

/// What a page is asked for with, but for HEAD.
static GET: Method = Method::GET;

/// A page in the place of a location's answer with `status`; `None` where no snippet has one.
pub(super) async fn of_location(way: &Way<'_>, status: StatusCode) -> Option<Response> {
    let asked = Asked { view: way.view, hop: way.hop, framed: false, trusted: way.trusted };
    turned(way.exchange, asked, way.run, way.location.backend(), status).await
}

/// A page in the place of an answer with `status`, which `backend` would have given; `None` where no snippet has one.
/// The page has all of its fields: those of its own location, none of the one that was asked for, as in nginx.
pub(super) async fn turned(
    exchange: &Rc<Exchange>,
    asked: Asked<'_>,
    run: &Run<'_>,
    backend: Option<&Arc<Backend>>,
    status: StatusCode,
) -> Option<Response> {
    if run.is_idle() {
        return None;
    }
    let table = &exchange.snapshot.table;
    let stage = Stage {
        facts: Facts { view: asked.view, route: exchange.facts(&asked.view.host.name, run.now) },
        maps: &table.globals.snippets.maps,
        style: RedirectStyle::default(),
    };
    let Page { to, answer, mut run } = run.page(status, &stage)?;
    let mut view = Box::new(asked.view.clone());
    let mut response = match to {
        Turn::Elsewhere(url) => {
            let redirects = |code: &StatusCode| matches!(code.as_u16(), 301 | 302 | 303 | 307 | 308);
            let said = if let PageStatus::Fixed(code) = answer { Some(code) } else { None };
            let status = said.filter(redirects).unwrap_or(StatusCode::FOUND);
            return Some(local(
                exchange,
                &LocalReply::Scripted { status, location: Some(url), body: None },
                true,
            ));
        }
        Turn::Named(name) => {
            let reply = decide::named(table, asked.view, &mut run, &name)?;
            exchange.turns();
            local(exchange, &reply, true)
        }
        Turn::Path => {
            if let Some(backend) = backend {
                exchange.turns_to_page(Some(backend));
            }
            exchange.turns();
            if *view.method != Method::HEAD {
                view.method = &GET;
            }
            let asked = Asked { view: &view, framed: false, ..asked };
            Box::pin(routed(exchange, asked, &mut run, RequestBody::Empty)).await
        }
    };
    // A page that goes wrong itself, or leads elsewhere, keeps its own status.
    if response.head.status.is_success() {
        match answer {
            PageStatus::Own => {}
            PageStatus::Errors => response.head.status = status,
            PageStatus::Fixed(code) => response.head.status = code,
        }
        response.head.reason = None;
    }
    finish(exchange, exchange.turned_to(), Place::Location, &view, &run, &mut response);
    Some(response)
}

/// A page in the place of a backend's answer.
pub(super) async fn instead(way: &Way<'_>, response: Response) -> Response {
    let status = response.head.status;
    let Some(page) = of_location(way, status).await else {
        // A page that is to be replaced itself: as in nginx nothing but the stock page is left.
        if way.run.is_turned() {
            drop_quietly(response);
            return local_page(way.exchange, status);
        }
        return response;
    };
    let challenges: Vec<Box<[u8]>> = if status == StatusCode::UNAUTHORIZED {
        response.head.fields.get_all("www-authenticate").map(Box::from).collect()
    } else {
        Vec::new()
    };
    drop_quietly(response);
    challenged(page, challenges.iter().map(|challenge| &**challenge))
}
