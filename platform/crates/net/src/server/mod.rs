//! The HTTP server behind every listener: the accept loop, HTTP/1.1 and HTTP/2 with prior knowledge, limits on
//! connections and request heads, graceful shutdown.

mod lanes;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
pub use lanes::Lanes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// How long a client may take to send the head of a request (against slowloris).
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes. Caddy in front allows 32 KiB.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The beginning of the HTTP/2 connection preface (RFC 9113 3.4). No HTTP/1.1 request starts with these bytes.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2";
/// How often the socket is checked for the rest of a preface that arrived in pieces.
const PREFACE_POLL_EVERY: Duration = Duration::from_millis(5);
/// Most concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Keep-alive: how often an HTTP/2 PING checks the peer of a silent connection.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// How long a graceful shutdown waits for requests in flight.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Backoff after a failed accept, so that the loop does not spin while no file descriptor is free.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Most concurrent connections. Further ones wait in the kernel's accept queue. Upgraded connections no longer count
/// here; the edge limits them.
const MAX_CONNECTIONS: usize = 4096;

/// The limit on concurrent connections of one peer address.
#[derive(Clone, Copy, Debug)]
pub enum PeerLimit {
    /// No limit: the peer is Caddy, or this machine.
    Unlimited,
    /// This many. Further connections are closed at once, so that one peer cannot exhaust the total.
    AtMost(usize),
}

/// Limits on open connections.
#[derive(Clone, Copy)]
struct ConnectionLimits {
    total: usize,
    per_peer: PeerLimit,
}

/// An application that answers requests.
pub trait RequestHandler: Clone + Send + Sync + 'static {
    /// Answers a request that came from `peer`.
    fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> impl Future<Output = Response> + Send;
}

impl RequestHandler for Router {
    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Response {
        let mut request = request.map(body);
        request.extensions_mut().insert(ConnectInfo(peer));
        self.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
    }
}

/// hyper's request body as axum's type.
pub fn body(incoming: Incoming) -> Body {
    // An empty body is detected here, so that requests without a body allocate nothing for it.
    if incoming.is_end_stream() { Body::empty() } else { Body::new(incoming) }
}

/// Serves HTTP/1.1 with upgrades, and HTTP/2 to clients that start with its preface (prior knowledge). On `shutdown`
/// stops accepting and drains the requests in flight.
pub async fn serve(
    listener: TcpListener,
    handler: impl RequestHandler,
    per_peer: PeerLimit,
    shutdown: CancellationToken,
) {
    let limits = ConnectionLimits { total: MAX_CONNECTIONS, per_peer };
    serve_within(&Lanes::here(), listener, handler, limits, shutdown).await;
}

/// Like [`serve`], on `lanes`, to which connections are assigned round robin.
pub async fn serve_on(
    lanes: Lanes,
    listener: TcpListener,
    handler: impl RequestHandler,
    per_peer: PeerLimit,
    shutdown: CancellationToken,
) {
    let limits = ConnectionLimits { total: MAX_CONNECTIONS, per_peer };
    serve_within(&lanes, listener, handler, limits, shutdown).await;
}

async fn serve_within(
    lanes: &Lanes,
    listener: TcpListener,
    handler: impl RequestHandler,
    limits: ConnectionLimits,
    shutdown: CancellationToken,
) {
    let protocols = ProtocolBuilders::new();
    let connections = TaskTracker::new();
    let (permits, peers) = (Arc::new(Semaphore::new(limits.total)), Arc::new(PeerConnections::default()));
    loop {
        // Order: the permit comes before the accept. While none is free, new connections stay in the kernel's accept
        // queue and cost no memory here.
        let permit = tokio::select! {
            () = shutdown.cancelled() => break,
            permit = Arc::clone(&permits).acquire_owned() => permit.expect("the semaphore is never closed"),
        };
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error = %error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            },
        };
        let Some(peer_permit) = peers.admit(peer.ip(), limits.per_peer) else {
            tracing::debug!(peer = %peer.ip(), "closed a connection: its peer has too many");
            continue;
        };
        // A failure is ignored: it only costs latency (Nagle's algorithm).
        let _ = stream.set_nodelay(true);
        // Deregistered from this runtime's event loop and registered with the lane's below. Otherwise each event on the
        // socket would wake this thread, only to wake the lane.
        let Ok(stream) = stream.into_std() else { continue };
        let (protocols, handler, shutdown) = (protocols.clone(), handler.clone(), shutdown.clone());
        let served = async move {
            if let Ok(stream) = TcpStream::from_std(stream) {
                protocols.serve_connection(stream, peer, handler, &shutdown).await;
            }
            drop((permit, peer_permit));
        };
        // The permits above bound the tasks; the tracker waits for them at shutdown.
        connections.spawn_on(served, lanes.next());
    }
    connections.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
        tracing::info!("ending with requests still in flight");
    }
}

