//! The demo model: a mock of Anthropic's and OpenAI's APIs with correct usage figures and no model behind it. With it
//! the whole platform can be tried, tested and measured without a provider account.
//!
//! A request can set pace, latency, length and faults of its answer: see `script.rs`.

mod anthropic;
mod embeddings;
mod openai;
mod responses;
mod script;
mod wire_shape;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use berth_net::server;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use script::{AnswerScript, InjectedFault};
use wire_shape::WireShape;

/// The default delay between two words, similar to real models.
const HUMAN_PACE: Duration = Duration::from_millis(25);
/// The limit on request bodies, equal to the providers'.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;

/// Counters of the served calls, for comparison with the amounts that the platform billed.
#[derive(Debug, Default)]
struct ServedCounters {
    calls: AtomicU64,
    refused: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    streams: AtomicU64,
}

/// The counters as JSON, for `GET /demo/ledger`.
#[derive(Serialize)]
struct ServedView {
    /// Calls with a success status, including those that a fault cut off.
    calls: u64,
    /// Calls with an error status.
    refused: u64,
    input_tokens: u64,
    output_tokens: u64,
    /// Streams in progress: neither complete nor abandoned by the client.
    streams: u64,
}

/// The state of the handlers.
#[derive(Clone)]
struct DemoModel {
    pace: Duration,
    served: Arc<ServedCounters>,
}

/// Serves the demo model on `listen`, at the pace of a real model, until `shutdown`.
///
/// # Errors
/// When the address is in use.
pub async fn serve(listen: SocketAddr, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("the demo model cannot listen on {listen}; set BERTH_DEMO_LISTEN if it is taken"))?;
    tracing::info!(address = %listen, "the demo model listens");
    server::serve(listener, paced(HUMAN_PACE), server::PeerLimit::Unlimited, shutdown).await;
    Ok(())
}

/// The demo model without delays, for tests and benchmarks.
pub fn router() -> Router {
    paced(Duration::ZERO)
}

fn paced(pace: Duration) -> Router {
    Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/responses", post(respond))
        .route("/v1/responses/input_tokens", post(count_input))
        .route("/v1/embeddings", post(embed))
        .route("/v1/models", get(models))
        .route("/demo/ledger", get(ledger))
        // axum's default of 2 MiB would refuse bodies that providers accept.
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(DemoModel { pace, served: Arc::default() })
}

async fn messages(State(demo): State<DemoModel>, headers: HeaderMap, body: Bytes) -> Response {
    demo.answer(&headers, &body, &anthropic::SHAPE).await
}

async fn chat_completions(State(demo): State<DemoModel>, headers: HeaderMap, body: Bytes) -> Response {
    demo.answer(&headers, &body, &openai::SHAPE).await
}

async fn respond(State(demo): State<DemoModel>, headers: HeaderMap, body: Bytes) -> Response {
    demo.answer(&headers, &body, &responses::SHAPE).await
}

async fn count_input(body: Bytes) -> Json<Value> {
    Json(json!({ "object": "response.input_tokens", "input_tokens": script::input_tokens(&body) }))
}

async fn embed(State(demo): State<DemoModel>, body: Bytes) -> Response {
    let Some((answer, tokens)) = embeddings::answer(&body) else {
        demo.served.refused.fetch_add(1, Ordering::SeqCst);
        return (StatusCode::BAD_REQUEST, Json(openai::error(StatusCode::BAD_REQUEST))).into_response();
    };
    demo.served.calls.fetch_add(1, Ordering::SeqCst);
    demo.served.input_tokens.fetch_add(tokens, Ordering::SeqCst);
    Json(answer).into_response()
}

async fn count_tokens(body: Bytes) -> Json<Value> {
    Json(json!({ "input_tokens": script::input_tokens(&body) }))
}

/// Both providers list their models at this path. The header distinguishes them: Anthropic's SDKs always send it.
async fn models(headers: HeaderMap) -> Json<Value> {
    Json(if headers.contains_key("anthropic-version") { anthropic::models() } else { openai::models() })
}

