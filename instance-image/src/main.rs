//! The HTTP server of the default instance image, with the page that an owner sees first. It implements the instance
//! contract (README.md beside this crate) and is not part of the platform: any other image may replace it.

mod assertion;
mod model;
mod pages;
mod visits;
mod webhooks;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::model::ModelClient;
use crate::visits::VisitCounter;
use crate::webhooks::WebhookLog;

/// Graceful shutdown: how long open responses may continue after SIGTERM. The platform sends SIGKILL after 10 s.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// The state that handlers share.
struct ServerState {
    handle: String,
    /// `https://HANDLE.example.com`: the only origin from which forms are accepted.
    url: String,
    /// When this process started.
    since: Instant,
    /// Verifies the platform's assertion of the visitor's identity.
    key: assertion::AssertionKey,
    visits: VisitCounter,
    webhooks: WebhookLog,
    models: ModelClient,
}

/// The environment variables of the contract.
struct ServerSettings {
    port: u16,
    home: PathBuf,
    handle: String,
    url: String,
    anthropic_url: String,
    quota_url: String,
    token: String,
}

impl ServerSettings {
    #[expect(clippy::disallowed_methods, reason = "the environment is read here and nowhere else")]
    fn from_env() -> Result<Self, String> {
        let get = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        let port = get("PORT", "8080");
        Ok(Self {
            port: port.parse().map_err(|_| format!("PORT is \"{port}\", which is not a port."))?,
            home: get("HOME", "/home/berth").into(),
            handle: get("BERTH_HANDLE", "you"),
            url: get("BERTH_URL", "").trim_end_matches('/').to_owned(),
            anthropic_url: get("ANTHROPIC_BASE_URL", "").trim_end_matches('/').to_owned(),
            quota_url: get("BERTH_QUOTA_URL", "").trim_end_matches('/').to_owned(),
            token: get("ANTHROPIC_API_KEY", ""),
        })
    }
}

// A single thread is enough for one owner, and its smaller memory is swapped out and in faster when the instance
// freezes.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing here but the uptime shown depends on the time")]
async fn run() -> Result<(), String> {
    let settings = ServerSettings::from_env()?;
    // Order: before anything slow. For process 1 of a container the kernel drops SIGTERM until a handler is installed
    // (pid_namespaces(7)), and an early stop would then wait for SIGKILL.
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| format!("Cannot wait for SIGTERM: {e}."))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| format!("Cannot wait for SIGINT: {e}."))?;

    let state = Arc::new(ServerState {
        handle: settings.handle,
        url: settings.url,
        since: Instant::now(),
        key: assertion::AssertionKey::of(&settings.token),
        visits: VisitCounter::open(&settings.home),
        webhooks: WebhookLog::open(&settings.home),
        models: ModelClient::new(settings.anthropic_url, settings.quota_url, settings.token),
    });
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, settings.port))
        .await
        .map_err(|e| format!("Cannot listen on port {}: {e}.", settings.port))?;
    println!("{} is home on port {}", state.handle, settings.port);

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut told = stopped.clone();
    let server = axum::serve(listener, pages::routes(state)).with_graceful_shutdown(async move {
        told.wait_for(|stop| *stop).await.ok();
    });
    let deadline = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        stop.send_replace(true);
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        ended = async { server.await } => ended.map_err(|e| format!("The server failed: {e}.")),
        () = deadline => Ok(()),
    }
}
