//! A limit on the bytes that a container sends before a response head is complete, informational (1xx) responses
//! included.
//!
//! hyper limits one head, but skips any number of informational responses before it (RFC 9110 15.2). A program that
//! sends 103 Early Hints without end would occupy a thread with reading them and starve its other connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The most bytes before the end of a response's head. Twice the longest head, which leaves half to informational
/// responses.
const MAX_BYTES_BEFORE_BODY: usize = 128 * 1024;
/// The value of the counter while nothing is counted: the body may have any length.
const UNLIMITED: usize = usize::MAX;

/// A connection to a container on which reads fail once the limit is exceeded.
pub(super) struct HeadLimitedStream {
    stream: TcpStream,
    limit: HeadLimit,
}

/// How many bytes may still arrive before the head of the response is complete. Shared by the stream, which counts, and
/// the request, which alone knows when a head begins and ends.
#[derive(Clone)]
pub(super) struct HeadLimit(Arc<AtomicUsize>);

impl HeadLimitedStream {
    pub(super) fn new(stream: TcpStream) -> (Self, HeadLimit) {
        let limit = HeadLimit(Arc::new(AtomicUsize::new(MAX_BYTES_BEFORE_BODY)));
        (Self { stream, limit: limit.clone() }, limit)
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

// Relaxed ordering is enough: one task at a time drives a connection, moving it to another task synchronizes, and the
// counter orders no other memory.
impl HeadLimit {
    /// Starts to count: a request is about to be sent.
    pub(super) fn arm(&self) {
        self.0.store(MAX_BYTES_BEFORE_BODY, Ordering::Relaxed);
    }

    /// Stops counting: the head is complete, and a body may have any length.
    pub(super) fn lift(&self) {
        self.0.store(UNLIMITED, Ordering::Relaxed);
    }
}

impl AsyncRead for HeadLimitedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.limit.0.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::Error::other("the response head and what precedes it exceed 128 KiB")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if left != UNLIMITED {
            // The last read may overshoot by the size of hyper's buffer. Cutting it short would gain nothing.
            self.limit.0.store(left.saturating_sub(buf.filled().len() - before), Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

// Writes pass through. Vectored writes are forwarded explicitly; otherwise hyper would copy each head and body into one
// buffer.
impl AsyncWrite for HeadLimitedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
