//! The tunnel of an upgraded connection (WebSocket or any other protocol): copies bytes in both directions, unchanged,
//! until either side closes or the visit ends.

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

/// The read size for either side.
const READ_BYTES: usize = 16 * 1024;
/// A WebSocket Close frame with status 1001, "going away" (RFC 6455 5.5.1 and 7.4.1). Not masked, because it is a
/// server's frame.
const CLOSE_GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];
/// How long a client may take to accept the Close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Both connections of a request that was answered with 101, and the detectors that count its traffic.
pub(super) struct UpgradeTunnel {
    pub visit: Arc<Visit>,
    /// Counts the traffic as activity. `None` for a visit that does not count.
    pub flow: Option<TrafficFlow>,
    pub client: OnUpgrade,
    pub container: OnUpgrade,
    pub from_client: ActivityDetector,
    pub from_container: ActivityDetector,
}

impl UpgradeTunnel {
    /// Copies bytes until either side closes or the visit ends. Application data is activity; an open connection
    /// without data is not, and its instance may fall asleep. The next data from the client wakes it.
    pub(super) async fn run(self) {
        let Self { visit, flow, client, container, mut from_client, mut from_container } = self;
        // hyper hands over both sockets once the two heads of the upgrade are written. If one side is gone by now, the
        // return drops the other, which closes it.
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
                // Backpressure: the client is read again only after the container has taken this chunk. A frozen
                // container takes no more once its socket buffer is full.
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
                // The client has taken the chunk only now. That may have taken long, the instance may have frozen
                // meanwhile, and more may follow.
                if is_activity && flow.is_some() && !visit.instance.is_up() {
                    visit.wake_in_background();
                }
            }
            // The container or its program ended without a Close frame. Browsers report that as an error (code 1006),
            // so the edge sends a Close frame in its place.
            if from_container.may_send_close() {
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, client_write.write_all(&CLOSE_GOING_AWAY)).await;
            }
            let _ = client_write.shutdown().await;
        };
        // When one direction ends, both do: a half-closed upgraded connection has no meaning to a browser, and would
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
    /// Bytes that hyper read together with the head. They belong to the new protocol.
    early: Bytes,
}

impl TunnelSide {
    /// Takes the socket out of hyper; `None` for a connection of any other kind.
    fn of(upgraded: Upgraded) -> Option<Self> {
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(client) => Some(Self { stream: client.io.into_inner(), early: client.read_buf }),
            Err(upgraded) => {
                let container = upgraded.downcast::<TokioIo<HeadLimitedStream>>().ok()?;
                Some(Self { stream: container.io.into_inner().into_stream(), early: container.read_buf })
            }
        }
    }

    // Borrowed halves: owned halves would cost an allocation and a reference count per connection.
    fn split(&mut self) -> (TunnelReader<'_>, WriteHalf<'_>) {
        let (stream, write) = self.stream.split();
        (TunnelReader { stream, early: std::mem::take(&mut self.early) }, write)
    }
}

/// The read half of one side.
struct TunnelReader<'a> {
    stream: ReadHalf<'a>,
    early: Bytes,
}

impl TunnelReader<'_> {
    /// The next bytes; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.early.is_empty() {
            return Some(std::mem::take(&mut self.early));
        }
        loop {
            // The buffer is allocated only when there is something to read. Thousands of connections may be idle, and a
            // buffer in each direction of a thousand of them would hold 32 MiB.
            self.stream.readable().await.ok()?;
            let mut chunk = Vec::with_capacity(READ_BYTES);
            // Polled once. Unlike `try_read_buf`, this read clears the readiness on a short read, which saves the next
            // round a system call that would only return EAGAIN.
            match futures_util::poll!(pin!(self.stream.read_buf(&mut chunk))) {
                Poll::Ready(Ok(0) | Err(_)) => return None,
                Poll::Ready(Ok(_)) => return Some(chunk.into()),
                // Readiness is a hint that can be stale (epoll).
                Poll::Pending => {}
            }
        }
    }
}
