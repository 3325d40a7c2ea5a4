//! The landing page at the apex. It reads no cookie, so every visitor gets the same page.

use askama::Template;
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::app::App;
use crate::http::page::Page;

#[derive(Template)]
#[template(path = "landing/landing.html")]
pub struct LandingPage {
    pub app_origin: String,
    /// The suffix of an instance's address after the handle: `.example.com`.
    pub suffix: String,
    pub awake: usize,
    /// The monthly allowance for AI calls, in dollars.
    pub allowance: String,
    pub signups_open: bool,
}

/// `GET /`
pub async fn show(State(app): State<App>) -> impl IntoResponse {
    // The count comes from memory, so a burst of visitors causes no database query.
    Page(LandingPage {
        app_origin: app.config.hosts.app_origin(),
        suffix: format!(".{}{}", app.config.hosts.instances, app.config.hosts.port),
        awake: app.instances.awake_count(),
        allowance: crate::http::format::dollars(app.config.limits.month_nanodollars),
        signups_open: app.config.signups_open,
    })
}

/// `GET /awake`: how many instances are awake. Polled every few seconds by landing pages in the foreground; a stream
/// would hold a connection for every visitor.
pub async fn awake(State(app): State<App>) -> Json<Value> {
    Json(json!({ "awake": app.instances.awake_count() }))
}
