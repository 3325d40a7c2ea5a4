//! The request body on its way to a container: streamed with backpressure, limited in size, subject to a stall timeout,
//! and counted as activity.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use crate::edge::visit::Visit;
use crate::instances::TrafficFlow;

/// The stall timeout: how long a client may send nothing of a body that it announced.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// A request body on its way to a container.
pub(in crate::edge) struct UploadBody {
    body: Body,
    /// `None` for a body without limits, which the platform itself sends. Boxed because most requests have no body.
    progress: Option<Box<UploadProgress>>,
}

/// The limits of a client's upload, and the receivers of its progress.
pub(super) struct UploadTerms {
    /// The largest body, in bytes.
    pub max_bytes: u64,
    /// Counts the bytes as activity. `None` for a visit that does not count.
    pub flow: Option<TrafficFlow>,
    pub visit: Arc<Visit>,
    /// Dropped after the last byte, or when the body is dropped before; its receiver learns the end of the upload.
    pub _ended: oneshot::Sender<()>,
}

struct UploadProgress {
    /// `max_bytes` counts down here: it is the number of bytes that may still arrive.
    terms: UploadTerms,
    stall: StallTimer,
    alive: Arc<()>,
}

/// Why the edge aborted an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UploadError {
    #[error("the body is larger than the edge lets through")]
    TooLarge,
    #[error("nothing of the body arrived for too long")]
    Stalled,
}

impl UploadBody {
    /// No body.
    pub(super) fn empty() -> Self {
        Self { body: Body::empty(), progress: None }
    }

    /// A body that the platform itself sends, without limits.
    pub(in crate::edge) fn plain(body: Body) -> Self {
        Self { body, progress: None }
    }

    /// A body that a client sends, with limits.
    pub(super) fn from_client(body: Body, terms: UploadTerms) -> Self {
        let progress = UploadProgress { terms, stall: StallTimer::new(STALL_TIMEOUT), alive: Arc::new(()) };
        Self { body, progress: Some(Box::new(progress)) }
    }

    /// A weak reference that lives as long as this body, even after hyper has taken it. `None` without a body.
    pub(super) fn in_progress(&self) -> Option<Weak<()>> {
        self.progress.as_ref().map(|progress| Arc::downgrade(&progress.alive))
    }
}

impl HttpBody for UploadBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    // Backpressure: the body is pulled. hyper polls for the next frame when the container has taken the previous one.
    // The poll reads from the client's connection, so a slow program slows its client down, and nothing is buffered
    // here.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let Some(progress) = &mut this.progress else { return polled.map_err(Into::into) };
        match polled {
            // Only a poll advances the timer: while the container takes nothing, the client does not run into the stall
            // timeout.
            Poll::Pending => progress.stall.poll(cx).map(|()| Some(Err(UploadError::Stalled.into()))),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(progress.count(frame).map_err(Into::into))),
            Poll::Ready(ended) => Poll::Ready(ended.map(|frame| frame.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    // Passed through, so that hyper sends Content-Length where the client did, and chunks otherwise.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl UploadProgress {
    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, UploadError> {
        self.stall.reset();
        let terms = &mut self.terms;
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        // Counted while it streams, because a chunked body announces no length (RFC 9112 7.1).
        terms.max_bytes = terms.max_bytes.checked_sub(bytes).ok_or(UploadError::TooLarge)?;
        // The instance may have frozen while the upload paused. The container takes nothing more until it is awake.
        if let Some(flow) = &terms.flow
            && !flow.moved()
        {
            terms.visit.wake_in_background();
        }
        Ok(frame)
    }
}

/// The timer for the stall timeout.
struct StallTimer {
    timeout: Duration,
    /// `None` while data arrives: a body that never pauses never sets a timer.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl StallTimer {
    fn new(timeout: Duration) -> Self {
        Self { timeout, sleep: None }
    }

    /// Called when no data is available. Ready when that has lasted for the whole timeout.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.get_or_insert_with(|| Box::pin(sleep(self.timeout))).as_mut().poll(cx)
    }

    fn reset(&mut self) {
        self.sleep = None;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_body_may_pause_again_and_again_but_not_for_too_long() {
        let timeout = Duration::from_millis(200);
        let mut stall = StallTimer::new(timeout);
        for _ in 0..4 {
            assert!(futures_util::poll!(poll_fn(|cx| stall.poll(cx))).is_pending());
            sleep(timeout / 2).await;
            stall.reset();
        }
        poll_fn(|cx| stall.poll(cx)).await;
    }
}
