//! Long-lived connections through a proxy under test: server-sent events and WebSockets.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use berth_ground::clock::Clock;
use futures_util::future::try_join_all;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::berth_role::Visitor;
use super::keep_alive_client::request;

/// The events of a stream, and the milliseconds between them; 0: as fast as they are read.
#[derive(Clone, Copy)]
pub struct Pace {
    pub count: u64,
    pub every_ms: u64,
}

/// Payload of every message on a WebSocket, in bytes.
const MESSAGE: usize = 100;

/// The current time, comparable between processes of one machine.
#[expect(clippy::disallowed_methods, reason = "milliseconds are too coarse for the latency of a proxy")]
pub fn nanoseconds() -> u64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Reads this many event streams at once, each to its end. The latency of each event, in nanoseconds; an error if one
/// is missing.
pub async fn events(address: SocketAddr, visitor: &Visitor, streams: u64, pace: Pace) -> anyhow::Result<Vec<u64>> {
    let all = (0..streams).map(|number| {
        // Staggered, or the events of all streams would be due at the same moment and queue behind each other.
        let Pace { count, every_ms } = pace;
        let after_ms = every_ms * number / streams;
        let path = format!("/events?count={count}&every_ms={every_ms}&after_ms={after_ms}");
        read_events(address, path, visitor, count)
    });
    Ok(try_join_all(all).await?.concat())
}

async fn read_events(address: SocketAddr, path: String, visitor: &Visitor, count: u64) -> anyhow::Result<Vec<u64>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, &visitor.host)
        .header(header::COOKIE, &visitor.cookie)
        .header(header::ACCEPT, "text/event-stream")
        .body(Body::empty())?;
    let (head, mut body) = sender.send_request(request).await?.into_parts();
    ensure!(head.status == StatusCode::OK, "a stream was answered with {}", head.status);
    let (mut rest, mut next, mut under_way) = (Vec::new(), 0, Vec::new());
    while let Some(frame) = body.frame().await {
        let (Ok(bytes), now) = (frame?.into_data(), nanoseconds()) else { continue };
        rest.extend_from_slice(&bytes);
        let mut read = 0;
        while let Some(end) = rest[read..].windows(2).position(|two| two == b"\n\n") {
            let (number, sent) = read_event(&rest[read..read + end])?;
            ensure!(number == next, "event {next} is missing before {number}");
            next += 1;
            under_way.push(now.saturating_sub(sent));
            read += end + 2;
        }
        rest.drain(..read);
    }
    ensure!(next == count, "only {next} of {count} events came");
    drop(sender);
    connection.await??;
    Ok(under_way)
}

/// The number of an event, and when it was sent.
fn read_event(event: &[u8]) -> anyhow::Result<(u64, u64)> {
    let (id, data) = std::str::from_utf8(event)?.split_once('\n').context("an event has two lines")?;
    let field = |line: &str, name| line.strip_prefix(name).map(str::parse::<u64>);
    Ok((field(id, "id: ").context("it has a number")??, field(data, "data: ").context("it has a time")??))
}

/// A WebSocket to an upstream that echoes messages.
pub struct EchoSocket(TcpStream);

impl EchoSocket {
    pub async fn open(address: SocketAddr, visitor: &Visitor) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let upgrade = format!(
            "Origin: https://{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            visitor.host
        );
        stream.write_all(&request("/socket", visitor, &upgrade)).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            ensure!(stream.read_buf(&mut head).await? > 0, "the connection closed while a WebSocket was opened");
        }
        ensure!(head.starts_with(b"HTTP/1.1 101"), "a WebSocket did not open: {}", String::from_utf8_lossy(&head));
        Ok(Self(stream))
    }

    /// Sends a message and waits for it to come back.
    pub async fn round_trip(&mut self) -> anyhow::Result<()> {
        // A text frame (RFC 6455 5.2). Masked with zeros by the client, not masked by the server.
        let mut there = vec![0x81, 0x80 | MESSAGE as u8, 0, 0, 0, 0];
        there.resize(there.len() + MESSAGE, b'm');
        self.0.write_all(&there).await?;
        let mut back = [0; 2 + MESSAGE];
        self.0.read_exact(&mut back).await?;
        ensure!(back[..2] == [0x81, MESSAGE as u8] && back[2..] == there[6..], "another message came back");
        Ok(())
    }

    /// The number of round trips within `time`.
    pub async fn round_trips(&mut self, time: Duration) -> anyhow::Result<u64> {
        let (began, mut made) = (Clock::system().monotonic(), 0);
        while began.elapsed() < time {
            self.round_trip().await?;
            made += 1;
        }
        Ok(made)
    }
}
