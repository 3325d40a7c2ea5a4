//! `berth serve`: builds the parts in order, makes facts follow wishes, then listens; ends in the reverse order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

use super::control;
use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::containers::HostError;
use crate::containers::remote::RemoteHost;
use crate::db::Db;
use crate::domains::Domains;
use crate::edge::{self, Edge, WebhookDispatcher};
use crate::hosts::{self, HostKind, Hosts};
use crate::http_server::{Lanes, PeerLimit, RequestHandler};
use crate::ops::{self, Jobs};
use crate::{http_server, llm, web};

/// How long to wait for the provisioner to make the bridges before going on without: the quota proxy listens on them.
const BRIDGES_RETRY: Duration = Duration::from_secs(2);
/// How long to wait for a bridge's address and port to become free.
const BIND_RETRY: Duration = Duration::from_millis(500);

/// Connections that one instance may have to the quota proxy; each carries one AI call at a time.
const CALLERS: PeerLimit = PeerLimit::AtMost(64);

pub(super) async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    std::fs::create_dir_all(config.data_dir.join("run"))
        .with_context(|| format!("making BERTH_DATA_DIR {}", config.data_dir.display()))?;
    let public = bind(config.listen, "BERTH_LISTEN").await?;
    let internal = bind(config.internal_listen, "BERTH_INTERNAL_LISTEN").await?;
    let host = Arc::new(RemoteHost::new(config.containers.socket.clone()));
    let db = Db::open_and_migrate(&config.database_url).await?;
    let app = App::on(db, config, Clock::system(), host).await?;

    app.instances.begin().await?;
    app.quota.begin().await?;
    let parts = tokio_util::task::TaskTracker::new();
    parts.spawn(app.instances.clone().run(shutdown.clone()));
    parts.spawn(WebhookDispatcher::new(app.clone()).run(shutdown.clone()));
    parts.spawn(app.sharing.clone().keep_reloading(shutdown.clone()));
    // They end with this function, last of all: connections to the database may have been made on them. Calls have lanes of
    // their own, because reading a large one takes a processor for longer than a visit may wait.
    let (lanes, call_lanes) = (Lanes::one_a_processor()?, Lanes::one_a_processor()?);
    parts.spawn(quota_listeners(app.clone(), call_lanes.clone(), shutdown.clone()));
    parts.spawn(http_server::serve(internal, internal_router(app.clone()), PeerLimit::Unlimited, shutdown.clone()));
    let jobs = tokio::spawn(Jobs::new(app.db.clone(), app.clock.clone(), &app.modules).run(shutdown.clone()));
    let socket = app.config.control_socket();
    let (end, word) = (
        shutdown.clone(),
        tokio::spawn({
            let shutdown = shutdown.clone();
            let app = app.clone();
            async move { control::listen(&socket, app, shutdown).await }
        }),
    );
    let quota = app.quota.clone();
    tracing::info!(address = %app.config.listen, apex = %app.config.hosts.apex_origin(), "Berth listens");
    let front = public_router(app);
    parts.spawn(http_server::serve_on(lanes.clone(), public, front, PeerLimit::Unlimited, shutdown.clone()));
    parts.close();

    tokio::select! {
        () = shutdown.cancelled() => {}
        // These two end only with the whole; a part that ends by itself takes the process with it, to be started anew.
        ended = jobs => ended.context("scheduled work panicked")?.context("scheduled work ended")?,
        ended = word => ended.context("the control socket panicked")?.context("the control socket ended")?,
    }
    end.cancel();
    parts.wait().await;
    quota.settled().await;
    tracing::info!("Berth ends");
    Ok(())
}

/// What Caddy and the operator ask, on loopback only.
pub fn internal_router(app: App) -> Router {
    Router::new()
        .route("/ask", get(edge::ask))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(app)
}

async fn healthz(State(app): State<App>) -> Response {
    match app.db.ping().await {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response(),
    }
}

