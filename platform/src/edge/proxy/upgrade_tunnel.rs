//! An upgraded connection: bytes both ways, untouched, until either side goes or the visit that opened it ends.

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
use crate::instances::Flow;

/// Bytes read at once from either side.
const CHUNK: usize = 16 * 1024;
/// A WebSocket's Close frame with code 1001, "going away" (RFC 6455 5.5.1 and 7.4.1).
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];
/// How long a client may take to be told so.
const FAREWELL: Duration = Duration::from_secs(2);

/// The two connections and what is said on them.
pub(super) struct UpgradeTunnel {
    pub visit: Arc<Visit>,
    /// `None`: it is not counted.
    pub flow: Option<Flow>,
    pub from_client: OnUpgrade,
    pub to_container: OnUpgrade,
    /// From the client, and to it.
    pub movement: (ActivityDetector, ActivityDetector),
}

impl UpgradeTunnel {
    /// Carries bytes. What moves is activity; an open connection on which nothing moves is not, and what moves from the
    /// client wakes an instance that fell asleep meanwhile.
    pub(super) async fn run(self) {
        let Self { visit, flow, from_client, to_container, movement: (mut rising, mut falling) } = self;
        let (Ok(client), Ok(container)) = tokio::join!(from_client, to_container) else { return };
        let (Some(mut client), Some(mut container)) = (TunnelSide::of(client), TunnelSide::of(container)) else {
            return;
        };
        let (mut client_in, mut client_out) = client.split();
        let (mut container_in, mut container_out) = container.split();
        let up = async {
            while let Some(chunk) = client_in.next().await {
                let wakes = rising.moves(&chunk) && flow.as_ref().is_some_and(|flow| !flow.moved());
                if wakes && visit.wake().await.is_err() {
                    break;
                }
                if container_out.write_all(&chunk).await.is_err() {
                    break;
                }
            }
            let _ = container_out.shutdown().await;
        };
        let down = async {
            while let Some(chunk) = container_in.next().await {
                let moves = falling.moves(&chunk);
                if moves && let Some(flow) = &flow {
                    flow.moved();
                }
                if client_out.write_all(&chunk).await.is_err() {
                    return;
                }
                // The client took it, however long that took, and there may be more.
                if moves && flow.is_some() && !visit.instance.is_up() {
                    visit.rouse();
                }
            }
            // It stopped, or its program ended, without a word: a browser would call that an error.
            if falling.may_close() {
                let _ = tokio::time::timeout(FAREWELL, client_out.write_all(&GOING_AWAY)).await;
            }
            let _ = client_out.shutdown().await;
        };
        // Either side gone ends both: a half-open upgraded connection has no meaning to a browser.
        tokio::select! {
            () = up => {}
            () = down => {}
            () = visit.over() => {}
        }
    }
}

/// One of the two connections, taken back from HTTP.
struct TunnelSide {
    stream: TcpStream,
    /// What came behind the head that ended HTTP.
    early: Bytes,
}

impl TunnelSide {
    /// `None` when it is no connection of ours.
    fn of(upgraded: Upgraded) -> Option<Self> {
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(client) => Some(Self { stream: client.io.into_inner(), early: client.read_buf }),
            Err(upgraded) => {
                let program = upgraded.downcast::<TokioIo<HeadLimitedStream>>().ok()?;
                Some(Self { stream: program.io.into_inner().into_stream(), early: program.read_buf })
            }
        }
    }

    fn split(&mut self) -> (TunnelReader<'_>, WriteHalf<'_>) {
        let (stream, out) = self.stream.split();
        (TunnelReader { stream, early: std::mem::take(&mut self.early) }, out)
    }
}

/// What comes from one side. Nothing is kept for it while nothing comes: thousands of connections may be silent.
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
            self.stream.readable().await.ok()?;
            let mut chunk = Vec::with_capacity(CHUNK);
            // Unlike `try_read_buf` it knows that whoever gave less than was asked for has no more, and need not ask again.
            match futures_util::poll!(pin!(self.stream.read_buf(&mut chunk))) {
                Poll::Ready(Ok(0) | Err(_)) => return None,
                Poll::Ready(Ok(_)) => return Some(chunk.into()),
                Poll::Pending => {}
            }
        }
    }
}
