//! The pool of keep-alive connections to containers: HTTP/1.1, keyed by container, address and thread.
//!
//! A connection is leased to one request at a time and returns to the pool when the response body has ended.
//! Connections that exceed the idle timeout are evicted. The keep-alive race (a server closes an idle connection just
//! as a request is sent on it) is handled by one retry of safe requests on a new connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode, header};
use berth_ground::clock::Clock;
use hyper::body::{Body as _, Incoming};
use hyper::{Request, Response};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::connection::{ContainerConnection, ContainerEndpoint, noop_context};
use super::upload_body::UploadBody;
use crate::instances::Instances;

/// A container is on the same machine: it accepts at once, or it is faulty.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The idle timeout. Below the keep-alive timeout of common servers (Node.js: 5 s), so that this side usually closes
/// first and the keep-alive race does not arise.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// From this idle time on, a safe request is cloned before it is sent, so that it can be sent again if the connection
/// turns out to be closing. Below it the clone is not worth its cost: keep-alive timeouts are seconds.
const CLONE_AFTER_IDLE: Duration = Duration::from_millis(500);
/// The most idle connections to one endpoint, that is to one container from one thread.
const MAX_IDLE: usize = 64;
/// How often idle connections are checked for eviction, while there are any.
const EVICTION_INTERVAL: Duration = Duration::from_secs(1);
/// The most connections with a large read buffer: 64 of 400 KiB are 25 MiB. All others have a small buffer; otherwise
/// clients that read their responses slowly could exhaust the memory.
const MAX_LARGE_BUFFERS: usize = 64;

/// The connections of the edge to containers. Cheap to clone.
#[derive(Clone)]
pub(in crate::edge) struct ConnectionPool(Arc<PoolState>);

struct PoolState {
    instances: Instances,
    clock: Clock,
    idle: Mutex<IdleConnections>,
    /// Permits for large read buffers.
    large_buffers: Arc<Semaphore>,
}

#[derive(Default)]
struct IdleConnections {
    by_endpoint: HashMap<ContainerEndpoint, Vec<IdleConnection>>,
    /// Whether an eviction task runs.
    eviction_runs: bool,
}

struct IdleConnection {
    connection: Box<ContainerConnection>,
    since: Instant,
}

/// A response with its head complete, and the connection on which its body comes.
pub(super) struct PooledResponse {
    pub response: Response<Incoming>,
    /// `None` when the body has ended already, or when the connection switches protocols and has a task of its own.
    pub lease: Option<ConnectionLease>,
}

/// A connection while a response arrives on it. Dropping it closes the connection; [`Self::release`] returns it.
pub(super) struct ConnectionLease {
    pub connection: Box<ContainerConnection>,
    pool: ConnectionPool,
}

impl ConnectionPool {
    pub(in crate::edge) fn new(instances: Instances, clock: Clock) -> Self {
        let large_buffers = Arc::new(Semaphore::new(MAX_LARGE_BUFFERS));
        Self(Arc::new(PoolState { instances, clock, idle: Mutex::default(), large_buffers }))
    }

    /// Sends `request`, with the path alone as its URI, and returns the response once its head has arrived. A request
    /// that asks to switch protocols gets a connection of its own.
    ///
    /// # Errors
    /// When no connection can be made, or it broke before the head of the response. A retry was made only where that is
    /// safe: nothing of the request had left, or the method is safe and the connection had been idle.
    pub(super) async fn exchange(
        &self,
        endpoint: &ContainerEndpoint,
        mut request: Request<UploadBody>,
    ) -> anyhow::Result<PooledResponse> {
        // Boxed, like `connect` below: a request on a pooled connection pays for neither future's size.
        if request.headers().contains_key(header::UPGRADE) {
            return Box::pin(self.exchange_upgrade(endpoint, request)).await;
        }
        if let Some((connection, idle_for)) = self.take_idle(endpoint) {
            // The keep-alive race: a server may close an idle connection at any time, also while our request is on its
            // way (RFC 9112 9.5). The request is then lost, and nothing tells whether it was processed. A proxy may
            // send it again only if it is idempotent (RFC 9110 9.2.2), and by then hyper has consumed it: hence the
            // clone.
            let retry = if idle_for < CLONE_AFTER_IDLE { None } else { clone_if_safe(&request) };
            match connection.exchange(request).await {
                Ok((response, connection)) => return Ok(self.lease(response, connection)),
                Err(mut failed) => {
                    request = match (failed.take_message(), retry) {
                        // The connection was closed before the first byte was written: any method may be retried.
                        (Some(unsent), _) => unsent,
                        // A parse error means a broken answer: the container did process the request.
                        (None, Some(retry)) if !failed.error().is_parse() => retry,
                        _ => return Err(failed.into_error().into()),
                    };
                }
            }
        }
        // The retry uses a new connection, never another idle one: that one may be closing as well.
        let connection = Box::pin(self.connect(endpoint)).await?;
        let exchanged = connection.exchange(request).await;
        let (response, connection) = exchanged.map_err(|failed| failed.into_error())?;
        Ok(self.lease(response, connection))
    }

