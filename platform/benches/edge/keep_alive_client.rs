//! A blocking HTTP client with one keep-alive connection, for measuring latency: no runtime between the clock and the
//! kernel.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::berth_role::Visitor;

/// How long a response may take. It takes microseconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

pub struct KeepAliveClient {
    stream: TcpStream,
    /// The bytes of the current response.
    received: Vec<u8>,
}

impl KeepAliveClient {
    pub fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
        Ok(Self { stream, received: Vec::with_capacity(64 * 1024) })
    }

    /// Sends a request, reads the response to the last byte and returns its status.
    pub fn ask(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.stream.write_all(request)?;
        self.received.clear();
        loop {
            let mut chunk = [0; 16 * 1024];
            let n = self.stream.read(&mut chunk)?;
            ensure!(n > 0, "the connection closed in the middle of a response");
            self.received.extend_from_slice(&chunk[..n]);
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                let (status, length) = read_head(&self.received[..end])?;
                if self.received.len() >= end + 4 + length {
                    return Ok(status);
                }
            }
        }
    }
}

/// The status and the length of the body.
fn read_head(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let mut lines = std::str::from_utf8(head)?.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("an answer has a status")?;
    let is_length = |name: &str| name.eq_ignore_ascii_case("content-length");
    let length = lines.find_map(|line| line.split_once(':').filter(|(name, _)| is_length(name)));
    let (_, length) =
        length.with_context(|| format!("an answer of known length: {}", String::from_utf8_lossy(head)))?;
    Ok((status.parse()?, length.trim().parse()?))
}

/// A visitor's request for `path`, with `more` header lines.
pub fn request(path: &str, visitor: &Visitor, more: &str) -> Vec<u8> {
    let Visitor { host, cookie } = visitor;
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nAccept: */*\r\n{more}\r\n").into_bytes()
}
