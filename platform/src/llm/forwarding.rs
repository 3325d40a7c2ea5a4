//! Forwarding of one admitted call: the call is sent once, its response goes on to the client, and its hold is always
//! settled.
//!
//! A streamed response passes chunk by chunk at the client's speed. After a client disconnect it is drained to its
//! usage (see `drain`). A whole response is read to its end even after a disconnect, because the provider charges for
//! all of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use berth_providers::{Api, UsageFilter, UsageReading, UsageReport, usage_of_response};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;

use super::billed_stream::BilledStream;
use super::detached::DetachedWork;
use super::drain::DrainLimit;
use super::intake_limits::RequestSlot;
use super::metered;
use super::provider_call::{CallFailure, ProviderCall, ResponseMode};
use super::proxy_error::ProxyError;
use crate::http::instance_token::until_revoked;
use crate::instances::{Instance, WorkInFlight};
use crate::quota::{CallOutcome, Hold};

/// The largest whole response, in bytes. The longest real responses have a few megabytes.
const MAX_RESPONSE: usize = 64 * 1024 * 1024;

/// The guards that a call holds until its response has passed.
pub struct CallGuards {
    /// Keeps the instance awake.
    pub work: WorkInFlight,
    pub slot: RequestSlot,
}

/// A call that was admitted and not yet sent.
pub struct AdmittedCall {
    pub api: Api,
    pub request: ProviderCall,
    pub hold: Hold,
    pub instance: Arc<Instance>,
    pub guards: CallGuards,
    /// The request body's share of the memory limit, held until the body is sent.
    pub memory: OwnedSemaphorePermit,
    pub drains: DrainLimit,
    /// Whether the proxy requested the usage figures of the stream itself; the client must not see them then.
    pub hide_usage: bool,
}

/// Makes a call with a streamed response. If the caller is dropped before the head of the response arrived, the call
/// continues as a drain.
pub async fn forward_stream(call: AdmittedCall) -> Result<Response, ProxyError> {
    let drains = call.drains.clone();
    DetachedWork::as_drain(begin_stream(call), drains).await
}

async fn begin_stream(call: AdmittedCall) -> Result<Response, ProxyError> {
    let AdmittedCall { api, request, hold, instance, guards, memory, drains, hide_usage } = call;
    let (hold, mut response) = send(&request, ResponseMode::Streamed, hold).await?;
    // The stream may last for an hour; from here on the body's memory is free.
    drop(memory);
    let Some(hold) = hold else { return Ok(pass_through(&request, response, guards)) };
    // Some providers answer a request for a stream with one JSON object, which holds its usage elsewhere.
    if !is_event_stream(response.headers()) {
        return forward_body(api, &request, response, hold).await;
    }
    let with_body = take_head(&request, &mut response);
    let CallGuards { work, slot } = guards;
    let stream = ClientStream {
        upstream: Some(BilledStream::new(api, response, hold, work)),
        filter: hide_usage.then(UsageFilter::default),
        drains,
        revoked: Box::pin(until_revoked(instance.watch())),
        _slot: slot,
    };
    Ok(with_body(Body::from_stream(stream)))
}

/// Makes a call with a whole response. If the caller is dropped, the call continues to its end.
pub async fn forward_whole(call: AdmittedCall) -> Result<Response, ProxyError> {
    let AdmittedCall { api, request, hold, guards, memory, .. } = call;
    let work = async move {
        let (hold, response) = send(&request, ResponseMode::Whole, hold).await?;
        drop(memory);
        match hold {
            Some(hold) => {
                let _guards = guards;
                forward_body(api, &request, response, hold).await
            }
            None => Ok(pass_through(&request, response, guards)),
        }
    };
    DetachedWork::to_completion(work).await
}

/// Sends the call. The hold is returned only when the provider accepted the call; a refused call is not charged.
async fn send(
    request: &ProviderCall,
    mode: ResponseMode,
    mut hold: Hold,
) -> Result<(Option<Hold>, reqwest::Response), ProxyError> {
    // Order: marked before the first byte leaves. If this task is dropped from here on, the provider may charge.
    hold.mark_sent();
    match request.send(mode).await {
        Ok(response) if response.status().is_success() => Ok((Some(hold), response)),
        Ok(response) => {
            hold.settle(UsageReport::NoCharge, CallOutcome::Refused, String::new());
            Ok((None, response))
        }
        Err(failure) => Err(settle_failed(hold, failure)),
    }
}

