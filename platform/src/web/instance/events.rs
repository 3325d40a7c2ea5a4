//! Live updates of the account's own instance for the dashboard, as server-sent events. Watching never wakes it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;

use super::awake_view::{AwakeView, awake_view};
use crate::app::App;
use crate::http::format::{self, StateView};
use crate::http::live;
use crate::http::problem::HandlerResult;
use crate::instances::{Fact, Instance, InstanceStatus, WakeStage};
use crate::web::access;
use crate::web::extractors::OwnInstance;

/// One message of the event stream.
#[derive(Serialize)]
struct StatusMessage {
    fact: Fact,
    stage: WakeStage,
    failure: Option<String>,
    #[serde(flatten)]
    state: StateView,
    why: AwakeView,
}

/// `GET /instance/events`: the current status, and every change of it.
pub async fn events(State(app): State<App>, OwnInstance(instance): OwnInstance, headers: HeaderMap) -> HandlerResult {
    // The session is checked again while the stream is open: a stream must not outlive the session it was opened
    // with.
    let asking = app.clone();
    let may_watch = move || {
        let (app, headers) = (asking.clone(), headers.clone());
        async move { access::still_stands(&app, &headers).await }
    };
    let watched = Arc::clone(&instance);
    let message = move |status: InstanceStatus| message(&app, &watched, status);
    Ok(live::stream(&instance, message, may_watch)?)
}

fn message(app: &App, instance: &Instance, status: InstanceStatus) -> StatusMessage {
    let state = format::state(&status, app.clock.now());
    let why = awake_view(&app.instances.awake_report(instance), status.fact == Fact::Awake);
    StatusMessage { fact: status.fact, stage: status.stage, failure: status.failure, state, why }
}
