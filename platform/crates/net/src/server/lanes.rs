//! Threads that serve connections, each with a runtime of its own. What a connection needs - its answers, its way on to a
//! container, its timers - stays on its thread, so that no request wakes another processor.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How far off a lane's next timer is at most. To set one that comes before all others wakes the lane, and every
/// request sets some, none for so short a time.
const NEXT_TIMER: Duration = Duration::from_secs(4);

/// The threads of one process. Cheap to clone; what is left on them ends with the last clone.
#[derive(Clone)]
pub struct Lanes(Arc<Inner>);

struct Inner {
    lanes: Vec<Handle>,
    /// Whose turn it is.
    next: AtomicUsize,
    /// Ends the threads.
    _end: Option<DropGuard>,
}

impl Lanes {
    /// As many threads as there are processors.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn one_a_processor() -> anyhow::Result<Self> {
        Self::start(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    /// So many threads.
    ///
    /// # Errors
    /// When the system gives no more.
    pub fn start(threads: NonZeroUsize) -> anyhow::Result<Self> {
        let end = CancellationToken::new();
        let lanes = (0..threads.get()).map(|number| start_one(number, end.clone())).collect::<anyhow::Result<_>>()?;
        Ok(Self(Arc::new(Inner { lanes, next: AtomicUsize::default(), _end: Some(end.drop_guard()) })))
    }

    /// No thread of its own: the runtime that calls.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn here() -> Self {
        Self(Arc::new(Inner { lanes: vec![Handle::current()], next: AtomicUsize::default(), _end: None }))
    }

    /// The one whose turn it is.
    pub(super) fn next(&self) -> &Handle {
        let Inner { lanes, next, .. } = &*self.0;
        &lanes[next.fetch_add(1, Ordering::Relaxed) % lanes.len()]
    }
}

fn start_one(number: usize, end: CancellationToken) -> anyhow::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build().context("starting a runtime for connections")?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name(format!("lane-{number}"))
        .spawn(move || runtime.block_on(end.run_until_cancelled(tick())))
        .context("starting a thread for connections")?;
    Ok(handle)
}

async fn tick() {
    loop {
        tokio::time::sleep(NEXT_TIMER).await;
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::{PerPeer, serve_on};
    use super::*;

    /// Its answer says which thread it was given on.
    async fn ask(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..read]).rsplit("\r\n").next().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_connection_stays_on_its_lane_for_as_long_as_there_are_lanes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let here = || async { std::thread::current().name().unwrap_or_default().to_owned() };
        let router = Router::new().route("/", get(here));
        let lanes = Lanes::start(NonZeroUsize::new(2).unwrap()).unwrap();
        let ends = CancellationToken::new();
        let serving = tokio::spawn(serve_on(lanes.clone(), listener, router, PerPeer::All, ends));
        let (mut first, mut second) =
            (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let on = (ask(&mut first).await, ask(&mut second).await);
        assert_eq!(on, ("lane-0".into(), "lane-1".into()));
        for _ in 0..10 {
            assert_eq!((ask(&mut first).await, ask(&mut second).await), on);
        }
        serving.abort();
        drop(lanes);
        assert!(!matches!(first.read(&mut [0; 1]).await, Ok(1..)), "it was served without a lane");
    }
}
