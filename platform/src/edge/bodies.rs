//! Bodies on their way through: untouched, and counted as work while they move.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::movement::Movement;
use super::visit::Visit;
use crate::instances::Flow;

/// A request's body. `_ends` is dropped with it: when its last byte is gone, or nobody wants it any more.
pub(super) struct Upload<B, E> {
    pub body: B,
    pub flow: Option<Flow>,
    pub visit: Arc<Visit>,
    pub _ends: E,
}

impl<B: HttpBody<Data = Bytes> + Unpin, E: Unpin> HttpBody for Upload<B, E> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let (Poll::Ready(Some(Ok(_))), Some(flow)) = (&polled, &self.flow)
            && !flow.moved()
        {
            self.visit.rouse();
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

/// An answer's body. What it holds is dropped when its last byte is gone or the client hangs up.
pub(super) struct Answer<B, H> {
    pub body: B,
    /// `None`: it is not counted.
    pub flow: Option<Flow>,
    pub movement: Movement,
    /// Whether the client was given something since it last asked for more.
    pub given: bool,
    pub visit: Arc<Visit>,
    pub _held: H,
}

impl<B: HttpBody<Data = Bytes> + Unpin, H: Unpin> HttpBody for Answer<B, H> {
    type Data = Bytes;
    type Error = B::Error;

    /// Asked for more only when the client has taken what it was given: a download that was held up by its client is
    /// work at that moment, and the instance may have fallen asleep over it.
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let Some(flow) = &this.flow else { return polled };
        match &polled {
            Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_none_or(|bytes| this.movement.moves(bytes)) => {
                flow.moved();
                this.given = true;
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
