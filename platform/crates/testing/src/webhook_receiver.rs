//! The part of the program in every container that takes letters: it remembers each that arrives and answers as told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::any;
use tokio::sync::Notify;

/// What arrived, from every instance of the town.
#[derive(Clone, Default)]
pub struct WebhookReceiver(Arc<Inner>);

#[derive(Default)]
struct Inner {
    seen: Mutex<Vec<Arrived>>,
    answers: Mutex<VecDeque<Reply>>,
    came: Notify,
}

/// What the program does with the next letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Says(u16),
    /// It has the letter, and its answer never comes.
    Hangs,
}

/// One request below `/hooks/`, or about the budget.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Arrived {
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

    /// What the program does with the next letters, one each; after that it takes all.
    pub fn will(&self, replies: &[Reply]) {
        self.0.answers.lock().unwrap().extend(replies);
    }

    /// From now on it takes everything.
    pub fn takes_all(&self) {
        self.0.answers.lock().unwrap().clear();
    }

    pub fn seen(&self) -> MutexGuard<'_, Vec<Arrived>> {
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
        assert!(waited.is_ok(), "waited in vain for letter {count}: {:?}", self.bodies());
    }
}

async fn arrive(State(letterbox): State<WebhookReceiver>, request: Request) -> StatusCode {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    letterbox.seen().push(Arrived {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    letterbox.0.came.notify_waiters();
    let reply = letterbox.0.answers.lock().unwrap().pop_front();
    match reply {
        None => StatusCode::OK,
        Some(Reply::Says(status)) => StatusCode::from_u16(status).unwrap(),
        Some(Reply::Hangs) => std::future::pending().await,
    }
}
