//! The accept loop behind every listener: HTTP/1.1 and HTTP/2, limits on connections and on the head of a request, no delay
//! on small packets, an orderly end.

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

/// How long a client may take to send the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes. Caddy stops at 32 KiB before it.
const HEAD_BYTES: usize = 64 * 1024;
/// How every connection in HTTP/2 begins (RFC 9113 3.4), as far as no request in HTTP/1.1 does.
const PREFACE: &[u8] = b"PRI * HTTP/2";
/// How long to wait for the rest of a beginning that came in pieces.
const PIECES: Duration = Duration::from_millis(5);
/// Requests at a time on one connection in HTTP/2.
const STREAMS: u32 = 128;
/// How often a silent connection in HTTP/2 is asked whether its other end is still there.
const ALIVE: Duration = Duration::from_secs(60);
/// How long requests in flight may take to end after the end was asked for.
const END_WITHIN: Duration = Duration::from_secs(5);
/// After an accept failed (no file descriptors left, say), so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections served at once; further ones wait in the kernel's queue. An upgraded one counts no more: the edge limits those.
const CONNECTIONS: usize = 4096;

/// How many of the connections one peer may have.
#[derive(Clone, Copy, Debug)]
pub enum PerPeer {
    /// All of them: the peer is Caddy, or this machine.
    All,
    /// So many; further ones are closed at once, so that one peer's cannot keep the others' out.
    Most(usize),
}

/// What answers requests.
pub trait Answers: Clone + Send + Sync + 'static {
    /// Answers one that came from `peer`.
    fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> impl Future<Output = Response> + Send;
}

impl Answers for Router {
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response {
        let mut request = request.map(body);
        request.extensions_mut().insert(ConnectInfo(peer));
        self.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
    }
}

/// A request's body as handlers know it.
pub fn body(incoming: Incoming) -> Body {
    if incoming.is_end_stream() { Body::empty() } else { Body::new(incoming) }
}

/// Serves HTTP/1.1 with upgrades, and HTTP/2 to who begins with it, until `shutdown`, then lets what is in flight end.
pub async fn serve(listener: TcpListener, answers: impl Answers, per_peer: PerPeer, shutdown: CancellationToken) {
    serve_some(&Lanes::here(), listener, answers, (CONNECTIONS, per_peer), shutdown).await;
}

/// The same, on `lanes`, to whom the connections are dealt in turn.
pub async fn serve_on(
    lanes: Lanes,
    listener: TcpListener,
    answers: impl Answers,
    per_peer: PerPeer,
    shutdown: CancellationToken,
) {
    serve_some(&lanes, listener, answers, (CONNECTIONS, per_peer), shutdown).await;
}

async fn serve_some(
    lanes: &Lanes,
    listener: TcpListener,
    answers: impl Answers,
    (most, per_peer): (usize, PerPeer),
    shutdown: CancellationToken,
) {
    let protocols = Protocols::new();
    let connections = TaskTracker::new();
    let (places, peers) = (Arc::new(Semaphore::new(most)), Arc::new(Peers::default()));
    loop {
        let place = tokio::select! {
            () = shutdown.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place.expect("nobody closes the semaphore"),
        };
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error = %error, "could not accept a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let Some(counted) = peers.admit(peer.ip(), per_peer) else {
            tracing::debug!(peer = %peer.ip(), "closed a connection: its peer has too many");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let Ok(stream) = stream.into_std() else { continue };
        let (protocols, answers, shutdown) = (protocols.clone(), answers.clone(), shutdown.clone());
        let served = async move {
            // From here on the lane that serves it hears of it, and no other.
            if let Ok(stream) = TcpStream::from_std(stream) {
                protocols.converse(stream, peer, answers, &shutdown).await;
            }
            drop((place, counted));
        };
        connections.spawn_on(served, lanes.next());
    }
    connections.close();
    if tokio::time::timeout(END_WITHIN, connections.wait()).await.is_err() {
        tracing::info!("ending with requests still in flight");
    }
}

