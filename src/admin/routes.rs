//! The endpoints.

use std::convert::Infallible;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, RawQuery, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde_json::{Value, json};

use super::inspect::{ExplainQuery, Refused};
use super::intake::{Peer, STEP};
use super::origin::{Stranger, judge_name, judge_page};
use super::{AdminConfig, AdminSources};
use crate::limit::priority::breathe;

/// Prometheus text.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Everything else that is text.
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// All endpoints of the configuration.
pub(super) fn router(config: &AdminConfig, sources: AdminSources) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/livez", get(livez));
    if config.metrics {
        router = router.merge(Router::new().route("/metrics", get(metrics)).layer(from_fn(own_pages_only)));
    }
    let mut api = Router::new().route("/api/v1/{what}", get(api)).layer(from_fn(own_names_only));
    if !config.debug_endpoints {
        api = api.layer(from_fn(loopback_only));
    }
    router = router.merge(api).fallback(async || text(StatusCode::NOT_FOUND, "not found\n"));
    let health_path = config.health_path.as_str();
    if health_path.starts_with('/') && !["/healthz", "/readyz", "/livez", "/metrics"].contains(&health_path) {
        // Not as a pattern: the flag may hold characters that mean something there.
        let wanted = health_path.to_owned();
        let sources = sources.clone();
        router = router.layer(from_fn(move |request: Request, next: Next| {
            let hit = request.uri().path() == wanted;
            let sources = sources.clone();
            async move { if hit { healthz(State(sources)).await } else { next.run(request).await } }
        }));
    }
    router.layer(from_fn(guard)).with_state(sources)
}

/// GET and HEAD only, and five seconds for an answer.
async fn guard(request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this port is read-only\n");
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match tokio::time::timeout(STEP, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => text(StatusCode::SERVICE_UNAVAILABLE, "too slow\n"),
    }
}

async fn loopback_only(ConnectInfo(Peer(peer)): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    if peer.ip().to_canonical().is_loopback() {
        return next.run(request).await;
    }
    text(StatusCode::FORBIDDEN, "answers loopback only; --enable-debug-endpoints opens it\n")
}

/// What is configured is for people and programs, not for pages that somebody else wrote.
async fn own_names_only(request: Request, next: Next) -> Response {
    let judged = judge_name(request.uri(), request.headers()).and_then(|()| judge_page(request.headers()));
    answer_or_refuse(judged, request, next).await
}

/// A scraper may use any name, a page of somebody else none.
async fn own_pages_only(request: Request, next: Next) -> Response {
    let judged = judge_page(request.headers());
    answer_or_refuse(judged, request, next).await
}

async fn answer_or_refuse(judged: Result<(), Stranger>, request: Request, next: Next) -> Response {
    match judged {
        Ok(()) => next.run(request).await,
        Err(stranger) => {
            let (status, body) = stranger.answer();
            text(status, body)
        }
    }
}

async fn healthz(State(sources): State<AdminSources>) -> Response {
    readiness(&sources, StatusCode::INTERNAL_SERVER_ERROR)
}

async fn readyz(State(sources): State<AdminSources>) -> Response {
    readiness(&sources, StatusCode::SERVICE_UNAVAILABLE)
}

fn readiness(sources: &AdminSources, otherwise: StatusCode) -> Response {
    match sources.health.not_ready() {
        None => text(StatusCode::OK, "ok"),
        Some(missing) => text(otherwise, missing),
    }
}

async fn livez(State(sources): State<AdminSources>) -> Response {
    if sources.health.is_alive() {
        text(StatusCode::OK, "ok")
    } else {
        text(StatusCode::INTERNAL_SERVER_ERROR, "the control loop is lost")
    }
}

async fn metrics(State(sources): State<AdminSources>) -> Response {
    // In pieces, each made when the last ones have left: there may be tens of MiB of them.
    let pieces = sources.metrics.scrape(Instant::now(), breathe).map(Ok::<_, Infallible>);
    ([(header::CONTENT_TYPE, METRICS_TYPE)], Body::from_stream(stream::iter(pieces))).into_response()
}

async fn api(
    State(sources): State<AdminSources>,
    Path(what): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let inspect = &*sources.inspect;
    let answer = match what.as_str() {
        "generation" => inspect.generation(),
        "routes" => inspect.routes(),
        "diagnostics" => inspect.diagnostics(),
        "backends" => inspect.backends(),
        "certs" => inspect.certs(),
        "explain" => ExplainQuery::parse(query.as_deref().unwrap_or_default())
            .map_err(Refused::BadQuery)
            .and_then(|query| inspect.explain(&query)),
        _ => return text(StatusCode::NOT_FOUND, "not found\n"),
    };
    match answer {
        Ok(value) => json_text(StatusCode::OK, &value),
        Err(Refused::NoTable) => json_text(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "error": "no routing table is published yet" }),
        ),
        Err(Refused::BadQuery(why)) => json_text(StatusCode::BAD_REQUEST, &json!({ "error": why })),
    }
}

fn json_text(status: StatusCode, value: &Value) -> Response {
    // People read this with curl.
    let mut body = serde_json::to_string_pretty(value).unwrap_or_default();
    body.push('\n');
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn text(status: StatusCode, body: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, TEXT_TYPE)], Body::from(body)).into_response()
}