/// The settings of both protocols.
#[derive(Clone)]
struct ProtocolBuilders {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl ProtocolBuilders {
    fn new() -> Self {
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS).max_header_list_size(MAX_HEAD_BYTES as u32);
        http2.keep_alive_interval(PING_INTERVAL);
        Self { http1, http2 }
    }

    /// Serves one connection until it closes; after `shutdown`, until the requests in flight on it are complete.
    async fn serve_connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        handler: impl RequestHandler,
        shutdown: &CancellationToken,
    ) {
        // hyper-util's auto builder detects this too, but wraps the socket to replay the bytes that it has read. Here
        // the bytes are peeked at, so the socket stays plain and an upgrade can take it back.
        let is_http2 = tokio::select! {
            () = shutdown.cancelled() => return,
            is_http2 = tokio::time::timeout(HEAD_TIMEOUT, starts_with_preface(&stream)) => is_http2,
        };
        let service = service_fn(move |request: Request<Incoming>| {
            let handler = handler.clone();
            async move { Ok::<_, Infallible>(handler.handle(request, peer).await) }
        });
        match is_http2 {
            Ok(Ok(true)) => {
                let connection = self.http2.serve_connection(TokioIo::new(stream), service);
                run_to_end(connection, http2::Connection::graceful_shutdown, shutdown).await;
            }
            Ok(Ok(false)) => {
                let connection = self.http1.serve_connection(TokioIo::new(stream), service).with_upgrades();
                run_to_end(connection, http1::UpgradeableConnection::graceful_shutdown, shutdown).await;
            }
            _ => tracing::debug!(%peer, "a connection sent nothing, or closed at once"),
        }
    }
}

/// Waits for the first bytes and compares them with the HTTP/2 preface. The bytes are peeked at and stay in the socket.
async fn starts_with_preface(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; HTTP2_PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        // At the end of the stream (0 bytes) HTTP/1.1 is as good: hyper closes the connection.
        if seen == 0 || first[..seen] != HTTP2_PREFACE[..seen] {
            return Ok(false);
        }
        if seen == HTTP2_PREFACE.len() {
            return Ok(true);
        }
        // The socket stays readable while the bytes are not taken, so there is no event to await. The caller's timeout
        // ends this loop.
        tokio::time::sleep(PREFACE_POLL_EVERY).await;
    }
}

/// Polls a connection until it closes. On `shutdown` calls `shut_down`; the connection then closes when its requests
/// are complete.
async fn run_to_end<C>(connection: C, shut_down: fn(Pin<&mut C>), shutdown: &CancellationToken)
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            shut_down(connection.as_mut());
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection broke off");
    }
}

/// The number of open connections per peer address, for limited peers.
#[derive(Default)]
struct PeerConnections(Mutex<HashMap<IpAddr, usize>>);

/// One connection of its peer, until dropped. Empty for a peer without a limit.
struct PeerPermit(Option<(Arc<PeerConnections>, IpAddr)>);

impl PeerConnections {
    /// Takes a permit; `None` when the peer has reached its limit.
    fn admit(self: &Arc<Self>, peer: IpAddr, per_peer: PeerLimit) -> Option<PeerPermit> {
        let PeerLimit::AtMost(most) = per_peer else { return Some(PeerPermit(None)) };
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = peers.entry(peer).or_default();
        if *connections >= most {
            return None;
        }
        *connections += 1;
        Some(PeerPermit(Some((Arc::clone(self), peer))))
    }
}

impl Drop for PeerPermit {
    fn drop(&mut self) {
        let Some((peers, peer)) = self.0.take() else { return };
        let mut peers = peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = peers.get_mut(&peer) {
            *connections -= 1;
            if *connections == 0 {
                peers.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    async fn server(total: usize, per_peer: PeerLimit) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(async move {
            let limits = ConnectionLimits { total, per_peer };
            serve_within(&Lanes::here(), listener, router, limits, CancellationToken::new()).await;
        });
        address
    }

    /// A connection that has been answered once and stays open.
    async fn answered(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        stream
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_until_another_closes() {
        let address = server(2, PeerLimit::Unlimited).await;
        let (first, _second) = (answered(address).await, answered(address).await);
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(REQUEST).await.unwrap();
        let mut answer = [0; 1024];
        let waits = tokio::time::timeout(Duration::from_millis(200), third.read(&mut answer)).await;
        assert!(waits.is_err(), "it was served beside two others");
        drop(first);
        assert!(third.read(&mut answer).await.unwrap() > 0);
    }

    #[tokio::test]
    async fn a_connection_beyond_its_peers_limit_is_closed() {
        let address = server(100, PeerLimit::AtMost(2)).await;
        let (first, _second) = (answered(address).await, answered(address).await);
        let mut third = TcpStream::connect(address).await.unwrap();
        let _ = third.write_all(REQUEST).await;
        assert!(!matches!(third.read(&mut [0; 1024]).await, Ok(1..)), "it was served beside two others");
        drop(first);
        let again = async {
            loop {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let _ = stream.write_all(REQUEST).await;
                if matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), again).await.expect("a released permit is given out again");
    }
}
