//! Single requests to the API server, in JSON, each with an end.

use std::error::Error;
use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use serde_json::Value as Json;
use tokio::time::timeout;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who owns the fields that we write.
pub(super) const FIELD_MANAGER: &str = "narthex";

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The client or the server says no.
    #[error(transparent)]
    Client(#[from] kube::Error),
    /// Nobody says anything.
    #[error("no answer in time")]
    Silence,
}

impl ApiError {
    /// The HTTP status that the server gave, if any.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Client(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }
}

/// An error and what caused it: clients of HTTP say by themselves no more than that there is no connection.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some repeat what they were caused by.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Asks for an object or a list.
pub(super) async fn get(client: &Client, target: &str) -> Result<Json, ApiError> {
    send(client, Method::GET, target, "application/json", &Json::Null).await
}

/// Creates an object in a collection.
pub(super) async fn post(client: &Client, target: &str, body: &Json) -> Result<Json, ApiError> {
    send(client, Method::POST, target, "application/json", body).await
}

/// Replaces an object; its `resourceVersion` must be the one that was read.
pub(super) async fn put(client: &Client, target: &str, body: &Json) -> Result<Json, ApiError> {
    send(client, Method::PUT, target, "application/json", body).await
}

/// Applies fields (server-side apply); JSON is YAML.
pub(super) async fn apply(client: &Client, target: &str, body: &Json) -> Result<Json, ApiError> {
    let target = format!("{target}?fieldManager={FIELD_MANAGER}&force=true");
    send(client, Method::PATCH, &target, "application/apply-patch+yaml", body).await
}

/// Changes an object by a JSON patch (RFC 6902).
pub(super) async fn patch(client: &Client, target: &str, body: &Json) -> Result<Json, ApiError> {
    let target = format!("{target}?fieldManager={FIELD_MANAGER}");
    send(client, Method::PATCH, &target, "application/json-patch+json", body).await
}

async fn send(
    client: &Client,
    method: Method,
    target: &str,
    form: &str,
    body: &Json,
) -> Result<Json, ApiError> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request =
        Request::builder().method(method).uri(target).header(http::header::CONTENT_TYPE, form).body(body);
    let request = request.map_err(kube::Error::HttpError)?;
    Ok(timeout(PATIENCE, client.request(request)).await.map_err(|_| ApiError::Silence)??)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no connection")]
    struct Outer(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("service: {0}")]
    struct Outermost(#[source] Outer);

    #[test]
    fn an_error_is_told_with_its_causes_each_once() {
        let error = Outermost(Outer(io::Error::other("refused")));
        assert_eq!(causes(&error), "service: no connection: refused");
    }
}
