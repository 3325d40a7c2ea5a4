//! One admitted call: sent once, its answer passed on, its hold settled whatever happens.
//!
//! A streamed answer passes chunk by chunk as the client takes it. When the client goes it is read on for a while, to
//! the figures that it is charged by (see `drain`). An answer in one piece is read to its end even when the client has
//! gone, because the provider charges it whole.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;

use super::caller::until_refused;
use super::intake_limits::Place;
use super::drain::{Drains, Flow};
use super::metered;
use super::provider_call::{Answer, Failure, Outgoing};
use super::detached::Outliving;
use super::proxy_error::Problem;
use crate::instances::{Instance, WorkInFlight};
use crate::quota::{Hold, Outcome, Seen};
use berth_providers::Api;
use berth_providers::UsageFilter;

/// The largest answer in one piece. The longest there are have a few megabytes.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// What lasts as long as the answer flows.
pub type Inside = (WorkInFlight, Place);

/// A call that was admitted and not yet sent.
pub struct Admitted {
    pub api: Api,
    pub request: Outgoing,
    pub hold: Hold,
    pub instance: Arc<Instance>,
    pub inside: Inside,
    /// The body's share of the memory, until it is sent.
    pub room: OwnedSemaphorePermit,
    pub drains: Drains,
    /// The usage in the stream was asked for by the proxy, and is not shown to the client.
    pub hide_usage: bool,
}

/// Makes a call whose answer is a stream. When the caller is dropped before its head came, that is waited for like the
/// figures of any stream that its client left.
pub async fn streamed(call: Admitted) -> Result<Response, Problem> {
    let drains = call.drains.clone();
    Outliving::for_a_while(begin_stream(call), drains).await
}

async fn begin_stream(call: Admitted) -> Result<Response, Problem> {
    let Admitted { api, request, hold, instance, inside, room, drains, hide_usage } = call;
    let (hold, mut answer) = send(&request, Answer::Streamed, hold).await?;
    drop(room);
    let Some(hold) = hold else { return Ok(passed_on(&request, answer, inside)) };
    if !is_event_stream(answer.headers()) {
        return whole_answer(api, &request, answer, hold).await;
    }
    let response = respond(&request, &mut answer);
    let (work, place) = inside;
    let metered = Metered {
        flow: Some(Flow::new(api, answer, hold, work)),
        hide: hide_usage.then(UsageFilter::default),
        drains,
        refused: Box::pin(until_refused(instance.watch())),
        _place: place,
    };
    Ok(response(Body::from_stream(metered)))
}

/// Makes a call whose answer comes in one piece; goes on to its end when the caller is dropped.
pub async fn whole(call: Admitted) -> Result<Response, Problem> {
    let Admitted { api, request, hold, inside, room, .. } = call;
    let work = async move {
        let (hold, answer) = send(&request, Answer::Whole, hold).await?;
        drop(room);
        match hold {
            Some(hold) => {
                let _inside = inside;
                whole_answer(api, &request, answer, hold).await
            }
            None => Ok(passed_on(&request, answer, inside)),
        }
    };
    Outliving::to_its_end(work).await
}

/// Sends the call. The hold comes back only when the provider accepted it; what it refuses it does not charge.
async fn send(
    request: &Outgoing,
    answer: Answer,
    mut hold: Hold,
) -> Result<(Option<Hold>, reqwest::Response), Problem> {
    hold.mark_sent();
    match request.send(answer).await {
        Ok(answer) if answer.status().is_success() => Ok((Some(hold), answer)),
        Ok(answer) => {
            hold.settle(Seen::NoCharge, Outcome::Refused, String::new());
            Ok((None, answer))
        }
        Err(failure) => Err(settled(hold, failure)),
    }
}

/// Settles the hold of a call without an answer, and says what the client is told.
fn settled(hold: Hold, failure: Failure) -> Problem {
    let (seen, outcome) = failure.seen();
    hold.settle(seen, outcome, String::new());
    failure.into()
}

/// An answer that costs nothing, as it is.
pub fn passed_on(request: &Outgoing, mut answer: reqwest::Response, inside: Inside) -> Response {
    let response = respond(request, &mut answer);
    response(Body::from_stream(answer.bytes_stream().inspect(move |_| {
        let _while_it_flows = &inside;
    })))
}

async fn whole_answer(
    api: Api,
    request: &Outgoing,
    mut answer: reqwest::Response,
    hold: Hold,
) -> Result<Response, Problem> {
    let is_readable = is_identity(answer.headers());
    let response = respond(request, &mut answer);
    let largest = if matches!(api, Api::Metered { .. }) { metered::LARGEST_ANSWER } else { LARGEST_ANSWER };
    let mut body = BytesMut::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) if body.len() + chunk.len() <= largest => body.extend_from_slice(&chunk),
            Ok(_) => {
                hold.settle(Seen::Unreadable, Outcome::UpstreamBroke, String::new());
                return Err(Problem::UpstreamUnreachable);
            }
            Err(error) => return Err(settled(hold, error.into())),
        }
    }
    let (seen, raw) =
        if is_readable { berth_providers::of_whole(api, &body) } else { (Seen::Unreadable, String::new()) };
    if seen == Seen::Unreadable {
        tracing::error!(api = ?api, "an answer without readable usage; what was held for it is charged");
    }
    hold.settle(seen, Outcome::Completed, raw);
    Ok(response(body.freeze().into()))
}

/// Takes the head of `answer` for what goes on to the client.
fn respond(request: &Outgoing, answer: &mut reqwest::Response) -> impl FnOnce(Body) -> Response + use<> {
    let (status, headers) = (answer.status(), request.returning(std::mem::take(answer.headers_mut())));
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

fn is_identity(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity")
}

/// A stream on its way to the client. Nothing is read ahead: the next chunk is asked for when the last one is gone.
struct Metered {
    flow: Option<Flow>,
    hide: Option<UsageFilter>,
    drains: Drains,
    /// Comes true when the instance may make no calls any more.
    refused: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: Place,
}

impl Stream for Metered {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { flow: current, hide, drains, refused, .. } = &mut *self;
        if current.is_some() && refused.as_mut().poll(cx).is_ready() {
            current.take().into_iter().for_each(|flow| drains.read_on(flow));
            return Poll::Ready(Some(Err(std::io::Error::other("the instance may make no more calls"))));
        }
        while let Some(flow) = current {
            match ready!(flow.poll_next(cx)) {
                Some(Ok(chunk)) => {
                    let chunk = match hide {
                        Some(hide) => hide.feed(&chunk),
                        None => chunk,
                    };
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
                    let rest = hide.as_mut().map(UsageFilter::finish).unwrap_or_default();
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(rest)));
                    }
                }
            }
        }
        Poll::Ready(None)
    }
}

impl Drop for Metered {
    /// The client went before the end.
    fn drop(&mut self) {
        self.flow.take().into_iter().for_each(|flow| self.drains.read_on(flow));
    }
}
