//! Bodies on their way through: untouched, bounded, and counted as work while they move.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::headers::clean_trailers;
use super::traffic_activity::ActivityDetector;
use crate::edge::visit::Visit;
use crate::instances::Flow;

/// How long a client may send nothing of a body that it announced.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request's body, on its way to a container.
pub(in crate::edge) struct UploadBody {
    body: Body,
    passage: Option<Box<UploadProgress>>,
}

/// What is kept of a body while it is under way.
struct UploadProgress {
    flow: Option<Flow>,
    visit: Arc<Visit>,
    /// Bytes that may still come.
    left: u64,
    stall: StallTimer,
    /// Dropped with the last byte, or when nobody wants it any more.
    _ends: oneshot::Sender<()>,
    going: Arc<()>,
}

/// Why we broke an upload off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UploadError {
    #[error("the body is larger than the edge lets through")]
    TooLarge,
    #[error("nothing of the body came for too long")]
    Stalled,
}

impl UploadBody {
    /// No body.
    pub(super) fn nothing() -> Self {
        Self { body: Body::empty(), passage: None }
    }

    /// A body that nobody waits for.
    pub(in crate::edge) fn plain(body: Body) -> Self {
        Self { body, passage: None }
    }

    /// A body that a client sends, of `most` bytes; `ends` is dropped with it. What moves of it is work on `flow`.
    pub(super) fn from_client(
        body: Body,
        most: u64,
        flow: Option<Flow>,
        visit: Arc<Visit>,
        ends: oneshot::Sender<()>,
    ) -> Self {
        let passage = UploadProgress {
            flow,
            visit,
            left: most,
            stall: StallTimer::new(PATIENCE),
            _ends: ends,
            going: Arc::new(()),
        };
        Self { body, passage: Some(Box::new(passage)) }
    }

    /// What can be upgraded for as long as the body is under way.
    pub(super) fn going(&self) -> Option<Weak<()>> {
        self.passage.as_ref().map(|passage| Arc::downgrade(&passage.going))
    }
}

impl HttpBody for UploadBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let Some(passage) = &mut this.passage else { return polled.map_err(Into::into) };
        match polled {
            Poll::Pending => passage.stall.poll(cx).map(|()| Some(Err(UploadError::Stalled.into()))),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(passage.take(frame).map_err(Into::into))),
            Poll::Ready(ended) => Poll::Ready(ended.map(|frame| frame.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl UploadProgress {
    fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, UploadError> {
        self.stall.over();
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        self.left = self.left.checked_sub(bytes).ok_or(UploadError::TooLarge)?;
        if let Some(flow) = &self.flow
            && !flow.moved()
        {
            self.visit.rouse();
        }
        Ok(frame)
    }
}

/// How long nothing has come.
struct StallTimer {
    patience: Duration,
    /// `None` while something comes.
    timer: Option<Pin<Box<Sleep>>>,
}

impl StallTimer {
    fn new(patience: Duration) -> Self {
        Self { patience, timer: None }
    }

    /// Nothing came: ready when that was so for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.get_or_insert_with(|| Box::pin(sleep(self.patience))).as_mut().poll(cx)
    }

    fn over(&mut self) {
        self.timer = None;
    }
}

/// An answer's body. What it holds is dropped when its last byte is gone or the client hangs up.
pub(super) struct ActivityBody<B, H> {
    pub body: B,
    /// `None`: it is not counted.
    pub flow: Option<Flow>,
    pub movement: ActivityDetector,
    /// Whether the client was given something since it last asked for more.
    pub given: bool,
    pub visit: Arc<Visit>,
    pub _held: H,
}

impl<B: HttpBody<Data = Bytes> + Unpin, H: Unpin> HttpBody for ActivityBody<B, H> {
    type Data = Bytes;
    type Error = B::Error;

    /// Asked for more only when the client has taken what it was given: a download that was held up by its client is
    /// work at that moment, and the instance may have fallen asleep over it.
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let mut polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            clean_trailers(trailers);
        }
        let Some(flow) = &this.flow else { return polled };
        match &polled {
            Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_none_or(|bytes| this.movement.moves(bytes)) => {
                let asks_again = std::mem::replace(&mut this.given, true);
                if !flow.moved() && asks_again {
                    this.visit.rouse();
                }
            }
            Poll::Pending if std::mem::take(&mut this.given) && !flow.moved() => this.visit.rouse(),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_body_may_pause_again_and_again_but_not_for_too_long() {
        let patience = Duration::from_millis(200);
        let mut stall = StallTimer::new(patience);
        for _ in 0..4 {
            assert!(futures_util::poll!(poll_fn(|cx| stall.poll(cx))).is_pending());
            sleep(patience / 2).await;
            stall.over();
        }
        poll_fn(|cx| stall.poll(cx)).await;
    }
}
