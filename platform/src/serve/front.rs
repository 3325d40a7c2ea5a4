//! Dispatch by Host: which HTTP layer answers a request that came through Caddy.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

use crate::app::App;
use crate::domains::Domains;
use crate::edge::{self, Edge};
use crate::hosts::{self, HostKind, Hosts};
use crate::server::{self, RequestHandler};
use crate::web;

/// Everything that is reachable through Caddy. Cheap to clone.
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

/// Everything that is reachable through Caddy, told apart by the Host header alone. Pages are answered on the runtime
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
        // Against request smuggling, before anything reads the request: what is ambiguous reaches neither layer.
        if let Err(refused) = edge::check_strictly(&request) {
            return *refused;
        }
        let host = match hosts::requested_host(request.uri(), request.headers()) {
            Ok(host) => host,
            Err(sentence) => return (StatusCode::BAD_REQUEST, sentence).into_response(),
        };
        let site = self.0.hosts.classify(host);
        // A tenant's page can plant cookies on the parent domain, which then reach the platform's own hosts. What an
        // instance's program takes is for the program to say.
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
            // A name that is not below ours: an owner's own domain, looked up in memory.
            None => match self.0.domains.entrance(host) {
                Some(entrance) => self.0.edge.serve(entrance, request).await,
                None => {
                    (StatusCode::MISDIRECTED_REQUEST, "This name does not belong to this server.\n").into_response()
                }
            },
        }
    }

    /// Answers on another runtime than the lane of the connection: a slow page would hold up all the traffic of its
    /// lane.
    async fn page(&self, router: Router, request: Request) -> Response {
        // Aborted on drop: a client that hangs up ends its page's work, as it would on the lane itself.
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
