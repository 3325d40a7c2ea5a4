//! An instance's status as server-sent events, for the dashboard and for the edge's waiting page. Watching is not activity
//! and never wakes; a stream ends with the session it was opened with, and in any case after a while.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use tokio_stream::wrappers::WatchStream;

use crate::error::Error;
use crate::instances::{Instance, Status};

/// Requests held until it is awake and streams like these, together, that one instance may have at a time.
pub const WATCHERS: usize = 100;
/// How often a stream asks whether its session still stands: an ended one sees nothing for longer than this.
const SESSION_CHECK: Duration = Duration::from_secs(5);
/// The browser comes again by itself after this; it bounds what a forgotten tab holds.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How often a message is made anew: what it tells besides the status moves on by itself.
const AGAIN: Duration = Duration::from_secs(15);
/// Often enough for whatever stands between us and the browser to keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The status now and at each change, as `message` says it, while `may_watch` holds; and again whenever that says something
/// else of it.
///
/// # Errors
/// `TooMany` when too many watch already.
pub fn stream<M, F>(
    instance: &Arc<Instance>,
    message: impl Fn(Status) -> M + Send + 'static,
    may_watch: impl Fn() -> F + Send + 'static,
) -> Result<Response, Error>
where
    M: Serialize,
    F: Future<Output = bool> + Send + 'static,
{
    if instance.watchers() > WATCHERS {
        let message = "Too many pages watch this instance. Close some of them.".to_owned();
        return Err(Error::TooMany { message, retry_after: Duration::from_secs(30) });
    }
    let watched = Arc::clone(instance);
    let again = stream::unfold(watched, |instance| async {
        tokio::time::sleep(AGAIN).await;
        Some((instance.status(), instance))
    });
    let mut told = String::new();
    let event = move |status| {
        let text = serde_json::to_string(&message(status)).expect("words and times are always JSON");
        let news = text != told;
        told.clone_from(&text);
        std::future::ready(news.then(|| Ok::<_, Infallible>(Event::default().data(text))))
    };
    let statuses = stream::select(WatchStream::new(instance.watch()), again);
    let events = statuses.filter_map(event).take_until(over(may_watch));
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn over<F: Future<Output = bool>>(may_watch: impl Fn() -> F) {
    for _ in 0..LIFETIME.as_secs() / SESSION_CHECK.as_secs() {
        tokio::time::sleep(SESSION_CHECK).await;
        if !may_watch().await {
            return;
        }
    }
}
