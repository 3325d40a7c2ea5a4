//! Lanes: threads that serve connections, each with a single-threaded runtime (thread per core).
//!
//! Everything that a connection needs stays on its thread: handlers, the connection to the container, timers. No
//! request wakes another processor, as it would when a work-stealing runtime moves its tasks.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The period of a timer that is always pending on each lane.
///
/// A new timer that is due before all others makes tokio wake the thread's event loop by a system call. Every request
/// sets timers, all of them longer than this one, so with it pending they are never the earliest.
const PENDING_TIMER: Duration = Duration::from_secs(4);

/// The lanes of one process. Cheap to clone. The threads, and the tasks on them, end with the last clone.
#[derive(Clone)]
pub struct Lanes(Arc<LaneThreads>);

struct LaneThreads {
    lanes: Vec<Handle>,
    /// Counts connections; round robin over the lanes.
    next: AtomicUsize,
    /// Ends the threads when dropped; `None` for a runtime of the caller.
    _end: Option<DropGuard>,
}

impl Lanes {
    /// Starts as many lanes as there are processors.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn one_a_processor() -> anyhow::Result<Self> {
        Self::start(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    /// Starts this many lanes.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(threads: NonZeroUsize) -> anyhow::Result<Self> {
        let end = CancellationToken::new();
        let lanes = (0..threads.get()).map(|number| start_one(number, end.clone())).collect::<anyhow::Result<_>>()?;
        Ok(Self(Arc::new(LaneThreads { lanes, next: AtomicUsize::default(), _end: Some(end.drop_guard()) })))
    }

    /// No threads: the caller's runtime serves the connections.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn here() -> Self {
        Self(Arc::new(LaneThreads { lanes: vec![Handle::current()], next: AtomicUsize::default(), _end: None }))
    }

    /// The lane for the next connection, round robin.
    pub(super) fn next(&self) -> &Handle {
        let LaneThreads { lanes, next, .. } = &*self.0;
        &lanes[next.fetch_add(1, Ordering::Relaxed) % lanes.len()]
    }
}

fn start_one(number: usize, end: CancellationToken) -> anyhow::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build().context("starting a runtime for connections")?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name(format!("lane-{number}"))
        .spawn(move || runtime.block_on(end.run_until_cancelled(keep_timer_pending())))
        .context("starting a thread for connections")?;
    Ok(handle)
}

// The token's guard cancels this future; the runtime is then dropped on its own thread, with its connections.
async fn keep_timer_pending() {
    loop {
        tokio::time::sleep(PENDING_TIMER).await;
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::{PeerLimit, serve_on};
    use super::*;

    /// Sends a request; the response names the thread that made it.
    async fn ask(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..read]).rsplit("\r\n").next().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_connection_stays_on_its_lane_and_closes_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let here = || async { std::thread::current().name().unwrap_or_default().to_owned() };
        let router = Router::new().route("/", get(here));
        let lanes = Lanes::start(NonZeroUsize::new(2).unwrap()).unwrap();
        let ends = CancellationToken::new();
        let serving = tokio::spawn(serve_on(lanes.clone(), listener, router, PeerLimit::Unlimited, ends));
        let (mut first, mut second) =
            (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let on = (ask(&mut first).await, ask(&mut second).await);
        assert_eq!(on, ("lane-0".into(), "lane-1".into()));
        for _ in 0..10 {
            assert_eq!((ask(&mut first).await, ask(&mut second).await), on);
        }
        serving.abort();
        drop(lanes);
        assert!(!matches!(first.read(&mut [0; 1]).await, Ok(1..)), "it was served after its lane had ended");
    }
}
