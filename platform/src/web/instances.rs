//! One's own instance: wake it, put it to sleep, watch it live. Watching never wakes.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Redirect;
use serde::Serialize;

use super::access;
use super::extractors::Mine;
use super::why::{Why, why};
use crate::app::App;
use crate::http::format::{self, StateInWords};
use crate::http::live;
use crate::http::problem::Answer;
use crate::instances::{Cause, Fact, Instance, Stage, Status, Wish};

/// One message of the stream.
#[derive(Serialize)]
struct Message {
    fact: Fact,
    stage: Stage,
    failure: Option<String>,
    #[serde(flatten)]
    state: StateInWords,
    why: Why,
}

/// `POST /instance/wake`
pub async fn wake(State(app): State<App>, Mine(instance): Mine) -> Answer<Redirect> {
    app.instances.wake(&instance, Cause::OwnerAsked).await?;
    Ok(Redirect::to("/"))
}

/// `POST /instance/sleep`
pub async fn sleep(State(app): State<App>, Mine(instance): Mine) -> Answer<Redirect> {
    app.instances.sleep(&instance, Wish::Frozen, Cause::OwnerAsked).await?;
    Ok(Redirect::to("/"))
}

/// `POST /instance/stop`: what frees one that is stuck.
pub async fn stop(State(app): State<App>, Mine(instance): Mine) -> Answer<Redirect> {
    app.instances.sleep(&instance, Wish::Stopped, Cause::OwnerAsked).await?;
    Ok(Redirect::to("/"))
}

/// `POST /instance/upgrade`
pub async fn upgrade(State(app): State<App>, Mine(instance): Mine) -> Answer<Redirect> {
    app.instances.upgrade(&instance).await?;
    Ok(Redirect::to("/"))
}

/// `GET /instance/events`: the status now and at each change, as server-sent events.
pub async fn events(State(app): State<App>, Mine(instance): Mine, headers: HeaderMap) -> Answer {
    let asking = app.clone();
    let may_watch = move || {
        let (app, headers) = (asking.clone(), headers.clone());
        async move { access::still_stands(&app, &headers).await }
    };
    let watched = Arc::clone(&instance);
    let message = move |status: Status| message(&app, &watched, status);
    Ok(live::stream(&instance, message, may_watch)?)
}

fn message(app: &App, instance: &Instance, status: Status) -> Message {
    let state = format::state(&status, app.clock.now());
    let why = why(&app.instances.ledger(instance), status.fact == Fact::Awake);
    Message { fact: status.fact, stage: status.stage, failure: status.failure, state, why }
}
