//! Connections to containers: HTTP/1.1, pooled by container, each driven by the request that is on it.
//!
//! hyper wants every connection polled. Here the task that waits for the answer does so itself: nothing hops between
//! threads on the way, and a client that hangs up takes its connection with it. Only a connection that is still taking a
//! body in when its answer begins, or that switches protocols, gets a task of its own.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::coop::unconstrained;

use super::bodies::UploadBody;
use super::head_limit::{HeadLimit, HeadLimitedStream};
use super::response_body::ResponseBody;
use crate::clock::Clock;
use crate::instances::{Instance, Instances};

/// A container on the same machine accepts at once, or something is wrong with it.
const CONNECT: Duration = Duration::from_secs(2);
/// Below the keep-alive of common servers (Node.js: 5 s): a connection they are about to close is not used again.
const REST: Duration = Duration::from_secs(4);
/// What rested this long may be closing at this very moment: a request that may be sent twice is kept for that.
const FRESH: Duration = Duration::from_millis(500);
/// Connections to one container that rest at a time on one thread.
const MOST_AT_REST: usize = 64;
/// How often those that rested too long are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// Longest head of an answer, in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// Most of an answer that is read at once, in bytes, once it proves to be long: of 1 MiB a third more pass in a second than
/// with `SMALL_READ`.
const LARGE_READ: usize = 400 * 1024;
/// The same on connections beyond the first `MOST_LARGE`: clients that take their answers slowly would fill the memory.
const SMALL_READ: usize = 64 * 1024;
const MOST_LARGE: usize = 64;

/// The connections of the edge. Cheap to clone.
#[derive(Clone)]
pub(in crate::edge) struct ConnectionPool(Arc<PoolState>);

struct PoolState {
    instances: Instances,
    clock: Clock,
    at_rest: Mutex<IdleConnections>,
    /// How many more connections may read much at once.
    large: Arc<Semaphore>,
}

#[derive(Default)]
struct IdleConnections {
    connections: HashMap<ContainerEndpoint, Vec<(Box<ContainerConnection>, Instant)>>,
    /// Whether a task looks for those that rested too long.
    swept: bool,
}

/// Which container is meant, and where it listens. An address that moved on to another container is another target. So is
/// the same one on another thread: a connection wakes the thread that made it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::edge) struct ContainerEndpoint {
    container: Arc<str>,
    socket: SocketAddr,
    from: ThreadId,
}

impl ContainerEndpoint {
    /// The program of the instance that listens on `socket`; `None` while no container of it is known.
    pub(in crate::edge) fn of(instance: &Instance, socket: SocketAddr) -> Option<Self> {
        Some(Self { container: instance.container()?, socket, from: thread::current().id() })
    }
}

impl ConnectionPool {
    pub(in crate::edge) fn new(instances: Instances, clock: Clock) -> Self {
        let large = Arc::new(Semaphore::new(MOST_LARGE));
        Self(Arc::new(PoolState { instances, clock, at_rest: Mutex::default(), large }))
    }

    /// Sends `request`, whose URI is the path alone, and returns the answer once its head is there. One that asks to switch
    /// protocols gets a connection of its own.
    ///
    /// # Errors
    /// When no connection can be made, or it broke before the head of the answer. The request was tried twice only where
    /// that is safe: nothing of it had been sent, or it may be sent twice and its connection had rested.
    pub(super) async fn exchange(
        &self,
        target: &ContainerEndpoint,
        mut request: Request<UploadBody>,
    ) -> anyhow::Result<Response<ResponseBody>> {
        if request.headers().contains_key(header::UPGRADE) {
            return Box::pin(self.switch(target, request)).await;
        }
        if let Some((connection, rested)) = self.awaken(target) {
            let copy = if rested < FRESH { None } else { copy_of(&request) };
            match connection.ask(request).await {
                Ok((answer, connection)) => return Ok(ResponseBody::of(answer, Some(connection), self)),
                Err(mut unanswered) => {
                    request = match (unanswered.take_message(), copy) {
                        (Some(unsent), _) => unsent,
                        (None, Some(copy)) if !unanswered.error().is_parse() => copy,
                        _ => return Err(unanswered.into_error().into()),
                    };
                }
            }
        }
        let connection = Box::pin(self.connect(target)).await?;
        let answered = connection.ask(request).await;
        let (answer, connection) = answered.map_err(|unanswered| unanswered.into_error())?;
        Ok(ResponseBody::of(answer, Some(connection), self))
    }

    /// Sends a request of our own, and what is answered in a word. What comes behind that word is not read, and the
    /// connection not used again.
    pub(in crate::edge) async fn send(
        &self,
        target: &ContainerEndpoint,
        request: Request<UploadBody>,
    ) -> anyhow::Result<StatusCode> {
        Ok(self.exchange(target, request).await?.status())
    }

    async fn switch(
        &self,
        target: &ContainerEndpoint,
        request: Request<UploadBody>,
    ) -> anyhow::Result<Response<ResponseBody>> {
        let ContainerConnection { mut sender, driver, limit, .. } = *self.connect(target).await?;
        if let Some(driver) = driver {
            tokio::spawn(to_the_end(driver.with_upgrades()));
        }
        let answer = sender.send_request(request).await?;
        limit.lift();
        Ok(ResponseBody::of(answer, None, self))
    }

