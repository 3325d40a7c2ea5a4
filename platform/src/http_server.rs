//! The accept loop behind every listener: limits on connections and on the head of a request, no delay on small packets,
//! an orderly end.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::UpgradeableConnection;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// How long a client may take to send the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes. Caddy stops at 32 KiB before it.
const HEAD_BYTES: usize = 64 * 1024;
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

/// Serves HTTP/1.1 with upgrades until `shutdown`, then lets what is in flight end.
pub async fn serve(listener: TcpListener, router: Router, per_peer: PerPeer, shutdown: CancellationToken) {
    serve_some(listener, router, (CONNECTIONS, per_peer), shutdown).await;
}

async fn serve_some(
    listener: TcpListener,
    router: Router,
    (most, per_peer): (usize, PerPeer),
    shutdown: CancellationToken,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES);
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
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| answer(router.clone(), request, peer));
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let over = until_over(connection, shutdown.clone());
        connections.spawn(async move {
            over.await;
            drop((place, counted));
        });
    }
    connections.close();
    if tokio::time::timeout(END_WITHIN, connections.wait()).await.is_err() {
        tracing::info!("ending with requests still in flight");
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

/// Serves one connection to its end; after `shutdown`, to the end of the request it is at.
async fn until_over<S>(connection: UpgradeableConnection<TokioIo<TcpStream>, S>, shutdown: CancellationToken)
where
    S: HttpService<Incoming, ResBody = Body> + Send,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection broke off");
    }
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<axum::response::Response, std::convert::Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request).await
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
        tokio::spawn(serve_some(listener, router, (most, per_peer), CancellationToken::new()));
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
