//! The tunnel of an upgraded connection (WebSocket or any other protocol): bytes both ways, unchanged, until either
//! side closes or the visit that opened it ends.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::head_limit::HeadLimitedStream;
use super::traffic_activity::ActivityDetector;
use crate::edge::visit::Visit;
use crate::instances::TrafficFlow;

/// Bytes read at once from either side.
const READ_BYTES: usize = 16 * 1024;
/// A WebSocket's Close frame with code 1001, "going away" (RFC 6455 5.5.1 and 7.4.1). Not masked, as a server's frames
/// are.
const CLOSE_GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];
/// How long a client may take to accept the Close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Both connections of a request that was answered with 101, and what counts its traffic.
pub(super) struct UpgradeTunnel {
    pub visit: Arc<Visit>,
    /// Counts the traffic as activity; `None`: this visit does not count.
    pub flow: Option<TrafficFlow>,
    pub client: OnUpgrade,
    pub container: OnUpgrade,
    pub from_client: ActivityDetector,
    pub from_container: ActivityDetector,
}

impl UpgradeTunnel {
    /// Copies bytes until either side closes or the visit ends. Application data is activity; an open connection
    /// without any is not, and lets its instance sleep. Data from the client then wakes it.
    pub(super) async fn run(self) {
        let Self { visit, flow, client, container, mut from_client, mut from_container } = self;
        // hyper gives both sockets up once the two heads of the switch are written. If one side is gone
        // by now, returning drops the other and closes it.
        let (Ok(client), Ok(container)) = tokio::join!(client, container) else { return };
        let (Some(mut client), Some(mut container)) = (TunnelSide::of(client), TunnelSide::of(container)) else {
            return;
        };
        let (mut client_read, mut client_write) = client.split();
        let (mut container_read, mut container_write) = container.split();
        let upstream = async {
            while let Some(chunk) = client_read.next().await {
                let finds_asleep = from_client.is_activity(&chunk) && flow.as_ref().is_some_and(|flow| !flow.moved());
                if finds_asleep && visit.wake().await.is_err() {
                    break;
                }
                // Backpressure: nothing more is read from the client until the container has taken this chunk. A frozen
                // container takes nothing more once its socket buffer is full.
                if container_write.write_all(&chunk).await.is_err() {
                    break;
                }
            }
            let _ = container_write.shutdown().await;
        };
        let downstream = async {
            while let Some(chunk) = container_read.next().await {
                let is_activity = from_container.is_activity(&chunk);
                if is_activity && let Some(flow) = &flow {
                    flow.moved();
                }
                if client_write.write_all(&chunk).await.is_err() {
                    return;
                }
                // Only now has the client taken the chunk. It may have taken long over it, the instance may have frozen
                // meanwhile, and there may be more to come.
                if is_activity && flow.is_some() && !visit.instance.is_up() {
                    visit.wake_in_background();
                }
            }
            // The container stopped, or its program ended, without a Close frame. Browsers report that as an error
            // (code 1006), so the edge sends one in its place.
            if from_container.may_send_close() {
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, client_write.write_all(&CLOSE_GOING_AWAY)).await;
            }
            let _ = client_write.shutdown().await;
        };
        // When one direction ends, both do: a half-closed upgraded connection means nothing to a browser, and would
        // stay open for as long as the other side likes. Dropping the sockets closes them.
        tokio::select! {
            () = upstream => {}
            () = downstream => {}
            () = visit.ended() => {}
        }
    }
}

/// One of the two connections, taken back from hyper.
struct TunnelSide {
    stream: TcpStream,
    /// Bytes that hyper read together with the head. They belong to the new protocol already.
    early: Bytes,
}

impl TunnelSide {
    /// `None` for a connection of any other kind.
    fn of(upgraded: Upgraded) -> Option<Self> {
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(client) => Some(Self { stream: client.io.into_inner(), early: client.read_buf }),
            Err(upgraded) => {
                let container = upgraded.downcast::<TokioIo<HeadLimitedStream>>().ok()?;
                Some(Self { stream: container.io.into_inner().into_stream(), early: container.read_buf })
            }
        }
    }

    // Borrowed halves: owned ones would cost an allocation and a reference count for each connection.
    fn split(&mut self) -> (TunnelReader<'_>, WriteHalf<'_>) {
        let (stream, write) = self.stream.split();
        (TunnelReader { stream, early: std::mem::take(&mut self.early) }, write)
    }
}

/// What arrives from one side.
struct TunnelReader<'a> {
    stream: ReadHalf<'a>,
    early: Bytes,
}

impl TunnelReader<'_> {
    /// The next bytes; `None` when no more come.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.early.is_empty() {
            return Some(std::mem::take(&mut self.early));
        }
        loop {
            // The buffer is made only when there is something to read. Thousands of connections may be silent at a
            // time, and with a buffer in each direction a thousand of them would hold 32 MiB.
            self.stream.readable().await.ok()?;
            let mut chunk = Vec::with_capacity(READ_BYTES);
            // Polled once. Unlike `try_read_buf`, this read clears the readiness when it gets less than it asked for,
            // which spares the next round a system call that would only return EAGAIN.
            match futures_util::poll!(pin!(self.stream.read_buf(&mut chunk))) {
                Poll::Ready(Ok(0) | Err(_)) => return None,
                Poll::Ready(Ok(_)) => return Some(chunk.into()),
                // Readiness is a hint that can be out of date (epoll).
                Poll::Pending => {}
            }
        }
    }
}
