//! Virtual hosting: dispatches each request that came through Caddy to an HTTP layer by its Host header.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use berth_net::hosts::{self, HostKind, Hosts};
use berth_net::server::{self, RequestHandler};
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

use crate::app::App;
use crate::domains::Domains;
use crate::edge::{self, Edge};
use crate::web;

/// The service behind the public listener. Cheap to clone.
#[derive(Clone)]
pub struct Front(Arc<Sites>);

struct Sites {
    hosts: Hosts,
    domains: Domains,
    edge: Arc<Edge>,
    apex: Router,
    app: Router,
    /// The runtime on which pages are answered.
    pages: Handle,
}

/// Builds the service behind the public listener, which dispatches by the Host header alone. Pages run on the runtime
/// that calls this.
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
        pages: Handle::current(),
    }))
}

impl Front {
    /// Answers a request, from Caddy or from any other peer.
    pub async fn respond(&self, request: Request) -> Response {
        // Before any layer reads the request: an ambiguous one (request smuggling) is refused here.
        if let Err(refused) = edge::check_strictly(&request) {
            return *refused;
        }
        let host = match hosts::requested_host(request.uri(), request.headers()) {
            Ok(host) => host,
            Err(sentence) => return (StatusCode::BAD_REQUEST, sentence).into_response(),
        };
        let site = self.0.hosts.classify(host);
        // A tenant's page can set cookies on the parent domain, which browsers then send to the platform's own hosts
        // (cookie bomb). The limit for an instance's host is up to its program.
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
            // A name outside our domain: perhaps a custom domain, looked up in memory.
            None => match self.0.domains.virtual_host(host) {
                Some(virtual_host) => self.0.edge.serve(virtual_host, request).await,
                None => {
                    (StatusCode::MISDIRECTED_REQUEST, "This name does not belong to this server.\n").into_response()
                }
            },
        }
    }

    /// Runs the handler on another runtime than the connection's lane: a slow page would block all traffic of its lane.
    async fn page(&self, router: Router, request: Request) -> Response {
        // Aborted on drop: a client that disconnects cancels its page's work, as it would on the lane itself.
        let answered = AbortOnDropHandle::new(self.0.pages.spawn(router.oneshot(request))).await;
        match answered {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

impl RequestHandler for Front {
    /// The peer's address is not used: it is Caddy's, and Caddy forwards that of the client in a header.
    async fn handle(&self, request: hyper::Request<Incoming>, _: SocketAddr) -> Response {
        self.respond(request.map(server::body)).await
    }
}
