//! Live updates: the state of an instance as server-sent events, for the dashboard and the edge's waiting page.
//! Watching is not activity and never wakes. A stream ends with the session it was opened with, and in any case after
//! half an hour.

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
use crate::instances::{Instance, InstanceStatus};

/// How many watchers one instance may have at a time: these streams and the requests held until it is awake,
/// together.
pub const WATCHERS: usize = 100;
/// How often a stream checks that its session is still valid: how long an ended session sees events at most.
const SESSION_CHECK: Duration = Duration::from_secs(5);
/// After this the browser reconnects by itself; it bounds what a forgotten tab holds.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How often a message is rebuilt without a change of state: the ledger's times in it go on by themselves.
const AGAIN: Duration = Duration::from_secs(15);
/// Shorter than the idle timeouts of common proxies, so that they keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Streams the state now and after each change, as built by `message`, while `may_watch` holds. A message equal to
/// the one before is not sent.
///
/// # Errors
/// `TooMany` when the instance has too many watchers.
pub fn stream<M, F>(
    instance: &Arc<Instance>,
    message: impl Fn(InstanceStatus) -> M + Send + 'static,
    may_watch: impl Fn() -> F + Send + 'static,
) -> Result<Response, Error>
where
    M: Serialize,
    F: Future<Output = bool> + Send + 'static,
{
    // Not atomic: streams that open at the same moment may exceed it by a few.
    if instance.watchers() > WATCHERS {
        let message = "Too many pages watch this instance. Close some of them.".to_owned();
        return Err(Error::TooMany { message, retry_after: Duration::from_secs(30) });
    }
    let watched = Arc::clone(instance);
    // The watch channel reports changes of state only; the ledger has no channel, so it is looked at in intervals.
    let again = stream::unfold(watched, |instance| async {
        tokio::time::sleep(AGAIN).await;
        Some((instance.status(), instance))
    });
    let mut told = String::new();
    let event = move |status| {
        let text = serde_json::to_string(&message(status)).expect("words and times are always JSON");
        // The ticks mostly find nothing new, and an event without news would redraw the page for nothing.
        let news = text != told;
        told.clone_from(&text);
        std::future::ready(news.then(|| Ok::<_, Infallible>(Event::default().data(text))))
    };
    let statuses = stream::select(WatchStream::new(instance.watch()), again);
    let events = statuses.filter_map(event).take_until(over(may_watch));
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Sse sets `no-cache`, which may still be stored; the state is private.
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
