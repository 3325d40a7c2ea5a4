//! The default instance's own server: the page its owner sees first. It is one image that keeps the instance contract
//! (README.md beside this crate), not part of the platform; any other image may take its place.

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

/// How long an answer that is still streaming may go on after SIGTERM. The platform kills after 10 s.
const GRACE: Duration = Duration::from_secs(3);

/// What every handler may need.
struct ServerState {
    handle: String,
    /// `https://HANDLE.example.com`: the only origin whose forms are taken.
    url: String,
    /// When this process started.
    since: Instant,
    /// Checks who the platform says is asking.
    key: assertion::AssertionKey,
    visits: VisitCounter,
    webhooks: WebhookLog,
    models: ModelClient,
}

/// The environment that the contract promises.
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
    #[expect(clippy::disallowed_methods, reason = "this is the door through which the environment comes in")]
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

// One thread is enough for one person, and leaves less memory to hand back when the instance is frozen.
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
    // Before anything slow: the kernel ignores SIGTERM for process 1 until somebody asks for it.
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
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = async { server.await } => ended.map_err(|e| format!("The server failed: {e}.")),
        () = deadline => Ok(()),
    }
}
