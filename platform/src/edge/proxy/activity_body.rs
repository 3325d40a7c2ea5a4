//! The response body on its way to the client: counts data as activity of the instance and filters trailers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::headers::clean_trailers;
use super::traffic_activity::ActivityDetector;
use crate::edge::visit::Visit;
use crate::instances::TrafficFlow;

/// A response body. Its guards are dropped with the last byte, or when the client disconnects.
pub(super) struct ActivityBody<B, H> {
    pub body: B,
    /// Counts data as activity. `None` for a visit that does not count.
    pub flow: Option<TrafficFlow>,
    pub detector: ActivityDetector,
    /// Whether the client was given data since the body last returned Pending.
    pub has_delivered: bool,
    pub visit: Arc<Visit>,
    pub _guards: H,
}

impl<B: HttpBody<Data = Bytes> + Unpin, H: Unpin> HttpBody for ActivityBody<B, H> {
    type Data = Bytes;
    type Error = B::Error;

    // Backpressure as a signal: hyper polls for more only while its write buffer has space, that is when the client has
    // taken the previous data. A poll after a delivery is therefore activity: a client that reads slowly asks for more,
    // perhaps from an instance that fell asleep during the pause, because a connection without traffic keeps none
    // awake.
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
            Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_none_or(|bytes| this.detector.is_activity(bytes)) => {
                // The first frame after a pause may come from a socket buffer that was filled before the instance
                // froze. It is no reason to wake; the poll for the next frame is.
                let asks_for_more = std::mem::replace(&mut this.has_delivered, true);
                if !flow.moved() && asks_for_more {
                    this.visit.wake_in_background();
                }
            }
            // All data was delivered and the client waits for more. The flag is cleared, so that a silent stream counts
            // once.
            Poll::Pending if std::mem::take(&mut this.has_delivered) && !flow.moved() => {
                this.visit.wake_in_background()
            }
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