async fn metrics(State(app): State<App>) -> Response {
    let text = ops::render(&app.metrics, &app.modules, app.clock.now());
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

/// What everyone reaches through Caddy.
#[derive(Clone)]
pub struct Front(Arc<Sites>);

struct Sites {
    hosts: Hosts,
    domains: Domains,
    edge: Arc<Edge>,
    apex: Router,
    app: Router,
    /// Where pages are answered.
    home: Handle,
}

/// What everyone reaches through Caddy: decided by the Host header alone. Pages are answered on the runtime that calls this.
///
/// # Panics
/// Outside a runtime.
pub fn public_router(app: App) -> Front {
    Front(Arc::new(Sites {
        hosts: app.config.hosts.clone(),
        domains: app.domains.clone(),
        edge: Edge::new(app.clone()),
        apex: web::apex_router(app.clone()),
        app: web::app_router(app),
        home: Handle::current(),
    }))
}

impl Front {
    /// Answers a request, whoever passed it on.
    pub async fn respond(&self, request: Request) -> Response {
        if let Err(refused) = edge::check_strictly(&request) {
            return *refused;
        }
        let host = match hosts::requested_host(request.uri(), request.headers()) {
            Ok(host) => host,
            Err(sentence) => return (StatusCode::BAD_REQUEST, sentence).into_response(),
        };
        let site = self.0.hosts.classify(host);
        if let (Some(HostKind::App | HostKind::Apex), Err(refused)) =
            (&site, edge::refuse_cookie_bombs(request.headers()))
        {
            return *refused;
        }
        match site {
            Some(HostKind::Instance(handle)) => self.0.edge.serve(self.0.hosts.virtual_host(&handle), request).await,
            Some(HostKind::Port(handle, port)) => {
                self.0.edge.serve(self.0.hosts.virtual_host_of_port(&handle, port), request).await
            }
            Some(HostKind::App) => self.page(self.0.app.clone(), request).await,
            Some(HostKind::Apex) => self.page(self.0.apex.clone(), request).await,
            None => match self.0.domains.entrance(host) {
                Some(entrance) => self.0.edge.serve(entrance, request).await,
                None => {
                    (StatusCode::MISDIRECTED_REQUEST, "This name does not belong to this server.\n").into_response()
                }
            },
        }
    }

    /// Away from the lane that the request came on: there a page that takes its time would hold up everybody's traffic. Whoever
    /// hangs up ends it, as they would there.
    async fn page(&self, router: Router, request: Request) -> Response {
        let answered = AbortOnDropHandle::new(self.0.home.spawn(router.oneshot(request))).await;
        match answered {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

impl RequestHandler for Front {
    /// Who the peer is says nothing: it is Caddy.
    async fn handle(&self, request: hyper::Request<Incoming>, _: SocketAddr) -> Response {
        self.respond(request.map(http_server::body)).await
    }
}

/// The quota proxy, on each bridge's own address. The bridges are the provisioner's to make, so this waits for it.
async fn quota_listeners(app: App, lanes: Lanes, shutdown: CancellationToken) {
    let gateways = loop {
        match app.host.ensure_networks().await {
            Ok(gateways) => break gateways,
            Err(error) => say_bridges_missing(&error),
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
                let router =
                    llm::router(app.clone()).merge(llm::control::router(app.clone())).merge(llm::alarms::router(app));
                http_server::serve_on(lanes, listener, router, CALLERS, shutdown).await;
            }
        }
    });
    futures_util::future::join_all(listeners).await;
}

/// Listens on `address` as soon as it can; `None` when `shutdown` comes first. The bridge may go and come back with the
/// Engine, and another program may hold the port for a while.
async fn listen_once_free(address: SocketAddr, shutdown: &CancellationToken) -> Option<TcpListener> {
    let mut said = None;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(%address, "the quota proxy listens");
                return Some(listener);
            }
            Err(error) if said == Some(error.kind()) => {}
            Err(error) => {
                tracing::error!(%address, %error, "the quota proxy cannot listen; set BERTH_QUOTA_PORT if it is taken");
                said = Some(error.kind());
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(BIND_RETRY) => {}
        }
    }
}

fn say_bridges_missing(error: &HostError) {
    tracing::warn!(%error, "waiting for the provisioner to make the bridges; AI calls wait with it");
}

async fn bind(address: SocketAddr, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: another program does. Stop it, or set {variable}"))
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
