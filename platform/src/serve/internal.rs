//! The internal listener, on loopback only: Caddy's on-demand TLS question, health check and metrics.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::app::App;
use crate::{edge, ops};

/// Routes for Caddy and the operator. None of them authenticates, so they must never be reachable from outside.
pub fn internal_router(app: App) -> Router {
    Router::new()
        .route("/ask", get(edge::ask))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(app)
}

/// Readiness: 200 while the database answers.
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
