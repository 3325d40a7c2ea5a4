//! Streams of events at a model's pace, many at once, and whether each came as it was sent, to the last byte.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;

use super::line::connect;
use super::peers::Peer;
use super::questions::{Caller, message};
use super::upstream::{Api, events};

pub const STREAMS: u64 = 512;
const EVENTS: u64 = 100;
const EVERY_MS: u64 = 20;
/// Until the last stream is over, which lasts two seconds when nothing is in its way.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many of the streams came whole, and why the first that did not was otherwise.
pub async fn lossless(peer: &Peer, callers: &[Caller]) -> (u64, Option<anyhow::Error>) {
    let all = (0..STREAMS).zip(callers.iter().cycle()).map(|(number, caller)| async move {
        let whole = tokio::time::timeout(PATIENCE, comes_whole(peer, caller, number)).await;
        whole.with_context(|| format!("a stream was not over after {} seconds", PATIENCE.as_secs()))?
    });
    let (mut whole, mut first) = (0, None);
    for came in join_all(all).await {
        match came {
            Ok(()) => whole += 1,
            Err(error) => first = first.or(Some(error)),
        }
    }
    (whole, first)
}

async fn comes_whole(peer: &Peer, caller: &Caller, number: u64) -> anyhow::Result<()> {
    let stream = connect(peer.address, caller).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    // One begins after the other, or each event would wait for all of the same moment.
    let after_ms = EVERY_MS * number / STREAMS;
    let asked = message(&format!("events={EVENTS} every_ms={EVERY_MS} number={number} after_ms={after_ms}"));
    let request = hyper::Request::post(format!("{}/v1/messages", peer.anthropic))
        .header("host", peer.address.to_string())
        .header("content-type", "application/json")
        .header("anthropic-version", "2023-06-01")
        .header("x-api-key", &caller.token)
        .body(axum::body::Body::from(asked))?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let came = body.collect().await.context("a stream broke off")?.to_bytes();
    ensure!(head.status == 200, "a stream was answered with {}: {}", head.status, String::from_utf8_lossy(&came));
    let sent: String = events(Api::Messages, number, EVENTS, false).map(|event| event.text).collect();
    ensure!(came == sent, "a stream came otherwise than it was sent: {}", difference(&came, sent.as_bytes()));
    drop(sender);
    Ok(connection.await??)
}

/// The start of the event, and its content.
fn difference(came: &[u8], sent: &[u8]) -> String {
    const SHOWN: usize = 120;
    let at = came.iter().zip(sent).take_while(|(came, sent)| came == sent).count();
    let show = |bytes: &[u8]| String::from_utf8_lossy(&bytes[at..bytes.len().min(at + SHOWN)]).into_owned();
    format!("from byte {at} of {} on, {:?} in place of {:?}", sent.len(), show(came), show(sent))
}