async fn ledger(State(demo): State<DemoModel>) -> Json<ServedView> {
    let ServedCounters { calls, refused, input_tokens, output_tokens, streams } = &*demo.served;
    Json(ServedView {
        calls: calls.load(Ordering::SeqCst),
        refused: refused.load(Ordering::SeqCst),
        input_tokens: input_tokens.load(Ordering::SeqCst),
        output_tokens: output_tokens.load(Ordering::SeqCst),
        streams: streams.load(Ordering::SeqCst),
    })
}

impl DemoModel {
    async fn answer(&self, headers: &HeaderMap, body: &[u8], shape: &WireShape) -> Response {
        let Some(script) = AnswerScript::parse(headers, body, self.pace) else {
            self.served.refused.fetch_add(1, Ordering::SeqCst);
            return (StatusCode::BAD_REQUEST, Json((shape.error)(StatusCode::BAD_REQUEST))).into_response();
        };
        // Before the fault too, because a real provider also takes its time to refuse.
        tokio::time::sleep(script.first_byte).await;
        if let Some(InjectedFault::Status(status)) = script.fault {
            self.served.refused.fetch_add(1, Ordering::SeqCst);
            return (status, Json((shape.error)(status))).into_response();
        }
        self.served.calls.fetch_add(1, Ordering::SeqCst);
        self.served.input_tokens.fetch_add(script.input_tokens, Ordering::SeqCst);
        if script.stream {
            let events = self.stream(script, shape);
            let kind =
                [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
            return (kind, Body::from_stream(events)).into_response();
        }
        self.served.output_tokens.fetch_add(script.output_tokens(), Ordering::SeqCst);
        if script.fault == Some(InjectedFault::Malformed) {
            return ([(header::CONTENT_TYPE, "application/json")], "{\"usage\": nonsense").into_response();
        }
        Json((shape.whole)(&script)).into_response()
    }

    fn stream(&self, script: AnswerScript, shape: &WireShape) -> impl Stream<Item = std::io::Result<Bytes>> + use<> {
        let mut frames = (shape.frames)(&script);
        let middle = frames.len() / 2;
        match script.fault {
            Some(InjectedFault::Break) => frames.truncate(middle),
            Some(InjectedFault::Overloaded) => {
                // The stream ends with an error event: the way a provider reports an overload after the headers were
                // sent.
                frames.truncate(middle);
                frames.push((shape.overloaded.into(), 0));
            }
            Some(InjectedFault::Malformed) => frames.insert(middle, ("data: {\"type\": nonsense\n\n".into(), 0)),
            Some(InjectedFault::Status(_)) | None => {}
        }
        let (guard, pace) = (StreamGuard::begin(&self.served), script.pace);
        let served = stream::iter(frames).then(move |(frame, tokens)| {
            let served = guard.0.clone();
            async move {
                // Frames without tokens have no delay; a sleep of zero would still yield for every frame.
                if tokens > 0 && !pace.is_zero() {
                    tokio::time::sleep(pace).await;
                }
                served.output_tokens.fetch_add(tokens, Ordering::SeqCst);
                Ok::<_, Infallible>(Bytes::from(frame))
            }
        });
        // An error in the body makes hyper abort the connection, as a broken stream does.
        let broken =
            (script.fault == Some(InjectedFault::Break)).then(|| Err(std::io::Error::other("broken on request")));
        served.map(|frame| frame.map_err(|never| match never {})).chain(stream::iter(broken))
    }
}

/// Counts one stream while it is in progress. A guard, because a client that disconnects drops the stream.
struct StreamGuard(Arc<ServedCounters>);

impl StreamGuard {
    fn begin(served: &Arc<ServedCounters>) -> Self {
        served.streams.fetch_add(1, Ordering::SeqCst);
        Self(served.clone())
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::SeqCst);
    }
}
