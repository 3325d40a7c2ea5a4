//! Listeners: binding ports, and serving the quota proxy and the instance API on each bridge's address.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use berth_containers::HostError;
use berth_net::server::{self, Lanes, PeerLimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::{instance_api, llm};

/// Retry interval for the provisioner's bridges, on which the quota proxy listens.
const BRIDGES_RETRY: Duration = Duration::from_secs(2);
/// Retry interval for binding a bridge's address and port.
const BIND_RETRY: Duration = Duration::from_millis(500);

/// Maximum number of connections of one instance to the quota proxy; each carries one AI call at a time.
const CALLERS: PeerLimit = PeerLimit::AtMost(64);

/// Listens on `address`; the error names the environment variable that moves it.
pub(super) async fn bind(address: SocketAddr, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: another program does. Stop it, or set {variable}"))
}

/// Serves the quota proxy and the instance API on each bridge's own address, once the provisioner has made the bridges.
pub(super) async fn serve_quota_proxy(app: App, lanes: Lanes, shutdown: CancellationToken) {
    let gateways = loop {
        match app.host.ensure_networks().await {
            Ok(gateways) => break gateways,
            Err(error) => warn_of_missing_bridges(&error),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(BRIDGES_RETRY) => {}
        }
    };
    let listeners = gateways.into_iter().map(|gateway| {
        let (app, lanes, shutdown) = (app.clone(), lanes.clone(), shutdown.clone());
        async move {
            let address = SocketAddr::from((gateway, app.config.quota_port));
            if let Some(listener) = listen_once_free(address, &shutdown).await {
                let router = llm::router(app.clone()).merge(instance_api::router(app));
                server::serve_on(lanes, listener, router, CALLERS, shutdown).await;
            }
        }
    });
    futures_util::future::join_all(listeners).await;
}

/// Binds `address`, and retries until it succeeds; `None` when `shutdown` comes first.
async fn listen_once_free(address: SocketAddr, shutdown: &CancellationToken) -> Option<TcpListener> {
    // The engine may remove and recreate the bridge, and another program may hold the port for a while. Neither ends
    // the platform, which serves everything else meanwhile.
    let mut logged: Option<io::ErrorKind> = None;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(%address, "the quota proxy listens");
                return Some(listener);
            }
            // Once for each kind of error, or the log would fill with two lines a second.
            Err(error) if logged == Some(error.kind()) => {}
            Err(error) => {
                tracing::error!(%address, %error, "the quota proxy cannot listen; set BERTH_QUOTA_PORT if it is taken");
                logged = Some(error.kind());
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(BIND_RETRY) => {}
        }
    }
}

fn warn_of_missing_bridges(error: &HostError) {
    tracing::warn!(%error, "waiting for the provisioner to make the bridges; AI calls wait with it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_quota_proxy_listens_as_soon_as_its_port_is_free() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut listening = std::pin::pin!(listen_once_free(address, &shutdown));
        assert!(futures_util::poll!(&mut listening).is_pending());
        drop(other);
        let listener = tokio::time::timeout(BIND_RETRY * 10, listening).await.unwrap().unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
    }
}
