//! One's own instance: wake it, put it to sleep, watch it live. Watching never wakes.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Redirect};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio_stream::wrappers::WatchStream;

use super::access;
use super::errors::Answer;
use super::extractors::Mine;
use super::words::{self, StateInWords};
use crate::app::App;
use crate::error::Error;
use crate::instances::{Cause, Fact, Stage, Status, Wish};

/// How often a stream asks whether its session still stands: an ended one sees nothing for longer than this.
const SESSION_CHECK: Duration = Duration::from_secs(5);
/// The browser comes again by itself after this; it bounds what a forgotten tab holds.
const STREAM_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Streams and waiting requests that one instance may have at a time.
const WATCHERS: usize = 100;

/// One message of the stream.
#[derive(Serialize)]
struct Message {
    fact: Fact,
    stage: Stage,
    failure: Option<String>,
    #[serde(flatten)]
    state: StateInWords,
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

/// `GET /instance/events`: the status now and at each change, as server-sent events.
pub async fn events(State(app): State<App>, Mine(instance): Mine, headers: HeaderMap) -> Answer {
    if instance.watchers() > WATCHERS {
        let message = "Too many pages watch this instance. Close some of them.".to_owned();
        return Err(Error::TooMany { message, retry_after: Duration::from_secs(30) }.into());
    }
    let until = session_over(app, headers);
    let events = WatchStream::new(instance.watch()).map(event).take_until(until);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response())
}

fn event(status: Status) -> Result<Event, Infallible> {
    let state = words::state(&status);
    let message = Message { fact: status.fact, stage: status.stage, failure: status.failure, state };
    Ok(Event::default().json_data(message).expect("words and times are always JSON"))
}

/// Waits until the session behind `headers` no longer stands, or the stream has lived long enough.
async fn session_over(app: App, headers: HeaderMap) {
    let checks = STREAM_LIFETIME.as_secs() / SESSION_CHECK.as_secs();
    for _ in 0..checks {
        tokio::time::sleep(SESSION_CHECK).await;
        if !access::still_stands(&app, &headers).await {
            return;
        }
    }
}
