//! One admitted call: sent once, its answer passed on, its hold settled whatever happens.
//!
//! A streamed answer passes chunk by chunk as the client takes it, and is cut off upstream when the client goes: the
//! providers stop charging then, and what was seen is charged. An answer in one piece is read to its end even when
//! the client has gone, because the provider charges it whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};

use super::hide_usage::HideUsage;
use super::problem::Problem;
use super::upstream::returning;
use super::usage::{self, StreamReader};
use crate::instances::WorkInFlight;
use crate::quota::{Hold, LONGEST_CALL, Outcome, Provider, Seen};

/// The largest answer in one piece. The longest there are have a few megabytes.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// A call that was admitted and not yet sent.
pub struct Admitted {
    pub provider: Provider,
    pub request: reqwest::RequestBuilder,
    pub hold: Hold,
    pub work: WorkInFlight,
    /// The usage in the stream was asked for by the proxy, and is not shown to the client.
    pub hide_usage: bool,
}

/// Makes a call whose answer is a stream.
pub async fn streamed(call: Admitted) -> Result<Response, Problem> {
    let Admitted { provider, request, hold, work, hide_usage } = call;
    let (hold, answer) = send(request, hold).await?;
    let Some(hold) = hold else { return Ok(passed_on(answer, work)) };
    if !is_event_stream(answer.headers()) {
        return whole_answer(provider, answer, hold).await;
    }
    let response = respond(answer.status(), answer.headers());
    let metered = Metered {
        upstream: Box::pin(answer.bytes_stream()),
        reader: StreamReader::new(provider),
        hide: hide_usage.then(HideUsage::default),
        hold: Some(hold),
        ended: false,
        _work: work,
    };
    Ok(response(Body::from_stream(metered)))
}

/// Makes a call whose answer comes in one piece; goes on to its end when the caller is dropped.
pub async fn whole(call: Admitted) -> Result<Response, Problem> {
    let Admitted { provider, request, hold, work, .. } = call;
    let task = tokio::spawn(async move {
        let (hold, answer) = send(request.timeout(LONGEST_CALL), hold).await?;
        match hold {
            Some(hold) => {
                let _work = work;
                whole_answer(provider, answer, hold).await
            }
            None => Ok(passed_on(answer, work)),
        }
    });
    task.await.unwrap_or(Err(Problem::UpstreamUnreachable))
}

/// Sends the call. The hold comes back only when the provider accepted it; what it refuses it does not charge.
async fn send(request: reqwest::RequestBuilder, mut hold: Hold) -> Result<(Option<Hold>, reqwest::Response), Problem> {
    hold.mark_sent();
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok((Some(hold), answer)),
        Ok(answer) => {
            hold.settle(Seen::NoCharge, Outcome::Refused, String::new());
            Ok((None, answer))
        }
        Err(error) => {
            let never_arrived = error.is_connect() || error.is_builder();
            let seen = if never_arrived { Seen::NoCharge } else { Seen::Part { usage: None, output_tokens: 0 } };
            hold.settle(seen, Outcome::UpstreamBroke, String::new());
            Err(problem_of(&error))
        }
    }
}

fn problem_of(error: &reqwest::Error) -> Problem {
    tracing::warn!(error = %error.to_string(), source = ?std::error::Error::source(error), "a provider did not answer");
    if error.is_timeout() && !error.is_connect() { Problem::UpstreamTimeout } else { Problem::UpstreamUnreachable }
}

/// An answer that costs nothing, as it is.
pub fn passed_on(answer: reqwest::Response, work: WorkInFlight) -> Response {
    let response = respond(answer.status(), answer.headers());
    response(Body::from_stream(answer.bytes_stream().inspect(move |_| {
        let _while_it_flows = &work;
    })))
}

async fn whole_answer(provider: Provider, answer: reqwest::Response, hold: Hold) -> Result<Response, Problem> {
    let response = respond(answer.status(), answer.headers());
    let is_readable = is_identity(answer.headers());
    let mut body = BytesMut::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) if body.len() + chunk.len() <= LARGEST_ANSWER => body.extend_from_slice(&chunk),
            Ok(_) => {
                hold.settle(Seen::Unreadable, Outcome::UpstreamBroke, String::new());
                return Err(Problem::UpstreamUnreachable);
            }
            Err(error) => {
                hold.settle(Seen::Part { usage: None, output_tokens: 0 }, Outcome::UpstreamBroke, String::new());
                return Err(problem_of(&error));
            }
        }
    }
    let (seen, raw) = if is_readable { usage::of_whole(provider, &body) } else { (Seen::Unreadable, String::new()) };
    if seen == Seen::Unreadable {
        tracing::error!(provider = provider.as_str(), "an answer without readable usage; its hold is charged");
    }
    hold.settle(seen, Outcome::Completed, raw);
    Ok(response(body.freeze().into()))
}

fn respond(status: StatusCode, headers: &HeaderMap) -> impl FnOnce(Body) -> Response + use<> {
    let headers = returning(headers);
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
    upstream: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    reader: StreamReader,
    hide: Option<HideUsage>,
    hold: Option<Hold>,
    ended: bool,
    _work: WorkInFlight,
}

impl Metered {
    fn settle(&mut self, outcome: Outcome) {
        if let Some(hold) = self.hold.take() {
            let (seen, raw) = self.reader.seen();
            if seen == Seen::Unreadable {
                tracing::error!("a stream ended without readable usage; its hold is charged");
            }
            hold.settle(seen, outcome, raw);
        }
    }

    fn outcome_at_end(&self) -> Outcome {
        if self.reader.is_complete() { Outcome::Completed } else { Outcome::UpstreamBroke }
    }
}

impl Stream for Metered {
    type Item = reqwest::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.ended {
            match ready!(self.upstream.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) => {
                    self.reader.feed(&chunk);
                    // Before the client sees the end, so that its next call finds this one's hold settled.
                    if self.reader.is_over() {
                        let outcome = self.outcome_at_end();
                        self.settle(outcome);
                    }
                    let chunk = match &mut self.hide {
                        Some(hide) => hide.feed(&chunk),
                        None => chunk,
                    };
                    if !chunk.is_empty() {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    self.settle(Outcome::UpstreamBroke);
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.ended = true;
                    self.reader.finish();
                    let outcome = self.outcome_at_end();
                    self.settle(outcome);
                    let rest = self.hide.as_mut().map(HideUsage::finish).unwrap_or_default();
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
    /// The client went before the end; dropping the upstream's stream closes it there as well.
    fn drop(&mut self) {
        self.settle(Outcome::ClientGone);
    }
}
