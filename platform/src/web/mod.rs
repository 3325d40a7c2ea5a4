//! The platform's own pages and JSON API: parse what was asked, ask a room, show the answer. `routes` is the table of contents.

mod accept;
mod access;
pub mod admin;
mod api;
pub mod assets;
mod cookies;
pub mod dashboard;
pub mod errors;
mod extractors;
mod hand_off;
pub mod headers;
mod instances;
pub mod landing;
pub mod live;
pub mod log_in;
mod page;
pub mod passkeys;
pub mod routes;
mod same_origin;
mod sessions;
pub mod sign_up;
mod spend;
pub mod words;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use tower_http::catch_panic::CatchPanicLayer;

pub use self::accept::accepts_html;
pub use self::access::Access;
pub use self::page::Page;
use self::routes::Route;
use crate::app::App;

/// Largest body of a form or of a passkey's answer, in bytes. Real ones stay under 4 KiB.
const BODY_LIMIT: usize = 64 * 1024;

/// `https://example.com`: the landing page. No route of it reads a cookie.
pub fn apex_router(app: App) -> Router {
    let headers = headers::Headers::apex(&app.config.hosts);
    build(app, routes::apex(), headers)
}

/// `https://app.example.com`: accounts, dashboard, admin, JSON API.
pub fn app_router(app: App) -> Router {
    let headers = headers::Headers::app(&app.config.hosts);
    build(app, routes::app(), headers)
}

/// The table as a router, inside everything that holds for every route. The outermost layer is the last one.
fn build(app: App, table: Vec<Route>, headers: headers::Headers) -> Router {
    let mut router = Router::new();
    for route in table {
        let guard = from_fn_with_state((app.clone(), route.access), access::enforce);
        router = router.route(route.path, route.handler.route_layer(guard));
    }
    router
        .fallback(errors::not_found)
        .method_not_allowed_fallback(errors::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(app.config.hosts.app_origin(), same_origin::enforce))
        .layer(CatchPanicLayer::custom(errors::panicked))
        .layer(from_fn_with_state(app.clock.clone(), errors::show))
        .layer(from_fn_with_state(headers, headers::add))
        .with_state(app)
}