    /// Sends a request of the platform's own and returns the status of the response. The body is not read, and the
    /// connection is closed.
    pub(in crate::edge) async fn send(
        &self,
        endpoint: &ContainerEndpoint,
        request: Request<UploadBody>,
    ) -> anyhow::Result<StatusCode> {
        Ok(self.exchange(endpoint, request).await?.response.status())
    }

    async fn exchange_upgrade(
        &self,
        endpoint: &ContainerEndpoint,
        request: Request<UploadBody>,
    ) -> anyhow::Result<PooledResponse> {
        let response = self.connect(endpoint).await?.upgrade(request).await?;
        Ok(PooledResponse { response, lease: None })
    }

    fn lease(&self, response: Response<Incoming>, connection: Box<ContainerConnection>) -> PooledResponse {
        let lease = ConnectionLease { connection, pool: self.clone() };
        if response.body().is_end_stream() {
            lease.release();
            return PooledResponse { response, lease: None };
        }
        PooledResponse { response, lease: Some(lease) }
    }

    async fn connect(&self, endpoint: &ContainerEndpoint) -> anyhow::Result<Box<ContainerConnection>> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(endpoint.socket)).await??;
        // TOCTOU: checked after the TCP handshake, not before. During the handshake the container may have gone, and
        // its address may have passed to the container of another tenant.
        let container = match endpoint.socket.ip() {
            IpAddr::V4(address) => self.0.instances.container_at(address),
            IpAddr::V6(_) => None,
        };
        if container.is_none_or(|container| container != endpoint.container) {
            anyhow::bail!("another container has the address now");
        }
        // Without it, Nagle's algorithm holds small writes back until the peer's delayed ACK, up to 40 ms.
        stream.set_nodelay(true)?;
        let large_buffer = Arc::clone(&self.0.large_buffers).try_acquire_owned().ok();
        Ok(ContainerConnection::handshake(stream, endpoint.clone(), large_buffer).await?)
    }

    /// Takes an idle connection that is still open, and tells how long it was idle.
    fn take_idle(&self, endpoint: &ContainerEndpoint) -> Option<(Box<ContainerConnection>, Duration)> {
        loop {
            // LIFO: the connection used last is the least likely to be closing, and the others age out.
            let IdleConnection { mut connection, since } =
                self.with_idle(|idle| idle.by_endpoint.get_mut(endpoint)?.pop())?;
            // It was not polled while idle. This poll reads a FIN or an unsolicited response, and closes the connection
            // then.
            connection.drive(&mut noop_context());
            let idle_for = self.0.clock.monotonic().saturating_duration_since(since);
            if connection.is_idle() && idle_for < IDLE_TIMEOUT {
                return Some((connection, idle_for));
            }
        }
    }

    fn put_idle(&self, connection: Box<ContainerConnection>) {
        let since = self.0.clock.monotonic();
        let start_eviction = self.with_idle(|idle| {
            let same_endpoint = idle.by_endpoint.entry(connection.endpoint.clone()).or_default();
            if same_endpoint.len() < MAX_IDLE {
                same_endpoint.push(IdleConnection { connection, since });
            }
            !std::mem::replace(&mut idle.eviction_runs, true)
        });
        if start_eviction {
            // One task per pool, which ends when no connection is idle. It holds the pool weakly, so that a pool
            // without users is freed with its connections, and the task then ends too.
            tokio::spawn(evict_idle(Arc::downgrade(&self.0)));
        }
    }

    fn with_idle<T>(&self, act: impl FnOnce(&mut IdleConnections) -> T) -> T {
        act(&mut self.0.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ConnectionLease {
    /// Returns the connection to the pool if it can take another request, and closes it otherwise.
    pub(super) fn release(self) {
        let Self { mut connection, pool } = self;
        // hyper goes from "body read" to "ready for the next request" only when it is polled once more.
        connection.drive(&mut noop_context());
        if connection.is_idle() {
            pool.put_idle(connection);
        }
    }
}

/// Evicts connections that exceed the idle timeout, until none is left.
async fn evict_idle(pool: Weak<PoolState>) {
    loop {
        tokio::time::sleep(EVICTION_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        let now = pool.clock.monotonic();
        let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.by_endpoint.retain(|_, connections| {
            connections.retain(|idle| now.saturating_duration_since(idle.since) < IDLE_TIMEOUT);
            !connections.is_empty()
        });
        // Under the same lock as the eviction: a connection that is put back later starts a new task.
        if idle.by_endpoint.is_empty() {
            idle.eviction_runs = false;
            return;
        }
    }
}

/// A clone of `request`, if it may be retried: a safe method (RFC 9110 9.2.1) and no body, because a body cannot be
/// cloned.
fn clone_if_safe(request: &Request<UploadBody>) -> Option<Request<UploadBody>> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !safe || !request.body().is_end_stream() {
        return None;
    }
    // `Request` is not Clone because of its extensions; none of them is sent to a container.
    let mut clone = Request::new(UploadBody::empty());
    *clone.method_mut() = request.method().clone();
    *clone.uri_mut() = request.uri().clone();
    *clone.version_mut() = request.version();
    *clone.headers_mut() = request.headers().clone();
    Some(clone)
}
