//! The instance API: the HTTP API that programs inside an instance call with the instance's own token.
//!
//! It is served on the same listener as the quota proxy, each bridge's gateway address, where only instances reach it.
//! Its paths and JSON are part of the instance contract (`instance-image/README.md`).

mod alarms;
mod api_error;
mod budget;
mod calling_instance;
mod jobs;

use axum::Router;

use crate::app::App;

/// The routes, to be merged with the quota proxy's.
pub fn router(app: App) -> Router {
    Router::new().merge(jobs::routes()).merge(alarms::routes()).merge(budget::routes()).with_state(app)
}
