//! One kept connection on which calls are made one after the other, each timed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::ensure;
use berth_ground::clock::Clock;
use tokio::net::TcpSocket;

use super::answer::Head;
use super::questions::Caller;

/// Longest that an answer may take; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Line {
    stream: TcpStream,
    /// What came of the present answer.
    came: Vec<u8>,
}

/// How long an answer took, from when its call was sent.
pub struct Took {
    /// To the first byte of its body.
    pub first_byte: Duration,
    pub whole: Duration,
}

impl Line {
    /// From `caller`'s own address, which only an asynchronous socket can be told to call from.
    pub fn open(address: SocketAddr, caller: &Caller) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stream = runtime.block_on(connect(address, caller))?.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, came: Vec::with_capacity(64 * 1024) })
    }

    /// Makes a call and reads its answer to the last byte; an error unless it was answered well.
    pub fn ask(&mut self, call: &[u8]) -> anyhow::Result<Took> {
        self.came.clear();
        let (began, mut head, mut first_byte) = (Clock::system().monotonic(), None, None);
        self.stream.write_all(call)?;
        let mut chunk = [0; 16 * 1024];
        loop {
            let n = self.stream.read(&mut chunk)?;
            ensure!(n > 0, "it hung up in the middle of an answer");
            self.came.extend_from_slice(&chunk[..n]);
            if head.is_none() {
                head = Head::read(&self.came)?;
            }
            let Some(head) = &head else { continue };
            ensure!(head.status == 200, "it answered {}", String::from_utf8_lossy(&self.came));
            if first_byte.is_none() && self.came.len() > head.body {
                first_byte = Some(began.elapsed());
            }
            if head.is_whole(&self.came) {
                let whole = began.elapsed();
                return Ok(Took { first_byte: first_byte.unwrap_or(whole), whole });
            }
        }
    }
}

/// A connection from `caller`'s own address.
pub async fn connect(address: SocketAddr, caller: &Caller) -> anyhow::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((caller.source, 0).into())?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
