//! Answers that are long on their way end with the visit they were opened for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::BoxError;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::edge::visit::Visit;

/// A body for as long as its visit stands. One that comes in one piece is never asked about.
pub(super) struct SessionBoundBody<B> {
    body: B,
    visit: Arc<Visit>,
    begun: bool,
    over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<B> SessionBoundBody<B> {
    pub(super) fn new(body: B, visit: Arc<Visit>) -> Self {
        Self { body, visit, begun: false, over: None }
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let visit = &self.visit;
        let over = self.over.get_or_insert_with(|| {
            let visit = Arc::clone(visit);
            Box::pin(async move { visit.over().await })
        });
        over.as_mut().poll(cx).is_ready()
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for SessionBoundBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    /// Broken off, so that nobody takes what came for the whole.
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let whole_at_once = !std::mem::replace(&mut self.begun, true) && polled.is_ready();
        if !whole_at_once && self.is_over(cx) {
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
