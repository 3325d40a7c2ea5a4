//! A fake webhook receiver in the stub for every container's program: it records each request and answers as the test
//! tells it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::any;
use tokio::sync::Notify;

/// The requests that arrived at all instances of the [`FakePlatform`](crate::fake_platform::FakePlatform).
#[derive(Clone, Default)]
pub struct WebhookReceiver(Arc<ReceiverState>);

#[derive(Default)]
struct ReceiverState {
    seen: Mutex<Vec<ReceivedWebhook>>,
    answers: Mutex<VecDeque<Reply>>,
    came: Notify,
}

/// The answer to the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Says(u16),
    /// It has received the request, and never answers.
    Hangs,
}

/// One request below `/hooks/`, or about the budget.
#[derive(Clone, Debug)]
pub struct ReceivedWebhook {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl ReceivedWebhook {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn id(&self) -> &str {
        self.header("x-berth-delivery")
    }
}

impl WebhookReceiver {
    pub fn routes(&self) -> Router {
        Router::new().route("/hooks/{*rest}", any(arrive)).route("/_berth/quota", any(arrive)).with_state(self.clone())
    }

    /// The answers to the next requests, one each; after that it accepts all.
    pub fn will(&self, replies: &[Reply]) {
        self.0.answers.lock().unwrap().extend(replies);
    }

    /// From now on it accepts all.
    pub fn takes_all(&self) {
        self.0.answers.lock().unwrap().clear();
    }

    pub fn seen(&self) -> MutexGuard<'_, Vec<ReceivedWebhook>> {
        self.0.seen.lock().unwrap()
    }

    pub fn bodies(&self) -> Vec<String> {
        self.seen().iter().map(|arrived| arrived.body.clone()).collect()
    }

    /// Waits until so many arrived, counting every attempt.
    pub async fn until(&self, count: usize) {
        let all = async {
            loop {
                let came = self.0.came.notified();
                if self.seen().len() >= count {
                    return;
                }
                came.await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), all).await;
        assert!(waited.is_ok(), "waited in vain for request {count}: {:?}", self.bodies());
    }
}

async fn arrive(State(receiver): State<WebhookReceiver>, request: Request) -> StatusCode {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    receiver.seen().push(ReceivedWebhook {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    receiver.0.came.notify_waiters();
    let reply = receiver.0.answers.lock().unwrap().pop_front();
    match reply {
        None => StatusCode::OK,
        Some(Reply::Says(status)) => StatusCode::from_u16(status).unwrap(),
        Some(Reply::Hangs) => std::future::pending().await,
    }
}