/// How each protocol is spoken.
#[derive(Clone)]
struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Protocols {
    fn new() -> Self {
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_header_list_size(HEAD_BYTES as u32);
        http2.keep_alive_interval(ALIVE);
        Self { http1, http2 }
    }

    /// Serves one connection to its end; after `shutdown`, to the end of the requests it is at.
    async fn converse(&self, stream: TcpStream, peer: SocketAddr, answers: impl Answers, shutdown: &CancellationToken) {
        let begun = tokio::select! {
            () = shutdown.cancelled() => return,
            begun = tokio::time::timeout(HEAD_WITHIN, begins_with_http2(&stream)) => begun,
        };
        let service = service_fn(move |request: Request<Incoming>| {
            let answers = answers.clone();
            async move { Ok::<_, Infallible>(answers.answer(request, peer).await) }
        });
        match begun {
            Ok(Ok(true)) => {
                let connection = self.http2.serve_connection(TokioIo::new(stream), service);
                until_over(connection, http2::Connection::graceful_shutdown, shutdown).await;
            }
            Ok(Ok(false)) => {
                let connection = self.http1.serve_connection(TokioIo::new(stream), service).with_upgrades();
                until_over(connection, http1::UpgradeableConnection::graceful_shutdown, shutdown).await;
            }
            _ => tracing::debug!(%peer, "a connection said nothing"),
        }
    }
}

/// Waits for the first bytes and looks at them, without taking them.
async fn begins_with_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        if seen == 0 || first[..seen] != PREFACE[..seen] {
            return Ok(false);
        }
        if seen == PREFACE.len() {
            return Ok(true);
        }
        tokio::time::sleep(PIECES).await;
    }
}

/// Polls a connection to its end; after `shutdown` it is told to end.
async fn until_over<C>(connection: C, end: fn(Pin<&mut C>), shutdown: &CancellationToken)
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            end(connection.as_mut());
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection broke off");
    }
}

/// How many connections each peer has that is counted.
#[derive(Default)]
struct Peers(Mutex<HashMap<IpAddr, usize>>);

/// One connection of a peer, until it is dropped.
struct Counted(Option<(Arc<Peers>, IpAddr)>);

impl Peers {
    /// `None` when the peer has as many as it may.
    fn admit(self: &Arc<Self>, peer: IpAddr, per_peer: PerPeer) -> Option<Counted> {
        let PerPeer::Most(most) = per_peer else { return Some(Counted(None)) };
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = peers.entry(peer).or_default();
        if *connections >= most {
            return None;
        }
        *connections += 1;
        Some(Counted(Some((Arc::clone(self), peer))))
    }
}

impl Drop for Counted {
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

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    async fn server(most: usize, per_peer: PerPeer) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(async move {
            serve_some(&Lanes::here(), listener, router, (most, per_peer), CancellationToken::new()).await;
        });
        address
    }

    /// A connection that has been answered once and stays open.
    async fn answered(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(ASK).await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        stream
    }

    #[tokio::test]
    async fn one_connection_too_many_waits_for_another_to_end() {
        let address = server(2, PerPeer::All).await;
        let (first, _second) = (answered(address).await, answered(address).await);
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(ASK).await.unwrap();
        let mut answer = [0; 1024];
        let waits = tokio::time::timeout(Duration::from_millis(200), third.read(&mut answer)).await;
        assert!(waits.is_err(), "it was served beside two others");
        drop(first);
        assert!(third.read(&mut answer).await.unwrap() > 0);
    }

    #[tokio::test]
    async fn a_peer_with_too_many_connections_is_hung_up_on() {
        let address = server(100, PerPeer::Most(2)).await;
        let (first, _second) = (answered(address).await, answered(address).await);
        let mut third = TcpStream::connect(address).await.unwrap();
        let _ = third.write_all(ASK).await;
        assert!(!matches!(third.read(&mut [0; 1024]).await, Ok(1..)), "it was served beside two others");
        drop(first);
        let again = async {
            loop {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let _ = stream.write_all(ASK).await;
                if matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), again).await.expect("a place that became free is given again");
    }
}
