//! A raw HTTP/1.1 client on one connection: it sends exact bytes and parses the responses that come back.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::raw_program::position;

/// After so much silence nothing more is expected: what was sent may be the beginning of something.
const SILENCE: Duration = Duration::from_millis(700);
/// How long an answer that must come may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

pub struct Wire<S> {
    pub stream: S,
    unread: Vec<u8>,
}

/// An answer; those of the 100 kind are none.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Its fields, names in small letters.
    pub fields: Vec<(String, String)>,
    pub body: String,
    /// Whether all of it came.
    pub whole: bool,
}

impl Reply {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }
}

impl<S: Stream> Wire<S> {
    pub fn on(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// The other end may have hung up before it has all of it.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The answer to a request that has been sent; `None` when the connection ends without.
    pub async fn reply(&mut self) -> Option<Reply> {
        tokio::time::timeout(PATIENCE, self.read(true)).await.expect("an answer, or an end")
    }

    /// The same where only the head of it is asked for.
    pub async fn reply_to_head(&mut self) -> Option<Reply> {
        tokio::time::timeout(PATIENCE, self.read(false)).await.expect("an answer, or an end")
    }

    /// Every answer, until the connection ends or nothing more comes.
    pub async fn replies(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        while let Ok(Some(reply)) = tokio::time::timeout(SILENCE, self.read(true)).await {
            replies.push(reply);
        }
        replies
    }

    async fn read(&mut self, with_body: bool) -> Option<Reply> {
        loop {
            let end = loop {
                match position(&self.unread, b"\r\n\r\n") {
                    Some(end) => break end,
                    None => self.more().await?,
                }
            };
            let head: Vec<u8> = self.unread.drain(..end + 4).take(end).collect();
            let head = String::from_utf8_lossy(&head).into_owned();
            let status = head.split(' ').nth(1)?.parse().ok()?;
            let fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
            let fields = fields.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
            let mut reply = Reply { status, fields, body: String::new(), whole: true };
            if status == 101 || status >= 200 {
                if with_body && !matches!(status, 101 | 204 | 304) {
                    let mut body = Vec::new();
                    reply.whole = self.body(&reply, &mut body).await.is_some();
                    reply.body = String::from_utf8_lossy(&body).into_owned();
                }
                return Some(reply);
            }
        }
    }

    async fn body(&mut self, reply: &Reply, body: &mut Vec<u8>) -> Option<()> {
        if !reply.all("transfer-encoding").is_empty() {
            loop {
                let line = self.until(b"\r\n").await?;
                let size = usize::from_str_radix(&String::from_utf8(line).ok()?, 16).ok()?;
                self.exactly(size, body).await?;
                if size == 0 {
                    while !self.until(b"\r\n").await?.is_empty() {}
                    return Some(());
                }
                self.until(b"\r\n").await?;
            }
        }
        match reply.all("content-length").first() {
            Some(length) => self.exactly(length.parse().ok()?, body).await,
            None => {
                while self.more().await.is_some() {}
                body.append(&mut self.unread);
                Some(())
            }
        }
    }

    async fn exactly(&mut self, length: usize, body: &mut Vec<u8>) -> Option<()> {
        let start = body.len();
        loop {
            let wanted = (length - (body.len() - start)).min(self.unread.len());
            body.extend(self.unread.drain(..wanted));
            if body.len() - start == length {
                return Some(());
            }
            self.more().await?;
        }
    }

    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = position(&self.unread, end) {
                return Some(self.unread.drain(..at + end.len()).take(at).collect());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let mut chunk = [0; 16 * 1024];
        let n = self.stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        self.unread.extend(&chunk[..n]);
        Some(())
    }
}
