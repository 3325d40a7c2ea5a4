//! Webhook intake: durably enqueues a POST or PUT to a path that the owner opened, and answers 202 Accepted.
//!
//! Senders do not log in, so everything is bounded: the rate, the size, the time a body may take to arrive, and the
//! memory of all arriving bodies. `webhook_delivery.rs` sends the requests on to the program.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use berth_ground::error::Error;
use berth_net::peer::Client;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde_json::json;

use super::Edge;
use super::intake_memory::IntakeMemory;
use super::proxy::clean_request;
use crate::http::problem::Problem;
use crate::instances::Instance;
use crate::webhooks::{IntakeError, MAX_BODY_BYTES, MAX_HEAD_BYTES, WebhookRequest};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Retry-After when an inbox is full, and when too many bodies arrive concurrently.
const FULL_RETRY: Duration = Duration::from_secs(600);
const BUSY_RETRY: Duration = Duration::from_secs(5);

/// Headers that are not stored, besides those that the proxy removes anyway: the request is sent later, over another
/// connection and with a body of known length.
const NOT_STORED: [header::HeaderName; 6] =
    [header::COOKIE, header::HOST, header::CONTENT_LENGTH, header::EXPECT, header::TE, header::TRAILER];

impl Edge {
    /// Whether a request is a webhook. The sender is not considered: the owner's own page gets the same answer as a
    /// stranger, so that a path behaves in a test as it does for its real sender.
    pub(super) fn is_webhook(&self, instance: &Instance, parts: &Parts) -> bool {
        matches!(parts.method, Method::POST | Method::PUT) && self.app.webhooks.is_open(instance.id, parts.uri.path())
    }

    /// Enqueues a webhook and answers 202 once it is on disk. Refusals are problem+json whatever the sender accepts,
    /// because the sender is a program.
    pub(super) async fn accept_webhook(
        &self,
        instance: &Instance,
        parts: Parts,
        body: Body,
        client: &Client,
    ) -> Response {
        match self.enqueue_webhook(instance, parts, body, client).await {
            Ok(response) => response,
            Err(problem) => {
                let mut response = problem.json("");
                response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
                response
            }
        }
    }

    async fn enqueue_webhook(
        &self,
        instance: &Instance,
        parts: Parts,
        body: Body,
        client: &Client,
    ) -> Result<Response, Problem> {
        if instance.status().wish.is_closed() {
            let detail = "This instance takes no webhooks just now.";
            return Err(Problem::new(StatusCode::FORBIDDEN, "closed", "Closed", detail));
        }
        // Order: the rate limit comes before the body, so that a flood costs neither memory nor a database write.
        self.app.webhooks.check_rate(instance.id, client.ip)?;
        // A body that announces its length is refused before a byte of it is read.
        if content_length(&parts.headers).is_some_and(|length| length > MAX_BODY_BYTES) {
            return Err(too_large());
        }
        let request = stored_head(parts, client)?;
        let body = tokio::time::timeout(BODY_TIMEOUT, self.intake_memory.read(body)).await.map_err(|_| broken())??;
        let id = self.app.webhooks.enqueue(instance.id, WebhookRequest { body, ..request }).await.map_err(problem)?;
        let accepted = (StatusCode::ACCEPTED, [(header::CACHE_CONTROL, "no-store")], Json(json!({ "delivery": id })));
        Ok(accepted.into_response())
    }
}

/// The request as it is stored, without its body.
fn stored_head(mut parts: Parts, client: &Client) -> Result<WebhookRequest, Problem> {
    clean_request(&mut parts.headers);
    for name in NOT_STORED {
        parts.headers.remove(name);
    }
    let target = parts.uri.path_and_query().map_or_else(|| parts.uri.path().to_owned(), ToString::to_string);
    let mut headers: Vec<(String, String)> =
        parts.headers.iter().map(|(name, value)| (name.to_string(), latin1(value.as_bytes()))).collect();
    headers.push(("x-forwarded-for".into(), client.ip.to_string()));
    if target.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_HEAD_BYTES {
        let detail = "Address and headers of a webhook take up to 16 KiB together.";
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Problem::new(status, "head_too_large", "Too large", detail));
    }
    Ok(WebhookRequest { method: parts.method.to_string(), target, headers, body: Bytes::new() })
}

impl IntakeMemory {
    /// Reads a body to its end.
    async fn read(&self, body: Body) -> Result<Bytes, Problem> {
        let mut permits = Vec::new();
        let mut read = BytesMut::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| broken())?;
            if read.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(too_large());
            }
            let bytes = u32::try_from(chunk.len()).map_err(|_| too_large())?;
            // Permits are never awaited: half-read bodies that wait for each other's memory would deadlock until their
            // timeouts. The sender retries instead.
            permits.push(self.0.try_acquire_many(bytes).map_err(|_| busy())?);
            read.extend_from_slice(&chunk);
        }
        Ok(read.freeze())
    }
}

/// Latin-1: each byte becomes the character of the same number, so that a header value that is not UTF-8 can be stored
/// as text.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large() -> Problem {
    let detail = "The body of a webhook may have up to 1 MiB.";
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Too large", detail)
}

fn broken() -> Problem {
    let detail = "The body did not arrive whole within half a minute. Nothing was stored; please send it again.";
    Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "Too slow", detail)
}

fn busy() -> Problem {
    let message = "Many webhooks are arriving at this moment. Please try again shortly.".to_owned();
    Error::Unavailable { message, retry_after: BUSY_RETRY }.into()
}

fn problem(error: IntakeError) -> Problem {
    match error {
        IntakeError::InboxFull(sentence) => {
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "inbox_full", "The inbox is full", sentence)
                .retry_after(FULL_RETRY)
        }
        IntakeError::Storage(error) => {
            if let Error::Internal(cause) = &error {
                tracing::error!(error = format!("{cause:#}"), "a webhook could not be enqueued");
            }
            error.into()
        }
    }
}
