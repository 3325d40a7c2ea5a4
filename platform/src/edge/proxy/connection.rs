//! One HTTP/1.1 keep-alive connection to a container, driven by the task that waits for its response.
//!
//! hyper splits a client connection into a sender and a future that has to be polled for any progress. hyper-util
//! spawns a task for that future. Here the task of the request polls it: the bytes of a response do not hop between two
//! tasks, and a client that disconnects drops its upstream connection as well. A connection gets a task of its own only
//! when two directions have to progress independently: see [`ContainerConnection::exchange`] and
//! [`ContainerConnection::upgrade`].

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::coop::unconstrained;

use super::head_limit::{HeadLimit, HeadLimitedStream};
use super::upload_body::UploadBody;
use crate::instances::Instance;

/// Longest head of a response, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Read buffer of a connection that holds a large-buffer permit, in bytes. hyper starts with 8 KiB and grows the buffer
/// while reads fill it. With 1 MiB responses the throughput is a third higher than with [`SMALL_READ_BUFFER`] (measured
/// with `scripts/bench edge`).
const LARGE_READ_BUFFER: usize = 400 * 1024;
/// Read buffer of a connection without a permit, in bytes.
const SMALL_READ_BUFFER: usize = 64 * 1024;

/// The key of the connection pool: a container, the address and port it listens on, and the thread that connected.
///
/// The container is part of the key because an address is reused after its instance is deleted: a connection to the old
/// container must never carry a request for the new one. The thread is part of the key because a socket is registered
/// with the event loop of the thread that opened it; a request on another thread would wake that thread for each read.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::edge) struct ContainerEndpoint {
    pub(super) container: Arc<str>,
    pub(super) socket: SocketAddr,
    thread: ThreadId,
}

impl ContainerEndpoint {
    /// The program of the instance that listens on `socket`; `None` while the instance has no known container.
    pub(in crate::edge) fn of(instance: &Instance, socket: SocketAddr) -> Option<Self> {
        Some(Self { container: instance.container()?, socket, thread: thread::current().id() })
    }
}

/// An open connection, and the future that drives it.
pub(super) struct ContainerConnection {
    pub(super) endpoint: ContainerEndpoint,
    sender: SendRequest<UploadBody>,
    /// `None` once the connection has ended, or once a task of its own drives it.
    driver: Option<Driver>,
    head_limit: HeadLimit,
    large_buffer: Option<OwnedSemaphorePermit>,
}

type Driver = http1::Connection<TokioIo<HeadLimitedStream>, UploadBody>;

impl ContainerConnection {
    /// Starts HTTP/1.1 on `stream`. A connection with `large_buffer` reads more at once, and holds the permit until it
    /// closes.
    pub(super) async fn handshake(
        stream: TcpStream,
        endpoint: ContainerEndpoint,
        large_buffer: Option<OwnedSemaphorePermit>,
    ) -> hyper::Result<Box<Self>> {
        let read_buffer = if large_buffer.is_some() { LARGE_READ_BUFFER } else { SMALL_READ_BUFFER };
        let mut http = http1::Builder::new();
        http.max_header_size(MAX_HEAD_BYTES).max_buf_size(read_buffer);
        let (stream, head_limit) = HeadLimitedStream::new(stream);
        let (sender, driver) = http.handshake(TokioIo::new(stream)).await?;
        Ok(Box::new(Self { endpoint, sender, driver: Some(driver), head_limit, large_buffer }))
    }

    /// Sends `request` and drives the connection until the head of the response has arrived.
    ///
    /// # Errors
    /// When the connection breaks first. The error holds the request if none of it was sent.
    pub(super) async fn exchange(
        mut self: Box<Self>,
        request: Request<UploadBody>,
    ) -> Result<(Response<Incoming>, Box<Self>), TrySendError<Request<UploadBody>>> {
        let upload = request.body().in_progress();
        self.head_limit.arm();
        // hyper hands the response over on a tokio oneshot channel. Receiving from one spends the task's cooperative
        // budget; when that is used up, the receiver wakes its waker and returns Pending. Our waker is a no-op, so that
        // wake-up would be lost and the request would hang. Hence this future runs without a budget. The connection
        // itself keeps one, so a fast container still cannot starve the other requests of the thread.
        let mut response = pin!(unconstrained(self.sender.try_send_request(request)));
        let response = poll_fn(|cx| {
            // The driver goes first and registers the real waker with the socket. If it reads the head, it fills the
            // channel within this poll, and the response is found there right away.
            drive(&mut self.driver, cx);
            response.as_mut().poll(&mut noop_context())
        });
        let response = response.await?;
        self.head_limit.lift();
        // The response began while the request's body is still arriving (full duplex). If only reads of the response
        // body drove the connection, the upload would move only while the client reads; a client that sends everything
        // before it reads would deadlock. A task of its own drives both directions.
        if upload.is_some_and(|upload| upload.strong_count() > 0) {
            self.detach();
        }
        Ok((response, self))
    }

    /// Sends a request that asks for a protocol upgrade. Its connection never returns to the pool.
    pub(super) async fn upgrade(self: Box<Self>, request: Request<UploadBody>) -> hyper::Result<Response<Incoming>> {
        let Self { mut sender, driver, head_limit, large_buffer, .. } = *self;
        // Only the head is read through hyper's buffer; the tunnel then reads into buffers of its own.
        drop(large_buffer);
        if let Some(driver) = driver {
            // This task is detached. After a 101 it ends by handing the socket to the tunnel. After any other response
            // it ends with the body, because the sender is gone by then and no further request can follow.
            tokio::spawn(drive_to_end(driver.with_upgrades()));
        }
        let response = sender.send_request(request).await?;
        head_limit.lift();
        Ok(response)
    }

    /// Moves bytes in both directions, as far as possible without waiting.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Whether the connection progresses only while [`Self::drive`] is called. Otherwise it has a task of its own, or
    /// has ended.
    pub(super) fn is_driven_by_caller(&self) -> bool {
        self.driver.is_some()
    }

    /// Whether the connection is open and carries no request. Call it right after [`Self::drive`], which notices a
    /// connection that the container closed meanwhile.
    pub(super) fn is_idle(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Gives the driver a task of its own. A connection without its driver is not returned to the pool.
    fn detach(&mut self) {
        if let Some(driver) = self.driver.take() {
            // This task is detached. It ends when both bodies have ended: an upload that stalls fails after two
            // minutes, and a response body that is dropped makes hyper stop reading. The upload comes on a client's
            // open connection, so the limits on those bound these tasks as well.
            tokio::spawn(drive_to_end(driver));
        }
    }
}

/// A context that wakes nothing, for polling a future right after the connection that completes it, in the same task.
///
/// The connection was polled with the real waker and is the only one that can complete the future. A second wake-up,
/// from the future itself, would only schedule the task again for nothing.
pub(super) fn noop_context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if let Some(open) = driver
        && let Poll::Ready(ended) = Pin::new(open).poll(cx)
    {
        log_if_broken(ended);
        // Polling a completed future again would panic.
        *driver = None;
    }
}

async fn drive_to_end(driver: impl Future<Output = hyper::Result<()>>) {
    log_if_broken(driver.await);
}

fn log_if_broken(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to a container broke");
    }
}
