//! The upstream of all proxies under test: a small, fast program that responds, streams events and echoes on
//! WebSockets.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use berth_ground::clock::Clock;
use bytes::Bytes;
use futures_util::{SinkExt as _, Stream, StreamExt as _, stream};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::streams::nanoseconds;

const SMALL: &[u8] =
    br#"{"id":"01930f5a-4c1e-7c33-a2b1-6b7d9a1f0e55","title":"Write to Anna","done":false,"due":"2026-11-27"}"#;
static BIG: [u8; 1 << 20] = [b'x'; 1 << 20];

type Answer = Either<Full<Bytes>, Body>;

/// Serves on all addresses and writes the port to standard output.
pub fn run(port: u16) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        println!("{}", listener.local_addr()?.port());
        std::io::stdout().flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service_fn(answer)).with_upgrades());
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let (kind, body) = match request.uri().path() {
        "/small" => ("application/json", Either::Left(Full::new(Bytes::from_static(SMALL)))),
        "/big" => ("application/octet-stream", Either::Left(Full::new(Bytes::from_static(&BIG)))),
        "/healthz" => ("text/plain", Either::Left(Full::default())),
        "/events" => ("text/event-stream", Either::Right(Body::from_stream(events(&request)))),
        "/socket" => return Ok(socket(request)),
        _ => return Ok(with_status(StatusCode::NOT_FOUND)),
    };
    let mut response = Response::new(body);
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, "\"5f3a\""),
        (header::VARY, "accept-encoding"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

fn with_status(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

#[derive(Deserialize)]
struct EventsQuery {
    count: u64,
    /// Zero: as fast as they are read.
    every_ms: u64,
    /// The delay before the first.
    after_ms: u64,
}

/// Numbered events, each with the time at which it was sent.
fn events(request: &Request<Incoming>) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    let Query(EventsQuery { count, every_ms, after_ms }) =
        Query::try_from_uri(request.uri()).unwrap_or(Query(EventsQuery { count: 0, every_ms: 0, after_ms: 0 }));
    let pace = (every_ms > 0).then(|| {
        let first = Clock::system().monotonic() + Duration::from_millis(after_ms);
        let mut pace = tokio::time::interval_at(first.into(), Duration::from_millis(every_ms));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pace
    });
    stream::unfold((0, pace), move |(number, mut pace)| async move {
        if number == count {
            return None;
        }
        match &mut pace {
            Some(pace) => {
                pace.tick().await;
            }
            // Each event is written by itself, as most programs do.
            None => tokio::task::yield_now().await,
        }
        let event = format!("id: {number}\ndata: {}\n\n", nanoseconds());
        Some((Ok(event.into()), (number + 1, pace)))
    })
}

/// Echoes every message.
fn socket(mut request: Request<Incoming>) -> Response<Answer> {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return with_status(StatusCode::BAD_REQUEST);
    };
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("it is base64");
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut response = with_status(StatusCode::SWITCHING_PROTOCOLS);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}