/// Settles the hold of a call without a response. Returns the error for the client.
fn settle_failed(hold: Hold, failure: CallFailure) -> ProxyError {
    let (report, outcome) = failure.settlement();
    hold.settle(report, outcome, String::new());
    failure.into()
}

/// Passes on a response that costs nothing.
pub fn pass_through(request: &ProviderCall, mut response: reqwest::Response, guards: CallGuards) -> Response {
    let with_body = take_head(request, &mut response);
    with_body(Body::from_stream(response.bytes_stream().inspect(move |_| {
        // Moves the guards into the body, which holds them until it has passed.
        let _guards = &guards;
    })))
}

/// Reads a whole response, settles the hold by its usage, and passes it on.
async fn forward_body(
    api: Api,
    request: &ProviderCall,
    mut response: reqwest::Response,
    hold: Hold,
) -> Result<Response, ProxyError> {
    let is_readable = is_identity(response.headers());
    let with_body = take_head(request, &mut response);
    let max_size = if matches!(api, Api::Metered { .. }) { metered::MAX_RESPONSE } else { MAX_RESPONSE };
    let mut body = BytesMut::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) if body.len() + chunk.len() <= max_size => body.extend_from_slice(&chunk),
            // Too large to be read: its usage is unknown, and the provider charges for it nevertheless.
            Ok(_) => {
                hold.settle(UsageReport::Unreadable, CallOutcome::UpstreamBroke, String::new());
                return Err(ProxyError::UpstreamUnreachable);
            }
            Err(error) => return Err(settle_failed(hold, error.into())),
        }
    }
    let unreadable = || UsageReading::without_figures(UsageReport::Unreadable);
    let UsageReading { report, raw_json } = if is_readable { usage_of_response(api, &body) } else { unreadable() };
    if report == UsageReport::Unreadable {
        tracing::error!(api = ?api, "a response without readable usage; its whole hold is charged");
    }
    hold.settle(report, CallOutcome::Completed, raw_json);
    Ok(with_body(body.freeze().into()))
}

/// Takes status and headers out of `response`. The returned function adds a body to them, for the client.
fn take_head(request: &ProviderCall, response: &mut reqwest::Response) -> impl FnOnce(Body) -> Response + use<> {
    let (status, headers) = (response.status(), request.returned_headers(std::mem::take(response.headers_mut())));
    move |body| {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let is_events = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("text/event-stream"));
    is_events && is_identity(headers)
}

/// Whether the body is uncompressed. The provider may have ignored `accept-encoding`.
fn is_identity(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity")
}

/// The body of a streamed response to the client. Backpressure: the next chunk is requested when the last one is taken.
struct ClientStream {
    /// `None` after the end.
    upstream: Option<BilledStream>,
    filter: Option<UsageFilter>,
    drains: DrainLimit,
    /// Completes when the instance is no longer allowed to call.
    revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
    _slot: RequestSlot,
}

impl Stream for ClientStream {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { upstream: current, filter, drains, revoked, .. } = &mut *self;
        // Polled first: a stream that always has another chunk must not outlive a suspension.
        if current.is_some() && revoked.as_mut().poll(cx).is_ready() {
            current.take().into_iter().for_each(|stream| drains.drain(stream));
            return Poll::Ready(Some(Err(std::io::Error::other("the instance may make no more calls"))));
        }
        while let Some(stream) = current {
            match ready!(stream.poll_next(cx)) {
                Some(Ok(chunk)) => {
                    let chunk = match filter {
                        Some(filter) => filter.feed(&chunk),
                        None => chunk,
                    };
                    // The filter may hold back a whole chunk. An empty chunk would end a chunked HTTP body.
                    if !chunk.is_empty() {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                }
                Some(Err(error)) => {
                    *current = None;
                    return Poll::Ready(Some(Err(std::io::Error::other(error))));
                }
                None => {
                    *current = None;
                    let rest = filter.as_mut().map(UsageFilter::finish).unwrap_or_default();
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(rest)));
                    }
                }
            }
        }
        Poll::Ready(None)
    }
}

impl Drop for ClientStream {
    // The client disconnected before the end.
    fn drop(&mut self) {
        self.upstream.take().into_iter().for_each(|stream| self.drains.drain(stream));
    }
}
