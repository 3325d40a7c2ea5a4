//! The dashboard's forms that wake, freeze, stop or upgrade the account's own instance.

use axum::extract::State;
use axum::response::Redirect;

use crate::app::App;
use crate::http::problem::HandlerResult;
use crate::instances::{Cause, Wish};
use crate::web::extractors::OwnInstance;

/// `POST /instance/wake`
pub async fn wake(State(app): State<App>, OwnInstance(instance): OwnInstance) -> HandlerResult<Redirect> {
    // Only the wish is written; the reconciler acts on it, and the dashboard follows by its event stream.
    app.instances.wake(&instance, Cause::OwnerAsked).await?;
    Ok(Redirect::to("/"))
}

/// `POST /instance/sleep`
pub async fn sleep(State(app): State<App>, OwnInstance(instance): OwnInstance) -> HandlerResult<Redirect> {
    app.instances.sleep(&instance, Wish::Frozen, Cause::OwnerAsked).await?;
    Ok(Redirect::to("/"))
}

/// `POST /instance/stop`. Also the remedy for a stuck instance.
pub async fn stop(State(app): State<App>, OwnInstance(instance): OwnInstance) -> HandlerResult<Redirect> {
    app.instances.sleep(&instance, Wish::Stopped, Cause::OwnerAsked).await?;
    Ok(Redirect::to("/"))
}

/// `POST /instance/upgrade`
pub async fn upgrade(State(app): State<App>, OwnInstance(instance): OwnInstance) -> HandlerResult<Redirect> {
    app.instances.upgrade(&instance).await?;
    Ok(Redirect::to("/"))
}
