//! The routes of the stub for the program in every container: a test makes them stream, answer late or speak WebSocket.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// What `/bulk` sends in all.
pub const BULK: usize = 64 << 20;
const PIECE: usize = 64 << 10;
/// What either end of a WebSocket reads at once. With tungstenite's 128 KiB each, thousands of them would hide what the
/// platform itself has in memory.
pub const BUFFER: usize = 4 << 10;

/// Says to every open answer what it is to pass on.
pub type Said = broadcast::Sender<Bytes>;

/// The routes that `said` drives.
pub fn router(said: Said) -> Router {
    Router::new()
        .route("/flow", get(flow))
        .route("/late", get(late))
        .route("/bulk", get(bulk))
        .route("/websocket", get(websocket))
        .with_state(said)
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

/// Streams each message of the broadcast channel as it is sent.
async fn flow(State(said): State<Said>, Query(Kind { kind }): Query<Kind>) -> Response {
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(BroadcastStream::new(said.subscribe()))).into_response()
}

/// Answers with the next thing that is said.
async fn late(State(said): State<Said>) -> Bytes {
    said.subscribe().recv().await.unwrap_or_default()
}

/// As much as goes, until it is done.
async fn bulk() -> Response {
    let pieces = stream::iter((0..BULK / PIECE).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![7; PIECE]))));
    Body::from_stream(pieces).into_response()
}

/// Sends messages back and answers pings.
async fn websocket(mut request: Request) -> Response {
    let accept = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgrade.await.unwrap());
        let small = WebSocketConfig::default().read_buffer_size(BUFFER);
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(small)).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.to_text().is_ok_and(|text| text == "leave") {
                // As a program that is killed: without a word.
                return;
            }
            let sent = if message.is_text() { socket.send(message).await } else { socket.flush().await };
            if sent.is_err() {
                return;
            }
        }
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket")];
    (StatusCode::SWITCHING_PROTOCOLS, headers, [(header::SEC_WEBSOCKET_ACCEPT, accept)]).into_response()
}