    async fn connect(&self, target: &ContainerEndpoint) -> anyhow::Result<Box<ContainerConnection>> {
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(target.socket)).await??;
        // Asked once the connection stands: the request was meant for a container that may have gone since, and its
        // address may be another's by now.
        let stands = match target.socket.ip() {
            IpAddr::V4(address) => self.0.instances.container_at(address),
            IpAddr::V6(_) => None,
        };
        if stands.is_none_or(|stands| stands != target.container) {
            anyhow::bail!("another container has the address now");
        }
        stream.set_nodelay(true)?;
        let large = Arc::clone(&self.0.large).try_acquire_owned().ok();
        let read = if large.is_some() { LARGE_READ } else { SMALL_READ };
        let mut http = http1::Builder::new();
        http.max_header_size(HEAD_BYTES).max_buf_size(read);
        let (stream, limit) = HeadLimitedStream::new(stream);
        let (sender, driver) = http.handshake(TokioIo::new(stream)).await?;
        Ok(Box::new(ContainerConnection { target: target.clone(), sender, driver: Some(driver), limit, _large: large }))
    }

    /// A connection that rested and is still open, and for how long it did.
    fn awaken(&self, target: &ContainerEndpoint) -> Option<(Box<ContainerConnection>, Duration)> {
        loop {
            let (mut connection, since) = self.at_rest(|at_rest| at_rest.connections.get_mut(target)?.pop())?;
            connection.drive(&mut nobody());
            let rested = self.0.clock.monotonic().saturating_duration_since(since);
            if connection.is_free() && rested < REST {
                return Some((connection, rested));
            }
        }
    }

    pub(super) fn rest(&self, connection: Box<ContainerConnection>) {
        let now = self.0.clock.monotonic();
        let sweeps = self.at_rest(|at_rest| {
            let resting = at_rest.connections.entry(connection.target.clone()).or_default();
            if resting.len() < MOST_AT_REST {
                resting.push((connection, now));
            }
            !std::mem::replace(&mut at_rest.swept, true)
        });
        if sweeps {
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }

    fn at_rest<T>(&self, act: impl FnOnce(&mut IdleConnections) -> T) -> T {
        act(&mut self.0.at_rest.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Closes what rested too long, until nothing rests.
async fn sweep(pool: Weak<PoolState>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        let now = pool.clock.monotonic();
        let mut at_rest = pool.at_rest.lock().unwrap_or_else(PoisonError::into_inner);
        at_rest.connections.retain(|_, resting| {
            resting.retain(|(_, since)| now.saturating_duration_since(*since) < REST);
            !resting.is_empty()
        });
        if at_rest.connections.is_empty() {
            at_rest.swept = false;
            return;
        }
    }
}

/// The same request again, if it may be sent twice (RFC 9110 9.2.1) and nothing follows its head.
fn copy_of(request: &Request<UploadBody>) -> Option<Request<UploadBody>> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !safe || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(UploadBody::nothing());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// One connection, and what polls it.
pub(super) struct ContainerConnection {
    target: ContainerEndpoint,
    sender: SendRequest<UploadBody>,
    /// `None`: it has ended.
    driver: Option<Driver>,
    limit: HeadLimit,
    /// What lets it read much at once, where it may.
    _large: Option<OwnedSemaphorePermit>,
}

type Driver = http1::Connection<TokioIo<HeadLimitedStream>, UploadBody>;

impl ContainerConnection {
    /// Sends the request and polls the connection until the head of the answer is there.
    async fn ask(
        mut self: Box<Self>,
        request: Request<UploadBody>,
    ) -> Result<(Response<Incoming>, Box<Self>), TrySendError<Request<UploadBody>>> {
        let going = request.body().going();
        self.limit.set();
        // Not to be told to come back later: there is nobody to come back for, see `nobody`.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        let answered = poll_fn(|cx| {
            drive(&mut self.driver, cx);
            answer.as_mut().poll(&mut nobody())
        });
        let answered = answered.await?;
        self.limit.lift();
        // Its body and the answer's wait for each other no more than they would without us.
        if going.is_some_and(|going| going.strong_count() > 0) {
            self.set_apart();
        }
        Ok((answered, self))
    }

    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Whether what comes on it comes by being polled here; otherwise it has a task of its own, or has ended.
    pub(super) fn is_driven_here(&self) -> bool {
        self.driver.is_some()
    }

    /// Whether it is open and nothing is on it.
    pub(super) fn is_free(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Gives it a task of its own; it is not used again.
    fn set_apart(&mut self) {
        if let Some(driver) = self.driver.take() {
            tokio::spawn(to_the_end(driver));
        }
    }
}

/// For whom what a connection brings forth is polled right after the connection itself, by the same task: waking that would
/// only have it look once more, for nothing.
pub(super) fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if let Some(open) = driver
        && let Poll::Ready(ended) = Pin::new(open).poll(cx)
    {
        say_if_broken(ended);
        *driver = None;
    }
}

async fn to_the_end(driver: impl Future<Output = hyper::Result<()>>) {
    say_if_broken(driver.await);
}

fn say_if_broken(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to a container broke");
    }
}
