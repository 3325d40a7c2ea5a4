//! A container's connection on which the head of an answer, with whatever is said before it, has a limit: a program that
//! tells of early hints for ever would otherwise have a thread read them, and everybody else on it wait.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes before the end of an answer's head. Twice what the head itself may have.
const BEFORE_ANSWER: usize = 128 * 1024;

/// The connection.
pub(super) struct HeadLimitedStream {
    stream: TcpStream,
    limit: HeadLimit,
}

/// How much may still come before the head of an answer has.
#[derive(Clone)]
pub(super) struct HeadLimit(Arc<AtomicUsize>);

impl HeadLimitedStream {
    pub(super) fn new(stream: TcpStream) -> (Self, HeadLimit) {
        let limit = HeadLimit(Arc::new(AtomicUsize::new(BEFORE_ANSWER)));
        (Self { stream, limit: limit.clone() }, limit)
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl HeadLimit {
    /// A request is sent.
    pub(super) fn set(&self) {
        self.0.store(BEFORE_ANSWER, Ordering::Relaxed);
    }

    /// The head of its answer is there.
    pub(super) fn lift(&self) {
        self.0.store(usize::MAX, Ordering::Relaxed);
    }
}

impl AsyncRead for HeadLimitedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.limit.0.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::Error::other("what a program says before its answer does not end")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if left != usize::MAX {
            self.limit.0.store(left.saturating_sub(buf.filled().len() - before), Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

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
