//! The built-in demo model: speaks Anthropic's and OpenAI's wire shapes with real usage figures and no model behind
//! them, so that the whole platform can be seen, tested and measured with no account anywhere.
//!
//! It is paced, slow and faulty on request: see `script.rs`.

mod anthropic;
mod embeddings;
mod openai;
mod responses;
mod script;

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

use script::{Fault, Script};

/// Between two words when nothing else is asked for: about as fast as real models are.
const HUMAN_PACE: Duration = Duration::from_millis(25);
/// The providers' own limit.
const LARGEST_BODY: usize = 32 * 1024 * 1024;

/// What was served, for comparing with what was billed.
#[derive(Debug, Default)]
struct Ledger {
    calls: AtomicU64,
    refused: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    streams: AtomicU64,
}

#[derive(Serialize)]
struct Sums {
    /// Calls that were answered, in whole or in part.
    calls: u64,
    /// Calls that were answered with an error status.
    refused: u64,
    input_tokens: u64,
    output_tokens: u64,
    /// Streams that go on: neither said to their end nor hung up on.
    streams: u64,
}

#[derive(Clone)]
struct Demo {
    pace: Duration,
    ledger: Arc<Ledger>,
}

/// The demo model on `listen`, talking at a human pace, until `shutdown`.
///
/// # Errors
/// When the address is taken.
pub async fn serve(listen: SocketAddr, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("the demo model cannot listen on {listen}; set BERTH_DEMO_LISTEN if it is taken"))?;
    tracing::info!(address = %listen, "the demo model listens");
    server::serve(listener, paced(HUMAN_PACE), server::PeerLimit::Unlimited, shutdown).await;
    Ok(())
}

/// The demo model as fast as it goes, for tests and measurements.
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
        .layer(axum::extract::DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(Demo { pace, ledger: Arc::default() })
}

async fn messages(State(demo): State<Demo>, headers: HeaderMap, body: Bytes) -> Response {
    demo.answer(&headers, &body, &anthropic::SHAPE).await
}

async fn chat_completions(State(demo): State<Demo>, headers: HeaderMap, body: Bytes) -> Response {
    demo.answer(&headers, &body, &openai::SHAPE).await
}

async fn respond(State(demo): State<Demo>, headers: HeaderMap, body: Bytes) -> Response {
    demo.answer(&headers, &body, &responses::SHAPE).await
}

async fn count_input(body: Bytes) -> Json<Value> {
    Json(json!({ "object": "response.input_tokens", "input_tokens": script::input_tokens(&body) }))
}

async fn embed(State(demo): State<Demo>, body: Bytes) -> Response {
    let Some((answer, tokens)) = embeddings::answer(&body) else {
        demo.ledger.refused.fetch_add(1, Ordering::SeqCst);
        return (StatusCode::BAD_REQUEST, Json(openai::error(StatusCode::BAD_REQUEST))).into_response();
    };
    demo.ledger.calls.fetch_add(1, Ordering::SeqCst);
    demo.ledger.input_tokens.fetch_add(tokens, Ordering::SeqCst);
    Json(answer).into_response()
}

async fn count_tokens(body: Bytes) -> Json<Value> {
    Json(json!({ "input_tokens": script::input_tokens(&body) }))
}

/// Both providers list models at one path; Anthropic's SDKs always name a version of its API.
async fn models(headers: HeaderMap) -> Json<Value> {
    Json(if headers.contains_key("anthropic-version") { anthropic::models() } else { openai::models() })
}

async fn ledger(State(demo): State<Demo>) -> Json<Sums> {
    let Ledger { calls, refused, input_tokens, output_tokens, streams } = &*demo.ledger;
    Json(Sums {
        calls: calls.load(Ordering::SeqCst),
        refused: refused.load(Ordering::SeqCst),
        input_tokens: input_tokens.load(Ordering::SeqCst),
        output_tokens: output_tokens.load(Ordering::SeqCst),
        streams: streams.load(Ordering::SeqCst),
    })
}

/// How one provider writes things down.
struct Shape {
    whole: fn(&Script) -> Value,
    /// The frames of a stream, each with the output tokens that it brings.
    frames: fn(&Script) -> Vec<(String, u64)>,
    error: fn(StatusCode) -> Value,
    /// What a stream says when the model gives up in the middle.
    overloaded: &'static str,
}

impl Demo {
    async fn answer(&self, headers: &HeaderMap, body: &[u8], shape: &Shape) -> Response {
        let Some(script) = Script::read(headers, body, self.pace) else {
            self.ledger.refused.fetch_add(1, Ordering::SeqCst);
            return (StatusCode::BAD_REQUEST, Json((shape.error)(StatusCode::BAD_REQUEST))).into_response();
        };
        tokio::time::sleep(script.first_byte).await;
        if let Some(Fault::Status(status)) = script.fault {
            self.ledger.refused.fetch_add(1, Ordering::SeqCst);
            return (status, Json((shape.error)(status))).into_response();
        }
        self.ledger.calls.fetch_add(1, Ordering::SeqCst);
        self.ledger.input_tokens.fetch_add(script.input_tokens, Ordering::SeqCst);
        if script.stream {
            let events = self.stream(script, shape);
            let kind =
                [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
            return (kind, Body::from_stream(events)).into_response();
        }
        self.ledger.output_tokens.fetch_add(script.output_tokens(), Ordering::SeqCst);
        if script.fault == Some(Fault::Malformed) {
            return ([(header::CONTENT_TYPE, "application/json")], "{\"usage\": nonsense").into_response();
        }
        Json((shape.whole)(&script)).into_response()
    }

    fn stream(&self, script: Script, shape: &Shape) -> impl Stream<Item = std::io::Result<Bytes>> + use<> {
        let mut frames = (shape.frames)(&script);
        let middle = frames.len() / 2;
        match script.fault {
            Some(Fault::Break) => frames.truncate(middle),
            Some(Fault::Overloaded) => {
                frames.truncate(middle);
                frames.push((shape.overloaded.into(), 0));
            }
            Some(Fault::Malformed) => frames.insert(middle, ("data: {\"type\": nonsense\n\n".into(), 0)),
            Some(Fault::Status(_)) | None => {}
        }
        let (streaming, pace) = (Streaming::begin(&self.ledger), script.pace);
        let served = stream::iter(frames).then(move |(frame, tokens)| {
            let ledger = streaming.0.clone();
            async move {
                if tokens > 0 && !pace.is_zero() {
                    tokio::time::sleep(pace).await;
                }
                ledger.output_tokens.fetch_add(tokens, Ordering::SeqCst);
                Ok::<_, Infallible>(Bytes::from(frame))
            }
        });
        let broken = (script.fault == Some(Fault::Break)).then(|| Err(std::io::Error::other("broken on request")));
        served.map(|frame| frame.map_err(|never| match never {})).chain(stream::iter(broken))
    }
}

/// A stream in the ledger for as long as it goes on.
struct Streaming(Arc<Ledger>);

impl Streaming {
    fn begin(ledger: &Arc<Ledger>) -> Self {
        ledger.streams.fetch_add(1, Ordering::SeqCst);
        Self(ledger.clone())
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::SeqCst);
    }
}
