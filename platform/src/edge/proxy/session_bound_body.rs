//! Session expiry for streaming responses: a long-lived body ends with the visit for which it was opened.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::BoxError;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::edge::visit::Visit;

/// A body that is aborted soon after its visit has ended, by a logout or a withdrawn share.
pub(super) struct SessionBoundBody<B> {
    body: B,
    visit: Arc<Visit>,
    has_begun: bool,
    /// Completes when the visit ends. Created only for a body that does not end at once.
    visit_ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<B> SessionBoundBody<B> {
    pub(super) fn new(body: B, visit: Arc<Visit>) -> Self {
        Self { body, visit, has_begun: false, visit_ended: None }
    }

    fn visit_has_ended(&mut self, cx: &mut Context<'_>) -> bool {
        let visit = &self.visit;
        let ended = self.visit_ended.get_or_insert_with(|| {
            let visit = Arc::clone(visit);
            Box::pin(async move { visit.ended().await })
        });
        ended.as_mut().poll(cx).is_ready()
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for SessionBoundBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    // The body's task polls the visit's timer as well. There is no watcher task, so none is leaked when the client
    // disconnects.
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        // Most responses are complete on the first poll and need no timer: authorization has just checked the visit.
        let is_first_and_ready = !std::mem::replace(&mut self.has_begun, true) && polled.is_ready();
        if !is_first_and_ready && self.visit_has_ended(cx) {
            // An error, not an end: the connection breaks (or the stream is reset), so that the client does not take a
            // part for the whole (RFC 9112 8).
            return Poll::Ready(Some(Err("the visit ended".into())));
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
