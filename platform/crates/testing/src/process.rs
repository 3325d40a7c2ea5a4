//! The platform's process as the fixtures build it: the modules, the reconciler, listeners on loopback, and a runtime
//! that can be killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use berth::app::App;
use berth::config::Config;
use berth_containers::ContainerHost;
use berth_ground::clock::Clock;
use berth_net::server::{self, Lanes, PeerLimit, RequestHandler};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::wait::PATIENCE;

/// Opens the platform's modules, compares the instances with `host`, and runs the reconciler until `end`.
pub async fn start_app(config: Config, clock: Clock, host: Arc<dyn ContainerHost>, end: &CancellationToken) -> App {
    let app = App::open(config, clock, host).await.unwrap();
    app.instances.begin().await.unwrap();
    tokio::spawn(app.instances.clone().run(end.clone()));
    app
}

/// Serves `answers` on a free port of 127.0.0.1, in this runtime, until `end`.
pub async fn serve(answers: impl RequestHandler, end: &CancellationToken) -> SocketAddr {
    serve_on(Lanes::here(), answers, end).await
}

/// Serves `answers` on a free port of 127.0.0.1, in `lanes`, until `end`.
pub async fn serve_on(lanes: Lanes, answers: impl RequestHandler, end: &CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve_on(lanes, listener, answers, PeerLimit::Unlimited, end.clone()));
    address
}

/// A runtime that stands for a process. Killing it drops every task wherever it waits, as `kill -9` would.
pub struct RuntimeProcess(Option<Runtime>);

impl RuntimeProcess {
    pub fn with_threads(threads: usize) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Self(Some(builder.worker_threads(threads).enable_all().build().unwrap()))
    }

    /// Runs `work` in the process.
    ///
    /// # Panics
    /// When `work` panics, or the process is killed meanwhile.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.0.as_ref().expect("a process runs").spawn(work).await.unwrap()
    }

    /// Starts `work` in the process and does not wait for it.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.as_ref().expect("a process runs").spawn(work);
    }

    /// Kills the process. No task of it runs after this returns.
    #[expect(clippy::disallowed_methods, reason = "it waits for the process's threads to end, for 20 s at most")]
    pub async fn kill(&mut self) {
        let runtime = self.0.take().expect("a process runs");
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.unwrap();
    }
}

impl Drop for RuntimeProcess {
    fn drop(&mut self) {
        // A runtime may not be dropped where it would block, as in an asynchronous test.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
