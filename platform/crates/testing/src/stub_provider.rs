//! A stub AI provider: it answers with canned responses and records the requests.

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

/// A request that the provider received.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A response to give.
#[derive(Clone, Debug)]
pub struct CannedResponse {
    pub status: u16,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: Bytes,
    /// The size of the chunks of the body; 0 for a single chunk.
    pub pieces: usize,
}

impl CannedResponse {
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
        // The server writes each chunk before the next is ready. Otherwise it would merge them.
        let pieces = stream::iter(pieces).then(async |piece| {
            tokio::task::yield_now().await;
            Ok::<_, std::convert::Infallible>(piece)
        });
        response.body(Body::from_stream(pieces)).unwrap()
    }
}

#[derive(Clone, Default)]
pub struct StubProvider(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    requests: Vec<RecordedRequest>,
    /// The next responses. The last one repeats.
    responses: VecDeque<CannedResponse>,
}

impl StubProvider {
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

    pub fn will_answer(&self, responses: impl IntoIterator<Item = CannedResponse>) {
        self.0.lock().unwrap().responses = responses.into_iter().collect();
    }

    /// The requests since the last call of this function.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        std::mem::take(&mut self.0.lock().unwrap().requests)
    }

    async fn answer(self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let request = RecordedRequest { method: parts.method, uri: parts.uri, headers: parts.headers, body };
        let mut state = self.0.lock().unwrap();
        state.requests.push(request);
        let responses = &mut state.responses;
        let response = if responses.len() > 1 { responses.pop_front() } else { responses.front().cloned() };
        response.expect("the story sets a response").response()
    }
}
