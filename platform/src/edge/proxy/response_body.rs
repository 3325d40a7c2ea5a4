//! The response body as it arrives from a container: reads drive its connection, and small frames are coalesced.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::Response;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::connection::noop_context;
use super::connection_pool::{ConnectionLease, PooledResponse};

/// Small frames are coalesced up to about this many bytes.
const COALESCE_BYTES: usize = 8 * 1024;

type PolledFrame = Result<Frame<Bytes>, hyper::Error>;

/// Returns its connection to the pool when the body has ended. Dropping it earlier closes the connection, because the
/// rest of the body would be read as the response to the next request.
pub(super) struct ResponseBody {
    body: Incoming,
    /// `None` once the connection has been returned, or when a task of its own drives it to the end.
    lease: Option<ConnectionLease>,
    /// The frame that was read after coalesced data and is returned next. `Some(None)` is the end of the body.
    next: Option<Option<PolledFrame>>,
    /// An error that is held back until the preceding data has been flushed.
    held_error: Option<hyper::Error>,
}

impl ResponseBody {
    /// The response of a container with a body that drives its connection.
    pub(super) fn wrap(pooled: PooledResponse) -> Response<Self> {
        let PooledResponse { response, lease } = pooled;
        response.map(|body| Self { body, lease, next: None, held_error: None })
    }

    /// The next frame. A small frame is joined with all further small ones that are available without waiting. hyper
    /// writes each frame with one system call, so a flood of small server-sent events would cost as many calls.
    fn poll_coalesced(&mut self, cx: &mut Context<'_>) -> Poll<Option<PolledFrame>> {
        let first = match ready!(self.poll_next(cx)) {
            Some(Ok(frame)) if is_small(&frame) => frame.into_data().unwrap_or_default(),
            next => return Poll::Ready(next),
        };
        let mut all = BytesMut::new();
        while first.len().max(all.len()) < COALESCE_BYTES && !self.body.is_end_stream() {
            match self.poll_next(cx) {
                Poll::Ready(Some(Ok(frame))) if is_small(&frame) => {
                    // Allocated only for a second frame: a single event is passed on without a copy.
                    if all.is_empty() {
                        all.reserve(2 * COALESCE_BYTES);
                        all.extend_from_slice(&first);
                    }
                    all.extend_from_slice(&frame.into_data().unwrap_or_default());
                }
                // A large frame, trailers, an error or the end: it cannot join, and it cannot be put back either.
                Poll::Ready(next) => {
                    self.next = Some(next);
                    break;
                }
                // Never wait for more: an event has to reach its reader before the program sends the next one.
                Poll::Pending => break,
            }
        }
        Poll::Ready(Some(Ok(Frame::data(if all.is_empty() { first } else { all.freeze() }))))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<PolledFrame>> {
        let mut body = Pin::new(&mut self.body);
        if let Some(ConnectionLease { connection, .. }) = &mut self.lease
            && connection.is_driven_by_caller()
        {
            // Backpressure: hyper holds one frame in a channel between connection and body, and reads no more from the
            // socket until it is taken. A program writes no faster than its client reads.
            if let ready @ Poll::Ready(_) = body.as_mut().poll_frame(&mut noop_context()) {
                return ready;
            }
            connection.drive(cx);
            // While the connection is open, its socket holds the real waker, and the body needs none.
            if connection.is_driven_by_caller() {
                return body.poll_frame(&mut noop_context());
            }
        }
        body.poll_frame(cx)
    }

    fn release_connection(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PolledFrame>> {
        if let Some(error) = self.held_error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = match self.next.take() {
            Some(next) => Poll::Ready(next),
            None => self.poll_coalesced(cx),
        };
        // Checked after data too: with a Content-Length the last frame marks the end, and hyper polls no further.
        if matches!(polled, Poll::Ready(None)) || (polled.is_ready() && self.is_end_stream()) {
            self.release_connection();
        }
        match polled {
            // On a body error hyper closes the client's connection without flushing its write buffer, and the client
            // would lose data that came before the error. So the error is held back for one poll: on Pending hyper
            // flushes, and the wake-up makes it poll again and get the error.
            Poll::Ready(Some(Err(error))) => {
                self.held_error = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.next {
            Some(next) => next.is_none(),
            None => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.next {
            None => self.body.size_hint(),
            Some(None) => SizeHint::with_exact(0),
            // The frame that waits is no longer counted by the body below, so no bound is known.
            Some(Some(_)) => SizeHint::default(),
        }
    }
}

fn is_small(frame: &Frame<Bytes>) -> bool {
    frame.data_ref().is_some_and(|data| data.len() < COALESCE_BYTES)
}
