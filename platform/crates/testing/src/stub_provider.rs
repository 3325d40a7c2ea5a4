//! A provider that says what a story tells it to, and remembers what it was asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use tokio::net::TcpListener;

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Heard {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What it answers.
#[derive(Clone, Debug)]
pub struct Says {
    pub status: u16,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: Bytes,
    /// The size of the pieces it comes in; 0: in one.
    pub pieces: usize,
}

impl Says {
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self { status: 200, headers: vec![("content-type", "application/json")], body: body.into(), pieces: 0 }
    }

    pub fn events(body: impl Into<Bytes>, pieces: usize) -> Self {
        let headers = vec![("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")];
        Self { status: 200, headers, body: body.into(), pieces }
    }

    pub fn error(status: u16, headers: &[(&'static str, &'static str)], body: impl Into<Bytes>) -> Self {
        let all = [&[("content-type", "application/json")], headers].concat();
        Self { status, headers: all, body: body.into(), pieces: 0 }
    }

    fn response(self) -> Response {
        let mut response = Response::builder().status(StatusCode::from_u16(self.status).unwrap());
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        if self.pieces == 0 {
            return response.body(self.body.into()).unwrap();
        }
        let pieces: Vec<Bytes> = self.body.chunks(self.pieces).map(Bytes::copy_from_slice).collect();
        // Each piece is written before the next is there, or they would arrive together.
        let pieces = stream::iter(pieces).then(async |piece| {
            tokio::task::yield_now().await;
            Ok::<_, std::convert::Infallible>(piece)
        });
        response.body(Body::from_stream(pieces)).unwrap()
    }
}

#[derive(Clone, Default)]
pub struct Provider(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    heard: Vec<Heard>,
    /// What it says next; the last thing again and again.
    says: VecDeque<Says>,
}

impl Provider {
    /// Listens until the test ends.
    pub async fn listen() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let provider = Self::default();
        let answering = provider.clone();
        let router = Router::new().fallback(move |request: Request| async move { answering.answer(request).await });
        tokio::spawn(async move { axum::serve(listener, router).await });
        (provider, address)
    }

    pub fn will_say(&self, says: impl IntoIterator<Item = Says>) {
        self.0.lock().unwrap().says = says.into_iter().collect();
    }

    /// What it was asked since the last time.
    pub fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut self.0.lock().unwrap().heard)
    }

    async fn answer(self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let heard = Heard { method: parts.method, uri: parts.uri, headers: parts.headers, body };
        let mut state = self.0.lock().unwrap();
        state.heard.push(heard);
        let says = if state.says.len() > 1 { state.says.pop_front() } else { state.says.front().cloned() };
        says.expect("the story says what the provider answers").response()
    }
}
