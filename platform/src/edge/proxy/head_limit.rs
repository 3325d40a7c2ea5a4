//! A limit on the bytes that a container sends before a response head is complete, informational (1xx) responses
//! included.
//!
//! hyper limits one head, but skips any number of informational responses before it (RFC 9110 15.2). A program that
//! sends 103 Early Hints without end would keep a thread reading them, and every other connection of that thread
//! waiting.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes before the end of a response's head. Twice the longest head, which leaves the other half to informational
/// ones.
const MAX_BYTES_BEFORE_BODY: usize = 128 * 1024;
/// The value of the counter while nothing is counted.
const UNLIMITED: usize = usize::MAX;

/// A connection to a container on which reading fails once the limit is used up.
pub(super) struct HeadLimitedStream {
    stream: TcpStream,
    limit: HeadLimit,
}

/// How many bytes may still come before the head of the response is complete. Shared by the stream, which counts, and
/// by the request, which alone knows when a head begins and ends.
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

// One task drives a connection at a time, and moving it to another task synchronises. So the order of the counter with
// other memory does not matter, and the cheapest one (relaxed) is enough.
impl HeadLimit {
    /// Counts from here on: a request is about to be sent.
    pub(super) fn arm(&self) {
        self.0.store(MAX_BYTES_BEFORE_BODY, Ordering::Relaxed);
    }

    /// Counts no longer: the head is complete, and a body may be of any length.
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
            // The last read may overshoot, by the size of hyper's buffer at most. Cutting it short would gain nothing.
            self.limit.0.store(left.saturating_sub(buf.filled().len() - before), Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

// Writes pass through. Vectored ones have to be forwarded by name, or hyper would copy each head and body into one
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
