//! Taking letters in: what anybody sends to a path that the owner opened is kept, answered with 202, and carried by the
//! postman. Nobody logs in here, so all of it is bounded: how often, how much, how long.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::Semaphore;

use super::Edge;
use super::proxy::clean_request;
use crate::client::Client;
use crate::error::Error;
use crate::http::problem::Problem;
use crate::instances::Instance;
use crate::mailbox::{LARGEST_BODY, LARGEST_HEAD, NotTaken, Parcel};

/// How long a letter's body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of all bodies that are on their way in.
const MOST_ARRIVING: usize = 64 * 1024 * 1024;
/// When to come back to a mailbox that is full.
const FULL_RETRY: Duration = Duration::from_secs(600);
const BUSY_RETRY: Duration = Duration::from_secs(5);

/// What a letter does not keep, besides what no instance is told: its body is kept whole, and carried by ourselves.
const NOT_IN_LETTERS: [header::HeaderName; 6] =
    [header::COOKIE, header::HOST, header::CONTENT_LENGTH, header::EXPECT, header::TE, header::TRAILER];

/// Memory for what arrives.
#[derive(Clone)]
pub(super) struct Counter(Arc<Semaphore>);

impl Default for Counter {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_ARRIVING)))
    }
}

impl Edge {
    /// Whether a request is a letter, whoever sends it: the owner's own page gets the same answer as a stranger.
    pub(super) fn is_letter(&self, instance: &Instance, parts: &Parts) -> bool {
        matches!(parts.method, Method::POST | Method::PUT) && self.app.mailbox.is_open(instance.id, parts.uri.path())
    }

    /// Keeps a letter: 202 once it is on disk. Refusals are for programs, whatever they accept.
    pub(super) async fn take_in(&self, instance: &Instance, parts: Parts, body: Body, client: &Client) -> Response {
        match self.keep(instance, parts, body, client).await {
            Ok(response) => response,
            Err(problem) => {
                let mut response = problem.json("");
                response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
                response
            }
        }
    }

    async fn keep(
        &self,
        instance: &Instance,
        mut parts: Parts,
        body: Body,
        client: &Client,
    ) -> Result<Response, Problem> {
        if instance.status().wish.is_closed() {
            let detail = "This instance takes no mail just now.";
            return Err(Problem::new(StatusCode::FORBIDDEN, "closed", "Closed", detail));
        }
        self.app.mailbox.knock(instance.id, client.ip)?;
        if length(&parts.headers).is_some_and(|length| length > LARGEST_BODY) {
            return Err(too_large());
        }
        clean_request(&mut parts.headers);
        for name in NOT_IN_LETTERS {
            parts.headers.remove(name);
        }
        let target = parts.uri.path_and_query().map_or_else(|| parts.uri.path().to_owned(), ToString::to_string);
        let mut headers: Vec<(String, String)> =
            parts.headers.iter().map(|(name, value)| (name.to_string(), in_characters(value.as_bytes()))).collect();
        headers.push(("x-forwarded-for".into(), client.ip.to_string()));
        if target.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > LARGEST_HEAD {
            let detail = "Address and headers of a letter take up to 16 KiB together.";
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(Problem::new(status, "head_too_large", "Too large", detail));
        }
        let body = tokio::time::timeout(BODY_WITHIN, self.counter.read(body)).await.map_err(|_| broken())??;
        let parcel = Parcel { method: parts.method.to_string(), target, headers, body };
        let id = self.app.mailbox.take_in(instance.id, parcel).await.map_err(in_words)?;
        let kept = (StatusCode::ACCEPTED, [(header::CACHE_CONTROL, "no-store")], Json(json!({ "delivery": id })));
        Ok(kept.into_response())
    }
}

impl Counter {
    /// Reads a body to its end; every byte of it has its place in memory first.
    async fn read(&self, body: Body) -> Result<Bytes, Problem> {
        let mut places = Vec::new();
        let mut taken = BytesMut::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| broken())?;
            if taken.len() + chunk.len() > LARGEST_BODY {
                return Err(too_large());
            }
            let bytes = u32::try_from(chunk.len()).map_err(|_| too_large())?;
            places.push(self.0.try_acquire_many(bytes).map_err(|_| busy())?);
            taken.extend_from_slice(&chunk);
        }
        Ok(taken.freeze())
    }
}

/// Each byte as the character of the same number, so that any value can stand in a text.
fn in_characters(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large() -> Problem {
    let detail = "The body of a letter may have up to 1 MiB.";
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Too large", detail)
}

fn broken() -> Problem {
    let detail = "The body did not arrive whole within half a minute. Nothing was kept; please send it again.";
    Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "Too slow", detail)
}

fn busy() -> Problem {
    let message = "Much mail is arriving at this moment. Please try again shortly.".to_owned();
    Error::Unavailable { message, retry_after: BUSY_RETRY }.into()
}

fn in_words(not_taken: NotTaken) -> Problem {
    match not_taken {
        NotTaken::Full(sentence) => {
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "mailbox_full", "The mailbox is full", sentence)
                .retry_after(FULL_RETRY)
        }
        NotTaken::Failed(error) => {
            if let Error::Internal(cause) = &error {
                tracing::error!(error = format!("{cause:#}"), "a letter could not be kept");
            }
            error.into()
        }
    }
}
