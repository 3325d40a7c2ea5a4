//! Live updates: the status of an instance as server-sent events (SSE), for the dashboard and the edge's waiting page.
//! Watching is no activity and never wakes. A stream ends with the session that opened it, and after half an hour in
//! any case.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use berth_ground::error::Error;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use tokio_stream::wrappers::WatchStream;

use crate::instances::{Instance, InstanceStatus};

/// Maximum number of concurrent watchers of one instance: these streams and the requests held by the edge, together.
pub const WATCHERS: usize = 100;
/// Interval at which a stream checks its session, and so the longest time for which an ended session still receives
/// events.
const SESSION_CHECK: Duration = Duration::from_secs(5);
/// Maximum lifetime of a stream. The browser reconnects by itself; a forgotten tab holds a stream no longer than this.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// Interval at which a message is rebuilt without a change of status: the ledger in it changes without one.
const AGAIN: Duration = Duration::from_secs(15);
/// Keep-alive interval, shorter than the idle timeouts of common proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Streams the current status and every change, as built by `message`, while `may_watch` holds. A message equal to the
/// previous one is not sent.
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
    // Check-then-act without a lock: streams that open concurrently may exceed the limit by a few.
    if instance.watchers() > WATCHERS {
        let message = "Too many pages watch this instance. Close some of them.".to_owned();
        return Err(Error::TooMany { message, retry_after: Duration::from_secs(30) });
    }
    let watched = Arc::clone(instance);
    // The watch channel reports changes of status only. The awake report has no channel, so it is polled.
    let again = stream::unfold(watched, |instance| async {
        tokio::time::sleep(AGAIN).await;
        Some((instance.status(), instance))
    });
    let mut told = String::new();
    let event = move |status| {
        let text = serde_json::to_string(&message(status)).expect("words and times are always JSON");
        // Most polls find no change, and an event without a change would redraw the page.
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
