//! The body of an answer: it drives its connection while it is read, and gathers what comes in small pieces.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::Response;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::connection_pool::{ConnectionPool, ContainerConnection, nobody};

/// Small pieces are gathered up to about so many bytes.
const GATHERED: usize = 8 * 1024;

type Polled = Result<Frame<Bytes>, hyper::Error>;

/// Gives its connection back at its end. Dropped earlier, it closes it.
pub(super) struct ResponseBody {
    body: Incoming,
    connection: Option<Box<ContainerConnection>>,
    home: ConnectionPool,
    /// What came behind data that was gathered; of a body's end, nothing.
    next: Option<Option<Polled>>,
    /// Why it broke off, to be said once what came before has been sent: hyper would throw that away.
    broken: Option<hyper::Error>,
}

impl ResponseBody {
    /// An answer whose head came on `connection`; `None`: that has a task of its own.
    pub(super) fn of(
        answer: Response<Incoming>,
        connection: Option<Box<ContainerConnection>>,
        home: &ConnectionPool,
    ) -> Response<Self> {
        let mut answer = answer.map(|body| Self { body, connection, home: home.clone(), next: None, broken: None });
        if answer.body().is_end_stream() {
            answer.body_mut().give_back();
        }
        answer
    }

    /// The next frame, and with a small one those that are there already: written each by itself, a flood of events would
    /// cost as many writes. Nothing is waited for.
    fn gathered(&mut self, cx: &mut Context<'_>) -> Poll<Option<Polled>> {
        let first = match ready!(self.next_frame(cx)) {
            Some(Ok(frame)) if is_small(&frame) => frame.into_data().unwrap_or_default(),
            next => return Poll::Ready(next),
        };
        let mut all = BytesMut::new();
        while first.len().max(all.len()) < GATHERED && !self.body.is_end_stream() {
            match self.next_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if is_small(&frame) => {
                    if all.is_empty() {
                        all.reserve(2 * GATHERED);
                        all.extend_from_slice(&first);
                    }
                    all.extend_from_slice(&frame.into_data().unwrap_or_default());
                }
                Poll::Ready(next) => {
                    self.next = Some(next);
                    break;
                }
                Poll::Pending => break,
            }
        }
        Poll::Ready(Some(Ok(Frame::data(if all.is_empty() { first } else { all.freeze() }))))
    }

    fn next_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Polled>> {
        let mut body = Pin::new(&mut self.body);
        if let Some(connection) = &mut self.connection
            && connection.is_driven_here()
        {
            if let ready @ Poll::Ready(_) = body.as_mut().poll_frame(&mut nobody()) {
                return ready;
            }
            connection.drive(cx);
            if connection.is_driven_here() {
                return body.poll_frame(&mut nobody());
            }
        }
        body.poll_frame(cx)
    }

    fn give_back(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        // It notices only now that the answer is over.
        connection.drive(&mut nobody());
        if connection.is_free() {
            self.home.rest(connection);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Polled>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = match self.next.take() {
            Some(next) => Poll::Ready(next),
            None => self.gathered(cx),
        };
        if matches!(polled, Poll::Ready(None)) || (polled.is_ready() && self.is_end_stream()) {
            self.give_back();
        }
        match polled {
            Poll::Ready(Some(Err(error))) => {
                self.broken = Some(error);
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
            Some(Some(_)) => SizeHint::default(),
        }
    }
}

fn is_small(frame: &Frame<Bytes>) -> bool {
    frame.data_ref().is_some_and(|data| data.len() < GATHERED)
}
